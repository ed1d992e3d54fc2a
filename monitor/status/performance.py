"""How right a model is, as people see it: measures of mature labels beside what is expected without labels."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stationkeeper.contracts.messages import SubjectState, SubjectType
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.model_status import (
    MAX_POINTS,
    AdoptionStatus,
    FairnessStatus,
    LabelStatus,
    PerformanceSeries,
    PerformanceStatus,
    TrafficStatus,
)
from stationkeeper.contracts.times import UTC_ZONE, format_duration
from stationkeeper.monitor.core.incidents import NEW_VALUES
from stationkeeper.monitor.core.performance import (
    MEASURES,
    MIN_LABELS,
    SHARES,
    LabelSelection,
    Maturity,
    Measure,
    calibrated,
    estimate,
    every_measure,
    judged,
    reference_classes,
    refuted,
)
from stationkeeper.monitor.core.quality import TRAINING, Arrivals, hours_to_silence
from stationkeeper.monitor.core.reasons import UNKNOWN_HELP, Unknown
from stationkeeper.monitor.core.reference import Counts, OutcomeSums, Reference, Task
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.judge import CohortRules, Cohorts, ModelJudge
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import DAY_MS, HOUR_MS, ModelSettings

MEANWHILE = "until then nothing pages but data quality, and what differs from training is said once at the end"


def adoption_status(judge: ModelJudge, champion: str | None) -> AdoptionStatus | None:
    """Return the status of the champion, None when it has nothing to learn."""
    for key, watch in judge.watches.items():
        if key.version == champion and not key.segment and watch.period is not None:
            period = watch.period
            return {
                "version": key.version,
                "reason": f"{period.progress()}; {MEANWHILE}",
                "passed_ms": period.passed,
                "length_ms": period.length,
                "panes": period.panes,
                "rows": period.rows,
            }
    return None


def timezone_status(judge: ModelJudge, champion: str | None) -> str | None:
    """Return whose clock tells the hours of the champion; None where all are those of UTC."""
    zone = judge.settings.timezone
    for key, watch in judge.watches.items():
        made = watch.reference.timezone
        if key.version == champion and not key.segment and watch.reference.has_hours and made != zone:
            return f"{made}, in which the reference was made; {zone} from the next reference on"
    return None if zone == UTC_ZONE else zone


def fairness_status(judge: ModelJudge, champion: str | None) -> list[FairnessStatus] | None:
    """Return how far the champion's segments lie apart, those that were told first; None where none are compared."""
    for key, watch in judge.watches.items():
        if key.version != champion or key.segment or watch.fairness is None:
            continue
        gaps = sorted(watch.fairness.gaps(), key=lambda gap: (not gap.open, -abs(gap.gap)))
        return [
            {
                "segment": gap.segment,
                "rate": gap.rate,
                "value": round(gap.mine, 6),
                "others": round(gap.others, 6),
                "rows": gap.rows,
                "others_rows": gap.others_rows,
                "low": round(gap.low, 6),
                "high": round(gap.high, 6),
                "open": gap.open,
            }
            for gap in gaps[:MOST_GAPS]
        ]
    return None


def fairness_samples(model: str, version: str, gaps: Sequence[FairnessStatus]) -> Iterator[Sample]:
    """Yield how far each segment's rate lies from the others', and whether that is told."""
    for gap in gaps:
        where = (model, version, gap["segment"], gap["rate"])
        yield Sample("stationkeeper_fairness_gap_ratio", where, gap["value"] - gap["others"])
        yield Sample("stationkeeper_fairness_gap_told", where, float(gap["open"]))


def _half_judged(arrivals: Arrivals) -> list[str]:
    """Return in which hours volume is not judged, and how late silence pages where that is later than one thinks."""
    notes = []
    if quiet := arrivals.quiet_hours:
        notes.append(f"volume is not judged in {quiet} of the week's 168 hours: too few rows a pane")
    traffic = arrivals.silent_by
    late = 0.0 if traffic is None else hours_to_silence(traffic)
    if traffic is not None and late > LATE_HOURS:
        by_chance = hours_to_silence(replace(traffic, size=BY_CHANCE))
        why = "few events come" if by_chance > LATE_HOURS else "the past has hours unlike the others"
        notes.append(f"silence pages after {late:.1f} hours: {why}; quality.stale_after states a time")
    return notes


