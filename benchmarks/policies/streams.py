"""Streams in periods, oldest first: real ones with nothing planted, and made worlds of one kind of change each."""

import csv
import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Rows of a period, as the figures of STATISTICS.md, section 10.9, took them: a week of half-hours, half a year of days.
ROWS = {"elec": 336, "weather": 191, "sea_stream": 1_000}

WORLDS = ("none", "abrupt", "slow", "recurring", "harmless", "broken")
PERIODS, WORLD_ROWS, FEATURES = 40, 1_000, 6
# The first change of a world: late enough that a quarter of the time nothing happens.
CHANGE = 12


@dataclass(frozen=True)
class Stream:
    """Rows in order of time: features [n, k], labels [n] of 0 and 1, and the period of each row, from 0 on.

    The last ``categories`` features are codes of classes.
    """

    name: str
    features: Array
    labels: Array
    period: Array
    linear: bool = False
    categories: int = 0


def flights() -> Stream:
    """Departures from New York in 2013 by week: late on arrival or not; the first three weeks are period 0."""
    from stationkeeper.demo.flights import CATEGORICAL, NUMERIC, START_MS, read_flights

    frame = read_flights()
    codes = [np.unique(frame[name].to_numpy(), return_inverse=True)[1].astype(float) for name in CATEGORICAL]
    week = (frame["time"].to_numpy() - START_MS) // (7 * 86_400_000)
    features = np.column_stack([*(frame[name].to_numpy() for name in NUMERIC), *codes])
    return Stream(
        "flights", features, frame["label"].to_numpy().astype(int), np.maximum(week - 2, 0), categories=len(codes)
    )


def shares() -> Stream:
    """Days of ten S&P 500 shares by quarter: the index up the next day or not; there is little to learn."""
    spec = importlib.util.find_spec("river")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package river is not installed; run: make venv")
    with gzip.open(Path(spec.origin).parent / "datasets" / "sp500.csv.gz", "rt") as file:
        rows = [[float(cell) for name, cell in row.items() if name != "date"] for row in csv.DictReader(file)]
    table = np.array(rows)
    # A quarter has 63 days of trade.
    return Stream("shares", table[:, :-1], (table[:, -1] > 0).astype(int), np.arange(len(table)) // 63)


def from_file(path: Path) -> Stream:
    """A CSV of numbers with a header and the class last, cut into periods of ``ROWS``."""
    table = np.genfromtxt(path, delimiter=",", skip_header=1)
    labels = (table[:, -1] == table[:, -1].max()).astype(int)
    return Stream(path.stem, table[:, :-1], labels, np.arange(len(table)) // ROWS[path.stem])


def world(kind: str, seed: int) -> Stream:
    """Made payments: fraud by a logistic law of six numbers that changes in one way, or not at all.

    ``harmless`` shifts a number that has no weight; ``broken`` sends one number as 0 for three periods.
    """
    rng = np.random.default_rng([seed, WORLDS.index(kind)])
    first, second = (rng.normal(size=FEATURES) * 1.5 for _ in range(2))
    first[-1] = second[-1] = 0.0
    features, labels = [], []
    for period in range(PERIODS):
        share = {
            "abrupt": float(period >= CHANGE),
            "slow": max(0.0, (period - CHANGE) / (PERIODS - CHANGE)),
            "recurring": float(period >= CHANGE and (period - CHANGE) // 8 % 2 == 0),
        }.get(kind, 0.0)
        rows = rng.normal(size=(WORLD_ROWS, FEATURES))
        law = (1 - share) * first + share * second
        labels.append((rng.random(WORLD_ROWS) < 1 / (1 + np.exp(-(rows @ law - 1.0)))).astype(int))
        if kind == "harmless" and period >= CHANGE:
            rows[:, -1] += 2.0
        if kind == "broken" and CHANGE <= period < CHANGE + 3:
            rows[:, 0] = 0.0
        features.append(rows)
    periods = np.repeat(np.arange(PERIODS), WORLD_ROWS)
    return Stream(kind, np.concatenate(features), np.concatenate(labels), periods, linear=True)
