"""Power card against simulation: is what the card promises found in half of the runs, give or take 30 %?

For each promise the stream changes by the promised size, by it divided by 1.3 and by it times 1.3; the card is within
30 % where the smaller is found in at most half of the runs within the horizon and the larger in at least half.
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

from stationkeeper.contracts.column import Column, categories, numbers
from stationkeeper.contracts.messages import Level
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.budget import parse_budget
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.power import power_card
from stationkeeper.monitor.core.reference import Reference
from stationkeeper.monitor.core.watch import Watch, WatchSettings

PANE_MS = 60_000
BUDGET = "1 per 30 days"
WITHIN = 1.3
Columns = dict[str, np.ndarray]
Change = Callable[[Columns, float, np.random.Generator], None]


def world(rows: int, rng: np.random.Generator) -> Columns:
    """Two numbers and a category, independent rows."""
    method = rng.choice(["card", "cash", "wire"], rows, p=[0.6, 0.3, 0.1]).astype(object)
    return {"x": rng.normal(size=rows), "y": rng.exponential(size=rows), "method": method}


def shift(data: Columns, size: float, _: np.random.Generator) -> None:
    """Move x by ``size`` standard deviations."""
    data["x"] = data["x"] + size


def scale(data: Columns, size: float, _: np.random.Generator) -> None:
    """Widen x by a factor 1 + ``size``."""
    data["x"] = data["x"] * (1 + size)


def new_category(data: Columns, size: float, rng: np.random.Generator) -> None:
    """Give a share ``size`` of the rows a category never seen."""
    data["method"][rng.random(len(data["method"])) < size] = "crypto"


def missing(data: Columns, size: float, rng: np.random.Generator) -> None:
    """Lose a share ``size`` of x."""
    data["x"] = np.where(rng.random(len(data["x"])) < size, np.nan, data["x"])


def found(reference: Reference, change: Change, size: float, panes: int, rows: int, seed: int) -> bool:
    """Return whether a page falls within ``panes`` of the change."""
    rng = np.random.default_rng(seed)
    watch = Watch(reference, settings=WatchSettings(budget=parse_budget(BUDGET)))
    before = 20
    data = world((before + panes) * rows, rng)
    after = {name: values[before * rows :].copy() for name, values in data.items()}
    change(after, size, rng)
    data = {name: np.concatenate([data[name][: before * rows], after[name]]) for name in data}
    columns: dict[str, Column] = {
        "x": numbers(data["x"]),
        "y": numbers(data["y"]),
        "method": categories(data["method"], "string"),
    }
    group = np.repeat(np.arange(before + panes), rows)
    vectors = reference.layout.tally(columns, group, np.full(before + panes, rows))
    for k, vector in enumerate(vectors):
        outcome = watch.step(Pane(k * PANE_MS, PANE_MS, rows, vector))
        if any(verdict.level is Level.PAGE for verdict in outcome.verdicts):
            return k >= before
    return False


def main(arguments: list[str]) -> int:
    """Print one line a promise; exit 1 if one is off by more than 30 %."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30, help="simulated streams for each size")
    parser.add_argument("--rows", type=int, default=10_000, help="reference rows")
    parser.add_argument("--per-minute", type=int, nargs="+", default=[5, 50], help="traffic, rows a minute")
    parser.add_argument("--day", action="store_true", help="check the promises for a day as well (slow)")
    options = parser.parse_args(arguments)
    began, wrong = time.monotonic(), 0
    reference = profile(world(options.rows, np.random.default_rng(1)), ordered=True)
    print(f"{'rows/min':>8} {'within':>7} {'change':>13} {'promised':>9}  found at /1.3, x1, x1.3")
    for rows in options.per_minute:
        card = power_card(reference, parse_budget(BUDGET), rows_per_hour=60.0 * rows)
        by_name = {power.subject: power for power in card.subjects}
        x, method = by_name["x"], by_name["method"]
        promises: list[tuple[str, Change, dict[str, float | None], float]] = [
            ("shift", shift, x.shift, 0.0),
            ("scale", scale, x.scale, 1.0),
            ("missing", missing, x.missing, 0.0),
            ("new category", new_category, method.new_category, 0.0),
        ]
        for within, panes in (("1 hour", 60), ("1 day", 1_440)) if options.day else (("1 hour", 60),):
            for name, change, promised, base in promises:
                size = promised[within]
                if size is None:
                    print(f"{rows:8d} {within:>7} {name:>13} {'none':>9}")
                    continue
                step = size - base
                shares = [
                    np.mean([found(reference, change, step * k, panes, rows, seed) for seed in range(options.runs)])
                    for k in (1 / WITHIN, 1.0, WITHIN)
                ]
                good = shares[0] <= 0.5 <= shares[2]
                wrong += not good
                line = ", ".join(f"{share:.0%}" for share in shares)
                print(
                    f"{rows:8d} {within:>7} {name:>13} {size:9.3f}  {line}  {'within 30 %' if good else 'OFF'}",
                    flush=True,
                )
    print(f"{wrong} promise(s) off by more than 30 %; {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
