"""The closed list of exported metrics; code, docs/metrics.md, dashboards and alert tests read it."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from stationkeeper.contracts.messages import SubjectState

Kind = Literal["counter", "gauge", "histogram"]
Unit = Literal["", "records", "rows", "seconds", "ratio", "nats", "partitions"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family: its name is the prefix ``stationkeeper_`` and the suffix rules of Prometheus."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    unit: Unit = ""


class Sample(NamedTuple):
    """One value of one series, handed by a stage to whoever renders ``/metrics``.

    ``labels`` holds the values in the order of the metric's label names. ``buckets`` (upper bound, cumulative
    count) and ``sum`` are for histograms only; ``exemplar`` is a verdict id shown under OpenMetrics.
    """

    metric: str
    labels: tuple[str, ...]
    value: float
    exemplar: str | None = None
    buckets: tuple[tuple[float, int], ...] = ()
    sum: float = 0.0


# What a gauge shows for a state; dashboards and alerts read the numbers, so they are never given away again.
STATE_NUMBER: dict[SubjectState, int] = {
    SubjectState.UNKNOWN: 0,
    SubjectState.STEADY: 1,
    SubjectState.DRIFTING: 2,
    SubjectState.BROKEN: 3,
    SubjectState.RECOVERING: 4,
}

_STATES = ", ".join(f"{number} {state.value}" for state, number in STATE_NUMBER.items())
_SUBJECT = ("model", "version", "segment", "subject")

_PROCESS = (
    Metric("stationkeeper_build_info", "gauge", ("version", "role"), "Always 1; the labels say what runs."),
    Metric("stationkeeper_role_ready", "gauge", ("role",), "1 while the role has partitions, state and a broker."),
    Metric(
        "stationkeeper_stage_heartbeat_timestamp_seconds",
        "gauge",
        ("role",),
        "When the loop last turned.",
        "seconds",
    ),
    Metric(
        "stationkeeper_stage_errors_total",
        "counter",
        ("role", "reason"),
        "Transactions aborted and retried, and records of a table refused.",
    ),
    Metric(
        "stationkeeper_breaker_open",
        "gauge",
        ("role", "breaker"),
        "1 while calls to what the label names, or retraining of a model, are suspended after repeated failure.",
    ),
    Metric(
        "stationkeeper_restore_seconds",
        "gauge",
        ("role",),
        "How long reading the state back took at start.",
        "seconds",
    ),
    Metric(
        "stationkeeper_flush_seconds", "histogram", ("role",), "Time to write and commit one transaction.", "seconds"
    ),
    Metric(
        "stationkeeper_decision_delay_seconds",
        "histogram",
        ("role",),
        "From closing a minute to its verdicts.",
        "seconds",
    ),
    Metric(
        "stationkeeper_series_refused_total", "counter", (), "Series left out by a series cap, added up over scrapes."
    ),
    Metric(
        "stationkeeper_notices_total",
        "counter",
        ("notifier", "outcome"),
        "Notices by what became of them: told, refused by the receiver, expired before it took them; and tries made "
        "again (retried).",
    ),
    Metric(
        "stationkeeper_limits_refused_total",
        "counter",
        ("limit",),
        "What a limit refused, by its name: events (message_bytes, fields, versions, segments), features of references "
        "(features), rows waiting for their label (waiting), panes (watches), samples (bad_sample), requests "
        "over HTTP (http_credentials, http_host, http_origin, http_header_bytes, http_body_bytes).",
    ),
)

_RECORDS = (
    Metric(
        "stationkeeper_records_received_total",
        "counter",
        ("topic", "partition"),
        "Records read and committed.",
        "records",
    ),
    Metric(
        "stationkeeper_records_total",
        "counter",
        ("topic", "partition", "outcome"),
        "Records by what became of them: tallied, late, duplicate, rejected or dropped; they sum to received.",
        "records",
    ),
    Metric(
        "stationkeeper_records_expired_total",
        "counter",
        ("topic", "partition"),
        "Records that retention removed before they were read, or that went unread with a topic that was replaced.",
        "records",
    ),
    Metric(
        "stationkeeper_input_stopped",
        "gauge",
        ("topic", "reason", "code"),
        "1 while the topic is not read: rejected (with the code of the last record), recreated, shorter or gone.",
    ),
    Metric("stationkeeper_dead_letters_total", "counter", ("topic", "code"), "Records rejected, by code.", "records"),
    Metric(
        "stationkeeper_consumer_lag_records",
        "gauge",
        ("role", "topic", "partition"),
        "Records not yet read.",
        "records",
    ),
)

_WATCH = (
    Metric(
        "stationkeeper_model_refused",
        "gauge",
        ("model",),
        "1 while the model is left alone because its entry in the configuration is wrong; one without a readable name "
        "is called by its place, as #2.",
    ),
    Metric("stationkeeper_model_state", "gauge", ("model",), f"SubjectState of the whole model: {_STATES}."),
    Metric(
        "stationkeeper_watermark_timestamp_seconds",
        "gauge",
        ("model",),
        "Event time up to which every minute of the model is closed.",
        "seconds",
    ),
    Metric(
        "stationkeeper_stale_after_seconds",
        "gauge",
        ("model",),
        "Age of the watermark from which the model's data are stale; absent for a model on the stream clock.",
        "seconds",
    ),
    Metric(
        "stationkeeper_window_end_timestamp_seconds",
        "gauge",
        ("model", "version", "segment"),
        "End of the last closed pane that held rows.",
        "seconds",
    ),
    Metric("stationkeeper_window_rows", "gauge", _SUBJECT, "Rows in the current chart window of the subject.", "rows"),
    Metric(
        "stationkeeper_drift_evidence",
        "gauge",
        _SUBJECT,
        "Natural logarithm of the detector's e-value; an incident opens where it reaches the threshold.",
        "nats",
    ),
    Metric(
        "stationkeeper_drift_evidence_threshold",
        "gauge",
        _SUBJECT,
        "The evidence at which this subject is found.",
        "nats",
    ),
    Metric(
        "stationkeeper_drift_distance",
        "gauge",
        (*_SUBJECT, "distance"),
        "Distance between window and reference, bias-corrected for the number of rows.",
    ),
    Metric("stationkeeper_drift_distance_noise", "gauge", (*_SUBJECT, "distance"), "What sampling alone produces."),
    Metric(
        "stationkeeper_drift_effect_ratio",
        "gauge",
        _SUBJECT,
        "Share of the traffic that moved (total variation).",
        "ratio",
    ),
    Metric("stationkeeper_subject_state", "gauge", _SUBJECT, f"SubjectState of the subject: {_STATES}."),
    Metric(
        "stationkeeper_quality_ratio",
        "gauge",
        (*_SUBJECT, "check"),
        "Share of rows in the window that fail a data-quality check.",
        "ratio",
    ),
    Metric(
        "stationkeeper_subjects",
        "gauge",
        ("model", "state"),
        "Subjects of the model in each state, all counted, whatever the series cap shows.",
    ),
    Metric(
        "stationkeeper_incident_info",
        "gauge",
        ("model", "version", "incident", "kind", "cause", "level"),
        "1 while the incident is open.",
    ),
    Metric(
        "stationkeeper_incident_onset_timestamp_seconds",
        "gauge",
        ("model", "incident"),
        "When the incident began.",
        "seconds",
    ),
    Metric("stationkeeper_verdicts_total", "counter", ("model", "kind", "level"), "Verdicts issued."),
    Metric(
        "stationkeeper_performance_ratio",
        "gauge",
        ("model", "version", "segment", "measure"),
        "Precision, recall, accuracy, f1, roc_auc, pr_auc, brier and calibration_error of matured labels in the chart "
        "window; of several classes their macro means, and 'recall of cat' and the like of each.",
        "ratio",
    ),
    Metric(
        "stationkeeper_performance_amount",
        "gauge",
        ("model", "version", "segment", "measure"),
        "The same of what is no share: log_loss (nats), mae, rmse, bias and quantile_loss (unit of the label), value "
        "(unit of the configured value, a decision).",
    ),
    Metric(
        "stationkeeper_performance_estimate_ratio",
        "gauge",
        ("model", "version", "segment", "measure"),
        "The same measure estimated without labels; valid only while outcomes given the inputs stay the same.",
        "ratio",
    ),
    Metric(
        "stationkeeper_performance_estimate_error_ratio",
        "gauge",
        ("model", "version", "segment", "measure"),
        "How far the estimate without labels was off where labels came since: absent without 50 of them.",
        "ratio",
    ),
    Metric(
        "stationkeeper_performance_estimate_labels",
        "gauge",
        ("model", "version", "segment", "measure"),
        "Mature labels of calm weeks that say beside the reference's what a score stands for; 0 before the first week.",
    ),
    Metric(
        "stationkeeper_fairness_gap_ratio",
        "gauge",
        ("model", "version", "segment", "rate"),
        "A segment's approval, true or false positive rate less that of the others of its dimension, where fairness is "
        "declared; of the champion, the 30 that are told or widest.",
        "ratio",
    ),
    Metric(
        "stationkeeper_fairness_gap_told",
        "gauge",
        ("model", "version", "segment", "rate"),
        "1 while that gap is told: more than is tolerated, and not closed since.",
    ),
    Metric(
        "stationkeeper_label_completeness_ratio",
        "gauge",
        ("model",),
        "Share of due predictions whose label arrived.",
        "ratio",
    ),
    Metric(
        "stationkeeper_label_maturity_seconds",
        "gauge",
        ("model",),
        "Age at which predictions are judged by their labels, as learned; absent while labels are not complete at any.",
        "seconds",
    ),
    Metric(
        "stationkeeper_labels_expected_ratio",
        "gauge",
        ("model",),
        "Share of the labels that will come which are there at the age label_maturity, of the slowest class.",
        "ratio",
    ),
    Metric(
        "stationkeeper_labels_unseen_ratio",
        "gauge",
        ("model",),
        "Where labels come for some actions rather than others: the share of the latest day's rows, of those whose "
        "labels are in, that have none and for which no labelled row stands (assignment_prob).",
        "ratio",
    ),
    Metric(
        "stationkeeper_join_rows_total",
        "counter",
        ("result",),
        "What became of predictions and labels in the label join: paired, repeated, corrected (labels that say "
        "something else than the one before), expired without their other side, unusable, crowded_out by join.rows, "
        "forgotten (pairs beyond join.corrections).",
    ),
    Metric(
        "stationkeeper_join_waiting_rows",
        "gauge",
        ("side",),
        "Predictions that wait for their label, and labels whose prediction never came so far (orphans).",
    ),
)

_CURE = (
    Metric(
        "stationkeeper_retrain_requests_total",
        "counter",
        ("model", "outcome"),
        "What became of the wish to retrain, in the monitor: published, suppressed or withdrawn.",
    ),
    Metric(
        "stationkeeper_retrain_cures_total",
        "counter",
        ("model", "outcome"),
        "Whether what asked for a retraining was tested well again after its probation: cured, not_cured, unknown.",
    ),
    Metric(
        "stationkeeper_retrain_outcomes",
        "gauge",
        ("model", "outcome"),
        "Retrain requests on record by how they ended: suppressed, rejected, failed, no_evidence, candidate.",
    ),
    Metric(
        "stationkeeper_retrain_stage",
        "gauge",
        ("model", "stage"),
        "1 for the stage a request is in: planned, waiting, snapshot, training, gate, registering.",
    ),
    Metric(
        "stationkeeper_canary_weight_ratio",
        "gauge",
        ("model", "version"),
        "Share of traffic given to the version.",
        "ratio",
    ),
    Metric(
        "stationkeeper_canary_evidence",
        "gauge",
        ("model", "version", "guardrail"),
        "Natural logarithm of the e-value of canary harm.",
        "nats",
    ),
    Metric(
        "stationkeeper_canary_evidence_threshold",
        "gauge",
        ("model", "version", "guardrail"),
        "The evidence of harm at which the canary is rolled back.",
        "nats",
    ),
    Metric("stationkeeper_rollouts_total", "counter", ("model", "outcome"), "Rollouts promoted or rolled_back."),
    Metric("stationkeeper_champion_info", "gauge", ("model", "version"), "1 for the version that is champion."),
    Metric(
        "stationkeeper_model_served",
        "gauge",
        ("model",),
        "1 while the router answers for the model, 0 while its champion is not loaded or its entry is refused; no "
        "series before the model has a champion.",
    ),
    Metric(
        "stationkeeper_predictions_served_total",
        "counter",
        ("model", "version", "arm"),
        "Answers given by the router.",
    ),
    Metric(
        "stationkeeper_serving_seconds",
        "histogram",
        ("model", "version"),
        "From a request's arrival at the router to its answer; once for each version that answered rows of it.",
        "seconds",
    ),
    Metric(
        "stationkeeper_predictions_unlogged_total",
        "counter",
        ("model", "reason"),
        "Answers that never came to the log: full, too_large or closed.",
    ),
    Metric("stationkeeper_serving_errors_total", "counter", ("model", "reason"), "Requests the router refused."),
)

METRICS: tuple[Metric, ...] = (*_PROCESS, *_RECORDS, *_WATCH, *_CURE)

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS}
