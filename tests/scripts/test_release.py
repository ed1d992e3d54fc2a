"""A release: the changelog and every place that names the version say the same, and what cannot be one is refused."""

import subprocess
from pathlib import Path

import pytest

from scripts.release import ReleaseError, above, noted, prepare

WHO = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
LOG = "# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n\n## 0.1.0 - 2026-01-01\n\n- All.\n"


def test_what_is_unreleased_goes_under_the_version():
    text, notes = noted(LOG, "0.2.0", "2026-12-01")
    assert notes == "### Added\n\n- A thing."
    assert text == LOG.replace("## Unreleased\n", "## Unreleased\n\n## 0.2.0 - 2026-12-01\n")
    with pytest.raises(ReleaseError, match="nothing under Unreleased"):
        noted(LOG.replace("### Added\n\n- A thing.\n\n", ""), "0.2.0", "2026-12-01")


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9", "0.2", "v0.2.0", "0.2.0-rc1", "0.02.0"])
def test_what_is_no_higher_version_is_refused(version: str):
    with pytest.raises(ReleaseError):
        above(version, "0.1.0")
    above("0.10.0", "0.9.3")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    chart, rendered = tmp_path / "ops/helm/stationkeeper", tmp_path / "tests/cluster/charts"
    chart.mkdir(parents=True)
    rendered.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.1.0"\ndependencies = ["other==0.1.0"]\n')
    (chart / "Chart.yaml").write_text("version: 0.1.0\nappVersion: 0.1.0\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/kubernetes.md").write_text("docker build -t REGISTRY/stationkeeper-monitor:0.1.0 .\n")
    (tmp_path / "Dockerfile").write_text('FROM a\nLABEL image.version="0.1.0" \\\n      other="0.1.0"\n')
    (tmp_path / "docker-compose.yml").write_text("image: stationkeeper:0.1.0\nimage: apache/kafka:0.1.0\n")
    labels = 'app.kubernetes.io/version: "0.1.0"\nhelm.sh/chart: stationkeeper-0.1.0\nimage: "stationkeeper:0.1.0"\n'
    (rendered / "minimal.yaml").write_text(labels)
    (tmp_path / "CHANGELOG.md").write_text(LOG)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"], ["tag", "v0.1.0"]):
        subprocess.run(["git", *WHO, *words], cwd=tmp_path, check=True)
    return tmp_path


def test_every_place_names_the_version_and_nothing_else_is_touched(tree: Path):
    prepare(tree, "0.2.0", "2026-12-01")
    assert (tree / "pyproject.toml").read_text() == '[project]\nversion = "0.2.0"\ndependencies = ["other==0.1.0"]\n'
    assert (tree / "ops/helm/stationkeeper/Chart.yaml").read_text() == "version: 0.2.0\nappVersion: 0.2.0\n"
    assert "0.1.0" not in (tree / "tests/cluster/charts/minimal.yaml").read_text()
    assert (tree / "docker-compose.yml").read_text() == "image: stationkeeper:0.2.0\nimage: apache/kafka:0.1.0\n"
    assert (tree / "Dockerfile").read_text() == 'FROM a\nLABEL image.version="0.2.0" \\\n      other="0.1.0"\n'
    assert "stationkeeper-monitor:0.2.0 ." in (tree / "docs/kubernetes.md").read_text()
    # Once more is refused: the tree has changes now.
    with pytest.raises(ReleaseError, match="not committed"):
        prepare(tree, "0.3.0", "2026-12-01")


def test_a_release_is_never_made_twice_and_writes_nothing_when_refused(tree: Path):
    for version in ("0.1.0", "0.0.5"):
        with pytest.raises(ReleaseError):
            prepare(tree, version, "2026-12-01")
    assert not changed(tree)


@pytest.mark.parametrize("version", ["v0.2.0", "banana", "0.2", "0.0.1"])
def test_before_the_first_tag_what_is_no_version_or_lower_is_refused_as_well(tree: Path, version: str):
    subprocess.run(["git", "tag", "--delete", "v0.1.0"], cwd=tree, check=True)
    with pytest.raises(ReleaseError):
        prepare(tree, version, "2026-12-01")
    assert not changed(tree)
    # The first release is the version that the project begins with.
    assert prepare(tree, "0.1.0", "2026-12-01")


def test_a_place_that_does_not_name_the_last_version_is_refused_before_any_is_written(tree: Path):
    (tree / "docs/kubernetes.md").write_text("docker build -t stationkeeper:0.0.9 .\n")
    subprocess.run(["git", *WHO, "commit", "-qam", "stale"], cwd=tree, check=True)
    with pytest.raises(ReleaseError, match=r"docs/kubernetes.md does not name 0\.1\.0"):
        prepare(tree, "0.2.0", "2026-12-01")
    assert not changed(tree)


def changed(tree: Path) -> str:
    return subprocess.run(["git", "status", "-s"], cwd=tree, check=True, capture_output=True, text=True).stdout
