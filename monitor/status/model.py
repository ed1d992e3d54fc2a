"""A model as people and Prometheus see it: the numbers of its charts and incidents at its last closed pane."""

from math import isfinite
from typing import Literal

from stationkeeper.contracts.messages import SubjectState, VerdictKind
from stationkeeper.contracts.metrics import STATE_NUMBER, Sample
from stationkeeper.contracts.model_status import (
    IncidentStatus,
    ModelStatus,
    SubjectStatus,
    VersionRole,
    VersionStatus,
)
from stationkeeper.monitor.core.charts import Chart
from stationkeeper.monitor.core.reasons import UNKNOWN_HELP, Unknown
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.judge import ModelJudge, WatchKey
from stationkeeper.monitor.references import References
from stationkeeper.monitor.status.performance import (
    PerformanceView,
    adoption_status,
    fairness_samples,
    fairness_status,
    label_status,
    maturity_samples,
    timezone_status,
    traffic_status,
)
from stationkeeper.monitor.status.series import ChartSeries
from stationkeeper.monitor.status.subject import cells_of, subject_status

# Subjects with cells and series, the worst first: more than a page shows at once. Without a bound, the status of a
# model of a thousand features would be megabytes.
DETAILED = 40
_WORST = (SubjectState.BROKEN, SubjectState.DRIFTING, SubjectState.RECOVERING)


