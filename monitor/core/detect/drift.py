"""One drift detector over one group of a reference's subjects, fed from the layout's vectors."""

from collections.abc import Iterable, Iterator

import numpy as np

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.state import replaced
from stationkeeper.monitor.core.budget import level_of
from stationkeeper.monitor.core.detect.change_point import change_point_log_ratios, locate_change_point
from stationkeeper.monitor.core.detect.detector import DetectorState, DriftDetector, Scores
from stationkeeper.monitor.core.detect.label_shift import ODDS, LabelShift
from stationkeeper.monitor.core.detect.plan import DENSE_ALTERNATIVES, DetectorPlan, PlannedSubject
from stationkeeper.monitor.core.detect.rate import RateScores
from stationkeeper.monitor.core.detect.shiryaev_roberts import EvidenceState
from stationkeeper.monitor.core.finding import WARN, Dated, Finding
from stationkeeper.monitor.core.panes import Pane, Recent, stratum_of
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import Counts, Kind, Place, Reference, ReferenceSubject

_KINDS = {
    SubjectType.FEATURE: VerdictKind.DATA_DRIFT,
    SubjectType.PREDICTION: VerdictKind.PREDICTION_DRIFT,
    SubjectType.JOINT: VerdictKind.DATA_DRIFT,
}
_CAUSES = {"shift": Cause.SHIFT, "scale": Cause.SCALE, "cell": Cause.SPIKE, "adaptive": Cause.SHAPE}


