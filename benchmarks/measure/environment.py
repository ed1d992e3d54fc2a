"""Environments of peers that cannot share ours: made once under the user's cache, pinned, with uv."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CACHE = Path.home() / ".cache" / "stationkeeper" / "benchmarks"
DECODER = "msgspec==0.22.0"


class NotInstalled(RuntimeError):
    """A peer's environment could not be made; the message ends with what the installer said."""


def python_of(name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter of an environment that holds exactly these requirements; raises ``NotInstalled``.

    The first call makes it, later ones find it by the list of requirements that it was made from.
    """
    where = CACHE / "throughput" / name
    python, stamp = where / "bin" / "python", where / "requirements.txt"
    wanted = "\n".join(requirements) + "\n"
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    uv = [sys.executable, "-m", "uv"]
    commands = (
        [*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(where)],
        [*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *requirements],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotInstalled(f"{name}: {' '.join(done.stderr.split()[-30:])}")
    stamp.write_text(wanted, encoding="utf-8")
    return python


def child_environment() -> dict[str, str]:
    """Return an environment in which an interpreter keeps its bytecode, as an installed program has it."""
    found = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found["PYTHONPYCACHEPREFIX"] = str(CACHE / "bytecode")
    return found