def traffic_status(judge: ModelJudge, champion: str | None) -> TrafficStatus | None:
    """Return where the champion's volume or silence is not judged, and why; None where both are at every hour."""
    for key, watch in judge.watches.items():
        if key.version != champion or key.segment:
            continue
        if watch.quality.arrivals.bursty:
            return {"reason": "unknown: rows come in bursts at any hour; stale_after says after which silence to page"}
        if watch.quality.arrivals.known:
            if notes := _half_judged(watch.quality.arrivals):
                return {"reason": "; ".join(notes)}
            continue
        if watch.reference.source == TRAINING:
            why = "the rows of training say nothing of traffic"
        elif watch.reference.traffic is None:
            why = "the reference has no times"
        else:
            why = "the reference covers less than two weeks"
        learned = watch.quality.learned_traffic
        if learned is None:
            return {"reason": f"unknown: {why}, and quality.learn_traffic: 0d lets live panes teach none"}
        if learned.begin is None:
            length = format_duration(learned.length)
            return {"reason": f"unknown: {why}; live panes teach the week for {length} from the first event on"}
        return {
            "reason": f"unknown: {why}; live panes teach the week",
            "since": learned.begin,
            "until": learned.due,
        }
    return None


BY_CHANCE = 1e6
"""The size of events that come by chance alone, as the fit of traffic bounds it."""

LATE_HOURS = 1.0
"""Hours after which a silence that pages is told to be late, chosen: who has an outage expects to hear within one. A
single hour of twenty times the usual in the two weeks that were learned makes two of the one minute before."""

MOST_GAPS = 30
"""Gaps of fairness that a status shows, those that are open and the widest first: a table that a person reads."""

# Read more easily as what they are not: accuracy, and a share that drift of the prediction tells.
_UNSHOWN = frozenset({"error_rate", "positive_rate"})
# Measures with a course over time: those that most people ask for first; the others stand in the table. Each costs a
# status 240 points.
_DRAWN = frozenset({"precision", "recall", "accuracy", "macro_f1", "mae"})
# Panes between two points: with the 240 of a chart this spans 40 hours of minutes. Mature labels move slowly, so that
# denser points would show the same line over less time.
_EVERY_PANES = 10
_Point = tuple[Any, ...]
# Of these an estimate is made (`core.performance.estimate`).
ESTIMATED = frozenset({"precision", "recall", "accuracy", "f1"})


def label_status(cohorts: Cohorts, settings: ModelSettings, *, rebuilding: bool) -> LabelStatus:
    """Return how many of the predictions that are old enough have a label."""
    due, arrived = cohorts.completeness()
    age = format_duration(settings.label_maturity)
    reason = f"{arrived} of {due} predictions older than {age} have their label" if due else f"none is {age} old"
    selection = latest_selection(cohorts)
    # Where what is missing is weighed performance is known, whatever scores alone would say.
    weighed = selection is not None and selection.known and cohorts.maturity.age is not None
    if settings.labels is not None and not weighed and (waits := maturity_reason(cohorts.maturity, settings)):
        reason = f"{reason}; {waits}"
    if selection is not None:
        reason = f"{reason}; {selection.words()}"
    if rebuilding:
        reason = f"{UNKNOWN_HELP[Unknown.REBUILDING]} So far {reason}"
    out: LabelStatus = {"due": due, "arrived": arrived, "horizon_ms": settings.label_horizon, "reason": reason}
    if due:
        out["completeness"] = min(arrived / due, 1.0)
    if selection is not None:
        out["selection"] = {
            "rows": selection.rows,
            "labelled": selection.labelled,
            "actions": [{"action": one.action, "rows": one.rows, "labelled": one.labelled} for one in selection.shut],
            "unseen": selection.unseen,
            "weighted": selection.weighted,
            "effective": round(selection.effective, 1),
            "clipped": selection.clipped,
        }
    return out


def latest_selection(cohorts: Cohorts) -> LabelSelection | None:
    """Return whose labels never came, of the latest day that was judged."""
    until = cohorts.judged
    if until is None:
        return None
    return cohorts.charts.selection(None, until - DAY_MS, until, cohorts.charts.shut(until))


def maturity_reason(maturity: Maturity, settings: CohortRules) -> str:
    """Return why labels are judged later than at ``label_maturity``, or not at all; "" where neither is so."""
    least = settings.label_maturity
    if maturity.age is not None and maturity.selective:
        return f"{UNKNOWN_HELP[Unknown.SELECTIVE]} Performance is unknown, what holds at each score is judged"
    if maturity.age is not None:
        return (
            "" if maturity.age <= least else f"they are judged {_age(maturity.age)} old, when 95 % of the labels are in"
        )
    said = f"unknown: {maturity.expected:.0%} of labels expected by now"
    if maturity.missing is not None:
        other = f"none was {maturity.missing} so far"
        never = "; if they never come, write absent_is: negative" if maturity.missing == "negative" else ""
        return f"{said}, {other}{never}"
    if maturity.selective:
        return f"{said}, labelled predictions are not like the others; {_age(settings.label_horizon)} are waited for"
    return f"{said}, delays were watched for {_age(maturity.watched)}"