class ModelView:
    """Builds ``contracts.model_status.ModelStatus`` and the samples of one model; both hold the same numbers.

    ``refresh`` costs one chart a subject and is called once a flush in which a pane closed.
    """

    def __init__(self, judge: ModelJudge, references: References, clock: Literal["wall", "stream"]) -> None:
        self._judge = judge
        self._references = references
        self._clock = clock
        self._series = ChartSeries()
        self._performance = PerformanceView()
        self._stopped = ""
        self.status: ModelStatus | None = None
        self.samples: list[Sample] = []

    def glance(self, left: int) -> None:
        """Note a point of each chart for a pane that closed with ``left`` more behind it."""
        self._series.glance(self._judge.watches, left)

    def refresh(self) -> None:
        """Read everything anew."""
        judge = self._judge
        self._stopped = judge.stopped
        champion = self._references.champion(judge.name)
        charts = self._series.note(judge.watches)
        self._series.keep(judge.watches)
        # Stable: of equal ones the order of watches and subjects, so that a page does not jump.
        importance = judge.settings.importance
        charts.sort(
            key=lambda item: (
                -_severity(
                    item[2], importance.get(item[2].subject, item[1].reference.by_name[item[2].subject].importance)
                )
            )
        )
        incidents = self._incidents()
        state, reason = self._state(champion, charts, incidents)
        if judge.stopped:
            state, reason = SubjectState.UNKNOWN, f"{UNKNOWN_HELP[Unknown.INPUT_STOPPED]} {judge.stopped}"
        status: ModelStatus = {
            "model": judge.name,
            "state": state.value,
            "reason": reason,
            "champion": champion,
            "watermark": judge.watermark,
            "pane_ms": judge.settings.pane,
            "versions": _versions(judge, self._references, champion),
            "subjects": self._subjects(charts),
            "incidents": incidents,
            "false_pages": judge.settings.false_pages,
            "clock": self._clock,
        }
        if judge.settings.labels is not None:
            status["labels"] = label_status(judge.cohorts, judge.settings, rebuilding=judge.rebuilding)
            status["performance"] = self._performance.statuses(judge, self._references)
        if (adoption := adoption_status(judge, champion)) is not None:
            status["adoption"] = adoption
        if (traffic := traffic_status(judge, champion)) is not None:
            status["traffic"] = traffic
        if (zone := timezone_status(judge, champion)) is not None:
            status["timezone"] = zone
        if (fairness := fairness_status(judge, champion)) is not None:
            status["fairness"] = fairness
        rollout = self._references.rollout(judge.name)
        if rollout is not None and rollout.canary:
            status["canary"] = rollout.canary
        self.status = status
        self.samples = self._samples(charts, incidents, state)
        self.samples += fairness_samples(judge.name, champion or "", fairness or ())

    def advance(self) -> None:
        """Show how far the watermark is, or that an input stopped; nothing else moves while no pane closes."""
        if self._judge.stopped != self._stopped:
            self.refresh()
            return
        watermark = self._judge.watermark
        if self.status is not None:
            self.status = {**self.status, "watermark": watermark}
        if watermark is not None:
            name = "stationkeeper_watermark_timestamp_seconds"
            others = [sample for sample in self.samples if sample.metric != name]
            self.samples = [*others, Sample(name, (self._judge.name,), watermark / 1_000)]

    def _incidents(self) -> list[IncidentStatus]:
        judge = self._judge
        # Copies: what is added below is for people, and is no part of the judge's state.
        found = [status.copy() for status in judge.escalation.recovered]
        for key, watch in judge.watches.items():
            for incident in (*watch.incidents(), *watch.lifecycle.incidents.closed):
                found.append(judge.escalation.incident_status(incident, key, judge.succession.champion))
        for status in found:
            if (cure := judge.retrainings.cures.of(status["id"])) is not None:
                status["cure"] = cure
        found.sort(key=lambda status: ("closed" in status, -status.get("closed", status["opened"]), status["id"]))
        keep = [status for status in found if "closed" not in status]
        # Open ones all, with closed ones twenty: a page that a person reads.
        keep += [status for status in found if "closed" in status][: max(0, 20 - len(keep))]
        return sorted(keep, key=lambda status: (-status["opened"], status["id"]))

    def _state(
        self, champion: str | None, charts: list[tuple[WatchKey, Watch, Chart]], incidents: list[IncidentStatus]
    ) -> tuple[SubjectState, str]:
        if champion is None:
            return SubjectState.UNKNOWN, f"no champion: {UNKNOWN_HELP[Unknown.NO_REFERENCE]}"
        if self._references.of(self._judge.name, champion) is None:
            return SubjectState.UNKNOWN, f"version {champion} has no reference: {UNKNOWN_HELP[Unknown.NO_REFERENCE]}"
        mine = [(key, chart) for key, _, chart in charts if key.version == champion]
        present = {chart.state for _, chart in mine}
        worst = next((state for state in _WORST if state in present), None)
        wrong = (
            None if worst is None else (worst, _reason(worst, [(k, c) for k, c in mine if c.state is worst], incidents))
        )
        # Subjects first: they say what moved, an incident on volume or errors says that something did.
        if (told := wrong or _uncharted(incidents, champion)) is not None:
            return told
        if not mine:
            return SubjectState.UNKNOWN, UNKNOWN_HELP[Unknown.NO_ROWS]
        # A segment that is unknown, as new ones are, does not make a model unknown.
        whole = [chart for key, chart in mine if not key.segment]
        if whole and all(chart.state is SubjectState.UNKNOWN for chart in whole):
            unknown = next((chart.unknown for chart in whole if chart.unknown is not None), Unknown.NO_ROWS)
            adoption = adoption_status(self._judge, champion)
            if unknown is Unknown.ADOPTING and adoption is not None:
                return SubjectState.UNKNOWN, adoption["reason"]
            return SubjectState.UNKNOWN, UNKNOWN_HELP[unknown]
        # What a version has left open that neither serves nor was just replaced, says nothing of the one that serves.
        promotion = self._judge.succession.promotion
        concerned = {champion, promotion.old if promotion is not None else champion}
        old = next((i for i in incidents if "closed" not in i and i["version"] in concerned), None)
        if old is not None:
            proof = "" if promotion is None or old["version"] == champion else f" until {promotion.proof}"
            why = f"version {champion} is steady so far; the incident of {old['version']} is still open{proof}"
            return SubjectState.RECOVERING, why
        return SubjectState.STEADY, f"{len(whole)} subjects of version {champion} are steady"

    def _subjects(self, charts: list[tuple[WatchKey, Watch, Chart]]) -> list[SubjectStatus]:
        out = []
        for place, (key, watch, chart) in enumerate(charts):
            entry = subject_status(key, watch, chart)
            if place < DETAILED or chart.state not in (SubjectState.STEADY, SubjectState.UNKNOWN):
                subject = watch.reference.by_name[chart.subject]
                if not subject.sensitive:
                    entry["cells"] = cells_of(watch, chart)
                series = self._series.of(key, chart.subject)
                if series is not None:
                    entry["series"] = series
            out.append(entry)
        return out

    def _samples(
        self, charts: list[tuple[WatchKey, Watch, Chart]], incidents: list[IncidentStatus], state: SubjectState
    ) -> list[Sample]:
        judge, name = self._judge, self._judge.name
        out = [Sample("stationkeeper_model_state", (name,), STATE_NUMBER[state])]
        if judge.watermark is not None:
            out.append(Sample("stationkeeper_watermark_timestamp_seconds", (name,), judge.watermark / 1_000))
        out += maturity_samples(judge)
        for key, end in sorted(self._series.ended.items()):
            where = (name, key.version, key.segment)
            out.append(Sample("stationkeeper_window_end_timestamp_seconds", where, end / 1_000))
        counts = dict.fromkeys(SubjectState, 0)
        for _, _, chart in charts:
            counts[chart.state] += 1
        out += [Sample("stationkeeper_subjects", (name, one.value), count) for one, count in counts.items()]
        shown, refused = 0, 0
        for key, _, chart in charts:
            mine = _chart_values(chart)
            # The worst come first, so that it is steady subjects that have no series.
            if shown + len(mine) > judge.settings.limits.series:
                refused += len(mine)
                continue
            shown += len(mine)
            subject = (name, key.version, key.segment, chart.subject)
            out += [Sample(metric, (*subject, *more), value) for metric, more, value in mine]
        if refused:
            out.append(Sample("stationkeeper_series_refused_total", (), refused))
        out += _incident_samples(name, incidents)
        for (kind, level), count in sorted(judge.escalation.verdicts.items()):
            out.append(Sample("stationkeeper_verdicts_total", (name, kind, level), count))
        for outcome, count in sorted(judge.escalation.requests.counts.items()):
            out.append(Sample("stationkeeper_retrain_requests_total", (name, outcome), count))
        for outcome, count in sorted(judge.retrainings.cures.state.counts.items()):
            out.append(Sample("stationkeeper_retrain_cures_total", (name, outcome), count))
        return out