class Drift:
    """Watches all subjects of one type: cells in, findings out; costs one detector step a pane with rows."""

    def __init__(
        self, reference: Reference, type_: SubjectType, plan: DetectorPlan, label_shift: LabelShift | None = None
    ) -> None:
        """``label_shift`` watches beside the detector, for predictions only."""
        self.type, self.label_shift = type_, label_shift
        self.plan, self._timezone = plan, reference.timezone
        self.detector = DriftDetector(plan)
        layout = reference.layout
        self.subjects = tuple(reference.by_name[planned.name] for planned in plan.subjects)
        self._slices = [layout[subject.name].histogram for subject in self.subjects]
        self._runs = list(_runs([layout[subject.name] for subject in self.subjects]))
        self._positions = {subject.name: i for i, subject in enumerate(self.subjects)}
        self.scores: Scores | None = None
        self.shifted: RateScores | None = None

    def step(self, pane: Pane, elapsed: float) -> list[Finding]:
        """Take a closed pane; a pane without rows changes nothing."""
        if not pane.rows:
            return []
        scores = self.detector.step(self._cells(pane), pane.start, self._stratum(pane), elapsed)
        self.scores = scores
        found = [self._finding(scores, int(i)) for i in np.flatnonzero(scores.level)]
        return found if self.label_shift is None else _stronger(found, self._shifted(self.label_shift, pane, elapsed))

    def evidence(self, name: str) -> tuple[float, float]:
        """Return (log e-value, log threshold) of a subject at the last step; (-inf, threshold) before the first.

        Of a label shift and the cells' own detector it is the one that lies higher above its threshold.
        """
        i = self._positions[name]
        scores, threshold = self.scores, float(self.detector.log_threshold[i])
        mine = -np.inf if scores is None else float(scores.leading[i])
        shifted = self.shifted
        if shifted is not None and float((shifted.score - shifted.log_threshold)[0]) > mine - threshold:
            return float(shifted.score[0]), float(shifted.log_threshold[0])
        return mine, threshold

    def date(self, finding: Finding, recent: Recent, rough: int, now: int) -> Dated:
        """Date a finding of the last step: the winning row's likelihood over the stored panes, with its interval.

        ``rough`` is the detector's own estimate, kept where the stored panes do not reach back to it.
        """
        oldest = recent.oldest()
        # Bets on the share of positives have no row in the plan whose likelihood could date them.
        by_share = finding.cause is Cause.LABEL_SHIFT
        if self.scores is None or by_share or oldest is None or oldest > rough or rough >= now:
            return Dated(rough, rough, now, recent.first_row(rough))
        i = self._positions[finding.subject]
        # Far before the rough estimate only noise could move the date.
        panes = list(recent.since(rough - (now - rough)))
        cells = np.stack([pane.counts[self._slices[i]] for pane in panes])
        start = next((k for k, pane in enumerate(panes) if pane.start >= rough), len(panes) - 1)
        strata = [self._stratum(pane) for pane in panes]
        row = self.scores.alternative[i]
        ratios = change_point_log_ratios(self.plan.subjects[i], row, cells, strata, start)
        found = locate_change_point(ratios)
        dated = panes[found.index]
        return Dated(dated.start, panes[found.first].start, panes[found.last].start, dated.first_row)

    def hold(self, names: Iterable[str], panes: Iterable[Pane]) -> None:
        """Take ``panes`` (those since the onset) out of the bags of these subjects and stop the bags growing."""
        chosen = [name for name in names if name in self._positions]
        if chosen and self._numeric(chosen):
            self.detector.retract([(self._cells(pane), self._stratum(pane)) for pane in panes], chosen)
            self.detector.freeze(chosen)

    def release(self, names: Iterable[str]) -> None:
        """Let the bags of these subjects grow again and drop their evidence: the incident is over."""
        chosen = [name for name in names if name in self._positions]
        if chosen:
            self.detector.reset(chosen)
            if self.label_shift is not None:
                self.label_shift.detector.evidence.reset(np.ones(1, np.bool_))
            if self._numeric(chosen):
                self.detector.freeze(chosen, frozen=False)

    def state(self) -> DetectorState:
        """Return all that changes."""
        if self.label_shift is None:
            return self.detector.state()
        mine = self.label_shift.detector.state()
        return replaced(
            self.detector.state(), labels_log_m=mine.log_m, labels_log_c=mine.log_c, labels_restart=mine.restart
        )

    def renewed(self, names: Iterable[str]) -> DetectorState:
        """Return what changes without the bags of some subjects, for a detector whose reference of these is another."""
        return replaced(self.state(), bag_growth=self.detector.growth_without(names))

    def loud(self) -> list[str]:
        """Return the subjects whose evidence is enough to warn."""
        return [self.subjects[i].name for i in np.flatnonzero(self.detector.levels() >= WARN)]

    def restore(self, state: DetectorState) -> None:
        """Become what ``state`` was taken from; raises ``ValueError`` where it belongs to another reference."""
        self.detector.restore(state)
        log_m, log_c, restart = state.labels_log_m, state.labels_log_c, state.labels_restart
        if self.label_shift is not None and log_m is not None and log_c is not None and restart is not None:
            self.label_shift.detector.restore(EvidenceState(log_m, log_c, restart))

    def _cells(self, pane: Pane) -> Counts:
        """The cells of the subjects out of a pane, one behind the other as the plan lays them out."""
        # Neighbours alike are read in one piece: hundreds of slices cost more than what is in them.
        counts, parts = pane.counts, []
        for first, many, width, size in self._runs:
            alone = many == 1
            part = counts[first : first + (size if alone else many * width)]
            parts.append(part if alone else part.reshape(-1, width)[:, :size].ravel())
        return np.concatenate(parts)

    def _numeric(self, names: Iterable[str]) -> bool:
        return any(self.plan.subjects[self._positions[name]].kind == "numeric" for name in names)

    def _stratum(self, pane: Pane) -> int:
        return stratum_of(pane.start, self.plan.strata, self._timezone)

    def _shifted(self, label_shift: LabelShift, pane: Pane, elapsed: float) -> list[Finding]:
        """What the share of positives alone says of the prediction's cells."""
        cells = pane.counts[self._slices[0]]
        stratum = stratum_of(pane.start, label_shift.strata, self._timezone)
        scores = self.shifted = label_shift.step(cells, stratum, pane.start, elapsed)
        level = int(level_of(scores.score, scores.log_threshold)[0])
        if not level:
            return []
        return [
            Finding(
                subject=self.subjects[0].name,
                type=self.type,
                kind=_KINDS[self.type],
                level=level,
                score=float(scores.score[0]),
                threshold=float(scores.log_threshold[0]),
                onset=int(scores.onset[0]),
                rows=int(cells.sum()),
                cause=Cause.LABEL_SHIFT,
                evidence={"alternative": f"odds of a positive x {ODDS[int(scores.row[0])]:g}"},
            )
        ]

    def _finding(self, scores: Scores, i: int) -> Finding:
        subject, row = self.subjects[i], scores.alternative[i]
        return Finding(
            subject=subject.name,
            type=self.type,
            kind=_KINDS[self.type],
            level=int(scores.level[i]),
            score=float(scores.leading[i]),
            threshold=float(scores.log_threshold[i]),
            onset=int(scores.onset[i]),
            rows=int(scores.rows[i]),
            cause=_CAUSES[row.kind],
            evidence={"alternative": str(row), "alternative_kind": row.kind},
            parts=() if subject.pair is None else subject.pair.features,
        )