def maturity_samples(judge: ModelJudge) -> list[Sample]:
    """Return how complete labels are at the least age, and from which age on they are judged."""
    if judge.settings.labels is None:
        return []
    maturity, where = judge.cohorts.maturity, (judge.name,)
    out = [Sample("stationkeeper_labels_expected_ratio", where, maturity.expected)]
    if maturity.age is not None:
        out.append(Sample("stationkeeper_label_maturity_seconds", where, maturity.age / 1_000))
    if (selection := latest_selection(judge.cohorts)) is not None and selection.rows:
        out.append(Sample("stationkeeper_labels_unseen_ratio", where, selection.unseen / selection.rows))
    return out


def _age(ms: int) -> str:
    return f"{ms / DAY_MS:.1f} days" if ms >= DAY_MS else f"{ms / HOUR_MS:.1f} hours"


class PerformanceView:
    """Builds ``contracts.model_status.PerformanceStatus`` for every version and segment with mature labels."""

    def __init__(self) -> None:
        self._points: dict[tuple[str, str, str], deque[_Point]] = {}

    def statuses(self, judge: ModelJudge, references: References) -> list[PerformanceStatus]:
        """Return one entry a version, segment and measure, over the chart window that ends at the age of maturity."""
        out = []
        self._points = {key: points for key, points in self._points.items() if key[:2] in judge.cohorts.charts.mature}
        until = judge.cohorts.judged
        shut = frozenset[str]() if until is None else judge.cohorts.charts.shut(until)
        for who, ring in sorted(judge.cohorts.charts.mature.items()):
            if not ring:
                continue
            last = ring[-1][0]
            # The window ends at the age at which labels are known, so that it empties when they stop coming.
            age = max(judge.cohorts.maturity.age or 0, judge.settings.label_maturity)
            due = last if judge.next is None else judge.labelled - age
            since = max(last, due) + judge.settings.pane - judge.settings.window
            reference = references.of(judge.name, who[0])
            confusion = judge.cohorts.charts.confusion(*who, since)
            sums = judge.cohorts.charts.sums.total(who, since, last)
            real = _measures(judge.settings, reference, confusion, sums, segment=who[1])
            mine = shut if until is None else judge.cohorts.charts.shut(until, who, shut)
            selection = judge.cohorts.charts.selection(who, since, last, mine)
            labels = None if reference is None else judged(reference)
            usual: dict[str, Measure] = {}
            if labels is not None:
                usual = _measures(judge.settings, reference, labels.confusion, labels.sums, segment="")
            watch = next((w for k, w in judge.watches.items() if (k.version, k.segment) == who), None)
            estimates = _estimates(judge, reference, references.threshold(judge.name, who[0]), who, watch, since, last)
            for labelled in real.values():
                one = labelled if selection is None else selection.measures.get(labelled.name, labelled)
                found = _state(watch, int(confusion.sum()), stale=since > last)
                state, reason = _of_labels(judge, selection, one, found)
                entry = measure_status(who, one, state, reason)
                if one is not labelled and math.isfinite(labelled.value):
                    entry["labelled"] = labelled.value
                if one.name in usual and math.isfinite(usual[one.name].value):
                    entry["reference"] = usual[one.name].value
                if estimates is not None and one.name in ESTIMATED:
                    estimates.tell(entry, one)
                if one.name in _DRAWN:
                    self._note((*who, one.name), last, entry, judge.settings.pane)
                    entry["series"] = self._series((*who, one.name))
                out.append(entry)
        return out

    def _note(self, key: tuple[str, str, str], time: int, entry: PerformanceStatus, pane: int) -> None:
        points = self._points.setdefault(key, deque(maxlen=MAX_POINTS))
        if not points or time >= points[-1][0] + _EVERY_PANES * pane:
            names = ("value", "low", "high", "estimated", "estimated_low", "estimated_high")
            points.append((time, *(entry.get(name) for name in names)))

    def _series(self, key: tuple[str, str, str]) -> PerformanceSeries:
        time, real, low, high, estimated, least, most = (
            list(column) for column in zip(*self._points[key], strict=True)
        )
        return {
            "time": time,
            "real": real,
            "low": low,
            "high": high,
            "estimated": estimated,
            "estimated_low": least,
            "estimated_high": most,
        }


@dataclass(frozen=True, slots=True)
class _Estimates:
    """Estimates of the latest window, and of the labelled one, which labels score; ``reason`` withdraws the first.

    ``labels`` are the mature ones by which a score is read beside those of the reference.
    """

    now: dict[str, Measure]
    labelled: dict[str, Measure]
    reason: str
    labels: int

    def tell(self, entry: PerformanceStatus, real: Measure) -> None:
        """Say beside a measure what is expected of it, or why nothing is, and how far that was off."""
        expected, before = self.now[real.name], self.labelled[real.name]
        if self.reason:
            entry["estimate_reason"] = self.reason
        elif expected.rows:
            entry["estimated"], entry["estimated_low"], entry["estimated_high"] = (
                expected.value,
                expected.low,
                expected.high,
            )
            entry["estimate_labels"] = self.labels
        if before.rows and real.rows >= MIN_LABELS and math.isfinite(real.value):
            entry["estimate_error"] = abs(before.value - real.value)


