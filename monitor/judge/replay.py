"""The judge once more over a past that history kept: the very same core, with other settings if they are changed."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, PaneDelta, Progress
from stationkeeper.monitor.judge.decisions import Decisions, joined
from stationkeeper.monitor.judge.model import MAX_GAP_PANES, ModelJudge
from stationkeeper.monitor.judge.watermark import Progresses
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings

Kept = PaneDelta | ArmDelta | OutcomeDelta | Progress

FROM_INPUTS = (
    "predictions",
    "features",
    "labels",
    "inputs",
    "lateness",
    "skew",
    "dedupe",
    "label_horizon",
    "positive",
    "threshold",
    "sensitive",
)
"""Settings that decide what is counted: panes of the past were counted with those of their time."""


class PastReferences(References):
    """References with the champion as of a time: ``champions`` are (since ms, version) by model, in order of time."""

    def __init__(self, models: Mapping[str, ModelSettings], champions: Mapping[str, Sequence[tuple[int, str]]]) -> None:
        super().__init__(models)
        self._champions = champions
        self.now = 0

    def champion(self, model: str) -> str | None:
        """Return who was champion at ``now``; before the first record, the version of that record."""
        known = self._champions.get(model)
        if not known:
            return super().champion(model)
        # The last that took over at this time or before.
        at = bisect_right([since for since, _ in known], self.now)
        return known[max(at - 1, 0)][1]


class _GivenWatermark(Progresses):
    """A watermark that stands where history is read, whatever the partitions say."""

    def __init__(self) -> None:
        super().__init__()
        self.now: int | None = None
        self.labels: int | None = None

    def watermark(self, inputs: object, lateness: int) -> int | None:
        """Return it, whatever the inputs."""
        return self.now

    def joined(self, inputs: object) -> int | None:
        """Return how far labels were where history says that they were still being read, else the watermark."""
        return self.now if self.labels is None else self.labels


class Rejudge:
    """Feeds a ``ModelJudge`` with the records of history, in the order in which they were written.

    A record that came after its pane had closed changed charts and no decision, and does so again: within a pane,
    history holds panes, then arms, then outcomes, each once, so what comes twice or out of this order came late. A pane
    of which nothing came in time counts as if it had. Panes may be made longer, by whole multiples, and segments fewer.
    """

    def __init__(self, settings: ModelSettings, references: PastReferences) -> None:
        self.settings = settings
        self.judge = ModelJudge(settings, references)
        self.panes = self.rows = 0
        self.unfit = 0
        self._references = references
        self._clock = _GivenWatermark()
        self._open: int | None = None
        self._phase = 0
        self._seen: set[tuple[object, ...]] = set()
        self._held: dict[int, int] = {}
        self._late: tuple[int, int] | None = None
        self._length = settings.pane

    def take(self, record: Kept) -> Decisions | None:
        """Take the next record; returns what was decided if panes closed before it."""
        if isinstance(record, Progress):
            return self._labels_held(record.next_offset, record.clock, late=record.idle)
        length, self._length = self.settings.pane, record.length
        # A pane cannot be cut: its counts have no times within.
        if length % record.length:
            self.unfit += 1
            return None
        if record.segment and record.segment.partition("=")[0] not in self.settings.segments:
            return None
        stamp = record.known_at if isinstance(record, OutcomeDelta) else record.start
        start = stamp - stamp % record.length
        if self._late is not None and isinstance(record, OutcomeDelta) and start == self._late[0]:
            self.judge.add(record)
            return None
        decided = self._begin(start)
        phase, name = _named(record)
        late = self._open is not None and start < self._open
        # It is in history behind its time, so it changed charts only.
        if late or phase < self._phase or name in self._seen:
            return decided
        self._phase = phase
        self._seen.add(name)
        if isinstance(record, PaneDelta) and record.first == 0 and not record.segment:
            self.rows += record.rows
        # What comes late is in history already: nothing is to be written.
        self.judge.add(_longer(record, length))
        return decided

    def _begin(self, start: int) -> Decisions | None:
        """See a record of the pane that began at ``start``: what is before it closes."""
        judged = self._judge_late()
        if self._open is not None and start <= self._open:
            return judged
        first, self._open, self._phase = self._open is None, start, 0
        self._seen.clear()
        if first:
            return judged
        return joined([*([judged] if judged else []), self._close(start - start % self.settings.pane)])

    def _labels_held(self, start: int, known: int, *, late: bool) -> Decisions | None:
        """See that labels were in up to ``known`` when the pane at ``start`` closed, or that ``late`` ones follow."""
        length = self.settings.pane
        decided = self._begin(start)
        if not late:
            self._held[start - start % length] = known
        elif self._length == length:
            # In longer panes the labels that follow are in time: theirs is still open.
            decided = joined([*([decided] if decided else []), self._close(start + length)])
            self._late = start, known
        return decided

    def _judge_late(self) -> Decisions | None:
        """Judge the labels that came after the last pane had closed."""
        if self._late is None:
            return None
        self._clock.labels, self._late = self._late[1], None
        part = self.judge.advance(self._clock)
        return Decisions((), part.verdicts, part.requests)

    def finish(self) -> Decisions:
        """Close what is still open."""
        pane, judged = self.settings.pane, self._judge_late()
        if self._open is None:
            return Decisions()
        return joined([*([judged] if judged else []), self._close(self._open - self._open % pane + pane)])

    def _following(self) -> int | None:
        return self.judge.pending.earliest() if self.judge.next is None else self.judge.next

    def _close(self, until: int) -> Decisions:
        """Close every pane that ends at ``until`` or before, each with the champion of its time."""
        parts, pane = [], self.settings.pane
        while (following := self._following()) is not None and following + pane <= until:
            # A long silence is passed over in one step, as on a live stream: the clock comes to its end at once.
            far = until - following > MAX_GAP_PANES * pane
            self._references.now = self._clock.now = until if far else following + pane
            self._clock.labels = self._held.pop(following, None)
            part = self.judge.advance(self._clock)
            # History is what is read here, so it is not kept a second time.
            parts.append(Decisions((), part.verdicts, part.requests, part.closed))
        decided = joined(parts)
        self.panes += decided.closed
        return decided


def _named(record: PaneDelta | ArmDelta | OutcomeDelta) -> tuple[int, tuple[object, ...]]:
    """Where a record stands within its pane, and what it is the only one of."""
    match record:
        case PaneDelta():
            return 0, ("pane", record.version, record.digest, record.source, record.segment, record.first)
        case ArmDelta():
            return 1, ("arm", record.version, record.segment)
        case OutcomeDelta():
            # Of a catch-up there are several of a pane, each of labels with another delay.
            delays = (record.rows, record.age_ms)
            return 2, ("outcome", record.known_at, record.start, record.version, record.segment, *delays)


def _longer(record: PaneDelta | ArmDelta | OutcomeDelta, length: int) -> PaneDelta | ArmDelta | OutcomeDelta:
    """The record as one of a pane of ``length``."""
    if record.length == length:
        return record
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return type(record)(**{**fields, "start": record.start - record.start % length, "length": length})
