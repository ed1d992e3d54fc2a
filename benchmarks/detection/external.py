"""Peers that cannot share our environment: installed into one of their own, run there, read back as rows."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np

from benchmarks.detection.world import CHANGES, Floats, cell, row

HERE = Path(__file__).parent
COLUMNS = json.dumps([(mean, sd) for _, mean, sd in CHANGES])


def python_of(package: str, home: Path) -> Path:
    """The interpreter of an environment that holds the package; made on the first call, reused afterwards."""
    where = home / package.partition("==")[0]
    python = where / "bin" / "python"
    if not python.exists():
        venv.create(where, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)
    return python


def external_rows(home: Path, *, quick: bool) -> list[str]:
    """Rows of alibi-detect and frouros; a peer that does not install or run is named with the reason."""
    lines = []
    for package, script, replicates in (
        ("frouros==0.9.0", "external_frouros.py", 8 if quick else 30),
        ("alibi-detect==0.13.0", "external_alibi.py", 5 if quick else 15),
    ):
        try:
            command = [str(python_of(package, home)), str(HERE / script), COLUMNS, str(replicates)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            lines.append(
                row(f"{package}: failed, {str(error.stderr).strip().splitlines()[-1:]}", "-", ["-"] * len(CHANGES))
            )
            continue
        found = json.loads(done.stdout.strip().splitlines()[-1])
        name = f"alibi-detect CVM online, window 100, ERT 20k ({replicates} runs, 3k horizon)"
        for peer in found if isinstance(found, list) else [found | {"name": name}]:
            lines.append(row(peer["name"], f"{peer['length']:,.0f}", [cell(_array(d)) for d in peer["delays"]]))
    return lines


def _array(delays: list[float | None]) -> Floats:
    return np.array([np.inf if d is None else d for d in delays])


if __name__ == "__main__":
    print("\n".join(external_rows(Path(sys.argv[1]), quick=True)))
