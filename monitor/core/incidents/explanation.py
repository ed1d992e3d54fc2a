"""What a finding rests on: its cause, its effect and its rows since the onset, the onset itself, and known faults."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.monitor.core.charts import NamedCause, measure, name_cause
from stationkeeper.monitor.core.detect import Drift
from stationkeeper.monitor.core.finding import PAGE, Dated, Finding
from stationkeeper.monitor.core.incidents.incident import Member, OpenIncidents
from stationkeeper.monitor.core.incidents.new_value_shares import NewValueShares
from stationkeeper.monitor.core.panes import Recent
from stationkeeper.monitor.core.performance import (
    CALIBRATION,
    RecentOutcomes,
    explain_calibration,
    explain_errors,
    judged,
)
from stationkeeper.monitor.core.reasons import Cause, Check
from stationkeeper.monitor.core.reference import QUALITY, Counts, Reference, ReferenceSubject

# Kinds whose cause is read from the cells that moved.
DRIFTS = frozenset({VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT})

# Faults that touch every value of a subject, so that any drift of its cells is theirs.
_OF_EVERY_VALUE = frozenset({Check.UNIT, Check.CONSTANT, Check.SCHEMA_MISSING})

# Values beyond the reference's range, whose share is the evidence and whose cells are the outermost ones.
_TAILS = frozenset({Check.BELOW, Check.ABOVE})

# Points of positives that a label shift is named from: half is within the error of a reference of some thousand labels,
# twice leaves a tenth of the positives of a rare class unnamed.
_LEAST_POSITIVES = 0.01

# A fault explains drift when it makes up half of it or more: then the larger part is broken data. At a quarter, a few
# more nulls hide real drift; at one, the noise of two estimates of the same rows gives a plain fault two verdicts.
_EXPLAINS = 0.5

# The quality counters of rows without a usable value (absent, null, wrong type, not finite): each such row also moved
# to the missing cell, so it is part of the drift that the cells show. The other counters move no row.
_UNUSABLE = QUALITY[:4]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A finding with its cause named, its effect, and the rows both rest on."""

    finding: Finding
    effect: float
    rows: int


class Explainer:
    """Reads from the remembered panes what findings mean; its numbers are those of the subject's chart."""

    def __init__(
        self,
        reference: Reference,
        drifts: Sequence[Drift],
        recent: Recent,
        labelled: RecentOutcomes,
        new_values: NewValueShares,
    ) -> None:
        self.reference, self._layout, self._drifts = reference, reference.layout, drifts
        self._recent, self._labelled, self._new_values = recent, labelled, new_values
        # What has evidence of its own as of the last `without_followers`: it explains the scores before a label shift
        # may.
        self._with_evidence = frozenset[str]()

    def effect(self, finding: Finding, counts: Counts) -> float:
        """Return the effect of a finding in the panes ``counts`` int64[width] since its onset.

        For a quality counter the rise of its share, else the share of rows that changed cell (TV).
        """
        if finding.effect is not None or finding.subject not in self._layout:
            return finding.effect or 0.0
        place, subject = self._layout[finding.subject], self.reference.by_name[finding.subject]
        if finding.check is not None and finding.check in QUALITY:
            rows = int(counts[place.histogram].sum())
            usual = float(subject.quality[QUALITY.index(finding.check)]) / max(subject.rows, 1)
            return int(counts[place.counter(finding.check)]) / max(rows, 1) - usual
        found = measure(subject, counts[place.histogram])
        return found["tv"].value if found else 0.0

    def explain(self, finding: Finding, counts: Counts, start: int) -> Explanation:
        """Name the cause from what came since ``start``: ``counts`` int64[width], or the labels since then."""
        labels = judged(self.reference) or self.reference.labels
        if finding.type is SubjectType.PERFORMANCE and labels is not None:
            scored, confusion = self._labelled.total(start)
            if finding.subject == CALIBRATION:
                text, change, numbers = explain_calibration(labels, scored)
            else:
                text, change, numbers = explain_errors(labels, scored, confusion, self.reference.threshold)
            named = replace(finding, reason=f"{finding.subject}: {text}", evidence={**finding.evidence, **numbers})
            return Explanation(named, change, int(confusion.sum()))
        effect = self.effect(finding, counts)
        if finding.kind not in DRIFTS or finding.subject not in self._layout:
            return Explanation(finding, effect, finding.rows)
        place, subject = self._layout[finding.subject], self.reference.by_name[finding.subject]
        cells = counts[place.histogram]
        if finding.check in _TAILS:
            # The tail is what moved; the cells between would be named by their noise.
            rows = int(cells.sum())
            share = int(counts[place.counter(finding.check)]) / max(rows, 1)
            text = f"{finding.subject}: {share:.2%} of {rows} rows lie {finding.check} everything in the reference"
            return Explanation(replace(finding, reason=f"{text}{_usual(finding)}"), effect, rows)
        quality = counts[place.quality : place.quality + len(QUALITY)]
        cause = name_cause(subject, cells, quality, self._new_values.of(subject.name))
        cause = label_shift_of(self.reference, self._drifts, subject, counts, self._with_evidence) or cause
        evidence = {**finding.evidence, **cause.evidence}
        named = replace(finding, cause=cause.cause, reason=cause.reason, evidence=evidence)
        return Explanation(named, effect, int(cells.sum()))

    def since_onset(self, finding: Finding) -> tuple[Explanation, Counts]:
        """Return what the remembered panes since its onset say of a finding, and their sum int64[width]."""
        _, counts = self._recent.total(finding.onset)
        return self.explain(finding, counts, finding.onset), counts

    def without_followers(
        self, findings: Sequence[Finding], incidents: OpenIncidents
    ) -> tuple[list[Finding], set[str]]:
        """Return the findings without pages of pairs that only follow a feature, and the keys of pairs beside one.

        A pair is named where none of its features explains it. One that follows a feature whose incident is open still
        pages: it belongs to that incident, so that it must come back too. None opens an incident with others.
        """
        drifting = {m.subject for one in incidents.open.values() for m in one.drifting}
        with_evidence = self._with_evidence = subjects_with_evidence(findings, incidents)
        out, beside = list[Finding](), set[str]()
        for finding in findings:
            if with_evidence.isdisjoint(finding.parts):
                out.append(finding)
                continue
            beside.add(finding.key)
            alone = finding.level == PAGE and drifting.isdisjoint({finding.subject, *finding.parts})
            if not alone or not follows(self.since_onset(finding)[0].finding):
                out.append(finding)
        return out, beside

    def date(self, finding: Finding, not_before: int, end: int) -> Dated:
        """Return when a finding's change began, at ``not_before`` (its subject's last recovery) or later."""
        rough = max(finding.onset, not_before)
        if finding.type is SubjectType.PERFORMANCE:
            return Dated(rough, rough, end, self._labelled.first_row(rough))
        for drift in self._drifts:
            if finding.check is None and drift.type is finding.type:
                return drift.date(finding, self._recent, rough, end)
        return Dated(rough, rough, end, self._recent.first_row(rough))


