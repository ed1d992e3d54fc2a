"""Panes that are still open at the judge: deltas add up until the watermark passes their end.

Labels may come after their pane has closed and count until their cohort is judged: a join that lags behind the tally
brings such labels, and so does whoever loads the labels of a day at night. Left out, they would bias what is judged:
the labels that come first are not like those that come late.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import structs

from stationkeeper.contracts.state import State
from stationkeeper.contracts.wire import PART_BYTES, ArmDelta, OutcomeDelta, PaneDelta, pack, sparse
from stationkeeper.monitor.core.reference import Counts, NewValues, added, added_actions, plain_new
from stationkeeper.monitor.join import merged_outcomes
from stationkeeper.monitor.judge.labels import Delta, LateLabels
from stationkeeper.monitor.state_codec import freeze, thaw

_Kept = TypeVar("_Kept", ArmDelta, OutcomeDelta)


class WatchKey(NamedTuple):
    """Which watch a pane belongs to."""

    version: str
    digest: str
    segment: str


class _Key(NamedTuple):
    start: int
    version: str
    digest: str
    source: str
    segment: str


# Counts of 8 bytes that fit one record.
_BLOCK = PART_BYTES // 8

# Counts of one model held as plain vectors (64 MiB); beyond it those touched longest ago wait packed. Half packs and
# unpacks sooner, which costs time where many panes are open; twice costs the memory.
MOST_CELLS = 8 * 1024 * 1024


@dataclass(slots=True)
class _Sum:
    """One pane's sum: ``counts``, or the same packed while other panes are being added to."""

    length: int
    rows: int
    width: int
    counts: Counts | None
    packed: bytes = b""
    new: NewValues = field(default_factory=dict)

    def vector(self) -> Counts:
        """Return the counts, which may then be changed only if they are not packed."""
        if self.counts is not None:
            return self.counts
        found: Counts = thaw(self.packed)
        return found


@dataclass(frozen=True, slots=True)
class Closed:
    """All that was counted in one pane: by watch and source, by arm, and the outcomes that became known in it.

    ``outcomes`` say when they were known, ``known`` in which pane they count, that which closes.
    """

    start: int
    panes: dict[WatchKey, dict[str, tuple[int, Counts]]]
    arms: list[ArmDelta]
    outcomes: list[OutcomeDelta]
    new: dict[WatchKey, NewValues] = field(default_factory=dict)

    def aged(self, before: int | None, labelled: int) -> "Closed":
        """Return it with the delay of labels as long as it took them to come: ``labelled`` is the label clock's pane.

        Labels that say of themselves that they were known when labels were in already, up to ``before``, are known now:
        one that bears the time of its prediction is as late as it comes.
        """
        # The common case, without a copy: no label of this pane was read late.
        if before is None or all(one.known_at > before for one in self.outcomes):
            return self
        found = [
            structs.replace(one, age_ms=max(one.age_ms, one.rows * (labelled - one.start)))
            if one.known_at <= before
            else one
            for one in self.outcomes
        ]
        return replace(self, outcomes=found)

    def known(self) -> list[OutcomeDelta]:
        """Return the outcomes as history keeps them: known in this pane where they came late."""
        return [structs.replace(one, known_at=max(one.known_at, self.start)) for one in self.outcomes]


class OpenPaneState(State, frozen=True, array_like=True):
    """One pane's sum as it is kept, by position: the counts that are not zero, and where they are.

    ``at`` holds the steps from each to the next; in state of format 1 it holds positions.
    """

    start: int
    version: str
    digest: str
    source: str
    segment: str
    length: int
    rows: int
    width: int
    at: Counts
    values: Counts
    new: dict[str, dict[str, int]] = {}


class PendingState(State, frozen=True):
    """The open panes as they are kept; ``panes`` are those of state of format 1, which has no ``sums``.

    Arms and outcomes are the fields of their records in order, without the tag that tells records apart.
    """

    arms: list[list[Any]]
    outcomes: list[list[Any]]
    sums: list[OpenPaneState] | None = None
    late: list[list[Any]] = []
    late_since: int = -1
    panes: list[OpenPaneState] = []


