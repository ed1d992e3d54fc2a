"""When labels are in, and which of those that come late still count."""

from dataclasses import dataclass

from stationkeeper.contracts.wire import LABELS_HELD, ArmDelta, OutcomeDelta, PaneDelta, Progress
from stationkeeper.monitor.judge.watermark import Progresses
from stationkeeper.monitor.settings import ModelSettings

Delta = PaneDelta | ArmDelta | OutcomeDelta
"""What adds to an open pane."""


class LabelClock:
    """Up to when one model's labels are in: every one that is older was read and has met its prediction.

    Cohorts of labels mature by it, not by the predictions' watermark: in a catch-up both are read at their own pace.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._model, self._pane, self._horizon = settings.name, settings.pane, settings.label_horizon
        topics = settings.topics()
        paired = [(topic.topic, kind) for kind, topic in topics.items() if kind != "feature"]
        self._inputs = frozenset(paired if "label" in topics else ())
        self.joined: int | None = None

    def moves(self, progresses: Progresses) -> bool:
        """Return whether ``see`` would move it on."""
        known = progresses.joined(self._inputs)
        return known is not None and (self.joined is None or known > self.joined)

    def see(self, progresses: Progresses) -> None:
        """Follow the progress of inputs and join; it stands while one of them is silent, and never goes back."""
        known = progresses.joined(self._inputs)
        if known is not None:
            self.joined = known if self.joined is None else max(self.joined, known)

    def labelled(self, closed: int) -> int:
        """Return the start of the last pane in which every label is known: ``closed``, the last closed, or before.

        At most ``label_horizon`` before: so long the join keeps what has not met its other side.
        """
        if not self._inputs:
            return closed
        oldest = (closed - self._horizon) // self._pane * self._pane
        known = oldest if self.joined is None else self.joined // self._pane * self._pane - self._pane
        return max(min(closed, known), oldest)

    def held(self, start: int, labelled: int, *, late: bool) -> Progress:
        """Return what history keeps of a pane whose labels were being read, so that a replay judges the same ones."""
        return Progress(self._model, 0, LABELS_HELD, start, labelled + self._pane, idle=late)


@dataclass(slots=True)
class LateLabels:
    """One model's rule: labels count until the cohort of their prediction was judged, whenever they come.

    ``judged`` is the start (ms) of the last pane whose cohort was judged, None before the first. ``closed_by`` is the
    offset of the record that closed the last pane, or judged labels after it. What is read again after a restart and
    came before it was counted then, so that a label counts once wherever a process dies.
    """

    pane: int
    closed_by: int = -1
    judged: int | None = None

    def is_late(self, delta: Delta, closing: int | None) -> bool:
        """Return whether the pane of a delta has closed: ``closing`` is the next to close."""
        stamp = delta.known_at if isinstance(delta, OutcomeDelta) else delta.start
        return closing is not None and stamp + self.pane <= closing

    def too_late(self, delta: Delta) -> bool:
        """Return whether a late delta changes charts only: all but labels whose cohort is still growing."""
        growing = self.judged is None or delta.start > self.judged
        return not (isinstance(delta, OutcomeDelta) and growing)

    def counted(self, delta: Delta, closing: int | None, offset: int) -> bool:
        """Return whether a delta read again at ``offset`` are labels in a pane that has closed."""
        late = isinstance(delta, OutcomeDelta) and closing is not None and delta.known_at < closing
        return late and offset <= self.closed_by
