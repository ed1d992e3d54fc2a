"""How far the tally is, told behind what it counted: to the judge once a second, to the join more seldom."""

from collections.abc import Iterable, Mapping

from stationkeeper.contracts.wire import PROGRESS_MS, Record, encode
from stationkeeper.events import Form
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally.partition import PartitionState


class PanesProgress:
    """Tells every panes partition how far each input partition is: the judge closes panes by it.

    ``idle_after`` is how long (ms, wall) a partition must lie at its end before it stops holding the watermark back.
    """

    def __init__(self, forms: Mapping[str, Form], idle_after: int) -> None:
        self._forms, self._idle_after = forms, idle_after
        self._at: int | None = None

    def forget(self) -> None:
        """Tell anew at the next call."""
        self._at = None

    def record(self, partitions: Iterable[PartitionState], now_ms: int) -> bytes | None:
        """Return the record for every panes partition; None without news or where the last is younger than it may."""
        states = sorted(partitions, key=lambda state: state.partition)
        # Before the question whether it is time: an end that was seen between two records is dated when it was seen.
        for state in states:
            state.end.at(now_ms)
        # A clock that was set back must not silence it until it is later again.
        if self._at is not None and 0 <= now_ms - self._at < PROGRESS_MS:
            return None
        # Also with nothing to tell: a wait for the first batch asks once a second and not at every flush.
        self._at = now_ms
        records: list[Record] = [
            one
            for state in states
            for one in state.progress(self._forms[state.partition.topic].kinds, idle=state.end.idle(self._idle_after))
        ]
        return encode(records) if records else None


MARK_MS = 10_000
"""How often (ms, wall) each joins partition is told how far the tally is. The topic is kept for the label horizon, so
half keeps twice as many records that are read again at a start; double lets labels of a catch-up be judged twenty
seconds after they are joined."""


class JoinMarks:
    """Tells the joins partitions, behind the rows that they got, how far the inputs of models with labels are."""

    def __init__(self, models: Mapping[str, ModelSettings], forms: Mapping[str, Form], idle_after: int) -> None:
        self._kinds: dict[str, list[tuple[str, int]]] = {}
        for topic, form in forms.items():
            if any(models[model].labels is not None for model in form.models):
                # A label partition is idle as soon as it is read to its end: every label that there is was sent.
                self._kinds[topic] = [(k, 0 if k == "label" else idle_after) for k in form.kinds if k != "feature"]
        self._at: int | None = None
        self._last: list[Record] = []

    def forget(self) -> None:
        """Tell anew at the next call."""
        self._at, self._last = None, []

    def record(self, partitions: Iterable[PartitionState], now_ms: int) -> bytes | None:
        """Return the record for every joins partition; None where nothing moved or the last is younger than it may."""
        if self._at is not None and 0 <= now_ms - self._at < MARK_MS:
            return None
        marks: list[Record] = [
            one
            for state in sorted(partitions, key=lambda state: state.partition)
            for kind, after in self._kinds.get(state.partition.topic, ())
            for one in state.progress((kind,), idle=state.end.idle(after))
        ]
        if not marks or marks == self._last:
            return None
        self._at, self._last = now_ms, marks
        return encode(marks)