def _usual(finding: Finding) -> str:
    limit = finding.evidence.get("limit")
    return "" if limit is None else f", at most {limit:.2%} is usual"


def label_shift_of(
    reference: Reference,
    drifts: Iterable[Drift],
    subject: ReferenceSubject,
    counts: Counts,
    with_evidence: Collection[str],
) -> NamedCause | None:
    """Return that another share of positives explains the scores in ``counts`` int64[width]; None where it does not.

    Seen without a label: the scores are a mixture of what both classes had on the reference, no feature is among those
    ``with_evidence`` of their own, and none moved further (chi-square) than the score. A score sums up what
    features know of the label, so under a shift of the labels alone it moves most; a feature that moved further is a
    change of the inputs. Many features that each moved a little leave the same scores, so the share is told with its
    condition, and beside it what it is if a score means what it did. O(cells of all features).
    """
    shift = next((drift.label_shift for drift in drifts if drift.label_shift is not None), None)
    if shift is None or subject.type is not SubjectType.PREDICTION:
        return None
    if any(feature.name in with_evidence for feature in reference.features):
        return None
    layout = reference.layout
    cells = counts[layout[subject.name].histogram]
    found = shift.estimate(cells)
    if not found.fits or abs(found.now - found.before) < _LEAST_POSITIVES:
        return None
    moved = measure(subject, cells)
    for feature in reference.features:
        other = measure(feature, counts[layout[feature.name].histogram])
        if moved and other and other["chi2"].value > moved["chi2"].value:
            return None
    text = (
        f"{subject.name}: as if the share of positives went {found.before:.1%} -> {found.now:.1%} "
        f"({found.low:.1%} to {found.high:.1%}), if each class looks as it did; "
        f"{found.by_score:.1%} if a score means what it did (no label read)"
    )
    numbers = {
        "positives_before": found.before,
        "positives_now": found.now,
        "positives_low": found.low,
        "positives_high": found.high,
        "positives_by_score": found.by_score,
    }
    evidence = {"rows": int(cells.sum()), **{name: round(value, 4) for name, value in numbers.items()}}
    return NamedCause(Cause.LABEL_SHIFT, text, evidence)


def subjects_with_evidence(findings: Iterable[Finding], incidents: OpenIncidents) -> frozenset[str]:
    """Return the subjects, pairs apart, that have evidence in this pane or drift in an open incident."""
    drifting = frozenset(m.subject for one in incidents.open.values() for m in one.drifting if not m.parts)
    return drifting.union(finding.subject for finding in findings if not finding.parts)


def follows(finding: Finding) -> bool:
    """Return whether an explained finding is of a pair that moved because one of its features did."""
    return bool(finding.parts) and finding.cause is not Cause.JOINT


def explained_by_faults(
    known: Iterable[Finding | Member], reference: Reference, finding: Finding, effect: float, counts: Counts
) -> bool:
    """Return whether what is known to be broken in a subject is at least half of how far it drifted.

    ``effect`` is the share of rows that changed cell, ``counts`` int64[width] the panes it was measured on. A fault of
    every value, such as a changed unit, explains all. By hand: 38 % of the rows became text and 40 % changed cell.
    """
    if finding.check is not None or finding.subject not in reference.layout:
        return False
    # A pair of features is broken where one of them is.
    names = {finding.subject, *finding.parts}
    checks = {
        (one.subject, one.check) for one in known if one.subject in names and one.kind is VerdictKind.DATA_QUALITY
    }
    if any(check in _OF_EVERY_VALUE for _, check in checks):
        return True
    broken = 0.0
    for name in names:
        place, subject = reference.layout[name], reference.by_name[name]
        rows = max(int(counts[place.histogram].sum()), 1)
        for check in _UNUSABLE:
            if (name, check) in checks:
                usual = float(subject.quality[QUALITY.index(check)]) / max(subject.rows, 1)
                broken += int(counts[place.counter(check)]) / rows - usual
    return broken > 0 and broken >= _EXPLAINS * effect
