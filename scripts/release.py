"""Make a release of what is committed: ``python -m scripts.release 0.2.0`` writes, builds, tries, commits and tags.

Nothing leaves the machine: what to push and upload is printed. Refused, before anything is written, is what is no
version or not above the last one (the first release is the version that the project begins with), a tag that is there,
a tree with changes, an empty *Unreleased* of the changelog, and a place that does not name the last version.
"""

import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_OF_PROJECT = re.compile(r'(?m)^version = "([\d.]+)"$')
# What a user copies or installs by: of what is left out, the images or the chart would be of the version before.
_PLACES = (
    "pyproject.toml",
    "ops/helm/stationkeeper/Chart.yaml",
    "docker-compose.yml",
    "Dockerfile",
    "docs/kubernetes.md",
)
_UNRELEASED = re.compile(r"(?ms)^## Unreleased\n(.*?)(?=^## |\Z)")


class ReleaseError(ValueError):
    """What keeps a release from being made, with what to do."""


def noted(changelog: str, version: str, day: str) -> tuple[str, str]:
    """Return the changelog with *Unreleased* under the version's name and an empty one above, and what it says."""
    found = _UNRELEASED.search(changelog)
    if found is None or not found[1].strip():
        raise ReleaseError("CHANGELOG.md has nothing under Unreleased: say what changed for the user")
    heading = f"## Unreleased\n\n## {version} - {day}\n"
    return changelog[: found.start()] + heading + found[1] + changelog[found.end() :], found[1].strip()


def above(version: str, last: str, *, released: bool = True) -> None:
    """Raise ``ReleaseError`` where a version is none or not above the last one, which it may be until ``released``."""
    if _VERSION.fullmatch(version) is None:
        raise ReleaseError(
            f"{version!r} is no version: write MAJOR.MINOR.PATCH (docs/upgrading.md says which to raise)"
        )
    new, old = (tuple(map(int, one.split("."))) for one in (version, last))
    if new < old or (released and new == old):
        raise ReleaseError(f"{version} is not above {last}, the last one")


def prepare(root: Path, version: str, day: str) -> str:
    """Write the version and the changelog below ``root``; returns what the changelog says of it."""
    project = root / "pyproject.toml"
    last = _OF_PROJECT.search(project.read_text(encoding="utf-8"))[1]  # type: ignore[index]
    if _git(root, "status", "--porcelain"):
        raise ReleaseError("the tree has changes that are not committed: commit or remove them")
    if _git(root, "tag", "--list", f"v{version}"):
        raise ReleaseError(f"there is a tag v{version}: a release is never made twice")
    above(version, last, released=bool(_git(root, "tag", "--list", f"v{last}")))
    changelog, notes = noted((root / "CHANGELOG.md").read_text(encoding="utf-8"), version, day)
    written = {root / "CHANGELOG.md": changelog}
    rendered = (root / "tests/cluster/charts").glob("*.yaml")
    named = (
        rf'((?:ersion:? |ersion ?= ?|chart: stationkeeper-|stationkeeper(?:-monitor)?:)"?){re.escape(last)}(?=["\s])'
    )
    for path in (*(root / place for place in _PLACES), *rendered):
        text, count = re.subn(named, rf"\g<1>{version}", path.read_text(encoding="utf-8"))
        if not count:
            raise ReleaseError(f"{path.relative_to(root)} does not name {last}: write it there")
        written[path] = text
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    return notes


def _built(root: Path, version: str) -> list[Path]:
    """Build wheel and source archive, and start what a user would install of each, outside of the checkout."""
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "build", "--quiet", "--out-dir", str(root / "dist"), str(root)], check=True)
    made = [root / "dist" / f"stationkeeper-{version}{ending}" for ending in ("-py3-none-any.whl", ".tar.gz")]
    for archive in made:
        with tempfile.TemporaryDirectory() as away:
            python = f"{away}/venv/bin/python"
            subprocess.run([uv, "venv", "--quiet", f"{away}/venv"], cwd=away, check=True)
            base = ["--require-hashes", "-r", str(root / "requirements/base.txt")]
            subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *base], check=True)
            subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "--no-deps", str(archive)], check=True)
            for words in (["--version"], ["plan", "--events", "1k/s"], ["config", "schema"]):
                tried = [python, "-m", "stationkeeper", *words]
                subprocess.run(tried, cwd=away, check=True, stdout=subprocess.DEVNULL)
    return made


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True)  # noqa: S607 - whichever git is on PATH
    return done.stdout.strip()


def main(arguments: list[str]) -> int:
    """Make the release, or say what keeps it from being made and return 1."""
    if len(arguments) != 1:
        sys.stderr.write("say which: python -m scripts.release 0.2.0\n")
        return 2
    (version,) = arguments
    try:
        notes = prepare(ROOT, version, f"{datetime.now(tz=UTC):%Y-%m-%d}")
    except ReleaseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    made = _built(ROOT, version)
    _git(ROOT, "commit", "--all", "--quiet", "--message", f"Release {version}")
    told = f"Stationkeeper {version}\n\n{notes}\n"
    _git(ROOT, "tag", "--annotate", f"v{version}", "--cleanup=verbatim", "--message", told)
    sys.stdout.write(f"v{version} is committed and tagged; built and tried outside of the checkout:\n")
    sys.stdout.writelines(f"  {archive.relative_to(ROOT)}\n" for archive in made)
    sys.stdout.write("Publish it: git push --follow-tags, once CI has passed, and upload both archives.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
