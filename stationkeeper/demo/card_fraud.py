"""The fraud scenario as a replay: fourteen days of history to learn from, then a day and a half of traffic."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from stationkeeper.demo.fraud import CATEGORICAL, FEATURES, FraudStory, Transactions, generate
from stationkeeper.demo.scenario import Chunk, LabelQueue, Plot
from stationkeeper.monitor.settings import HOUR_MS, MINUTE_MS

# 2026-01-05T00:00:00Z, a Monday. Fixed, so that a seed gives the same stream on every day.
START_MS: Final = 1_767_571_200_000
# Two whole weeks (docs/demo.md). Chosen: half gives the first champion half the frauds to learn, double trains longer.
TRAINING_HOURS: Final = 14 * 24
# About 40 000 rows in two weeks, of which 3 % are fraud. Chosen as above: rows to learn from against seconds to train.
TRAINING_PER_MINUTE: Final = 2.0
# Chosen: half asks twice as many requests of half the rows, double moves the stream in coarser steps than a reaction.
CHUNK_MS: Final = 2 * MINUTE_MS
# Labels take up to 3.8 h, so of seven hours after the last promotion about three are labelled, with some 400 frauds;
# of four hours it would be half an hour or so.
AFTER_MS: Final = 7 * HOUR_MS
# A weight and a gate then follow the stream within some five minutes, where in life it is a second. At thirty panes
# each step of the canary came up to half an hour late; at two the stream stops at every flush of the roles.
NEAR_PANES: Final = 4
# A good payment is known as one after 2.5 h at the earliest and 3 h in the mean, and a gate wants 3 000 rows, which is
# 50 minutes of traffic: at 3 h no gate has looked yet. Half an hour later the first look could come late.
SOONEST_MS: Final = 3 * HOUR_MS


@dataclass(slots=True)
class FraudScenario:
    """Card fraud at ``per_minute`` transactions for ``hours`` of stream time."""

    story: FraudStory = field(default_factory=FraudStory)
    per_minute: float = 60.0
    hours: float = 48.0
    name: str = "fraud"
    categorical: tuple[str, ...] = CATEGORICAL
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def start_ms(self) -> int:
        """The first moment of live traffic."""
        return START_MS

    @property
    def end_ms(self) -> int:
        """The moment the stream ends at the latest."""
        return START_MS + round(self.hours * HOUR_MS)

    @property
    def onset_ms(self) -> int | None:
        """When the new payment method appears; None in the no-shift run."""
        return START_MS + round(self.story.onset_hours * HOUR_MS) if self.story.share > 0 else None

    @property
    def plot(self) -> Plot:
        """What to expect."""
        shift = self.onset_ms is not None
        return Plot(
            title="A bank's fraud model" + ("" if shift else ", and nothing happens"),
            expects_cure=shift,
            onset_ms=self.onset_ms,
            onset_text=f"a new payment method, instant_wallet, takes {self.story.share:.0%} of the traffic",
            after_ms=AFTER_MS,
            near_panes=NEAR_PANES,
            soonest_ms=SOONEST_MS,
        )

    def training(self) -> pl.DataFrame:
        """Return the labelled history the first champion learns from."""
        first = START_MS - TRAINING_HOURS * HOUR_MS
        return frame_of(generate(self.story, first, TRAINING_HOURS, TRAINING_PER_MINUTE, onset_ms=None)).drop(
            "event_id", "entity_id", "label_time"
        )

    def chunks(self) -> Iterator[Chunk]:
        """Yield two stream minutes at a time."""
        queue = LabelQueue()
        for hour_ms in range(START_MS, self.end_ms, HOUR_MS):
            hour = frame_of(generate(self.story, hour_ms, 1.0, self.per_minute, onset_ms=self.onset_ms))
            queue.put(hour.select("event_id", pl.col("label_time").alias("time"), "label"))
            asks = hour.drop("label", "label_time")
            for until in range(hour_ms + CHUNK_MS, hour_ms + HOUR_MS + 1, CHUNK_MS):
                piece = asks.filter((pl.col("time") >= until - CHUNK_MS) & (pl.col("time") < until))
                yield Chunk(until, piece, queue.due(until))


def frame_of(rows: Transactions) -> pl.DataFrame:
    """Return transactions with event_id, entity_id, time, features, label and label_time."""
    columns = {name: pl.Series(name, list(rows.columns[name])) for name in FEATURES}
    return pl.DataFrame(
        {
            "event_id": [f"tx-{time}-{i}" for i, time in enumerate(rows.time)],
            "entity_id": [f"customer-{c}" for c in rows.customer],
            "time": rows.time,
            **columns,
            "label": rows.fraud,
            "label_time": rows.label_time,
        }
    ).with_columns(pl.col("device_age_days").fill_nan(None))
