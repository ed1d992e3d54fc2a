"""How right a model is, as people see it: measures of mature labels beside what is expected without labels."""

from collections import deque

from stationkeeper.contracts.messages import SubjectState, SubjectType
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.model_status import (
    MAX_POINTS,
    AdoptionStatus,
    LabelStatus,
    PerformanceSeries,
    PerformanceStatus,
    TrafficStatus,
)
from stationkeeper.contracts.times import format_duration
from stationkeeper.monitor.core.performance import MIN_LABELS, Maturity, estimated_confusion, measures
from stationkeeper.monitor.core.quality import TRAINING
from stationkeeper.monitor.core.reasons import UNKNOWN_HELP, Unknown
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


def traffic_status(judge: ModelJudge, champion: str | None) -> TrafficStatus | None:
    """Return why the champion's volume and silence are not judged yet; None where its traffic is known."""
    for key, watch in judge.watches.items():
        if key.version != champion or key.segment or watch.quality.arrivals.known:
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


# In the order in which the page shows them.
SHOWN = ("precision", "recall", "accuracy")
# Panes between two points: with the 240 of a chart this spans 40 hours of minutes. Mature labels move slowly, so that
# denser points would show the same line over less time.
_EVERY_PANES = 10
_Point = tuple[int, float | None, float | None, float | None, float | None]


def label_status(cohorts: Cohorts, settings: ModelSettings, *, rebuilding: bool) -> LabelStatus:
    """Return how many of the predictions that are old enough have a label."""
    due, arrived = cohorts.completeness()
    age = format_duration(settings.label_maturity)
    reason = f"{arrived} of {due} predictions older than {age} have their label" if due else f"none is {age} old"
    if settings.labels is not None and (waits := maturity_reason(cohorts.maturity, settings)):
        reason = f"{reason}; {waits}"
    if rebuilding:
        reason = f"{UNKNOWN_HELP[Unknown.REBUILDING]} So far {reason}"
    out: LabelStatus = {"due": due, "arrived": arrived, "horizon_ms": settings.label_horizon, "reason": reason}
    if due:
        out["completeness"] = min(arrived / due, 1.0)
    return out


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
        for (version, segment), ring in sorted(judge.cohorts.charts.mature.items()):
            if not ring:
                continue
            last = ring[-1][0]
            # The window ends at the age at which labels are known, so that it empties when they stop coming.
            maturity = judge.cohorts.maturity
            age = max(maturity.age or 0, judge.settings.label_maturity)
            due = last if judge.next is None else judge.labelled - age
            since = max(last, due) + judge.settings.pane - judge.settings.window
            real = measures(judge.cohorts.charts.confusion(version, segment, since))
            reference = references.of(judge.name, version)
            labels = None if reference is None else reference.labels
            before = None if labels is None else measures(labels.confusion)
            guess = None
            if labels is not None:
                now = (judge.next or last) - judge.settings.window
                scores = judge.cohorts.charts.scored(version, segment, now)
                threshold = references.threshold(judge.name, version)
                guess = measures(estimated_confusion(scores, labels.scored, threshold))
            watch = next((w for k, w in judge.watches.items() if (k.version, k.segment) == (version, segment)), None)
            for name in SHOWN:
                one = real[name]
                state, reason = _state(watch, one.rows, stale=since > last)
                if maturity.age is None or maturity.selective:
                    state, reason = SubjectState.UNKNOWN, maturity_reason(maturity, judge.settings)
                if judge.rebuilding:
                    state, reason = SubjectState.UNKNOWN, UNKNOWN_HELP[Unknown.REBUILDING]
                entry: PerformanceStatus = {
                    "version": version,
                    "segment": segment,
                    "measure": name,
                    "rows": one.rows,
                    "state": state.value,
                    "reason": reason,
                }
                if one.rows:
                    entry["value"], entry["low"], entry["high"] = one.value, one.low, one.high
                if before is not None and before[name].rows:
                    entry["reference"] = before[name].value
                if guess is not None and guess[name].rows:
                    entry["estimated"] = guess[name].value
                self._note((version, segment, name), last, entry, judge.settings.pane)
                entry["series"] = self._series((version, segment, name))
                out.append(entry)
        return out

    def _note(self, key: tuple[str, str, str], time: int, entry: PerformanceStatus, pane: int) -> None:
        points = self._points.setdefault(key, deque(maxlen=MAX_POINTS))
        if not points or time >= points[-1][0] + _EVERY_PANES * pane:
            points.append((time, entry.get("value"), entry.get("low"), entry.get("high"), entry.get("estimated")))

    def _series(self, key: tuple[str, str, str]) -> PerformanceSeries:
        points = self._points[key]
        return {
            "time": [point[0] for point in points],
            "real": [point[1] for point in points],
            "low": [point[2] for point in points],
            "high": [point[3] for point in points],
            "estimated": [point[4] for point in points],
        }


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
