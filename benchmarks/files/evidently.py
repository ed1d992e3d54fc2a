"""Write Evidently's report in its own environment and time it: python -m benchmarks evidently [--rows N]."""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from stationkeeper.evidently.environment import prepare, ready
from stationkeeper.evidently.report import job_of, run
from stationkeeper.monitor import profile


def table(rows: int, shift: float, seed: int) -> pl.DataFrame:
    """Return rows of a number that is ``shift`` standard deviations off, a number that is not, and a category."""
    dice = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "moved": dice.normal(shift, 1, rows),
            "quiet": dice.lognormal(0, 0.5, rows),
            "plan": dice.choice(["basic", "gold"], rows, p=[0.7, 0.3]),
        }
    )


def main() -> None:
    """Print how long the environment and the report take and what Evidently finds; fail where it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args().rows
    there = ready()
    began = time.perf_counter()
    prepare()
    print(f"environment {'found' if there else 'made'} in {time.perf_counter() - began:.1f} s")
    reference = profile(table(rows, 0.0, 1), model="demo", version="1")
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for shift in (0.0, 1.0):
            began = time.perf_counter()
            output = Path(folder) / f"{shift}.html"
            metrics = run(job_of(reference, table(rows, shift, 2)), output)
            found[f"{shift}"] = metrics[0]["value"]["count"]
            size = output.stat().st_size / 1024
            print(f"shift of {shift:g} sd: {time.perf_counter() - began:.1f} s, {size:,.0f} kB")
            for metric in metrics:
                print(f"  {metric['name']}: {metric['value']}")
    # Evidently's own verdict on our reference: nothing where nothing moved, one column where one did.
    if found != {"0.0": 0.0, "1.0": 1.0}:
        raise SystemExit(f"drifted columns found: {found}; expected none, then one")


if __name__ == "__main__":
    main()
