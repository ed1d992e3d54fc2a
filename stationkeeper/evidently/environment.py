"""An environment of its own for Evidently, which needs pandas below 3: made once in the cache, from hashed pins."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

from stationkeeper.streams.errors import Retryable


def pins() -> str:
    """Return the committed requirements, with a hash for every file; ``make lock`` writes them."""
    return resources.files("stationkeeper.evidently").joinpath("requirements.txt").read_text(encoding="utf-8")


def directory() -> Path:
    """Return where the environment lies: under ``$XDG_CACHE_HOME`` or ``~/.cache``, named by what is pinned."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    # By content: a new lock or another Python makes a new environment, and the old one stays whole for who uses it.
    # Twelve digits tell a thousand locks apart and are still read in a path.
    named = hashlib.sha256(f"{sys.version_info[:2]}{pins()}".encode()).hexdigest()[:12]
    return Path(root) / "stationkeeper" / f"evidently-{named}"


def python(home: Path) -> Path:
    """Return the interpreter of an environment."""
    return home / "bin" / "python"


def ready(home: Path | None = None) -> bool:
    """Return whether the environment was made to its end."""
    return ((home or directory()) / "complete").exists()


def prepare() -> Path:
    """Return the interpreter, after making the environment if need be (700 MB); safe when two processes ask at once.

    ``uv`` makes it in seconds where it is installed, ``venv`` and ``pip`` otherwise. Raises ``Retryable`` with what
    the installer said.
    """
    home = directory()
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        # Two reports at once would install into one directory; the second waits and finds it made.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready(home):
            shutil.rmtree(home, ignore_errors=True)
            _make(home)
            # Last of all: an installation that was cut off is begun again, not used.
            (home / "complete").touch()
    return python(home)


def _make(home: Path) -> None:
    with resources.as_file(resources.files("stationkeeper.evidently").joinpath("requirements.txt")) as file:
        # Ours first: it belongs to this installation, whatever else a machine has on its path.
        beside = Path(sys.executable).with_name("uv")
        uv = str(beside) if beside.exists() else shutil.which("uv")
        if uv is not None:
            _run([uv, "venv", "--quiet", "--python", sys.executable, str(home)])
            install = [uv, "pip", "install", "--quiet", "--python", str(python(home))]
        else:
            _run([sys.executable, "-m", "venv", str(home)])
            install = [str(python(home)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*install, "--require-hashes", "-r", str(file)])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        # The end says why, and the first words which installer: a line each of a terminal.
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise Retryable(f"could not make the environment for Evidently: {' '.join(command[:4])} … said: {last}")