def _versions(judge: ModelJudge, references: References, champion: str | None) -> list[VersionStatus]:
    rollout = references.rollout(judge.name)
    canary = rollout.canary if rollout is not None else None
    out: list[VersionStatus] = []
    for version, rows in sorted(judge.watches.rows.items()):
        role: VersionRole = "champion" if version == champion else "canary" if version == canary else "retired"
        entry: VersionStatus = {"version": version, "role": role, "rows": rows}
        reference = references.of(judge.name, version)
        if reference is not None:
            entry["reference"] = reference.digest
        entry["first_seen"] = judge.watches.first_seen[version]
        out.append(entry)
    return out


def _incident_samples(name: str, incidents: list[IncidentStatus]) -> list[Sample]:
    out = []
    for one in incidents:
        if "closed" in one:
            continue
        facts = (name, one["version"], one["id"], one["kind"], one["cause"], one["level"])
        out.append(Sample("stationkeeper_incident_info", facts, 1))
        stamp = one["onset"] / 1_000
        out.append(Sample("stationkeeper_incident_onset_timestamp_seconds", (name, one["id"]), stamp))
    return out


def _reason(state: SubjectState, worst: list[tuple[WatchKey, Chart]], incidents: list[IncidentStatus]) -> str:
    """Why a model is in its state: the reason of an incident that one of the subjects in this state belongs to."""
    known = {one["id"]: one for one in incidents}
    told = [known[chart.incident] for _, chart in worst if chart.incident in known]
    fits = [one for one in told if (one["kind"] == VerdictKind.DATA_QUALITY) == (state is SubjectState.BROKEN)]
    if fits:
        return fits[0]["reason"]
    key, chart = worst[0]
    what = f"{chart.subject} in {key.segment or 'all traffic'}"
    # Broken data that joined drift: the incident's own reason is about the drift.
    return f"{what}, in the incident of {told[0]['leader']} ({told[0]['reason']})" if told else what


def _uncharted(incidents: list[IncidentStatus], champion: str) -> tuple[SubjectState, str] | None:
    """State and reason by an incident that pages and that no chart shows: volume, silence, duplicates, performance."""
    for one in incidents:
        if "closed" not in one and one["level"] == "page" and one["version"] == champion:
            broken = one["kind"] == VerdictKind.DATA_QUALITY
            return SubjectState.BROKEN if broken else SubjectState.DRIFTING, one["reason"]
    return None


def _severity(chart: Chart, importance: float) -> float:
    """What is worst comes first: states, then the harm that may come of it, then evidence by its share of a threshold.

    The harm is the share of rows that moved times the ``importance`` of the feature: a large move of what the model
    hardly reads is below a small one of what it rests on. Of steady subjects the effect is noise.
    """
    rank = {SubjectState.BROKEN: 4, SubjectState.DRIFTING: 3, SubjectState.RECOVERING: 2}.get(chart.state, 0)
    if rank:
        # States are a million apart and importance is at most some hundreds, so that none lifts one state over another.
        return rank * 1e6 + min(max(chart.effect, 0.0) * importance * 1e3, 9e5)
    ratio = chart.evidence / chart.threshold if isfinite(chart.evidence) and chart.threshold > 0 else -1.0
    return min(ratio, 9e5)


def _chart_values(chart: Chart) -> list[tuple[str, tuple[str, ...], float]]:
    """What Prometheus is shown of a chart: metric, labels beyond those of the subject, value."""
    out: list[tuple[str, tuple[str, ...], float]] = [
        ("stationkeeper_subject_state", (), STATE_NUMBER[chart.state]),
        ("stationkeeper_window_rows", (), chart.rows),
    ]
    if isfinite(chart.threshold):
        out.append(("stationkeeper_drift_evidence_threshold", (), chart.threshold))
    if chart.unknown in (Unknown.NO_ROWS, Unknown.STALE):
        return out
    if isfinite(chart.evidence):
        out.append(("stationkeeper_drift_evidence", (), chart.evidence))
    if chart.unknown is Unknown.FEW_ROWS:
        return out
    out.append(("stationkeeper_drift_effect_ratio", (), chart.effect))
    for name, distance in chart.distances.items():
        out.append(("stationkeeper_drift_distance", (name,), distance.value))
        out.append(("stationkeeper_drift_distance_noise", (name,), distance.noise))
    return out + [("stationkeeper_quality_ratio", (check,), share) for check, share in chart.quality.items() if share]