def _stronger(found: list[Finding], shifted: list[Finding]) -> list[Finding]:
    """One finding a subject: that with more evidence above its threshold."""
    best: dict[str, Finding] = {}
    for one in [*found, *shifted]:
        if one.key not in best or one.strength > best[one.key].strength:
            best[one.key] = one
    return list(best.values())


def _runs(places: Iterable[Place]) -> Iterator[tuple[int, int, int, int]]:
    """Yield (first position, number, width, cells) of neighbours in the layout that are alike."""
    held: tuple[int, int, int, int] | None = None
    for place in places:
        width, size = place.last - place.first, place.quality - place.first
        if held is not None and held[2:] == (width, size) and place.first == held[0] + held[1] * width:
            held = (held[0], held[1] + 1, width, size)
            continue
        if held is not None:
            yield held
        held = (place.first, 1, width, size)
    if held is not None:
        yield held


# How many times its own day-to-day movement a subject may move without being drift (docs/statistics.md). With a day
# effect of .1 sd and a floor of .02, 33 of 40 quiet streams paged; at 1.5 times the movement none did. At
# once the days beyond the 90 % quantile would page, at three times a shift twice as large is hidden for good.
_FLOOR_FACTOR = 1.5
# A floor near 1 leaves no alternative outside the null: the subject would be watched by nothing, and nobody would know.
_LARGEST_FLOOR = 0.9


def effect_floor(delta: float, day_floor: float) -> float:
    """Return the share of traffic that may change cell without being drift: at least ``delta``.

    By hand: a subject that moves 4 % from day to day by itself gets .06 at a ``delta`` of .02.
    """
    return min(max(delta, _FLOOR_FACTOR * day_floor), _LARGEST_FLOOR)


def plan_subject(subject: ReferenceSubject, delta: float) -> PlannedSubject:
    """Return a subject as the detector wants it: counts by stratum, effect floor, dependence, importance."""
    numeric = subject.kind is Kind.NUMERIC
    counts: Counts = subject.strata if len(subject.strata) else subject.counts[None, :]
    groups = DENSE_ALTERNATIVES + 2 if numeric else 2
    # Where the floor carries what days move by, evidence pays for dependence within a day alone. Only with strata:
    # there a day beyond the floor waits (`patience`), without them it would page by itself.
    within = len(subject.phi_within_days) == groups and len(subject.strata) > 1
    learned = subject.phi_within_days if within else subject.phi
    phi = np.maximum(learned, 1.0) if len(learned) == groups else 1.0
    floor = effect_floor(delta, subject.day_floor or 0.0)
    return PlannedSubject(subject.name, "numeric" if numeric else "categorical", counts, floor, phi, subject.importance)
