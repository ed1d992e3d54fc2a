"""Foreign detectors beside our own: they see the same closed panes, warn, and spend no false-page budget."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stationkeeper.contracts.messages import SubjectType, Verdict, VerdictKind
from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.charts import positions_of
from stationkeeper.monitor.core.finding import WARN, Dated, Finding
from stationkeeper.monitor.core.incidents import WatchIdentity, verdict_of
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import NumericCells, Reference, ReferenceSubject

if TYPE_CHECKING:
    from stationkeeper.monitor.plugins.port import Detector

_KINDS = {SubjectType.FEATURE: VerdictKind.DATA_DRIFT, SubjectType.PREDICTION: VerdictKind.PREDICTION_DRIFT}


class PluginWatchState(State, frozen=True):
    """Which plug-ins have warned and are not quiet yet, and each one's own state, by ``plug-in/subject``."""

    loud: list[str]
    detectors: dict[str, dict[str, Any]]


class PluginWatch:
    """The configured plug-ins of one watch, one instance a subject; each warns once until it is quiet again.

    One that refuses a subject with ``ValueError`` does not watch it; ``unable`` are those that watch none, with why.
    """

    def __init__(self, names: Sequence[str], reference: Reference, named: WatchIdentity) -> None:
        # The registry knows river; nobody who does not ask for a plug-in pays for that.
        from stationkeeper.monitor.plugins.port import Watched
        from stationkeeper.monitor.plugins.registry import load

        self._reference, self._named = reference, named
        self._detectors: dict[str, tuple[ReferenceSubject, Detector]] = {}
        self._loud: set[str] = set()
        refused: dict[str, str] = {}
        for name in names:
            # A subject that the reference never saw has nothing to compare with.
            for subject in (one for one in reference.subjects if one.rows):
                try:
                    made = load(name, Watched(subject.name, subject.counts, _values(subject)))
                # A rule for categories watches no number; that must not keep our own detectors from judging.
                except ValueError as error:
                    refused.setdefault(name, str(error))
                    continue
                self._detectors[f"{name}/{subject.name}"] = subject, made
        busy = {key.partition("/")[0] for key in self._detectors}
        self.unable = {name: why for name, why in refused.items() if name not in busy}

    def step(self, pane: Pane) -> list[Verdict]:
        """Take a closed pane with rows; returns the new warnings."""
        out = []
        for key, (subject, detector) in self._detectors.items():
            place = self._reference.layout[subject.name]
            alarm = detector.step(pane.counts[place.histogram], pane.start)
            # Quiet again: the next alarm is a new one.
            if alarm is None:
                self._loud.discard(key)
                continue
            if key in self._loud:
                continue
            self._loud.add(key)
            finding = Finding(
                subject=subject.name,
                type=subject.type,
                kind=_KINDS[subject.type],
                level=WARN,
                score=alarm.statistic,
                threshold=alarm.threshold,
                onset=pane.start,
                rows=alarm.rows,
                cause=Cause.SHAPE,
                reason=f"{alarm.rule} on {subject.name}: {alarm.reason}",
                budgeted=False,
                evidence={"detector": alarm.rule},
            )
            verdict = verdict_of(
                self._named,
                finding,
                now=pane.end,
                level=WARN,
                # Foreign statistics are in units of their own and no share of the traffic.
                effect=float("nan"),
                rows=alarm.rows,
                onset=Dated(pane.start, pane.start, pane.end),
                incident=None,
                last_row=None,
                evidence={},
            )
            # Its own name, so that it is not taken for the verdict of our detector at the same pane.
            out.append(verdict.model_copy(update={"id": f"{verdict.id}-{alarm.rule}"}))
        return out

    def state(self) -> PluginWatchState:
        """Return what ``restore`` needs."""
        detectors = {key: detector.state() for key, (_, detector) in self._detectors.items()}
        return PluginWatchState(loud=sorted(self._loud), detectors=detectors)

    def restore(self, state: PluginWatchState) -> None:
        """Go on from what ``state`` gave; a plug-in that was added since starts anew."""
        self._loud = set(state.loud)
        for key, saved in state.detectors.items():
            if key in self._detectors:
                self._detectors[key][1].restore(saved)


def _values(subject: ReferenceSubject) -> Any:
    cells = subject.cells
    if not isinstance(cells, NumericCells):
        return None
    return np.asarray(positions_of(cells.edges, cells.low, cells.high), np.float64)
