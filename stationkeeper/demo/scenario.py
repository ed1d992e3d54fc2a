"""What a demo scenario hands to the replay: a training table, a stream in event-time order and what to expect."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of the stream: predictions to ask for and labels that became known, both before ``until_ms``.

    ``asks`` has columns event_id, entity_id, time (ms) and the features; ``labels`` has event_id, time (ms), label.
    """

    until_ms: int
    asks: pl.DataFrame
    labels: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Plot:
    """What the scenario promises: the loop must close (or, without a shift, stay silent)."""

    title: str
    expects_cure: bool
    onset_ms: int | None
    onset_text: str
    after_ms: int
    """How long to go on after the last promotion, so that the cured stretch can be measured (event time)."""
    near_panes: int | None = None
    """How many panes the stream may be ahead while a canary is out or labels are waited for; None: as ever."""
    soonest_ms: int = 0
    """How long after a request no label can have settled it, so that nobody has to come nearer before (event time)."""


class Scenario(Protocol):
    """A replayable stream of one model; ``settings`` is its configuration beyond topics: empty is every default."""

    @property
    def name(self) -> str:
        """Return the model's name."""

    @property
    def plot(self) -> Plot:
        """Return what to expect."""

    @property
    def start_ms(self) -> int:
        """Return the first moment of live traffic."""

    @property
    def end_ms(self) -> int:
        """Return the moment the stream ends at the latest."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return the model's section of the configuration beyond topics."""

    def training(self) -> pl.DataFrame:
        """Return what the first champion learns from: time (ms), the features, label; in time order."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield the stream in event-time order."""


@dataclass(slots=True)
class LabelQueue:
    """Labels wait here until the stream reaches the moment the world knows them."""

    waiting: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema={"event_id": pl.String, "time": pl.Int64, "label": pl.Boolean})
    )

    def put(self, labels: pl.DataFrame) -> None:
        """Add labels with the time they become known."""
        self.waiting = pl.concat([self.waiting, labels])

    def due(self, until_ms: int) -> pl.DataFrame:
        """Take out the labels known before ``until_ms``, in time order."""
        # By id within a moment, so that one seed gives one topic.
        due = self.waiting.filter(pl.col("time") < until_ms).sort("time", "event_id")
        self.waiting = self.waiting.filter(pl.col("time") >= until_ms)
        return due
