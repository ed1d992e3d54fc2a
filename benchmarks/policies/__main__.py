"""When to retrain: total cost of the shipped rule, calendars and rules of others over that of the best in hindsight.

``python -m benchmarks policies [--data FOLDER] [--seeds 20] [--quick]``. Cost is wrong answers plus trainings times a
price; the price is .02, .1 and .5 of a period's wrong answers under a fresh model. Streams: the flights of 2013 by week
and the S&P 500 by quarter come with packages; ``--data`` adds elec.csv, weather.csv and sea_stream.csv from a folder;
six made worlds with ``--seeds`` seeds each. ``--quick`` leaves the real streams out. Every policy trains on all rows so
far, and knows the labels of the periods that are over; CARA and UPF also know every version's loss in them, uncharged.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.policies.matrix import Losses, losses
from benchmarks.policies.policies import best, policies, run
from benchmarks.policies.streams import ROWS, WORLDS, flights, from_file, shares, world

RATIOS = (0.02, 0.1, 0.5)


def real(data: Path | None) -> Iterator[Losses]:
    """Yield the losses of each real stream that is here."""
    yield losses(flights())
    yield losses(shares())
    for name in ROWS if data is not None else ():
        yield losses(from_file(Path(data or "") / f"{name}.csv"))


def table(title: str, all_losses: list[list[Losses]], ratio: float) -> dict[str, float]:
    """Print cost over the best, by policy (rows) and stream (columns, the mean of its seeds); return the means."""
    columns = {}
    for group in all_losses:
        over: dict[str, list[float]] = {}
        trained: dict[str, list[int]] = {}
        for found in group:
            price = ratio * found.unit
            least = best(found, price)
            over.setdefault("best in hindsight", []).append(1.0)
            trained.setdefault("best in hindsight", []).append(least.trainings)
            for name, decide in policies(found, price).items():
                outcome = run(found, price, decide)
                over.setdefault(name, []).append(outcome.cost / least.cost)
                trained.setdefault(name, []).append(outcome.trainings)
        columns[group[0].name] = {n: (float(np.mean(over[n])), float(np.mean(trained[n]))) for n in over}
    print(f"\n{title}, price {ratio:g} of a period's wrong answers: cost over the best (trainings)\n")
    print(f"| policy | {' | '.join(columns)} | mean |")
    print("|---|" + "---|" * (len(columns) + 1))
    means = {}
    for name in next(iter(columns.values())):
        cells = [column[name] for column in columns.values()]
        means[name] = float(np.mean([cost for cost, _ in cells]))
        print(f"| {name} | {' | '.join(f'{cost:.3f} ({count:.0f})' for cost, count in cells)} | {means[name]:.4f} |")
    return means


def log_losses(found: Losses, ratio: float) -> None:
    """Print what each policy came to on one stream: mean log loss of a row, share wrong and trainings."""
    price, rows = ratio * found.unit, float(found.rows[1:].sum())
    print(f"\n{found.name}, price {ratio:g}: log loss, % wrong (trainings)\n")
    least = best(found, price)
    outcomes = {"best in hindsight": least} | {n: run(found, price, d) for n, d in policies(found, price).items()}
    for name, one in outcomes.items():
        wrong = (one.cost - one.trainings * price) / rows
        print(f"- {name}: {one.log_loss:.4f}, {100 * wrong:.2f} ({one.trainings})")


def main() -> int:
    """Print the tables; 1 where the shipped rule is not the cheapest in the mean of all streams at some price."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks policies", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with elec.csv, weather.csv and sea_stream.csv")
    parser.add_argument("--seeds", type=int, default=20, help="seeds of each made world")
    parser.add_argument("--quick", action="store_true", help="made worlds only")
    chosen = parser.parse_args()
    streams = [] if chosen.quick else [[found] for found in real(chosen.data)]
    worlds = [[losses(world(kind, seed)) for seed in range(chosen.seeds)] for kind in WORLDS]
    won = True
    for ratio in RATIOS:
        if streams:
            table("Real streams", streams, ratio)
            log_losses(streams[0][0], ratio)
        table(f"Made worlds, {chosen.seeds} seeds each", worlds, ratio)
        means = table("All", [*streams, *worlds], ratio)
        others = {name: mean for name, mean in means.items() if name not in ("best in hindsight", "when it pays")}
        first = min(others, key=lambda name: others[name])
        won &= means["when it pays"] <= others[first]
        print(f"\nwhen it pays: {means['when it pays']:.4f}; the best other, {first}: {others[first]:.4f}")
    return 0 if won else 1


if __name__ == "__main__":
    sys.exit(main())
