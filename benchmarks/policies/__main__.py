"""When to retrain: total cost of the shipped rule, calendars and rules of others over that of the best in hindsight.

``python -m benchmarks policies [--data FOLDER] [--seeds 20] [--first 0] [--quick] [--kept FOLDER] [--plot FILE]``.
Cost is wrong answers plus trainings times a price; the price is .02, .1 and .5 of a period's wrong answers under a
fresh model. Streams: the flights of 2013 by week and the S&P 500 by quarter come with packages; ``--data`` adds
elec.csv, weather.csv and sea_stream.csv from a folder; six made worlds with ``--seeds`` seeds each. ``--quick`` leaves
the real streams out, ``--kept`` keeps what versions lose for a later run. Every policy trains on all rows so far, and
knows the labels of the periods that are over; CARA and UPF also what the versions that they trained, but that serve no
more, would have lost in them.
The end says which of the bars below hold; ``--plot`` draws the means.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure.plot import amounts
from benchmarks.policies.matrix import Losses, kept_losses
from benchmarks.policies.policies import Outcome, best, policies, run
from benchmarks.policies.streams import ROWS, WORLDS, Stream, flights, from_file, shares, world

RATIOS = (0.02, 0.1, 0.5)

OURS, BEST = "when it pays", "best in hindsight"
# The bars: on average at most so much over the best in hindsight, and on no stream at most so much over the better of
# never training and training each period.
MOST_OVER_BEST, MOST_OVER_SIMPLE = 1.15, 1.05

Means = dict[str, dict[str, float]]
"""Cost over the best by stream and policy."""


def real(data: Path | None) -> Iterator[Stream]:
    """Yield each real stream that is here."""
    yield flights()
    yield shares()
    for name in ROWS if data is not None else ():
        yield from_file(Path(data or "") / f"{name}.csv")


@dataclass(frozen=True)
class Played:
    """One stream's losses with what each policy came to, by price and name."""

    found: Losses
    outcomes: dict[float, dict[str, Outcome]]


def play(found: Losses) -> Played:
    """Follow every policy through a stream at each price, once; all tables read these outcomes."""
    at, outcomes = policies(found), {}
    for ratio in RATIOS:
        price = ratio * found.unit
        outcomes[ratio] = {BEST: best(found, price)} | {n: run(found, price, one) for n, one in at(price).items()}
    return Played(found, outcomes)


def table(title: str, streams: list[list[Played]], ratio: float) -> Means:
    """Print cost over the best, by policy (rows) and stream (columns, the mean of its seeds); return the cells."""
    columns: dict[str, dict[str, tuple[float, float]]] = {}
    for group in streams:
        outcomes = [played.outcomes[ratio] for played in group]
        columns[group[0].found.name] = {
            name: (
                float(np.mean([one[name].cost / one[BEST].cost for one in outcomes])),
                float(np.mean([one[name].trainings for one in outcomes])),
            )
            for name in outcomes[0]
        }
    print(f"\n{title}, price {ratio:g} of a period's wrong answers: cost over the best (trainings)\n")
    print(f"| policy | {' | '.join(columns)} | mean |")
    print("|---|" + "---|" * (len(columns) + 1))
    for name in next(iter(columns.values())):
        cells = [column[name] for column in columns.values()]
        mean = float(np.mean([cost for cost, _ in cells]))
        print(f"| {name} | {' | '.join(f'{cost:.3f} ({count:.0f})' for cost, count in cells)} | {mean:.4f} |")
    return {stream: {name: cost for name, (cost, _) in column.items()} for stream, column in columns.items()}


def mean_of(found: Means, name: str) -> float:
    """Return a policy's cost over the best in the mean of the streams."""
    return float(np.mean([column[name] for column in found.values()]))


def bars_hold(found: Means) -> bool:
    """Print which bars hold at one price: cheapest in the mean, near hindsight, on no stream much worse than simple."""
    others = [name for name in next(iter(found.values())) if name not in (BEST, OURS)]
    first, mean = min(others, key=lambda name: mean_of(found, name)), mean_of(found, OURS)
    simple = {stream: min(column["never"], column["each period"]) for stream, column in found.items()}
    worst = max(found, key=lambda stream: found[stream][OURS] / simple[stream])
    ratio = found[worst][OURS] / simple[worst]
    held = (mean <= mean_of(found, first), mean <= MOST_OVER_BEST, ratio <= MOST_OVER_SIMPLE)
    words = ["held" if one else "MISSED" for one in held]
    print(f"\n{OURS}: {mean:.4f}; the best other, {first}: {mean_of(found, first):.4f} ({words[0]})")
    print(f"at most {MOST_OVER_BEST:g} x the best in hindsight: {words[1]}")
    print(f"at most {MOST_OVER_SIMPLE:g} x the better of never and each period: {ratio:.3f} on {worst} ({words[2]})")
    return all(held)


def picture(by_price: list[Means]) -> str:
    """Return as SVG what each policy costs above hindsight, in the mean of all prices and streams."""
    names = [name for name in next(iter(by_price[0].values())) if name != BEST]
    above = {name: 100 * (float(np.mean([mean_of(one, name) for one in by_price])) - 1) for name in names}
    rows = [(name, above[name], "ours" if name == OURS else "peer") for name in sorted(names, key=lambda n: above[n])]
    return amounts("Cost above the best retrainings in hindsight, per cent", rows, step=5, digits=1)


def log_losses(played: Played, ratio: float) -> None:
    """Print what each policy came to on one stream: mean log loss of a row, share wrong and trainings."""
    price, rows = ratio * played.found.unit, float(played.found.rows[1:].sum())
    print(f"\n{played.found.name}, price {ratio:g}: log loss, % wrong (trainings)\n")
    for name, one in played.outcomes[ratio].items():
        wrong = (one.cost - one.trainings * price) / rows
        print(f"- {name}: {one.log_loss:.4f}, {100 * wrong:.2f} ({one.trainings})")


def main() -> int:
    """Print the tables and the bars; 1 where one is missed at some price."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks policies", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with elec.csv, weather.csv and sea_stream.csv")
    parser.add_argument("--seeds", type=int, default=20, help="seeds of each made world")
    parser.add_argument("--first", type=int, default=0, help="the first of those seeds")
    parser.add_argument("--plot", type=Path, help="where to draw the means, as SVG")
    parser.add_argument("--kept", type=Path, help="where losses are kept, which a change of a rule leaves as they are")
    parser.add_argument("--quick", action="store_true", help="made worlds only")
    chosen = parser.parse_args()
    streams = [] if chosen.quick else [[play(kept_losses(one, chosen.kept))] for one in real(chosen.data)]
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    worlds = [[play(kept_losses(world(kind, seed), chosen.kept)) for seed in seeds] for kind in WORLDS]
    by_price, held = [], True
    for ratio in RATIOS:
        if streams:
            table("Real streams", streams, ratio)
            log_losses(streams[0][0], ratio)
        table(f"Made worlds, {chosen.seeds} seeds each", worlds, ratio)
        by_price.append(table("All", [*streams, *worlds], ratio))
        held &= bars_hold(by_price[-1])
    if chosen.plot is not None:
        chosen.plot.write_text(picture(by_price))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
