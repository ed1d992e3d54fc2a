"""What each open incident of a model costs, read anew from the labels and scores of its time."""

import sys
from collections.abc import Mapping

from stationkeeper.contracts.messages import VerdictKind
from stationkeeper.monitor.core.incidents import (
    NEW_VALUES,
    Harm,
    Incident,
    harm_by_labels,
    harm_by_scores,
    void_share,
)
from stationkeeper.monitor.core.performance import Measure, ValueMatrix, calibrated, every_measure, judged, refuted
from stationkeeper.monitor.core.reference import Counts, OutcomeSums, Reference, Task
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.judge.labels.cohorts import Cohorts
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings

# Incidents whose cost is kept, open and closed: all that the status shows (twenty closed of a watch and those of ended
# ones) of a model with a few segments; some 200 bytes each.
KEPT = 100


class IncidentHarms:
    """One model's: what each incident costs, by id; a closed one keeps what was known when it closed.

    Of labels and scores about a day is kept (`LabelCharts`), so an incident that lasts longer is told by its last day.
    """

    def __init__(self, settings: ModelSettings, cohorts: Cohorts, references: References) -> None:
        self._settings, self._cohorts, self._references = settings, cohorts, references
        self._known: dict[str, Harm] = {}

    def of(self, incident: str) -> Harm | None:
        """Return what was last known of an incident's cost."""
        return self._known.get(incident)

    def weigh(self, incident: Incident, watch: Watch) -> Harm:
        """Return what an incident costs as of now, and keep it."""
        found = self._measured(incident) or self._estimated(incident, watch)
        self._known.pop(incident.id, None)
        self._known = dict([*self._known.items(), (incident.id, found)][-KEPT:])
        return found

    def state(self) -> dict[str, Harm]:
        """Return what ``restore`` takes, the latest last."""
        return dict(self._known)

    def restore(self, state: Mapping[str, Harm]) -> None:
        """Go on from ``state``."""
        self._known = dict(state)

    def _measured(self, incident: Incident) -> Harm | None:
        reference = self._references.of(self._settings.name, incident.version)
        labels = None if reference is None else judged(reference)
        # Where labels come for some scores rather than others, the labelled are not like all rows.
        if reference is None or labels is None or self._cohorts.maturity.selective:
            return None
        who, charts = (incident.version, incident.segment), self._cohorts.charts
        since, until = incident.onset.time, self._until(incident)
        value = None if self._settings.value is None else self._settings.value.matrix
        sums = charts.sums.total(who, since, until)
        now = _measures(reference, charts.confusion(*who, since, until), sums, value)
        return harm_by_labels(now, _measures(reference, labels.confusion, labels.sums, value))

    def _estimated(self, incident: Incident, watch: Watch) -> Harm:
        void = void_share(incident)
        if incident.kind is VerdictKind.DATA_QUALITY:
            return Harm("unknown", "the data are broken, so that a score does not stand for what it did", void=void)
        reference = self._references.of(self._settings.name, incident.version)
        labels = None if reference is None else judged(reference)
        # Without an estimate nothing says of any row that it does no harm.
        if reference is None or labels is None:
            return Harm("unknown", "the reference has no labels, and none have come since the onset", void=1.0)
        if reference.task not in {None, Task.BINARY} and not labels.several:
            lacks = " without probabilities" if reference.task is Task.MULTICLASS else ""
            why = f"of a {reference.task}{lacks} nothing is estimated without labels, and too few came since the onset"
            return Harm("unknown", why, void=1.0)
        scores = self._cohorts.charts.scored(
            incident.version, incident.segment, incident.onset.time, self._until(incident)
        )
        threshold = self._references.threshold(self._settings.name, incident.version)
        found = harm_by_scores(scores, labels, threshold, calibrated(watch.performance, labels))
        if found is None:
            return Harm("unknown", "no prediction with a score has come since the onset", void=max(void, 1.0))
        drifting = [(member.kind, one.id) for one in watch.incidents() for member in one.drifting]
        new = [one.id for one in watch.incidents() if one.cause in NEW_VALUES]
        if why := refuted(found.void, drifting, new):
            return Harm("unknown", why, void=max(void, found.void))
        return found

    def _until(self, incident: Incident) -> int:
        # Of an open one all that is known: no clock lies beyond it.
        return sys.maxsize if incident.closed is None else incident.closed - self._settings.pane


def _measures(
    reference: Reference, confusion: Counts, sums: OutcomeSums, value: ValueMatrix | None
) -> dict[str, Measure]:
    return every_measure(reference.task, confusion, sums, value=value)
