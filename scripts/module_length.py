"""Fail when a Python file is too long or is named after nothing: one concept a file, its name the noun."""

import subprocess
import sys
from pathlib import Path

CEILING = 500
VAGUE = frozenset({"base", "common", "helper", "helpers", "manager", "misc", "shared", "stuff", "util", "utils"})


def complaints(root: Path) -> list[str]:
    """Return one sentence for each tracked or new Python file under ``root`` that breaks a rule."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py"],  # noqa: S607 - git of the reader
        cwd=root,
        check=True,
        capture_output=True,
    )
    found = []
    for name in sorted({name for name in listed.stdout.decode().split("\0") if name}):
        path = root / name
        if not path.is_file():
            continue
        length = len(path.read_text(encoding="utf-8").splitlines())
        if length > CEILING:
            found.append(f"{name}: {length} lines, the ceiling is {CEILING}; split it by concept")
        if path.stem.strip("_") in VAGUE:
            found.append(f"{name}: the name says nothing; call it by the concept it holds")
    return found


def main() -> int:
    """Print the complaints and return the exit code."""
    found = complaints(Path(__file__).resolve().parent.parent)
    for complaint in found:
        print(complaint, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