class Pending:
    """The open panes of one model, in bounded memory however many are open: most of them wait packed."""

    def __init__(self, model: str, length: int, most_cells: int = MOST_CELLS) -> None:
        self.model, self.length = model, length
        self._most_cells = most_cells
        self._plain: dict[_Key, int] = {}
        self._cells = 0
        self._panes: dict[_Key, _Sum] = {}
        self._arms: dict[tuple[int, str, str], ArmDelta] = {}
        self._outcomes: list[OutcomeDelta] = []
        self._late: list[OutcomeDelta] = []
        self._late_since = -1

    def take(self, delta: Delta, late: LateLabels, closing: int | None) -> bool:
        """Add a delta unless it is too late for a decision; ``closing`` is the pane that closes next."""
        if not late.is_late(delta, closing):
            self.add(delta)
            return True
        if late.too_late(delta) or not isinstance(delta, OutcomeDelta):
            return False
        self.add_late(delta, late.closed_by)
        return True

    def add_late(self, outcome: OutcomeDelta, since: int) -> None:
        """Add labels of a pane that has closed: they count in the next that closes, or before if labels are judged.

        ``since`` is the offset of the record that closed the last pane, or judged labels after it.
        """
        self._late.append(outcome)
        self._late_since = since

    def add(self, delta: Delta) -> None:
        """Add a delta; the rows of a pane come with each of its blocks and count with the first."""
        match delta:
            case PaneDelta():
                key = _Key(delta.start, delta.version, delta.digest, delta.source, delta.segment)
                known = self._panes.get(key)
                if known is None:
                    known = self._panes[key] = _Sum(delta.length, 0, delta.width, np.zeros(delta.width, np.int64))
                end = delta.first + (delta.size or len(delta.counts) // 8)
                delta.add_to(self._plainly(key, known)[delta.first : end])
                # Each block repeats the rows and only the first carries new values.
                if delta.first == 0:
                    known.rows += delta.rows
                    known.new = added(known.new, delta.new)
            case ArmDelta():
                at = (delta.start, delta.version, delta.segment)
                other = self._arms.get(at)
                self._arms[at] = delta if other is None else add_arms(other, delta)
            case OutcomeDelta():
                self._outcomes.append(delta)

    def _plainly(self, key: _Key, found: _Sum) -> Counts:
        """Return a pane's counts to add to, and pack others where too many are plain."""
        if found.counts is None:
            found.counts, found.packed = thaw(found.packed), b""
        # Taken out and put back, a key is the last: the order is that of the latest touch.
        self._cells -= self._plain.pop(key, 0)
        self._plain[key] = found.width
        self._cells += found.width
        while self._cells > self._most_cells and len(self._plain) > 1:
            oldest = next(iter(self._plain))
            self._cells -= self._plain.pop(oldest)
            other = self._panes[oldest]
            other.packed, other.counts = freeze(other.counts), None
        return found.counts

    def earliest(self) -> int | None:
        """Return the start of the first open pane with counts."""
        return min(
            [*(key.start for key in self._panes), *(key[0] for key in self._arms)],
            default=None,
        )

    def close(self, start: int) -> Closed:
        """Take out the pane that starts at ``start``."""
        panes: dict[WatchKey, dict[str, tuple[int, Counts]]] = {}
        new: dict[WatchKey, NewValues] = {}
        # Sorted, so that watches are met in one order: the first of a version gives its dependence to others.
        for key in sorted(key for key in self._panes if key.start == start):
            found = self._panes.pop(key)
            self._cells -= self._plain.pop(key, 0)
            watch = WatchKey(key.version, key.digest, key.segment)
            panes.setdefault(watch, {})[key.source] = (found.rows, found.vector())
            new[watch] = added(new.get(watch, {}), found.new)
        arms = [self._arms.pop(key) for key in sorted(key for key in self._arms if key[0] == start)]
        end = start + self.length
        # Known before the pane's end: an outcome lies in the pane in which it became known, not in that of its
        # prediction.
        known = [outcome for outcome in self._outcomes if outcome.known_at < end]
        if known:
            self._outcomes = [outcome for outcome in self._outcomes if outcome.known_at >= end]
        late, self._late = self._late, []
        return Closed(start, panes, arms, merged_outcomes([*late, *known]), new)

    def late(self, start: int) -> Closed:
        """Take out the labels that came after their pane had closed, as known in that which began at ``start``."""
        late, self._late = self._late, []
        return Closed(start, {}, [], merged_outcomes(late))

    def drop_before(self, end: int, closed_by: int) -> None:
        """Let go of what was counted since: everything before ``end``, and late labels if ``closed_by`` moved on."""
        # A pane has closed since this was stored, and has counted the late labels that lie here.
        if self._late_since != closed_by:
            self._late = []
        for key in [key for key in self._panes if key.start < end]:
            del self._panes[key]
            self._cells -= self._plain.pop(key, 0)
        self._arms = {key: arm for key, arm in self._arms.items() if key[0] >= end}
        self._outcomes = [outcome for outcome in self._outcomes if outcome.known_at >= end]

    def __len__(self) -> int:
        return len(self._panes)

    def state(self) -> PendingState:
        """Return what ``restore`` needs."""
        sums = []
        for key, found in self._panes.items():
            counts = found.vector()
            at = np.flatnonzero(counts)
            # Steps between positions are small numbers, which are stored in a byte.
            step = np.diff(at, prepend=0)
            sums.append(
                OpenPaneState(
                    **key._asdict(),
                    length=found.length,
                    rows=found.rows,
                    width=found.width,
                    at=step,
                    values=counts[at],
                    new=plain_new(found.new),
                )
            )
        return PendingState(
            sums=sums,
            arms=[_fields(arm) for arm in self._arms.values()],
            outcomes=[_fields(outcome) for outcome in self._outcomes],
            late=[_fields(outcome) for outcome in self._late],
            late_since=self._late_since,
        )

    def restore(self, state: PendingState) -> None:
        """Become what ``state`` was taken from."""
        self._panes, self._plain, self._cells = {}, {}, 0
        for one in state.panes if state.sums is None else state.sums:
            counts = np.zeros(one.width, np.int64)
            counts[one.at if state.sums is None else np.cumsum(one.at)] = one.values
            key = _Key(one.start, one.version, one.digest, one.source, one.segment)
            self._panes[key] = _Sum(one.length, one.rows, one.width, counts, new=one.new)
            # At once, so that a restart never holds more plain counts than a run does.
            self._plainly(key, self._panes[key])
        arms = [_read("arm", fields, ArmDelta) for fields in state.arms]
        self._arms = {(arm.start, arm.version, arm.segment): arm for arm in arms}
        self._outcomes = [_read("outcome", fields, OutcomeDelta) for fields in state.outcomes]
        self._late = [_read("outcome", fields, OutcomeDelta) for fields in state.late]
        self._late_since = state.late_since


def _fields(record: ArmDelta | OutcomeDelta) -> list[Any]:
    return [getattr(record, name) for name in record.__struct_fields__]


def _read(tag: str, fields: list[Any], kind: type[_Kept]) -> _Kept:
    """The record whose fields were kept; checked, because a later build may have added some or damage changed them."""
    return msgspec.convert([tag, *fields], kind)


def add_arms(one: ArmDelta, other: ArmDelta) -> ArmDelta:
    """Return the sum of two deltas of the same arm and pane."""
    scores = np.frombuffer(one.scores, "<i8") + np.frombuffer(other.scores, "<i8")
    return ArmDelta(
        one.model,
        one.version,
        one.segment,
        one.start,
        one.length,
        one.rows + other.rows,
        one.errors + other.errors,
        one.positives + other.positives,
        one.timed + other.timed,
        one.latency_us + other.latency_us,
        pack(scores),
        _both(one.latencies, other.latencies),
        _both(one.groups, other.groups),
        added_actions(one.actions, other.actions),
    )


def _both(one: bytes, other: bytes) -> bytes:
    """Return the sum of two count vectors of which either may be absent."""
    if not one or not other:
        return one or other
    return pack(np.frombuffer(one, "<i8") + np.frombuffer(other, "<i8"))


def merged_sources(sources: Mapping[str, tuple[int, Counts]], source: str) -> tuple[int, Counts]:
    """Return the rows and counts of all sources: the rows are those of ``source``, without it the most of any."""
    counts = sum((found for _, found in sources.values()), np.int64(0))
    rows = sources[source][0] if source in sources else max(rows for rows, _ in sources.values())
    return rows, np.asarray(counts, np.int64)


def pane_records(
    model: str, key: WatchKey, source: str, start: int, length: int, rows: int, counts: Counts, new: NewValues
) -> Iterator[PaneDelta]:
    """Yield a merged pane as records of at most one block each, whether its reference is still known or not."""
    named = plain_new(new)
    for first in range(0, max(len(counts), 1), _BLOCK):
        block = sparse(counts[first : first + _BLOCK])
        yield PaneDelta(
            model, key.version, key.digest, source, key.segment, start, length, rows, first, len(counts), *block, named
        )
        named = {}
