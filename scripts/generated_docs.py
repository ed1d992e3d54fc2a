"""Write the generated documents, or with ``--check`` fail when a committed copy is stale."""

import subprocess
import sys
from pathlib import Path

GENERATORS = (
    "scripts.docs.publish",
    "scripts.docs.api",
    "scripts.loop_figure",
    "scripts.dashboard",
    "scripts.runbook_index",
)
"""Modules that write documents when run, and compare instead when given ``--check``."""


def main(arguments: list[str]) -> int:
    """Run every generator with the arguments and return 1 if one of them failed."""
    root = Path(__file__).resolve().parent.parent
    failed = [
        module
        for module in GENERATORS
        if subprocess.run([sys.executable, "-m", module, *arguments], cwd=root, check=False).returncode != 0
    ]
    for module in failed:
        print(f"{module} {' '.join(arguments)} failed; `make docs` writes the documents again", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
