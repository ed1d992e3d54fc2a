"""The charts of a watch: every subject against its reference, over the chart window or since an incident's onset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stationkeeper.contracts.messages import SubjectState, VerdictKind
from stationkeeper.monitor.core.charts import FEW_ROWS, Chart, Distance, compare, measure, quality_shares
from stationkeeper.monitor.core.detect import Drift
from stationkeeper.monitor.core.incidents import Incident, IncidentLifecycle
from stationkeeper.monitor.core.panes import ChartWindow
from stationkeeper.monitor.core.reasons import Unknown
from stationkeeper.monitor.core.reference import (
    QUALITY,
    Counts,
    Place,
    Reference,
    ReferenceSubject,
    in_season,
)


def evidence_of(drifts: Sequence[Drift], subject: ReferenceSubject) -> tuple[float, float]:
    """Return (log e-value, log threshold) of a subject, from the detector that watches its type."""
    return next(drift.evidence(subject.name) for drift in drifts if drift.type is subject.type)


@dataclass(frozen=True, slots=True)
class SubjectCharts:
    """What the charts of a watch are read from, as of its last pane; reading changes nothing.

    ``came`` tells whether any row ever came, ``adopting`` whether drift is held back by an adoption period.
    """

    reference: Reference
    window: ChartWindow
    lifecycle: IncidentLifecycle
    drifts: Sequence[Drift]
    came: bool
    adopting: bool

    def every(self) -> list[Chart]:
        """Return every subject, in the order of the reference, then the pairs. O(width), in array passes."""
        window, book, layout = self.window.counts, self.lifecycle.incidents, self.reference.layout
        places = (*layout.places, *layout.pairs)
        free = [place for place in places if book.of_subject(place.name) is None]
        # What no incident holds is measured in a few array passes; the rest, few, one by one.
        compared = self._in_season([self.reference.by_name[place.name] for place in free])
        found = compare(compared, [window[place.histogram] for place in free])
        known = {one.name: (one, distances) for one, distances in zip(compared, found, strict=True)}
        return [self._chart(place, window, known.get(place.name)) for place in places]

    def one(self, name: str) -> Chart:
        """Return one subject: rows since the onset while an incident holds it, else the chart window."""
        return self._chart(self.reference.layout[name], self.window.counts, None)

    def _compared(self, name: str) -> ReferenceSubject:
        """Return what the chart of a subject is compared with: a window with its own hours, an incident with them all.

        An incident's rows come from ever more hours, and its numbers are those of its verdict.
        """
        subject = self.reference.by_name[name]
        return subject if self.lifecycle.incidents.of_subject(name) is not None else self._in_season([subject])[0]

    def _in_season(self, subjects: Sequence[ReferenceSubject]) -> list[ReferenceSubject]:
        """Return subjects as the hours of the window know them."""
        for strata in {len(subject.strata) for subject in subjects} - {0}:
            subjects = in_season(subjects, self.window.hours(strata, self.reference.timezone))
        return [*subjects]

    def _chart(
        self, place: Place, window: Counts, known: tuple[ReferenceSubject, Mapping[str, Distance]] | None
    ) -> Chart:
        """The chart of a subject: what it is compared with over the ``window``, and how far it is, may be known."""
        name = place.name
        incident = self.lifecycle.incidents.of_subject(name)
        start, rows, counts = self.window.end - self.window.length, self.window.rows, window
        if incident is not None:
            start, rows, counts = self.lifecycle.since_onset.of(incident)
        cells = counts[place.histogram]
        if known is None:
            compared = self._compared(name)
            known = compared, measure(compared, cells)
        compared, found = known
        evidence, threshold = evidence_of(self.drifts, self.reference.by_name[name])
        unknown = self._unknown(rows)
        return Chart(
            subject=name,
            type=self.reference.by_name[name].type,
            state=self._state(name, incident, unknown),
            rows=int(cells.sum()),
            since=start,
            effect=found["tv"].value if found else 0.0,
            noise=found["tv"].noise if found else 0.0,
            evidence=evidence,
            threshold=threshold,
            distances=found,
            quality=quality_shares(counts[place.quality : place.quality + len(QUALITY)], rows),
            compared=compared,
            incident=incident.id if incident else None,
            unknown=unknown,
        )

    def _unknown(self, rows: int) -> Unknown | None:
        if not rows:
            return Unknown.STALE if self.came else Unknown.NO_ROWS
        if self.adopting:
            return Unknown.ADOPTING
        return Unknown.FEW_ROWS if rows < FEW_ROWS else None

    def _state(self, name: str, incident: Incident | None, unknown: Unknown | None) -> SubjectState:
        if incident is None:
            return SubjectState.UNKNOWN if unknown is not None else SubjectState.STEADY
        members = [member for member in incident.members if member.subject == name]
        if any(member.kind is VerdictKind.DATA_QUALITY for member in members):
            return SubjectState.BROKEN
        back = any(self.lifecycle.recoveries.likely(incident.id, member.key) for member in members)
        return SubjectState.RECOVERING if back else SubjectState.DRIFTING
