"""Installed, the project brings one top-level name, and no file of a user's working directory can stand in its way."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    target = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--quiet", "--no-create-gitignore", "--out-dir", target, ROOT)
    wheel, sdist = sorted(target.iterdir(), key=lambda path: path.suffix, reverse=True)
    return {"wheel": wheel, "sdist": sdist}


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_an_installed_archive_brings_one_name_and_starts_beside_a_users_own_modules(
    kind: str, archives: dict[str, Path], tmp_path: Path
):
    target, work = tmp_path / "installed", tmp_path / "work"
    run(UV, "pip", "install", "--quiet", "--no-deps", "--target", target, archives[kind])
    brought = {path.name for path in target.iterdir() if path.suffix != ".dist-info" and not path.name.startswith(".")}
    assert brought - {"bin"} == {"stationkeeper"}

    work.mkdir()
    for name in ("monitor", "deploy", "events"):
        (work / f"{name}.py").write_text('raise SystemExit("mine")\n', encoding="utf-8")
    # The dependencies come from this environment, without its link to the checkout: no .pth file is read from a path.
    paths = os.pathsep.join([str(target), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    everything = "import stationkeeper.deploy, stationkeeper.events, stationkeeper.monitor as m; print(m.__file__)"
    # -S leaves the site directories out, and with them the checkout.
    python, env = (sys.executable, "-S"), {**os.environ, "PYTHONPATH": paths}
    assert "monitor" in run(*python, "-m", "stationkeeper", "--help", cwd=work, env=env)
    assert run(*python, "-c", everything, cwd=work, env=env).strip() == str(
        target / "stationkeeper" / "monitor" / "__init__.py"
    )


def run(*command: object, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    arguments = [str(part) for part in command]
    done = subprocess.run(arguments, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
