"""Pages and warnings of years in which a mean moves slowly, with `follow_seasons` and without.

``python -m benchmarks seasons [--rows 300] [--seed 0]``. A number with four panes of ``rows`` a day after four weeks of
reference, days that move by .03 sd by themselves, one false page in 30 days. The last column is how far the reference
has moved at the end, in points of the rows.
"""

import argparse
from collections.abc import Callable

import numpy as np

from stationkeeper.contracts.column import numbers
from stationkeeper.contracts.messages import Level, VerdictKind
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.watch import Watch, WatchSettings
from stationkeeper.monitor.profiling import profile

PANE_MS = 6 * 3_600_000
# 2001-01-01 00:00 UTC.
MONDAY_MS = 978_307_200_000
PAST_DAYS, DAY_PANES = 28, 4
YEARS: dict[str, tuple[int, Callable[[float], float]]] = {
    "still": (365, lambda _: 0.0),
    "swings by .1 sd": (365, lambda day: 0.1 * float(np.sin(2 * np.pi * day / 365))),
    "swings by .2 sd": (365, lambda day: 0.2 * float(np.sin(2 * np.pi * day / 365))),
    "from its lowest up by .3 sd and back": (365, lambda day: 0.15 - 0.15 * float(np.cos(2 * np.pi * day / 365))),
    "from its lowest up by .4 sd and back": (365, lambda day: 0.2 - 0.2 * float(np.cos(2 * np.pi * day / 365))),
    "ramp of .0125 sd a week": (365, lambda day: 0.0125 * day / 7),
    "ramp of .025 sd a week": (140, lambda day: 0.025 * day / 7),
    "ramp of .05 sd a week": (70, lambda day: 0.05 * day / 7),
}


def said(name: str, rows: int, seed: int, *, follow: bool) -> str:
    """Return the row of a year: days on which it paged and warned, and how far the reference moved."""
    days, mean = YEARS[name]
    rng = np.random.default_rng([seed, 3])
    moves = rng.normal(size=PAST_DAYS + days) * 0.03
    past = np.repeat(np.arange(PAST_DAYS * DAY_PANES), rows)
    x = rng.normal(size=len(past)) + moves[past // DAY_PANES]
    reference = profile({"x": x, "t": MONDAY_MS + past * PANE_MS}, time="t", pane="6h")
    watch = Watch(reference, settings=WatchSettings(follow_seasons=follow))
    found: dict[Level, list[str]] = {Level.PAGE: [], Level.WARN: []}
    for at in range(PAST_DAYS * DAY_PANES, (PAST_DAYS + days) * DAY_PANES):
        day = at / DAY_PANES - PAST_DAYS
        values = numbers(rng.normal(size=rows) + moves[at // DAY_PANES] + mean(day))
        (counts,) = reference.layout.tally({"x": values}, np.zeros(rows, np.int64), np.array([rows]))
        for verdict in watch.step(Pane(MONDAY_MS + at * PANE_MS, PANE_MS, rows, counts)).verdicts:
            if verdict.level in found and verdict.kind is not VerdictKind.RECOVERED:
                found[verdict.level].append(f"{day:.0f}")
    moved = 0.0 if watch.season is None else watch.season.moved("x")
    cells = [", ".join(found[level]) or "-" for level in (Level.PAGE, Level.WARN)]
    return f"| {name} | {'yes' if follow else 'no'} | {cells[0]} | {cells[1]} | {100 * moved:.1f} |"


def main() -> None:
    """Print a line a year, without and with."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks seasons", description=__doc__)
    parser.add_argument("--rows", type=int, default=300, help="rows of a pane of six hours")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    print("| a mean | followed | pages on day | warnings on day | moved, points |")
    print("|---|---|---|---|---|")
    for name in YEARS:
        for follow in (False, True):
            print(said(name, chosen.rows, chosen.seed, follow=follow), flush=True)


if __name__ == "__main__":
    main()
