"""Closed minutes of one model from its history: what every version did, and which labels came."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.messages import Message
from stationkeeper.contracts.wire import ENTITY_GROUPS, SCORE_BINS, ArmDelta, OutcomeDelta, PaneDelta

# Losses travel as whole millionths, so that sums are exact in any order.
LOSS_UNIT = 1e-6


class ArmCounts(Message):
    """What one version did in one minute; ``latency_us`` sums over ``timed`` rows.

    ``latencies`` counts them by bin, ``groups`` rows, errors and positives by entity group (three rows of counts);
    either is empty where nothing is known.
    """

    schema_name: ClassVar[str] = "arm-counts"
    rows: int = 0
    errors: int = 0
    positives: int = 0
    timed: int = 0
    latency_us: int = 0
    scores: tuple[int, ...] = (0,) * SCORE_BINS
    latencies: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()

    def plus(self, delta: ArmDelta) -> "ArmCounts":
        """Return the counts with a delta added."""
        scores = np.array(self.scores, dtype=np.int64) + np.frombuffer(delta.scores, dtype="<i8")
        return ArmCounts(
            rows=self.rows + delta.rows,
            errors=self.errors + delta.errors,
            positives=self.positives + delta.positives,
            timed=self.timed + delta.timed,
            latency_us=self.latency_us + delta.latency_us,
            scores=tuple(scores.tolist()),
            latencies=_added(self.latencies, delta.latencies),
            groups=_added(self.groups, delta.groups),
        )

    def by_group(self) -> npt.NDArray[np.int64]:
        """Return rows, errors and positives by entity group, int64[3, ENTITY_GROUPS]; zeros where none is known."""
        return np.array(self.groups or (0,) * (3 * ENTITY_GROUPS), dtype=np.int64).reshape(3, -1)

    def histogram(self) -> npt.NDArray[np.int64]:
        """Return the scores as int64[SCORE_BINS]."""
        return np.array(self.scores, dtype=np.int64)


def _added(counts: tuple[int, ...], more: bytes) -> tuple[int, ...]:
    """Return counts with those of a record added; either may be empty."""
    if not more:
        return counts
    found = np.frombuffer(more, dtype="<i8")
    return tuple((found + np.array(counts, dtype=np.int64) if counts else found).tolist())


class OutcomeCounts(Message):
    """Labelled rows of one version predicted in the minute ``start``; ``loss`` is their sum, see ``LOSS_UNIT``."""

    schema_name: ClassVar[str] = "outcome-counts"
    version: str
    start: int
    rows: int
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    loss: float


class Minute(Message):
    """One minute: arms by version, and the labels that became known in it."""

    schema_name: ClassVar[str] = "minute"
    start: int
    length: int
    arms: dict[str, ArmCounts] = {}
    outcomes: tuple[OutcomeCounts, ...] = ()

    @property
    def end(self) -> int:
        """Return the first millisecond after the minute: the clock once it is closed."""
        return self.start + self.length


@dataclass(slots=True)
class MinuteBook:
    """Gathers history records of one model into minutes; a minute closes when the log shows a later one.

    The log's order alone decides what belongs to a minute, so a replay closes the same minutes with the same
    content whatever the polls. Deltas for a closed minute (late rows, hourly sums) change no decision.
    """

    open: Minute | None = None
    _arms: dict[str, ArmCounts] = field(default_factory=dict)
    _outcomes: list[OutcomeCounts] = field(default_factory=list)

    @classmethod
    def resume(cls, minute: Minute | None) -> "MinuteBook":
        """Return a book that goes on with a minute that was open."""
        book = cls(open=minute)
        if minute is not None:
            book._arms, book._outcomes = dict(minute.arms), list(minute.outcomes)
        return book

    def add(self, record: ArmDelta | OutcomeDelta | PaneDelta) -> Minute | None:
        """Take one record in; returns the minute that it closed, if it did."""
        stamp = record.known_at if isinstance(record, OutcomeDelta) else record.start
        closed = None
        if self.open is None:
            self.open = Minute(start=stamp, length=record.length)
        # A longer record is an hour's sum of minutes that were judged already; it must close none.
        elif stamp > self.open.start and record.length <= self.open.length:
            closed = self.snapshot()
            self.open, self._arms, self._outcomes = Minute(start=stamp, length=record.length), {}, []
        # Segments are parts of all traffic: counted beside it their rows would count twice.
        if record.segment:
            return closed
        if isinstance(record, ArmDelta):
            if stamp == self.open.start and record.length == self.open.length:
                self._arms[record.version] = self._arms.get(record.version, ArmCounts()).plus(record)
        elif isinstance(record, OutcomeDelta) and record.length == self.open.length:
            self._outcomes.append(_outcome(record))
        return closed

    def snapshot(self) -> Minute | None:
        """Return the open minute with what it holds so far."""
        if self.open is None:
            return None
        return self.open.model_copy(update={"arms": dict(self._arms), "outcomes": tuple(self._outcomes)})


def _outcome(delta: OutcomeDelta) -> OutcomeCounts:
    confusion = np.frombuffer(delta.confusion, dtype="<i8").tolist()
    return OutcomeCounts(
        version=delta.version,
        start=delta.start,
        rows=delta.rows,
        true_positives=confusion[0],
        false_positives=confusion[1],
        false_negatives=confusion[2],
        true_negatives=confusion[3],
        loss=delta.loss * LOSS_UNIT,
    )


def arm(minute: Minute, version: str) -> ArmCounts:
    """Return what a version did in a minute, zeros where it did nothing."""
    arms: Mapping[str, ArmCounts] = minute.arms
    return arms.get(version, ArmCounts())