def _estimates(
    judge: ModelJudge,
    reference: Reference | None,
    threshold: float,
    who: tuple[str, str],
    watch: Watch | None,
    since: int,
    last: int,
) -> _Estimates | None:
    """Return what is expected without labels; not of numbers, nor of several classes without probabilities."""
    labels = None if reference is None else judged(reference)
    if reference is None or labels is None or not (labels.several or reference.task in {None, Task.BINARY}):
        return None
    charts, now = judge.cohorts.charts, (judge.next or last) - judge.settings.window
    stands = calibrated(None if watch is None else watch.performance, labels)
    latest = estimate(charts.scored(*who, now), stands, threshold)
    incidents = [] if watch is None else watch.incidents()
    drifting = [(member.kind, incident.id) for incident in incidents for member in incident.drifting]
    new = [incident.id for incident in incidents if incident.cause in NEW_VALUES]
    labelled = estimate(charts.scored(*who, since, last), stands, threshold).measures
    beside = int(stands.scored.sum() - labels.scored.sum())
    return _Estimates(latest.measures, labelled, refuted(latest.novel, drifting, new), beside)


def _measures(
    settings: ModelSettings, reference: Reference | None, confusion: Counts, sums: OutcomeSums, *, segment: str
) -> dict[str, Measure]:
    """Return the measures of the reference's task; each class by itself in all traffic alone."""
    task = None if reference is None else reference.task
    value = None if settings.value is None else settings.value.matrix
    names = reference_classes(reference)
    found = every_measure(task, confusion, sums, names=names, value=value, quantile=settings.quantile)
    return {name: one for name, one in found.items() if name not in _UNSHOWN and not (segment and name not in MEASURES)}


def measure_status(who: tuple[str, str], one: Measure, state: SubjectState, reason: str) -> PerformanceStatus:
    """Return a measure of (version, segment) as people see it; what is not known is left out."""
    entry: PerformanceStatus = {
        "version": who[0],
        "segment": who[1],
        "measure": one.name,
        "rows": one.rows,
        "state": state.value,
        "reason": reason,
    }
    if one.name.partition(" of ")[0] not in SHARES:
        entry["share"] = False
    if one.binning:
        entry["binning"] = one.binning
    for name, value in (("value", one.value), ("low", one.low), ("high", one.high)):
        # A bound without rows says nothing, and JSON knows no NaN.
        if one.rows and math.isfinite(value):
            entry[name] = value  # type: ignore[literal-required]
    return entry


def _of_labels(
    judge: ModelJudge, selection: LabelSelection | None, one: Measure, found: tuple[SubjectState, str]
) -> tuple[SubjectState, str]:
    """Return the state of a measure, and why, as far as labels let it be known at all."""
    maturity, (state, reason) = judge.cohorts.maturity, found
    if judge.rebuilding:
        return SubjectState.UNKNOWN, UNKNOWN_HELP[Unknown.REBUILDING]
    if maturity.age is None or (maturity.selective and selection is None):
        return SubjectState.UNKNOWN, maturity_reason(maturity, judge.settings)
    return selected(selection, one, (state, reason))


def selected(
    selection: LabelSelection | None, one: Measure, found: tuple[SubjectState, str]
) -> tuple[SubjectState, str]:
    """Return the state of a measure, and why, where actions keep labels away: known where the others stand for them."""
    state, reason = found
    if selection is None:
        return found
    whole = selection.known and one.name in selection.measures
    if not whole:
        return SubjectState.UNKNOWN, f"{UNKNOWN_HELP[Unknown.SELECTIVE]} {_sentence(selection.words())}"
    return (state, f"{reason}; {selection.words()}") if state is SubjectState.STEADY else found


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}"


def _state(watch: Watch | None, rows: int, *, stale: bool) -> tuple[SubjectState, str]:
    if stale:
        return SubjectState.UNKNOWN, UNKNOWN_HELP[Unknown.STALE]
    if rows == 0:
        return SubjectState.UNKNOWN, UNKNOWN_HELP[Unknown.NO_LABELS]
    if watch is not None:
        for incident in watch.incidents():
            if any(member.type is SubjectType.PERFORMANCE for member in incident.drifting):
                return SubjectState.DRIFTING, incident.reason
    if rows < MIN_LABELS:
        return SubjectState.UNKNOWN, UNKNOWN_HELP[Unknown.FEW_LABELS]
    return SubjectState.STEADY, f"{rows} rows of mature labels"
