"""A release: the changelog and every place that names the version say the same, and what cannot be one is refused."""

import subprocess
from pathlib import Path

import pytest

from scripts.release import ReleaseError, above, noted, prepare

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
    labels = 'app.kubernetes.io/version: "0.1.0"\nhelm.sh/chart: stationkeeper-0.1.0\n'
    (rendered / "minimal.yaml").write_text(labels)
    (tmp_path / "CHANGELOG.md").write_text(LOG)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"], ["tag", "v0.1.0"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True)
    return tmp_path


def test_every_place_names_the_version_and_nothing_else_is_touched(tree: Path):
    prepare(tree, "0.2.0", "2026-12-01")
    assert (tree / "pyproject.toml").read_text() == '[project]\nversion = "0.2.0"\ndependencies = ["other==0.1.0"]\n'
    assert (tree / "ops/helm/stationkeeper/Chart.yaml").read_text() == "version: 0.2.0\nappVersion: 0.2.0\n"
    assert "0.1.0" not in (tree / "tests/cluster/charts/minimal.yaml").read_text()
    # Once more is refused: the tree has changes now.
    with pytest.raises(ReleaseError, match="not committed"):
        prepare(tree, "0.3.0", "2026-12-01")


def test_a_release_is_never_made_twice_and_writes_nothing_when_refused(tree: Path):
    for version in ("0.1.0", "0.0.5"):
        with pytest.raises(ReleaseError):
            prepare(tree, version, "2026-12-01")
    assert (tree / "CHANGELOG.md").read_text() == LOG
