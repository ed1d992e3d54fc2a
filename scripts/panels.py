"""What the Grafana dashboards show: every panel answers one question, in metrics of contracts/metrics.py."""

from dataclasses import dataclass

MODEL = 'model=~"$model"'
SUBJECT = 'model=~"$model", subject=~"$subject"'
STATES = {0: "unknown", 1: "steady", 2: "drifting", 3: "broken data", 4: "recovering"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: PromQL expressions with the name of their series, and the question it answers."""

    title: str
    question: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    height: int = 8
    threshold: float | None = None
    states: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page of panels; ``variables`` are (name, metric, label) that a reader can choose by."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str, str], ...]


def _panel(title: str, question: str, expression: str, legend: str, **more: object) -> Panel:
    return Panel(title, question, ((expression, legend),), **more)  # type: ignore[arg-type] # fields of Panel


def _stat(title: str, question: str, expression: str, legend: str, **more: object) -> Panel:
    return _panel(title, question, expression, legend, kind="stat", width=6, height=4, **more)


_OUTCOME = "{{model}} {{outcome}}"
_STATE_OF_MODELS = _panel(
    "State of every model",
    "Which model needs a person? Grey is unknown, which is neither good nor bad.",
    f"stationkeeper_model_state{{{MODEL}}}",
    "{{model}}",
    kind="state-timeline",
    width=24,
    states=True,
)
_OPEN_INCIDENTS = _stat(
    "Open incidents",
    "Is something wrong that nobody has closed?",
    f"count by (model, kind, cause) (stationkeeper_incident_info{{{MODEL}}} == 1)",
    "{{model}} {{kind}} {{cause}}",
)
_NOW = "Which version answers now?"
_CHAMPION = _stat("Champion", _NOW, f"stationkeeper_champion_info{{{MODEL}}}", "{{model}} {{version}}")
_LABELS = _stat(
    "Labels",
    "How much of what should be known is known?",
    f"stationkeeper_label_completeness_ratio{{{MODEL}}}",
    "{{model}}",
    unit="percentunit",
)
_STAGE = f"stationkeeper_retrain_stage{{{MODEL}}} == 1"
_RETRAINING = _stat("Retraining", "At which stage is a request?", _STAGE, "{{model}} {{stage}}")
_SUBJECTS = _panel(
    "Subjects by state",
    "How many features and predictions drift, are broken, or are not known?",
    f"sum by (model, state) (stationkeeper_subjects{{{MODEL}}})",
    "{{model}} {{state}}",
)
_AGE = _panel(
    "Age of the last closed minute",
    "Is what is shown still true? A model on the stream clock is as old as its events.",
    f"time() - stationkeeper_watermark_timestamp_seconds{{{MODEL}}}",
    "{{model}}",
    unit="s",
)
_EVIDENCE = _panel(
    "Evidence of drift, as a share of what opens an incident",
    "Which subjects are closest to being found? At 1 an incident opens.",
    f"topk(10, max by (model, version, segment, subject) (stationkeeper_drift_evidence{{{MODEL}}}"
    f" / stationkeeper_drift_evidence_threshold{{{MODEL}}}))",
    "{{subject}} {{segment}} {{version}}",
    threshold=1.0,
)
_EFFECT = _panel(
    "Share of the traffic that moved",
    "How large is the change?",
    f"topk(10, max by (model, version, segment, subject) (stationkeeper_drift_effect_ratio{{{MODEL}}}))",
    "{{subject}} {{segment}} {{version}}",
    unit="percentunit",
)
_PERFORMANCE = Panel(
    "Performance from labels, and estimated",
    "Is the model still right?",
    (
        (f"stationkeeper_performance_ratio{{{MODEL}}}", "{{measure}} {{version}} {{segment}}"),
        (f"stationkeeper_performance_estimate_ratio{{{MODEL}}}", "estimated {{measure}} {{version}} {{segment}}"),
    ),
    unit="percentunit",
)
_AMOUNTS = Panel(
    "Errors, losses and value from labels",
    "How far off is the model, and what are its decisions worth?",
    ((f"stationkeeper_performance_amount{{{MODEL}}}", "{{measure}} {{version}} {{segment}}"),),
)
_ESTIMATE_ERROR = Panel(
    "How far the estimate was off",
    "Can performance be believed before labels come?",
    ((f"stationkeeper_performance_estimate_error_ratio{{{MODEL}}}", "{{measure}} {{version}} {{segment}}"),),
    unit="percentunit",
)
_ESTIMATE_LABELS = _panel(
    "Labels that refresh the estimate",
    "On how many mature labels beside the reference's does what a score stands for rest?",
    f"max by (version, segment) (stationkeeper_performance_estimate_labels{{{MODEL}}})",
    "{{version}} {{segment}}",
)
_FAIRNESS = Panel(
    "Fairness: gaps of segments",
    "Which segments are answered otherwise than the others, and which of them is an incident (drawn at 100 %)?",
    (
        (f"topk(10, abs(stationkeeper_fairness_gap_ratio{{{MODEL}}}))", "{{segment}} {{rate}} {{version}}"),
        (f"stationkeeper_fairness_gap_told{{{MODEL}}} == 1", "told: {{segment}} {{rate}}"),
    ),
    unit="percentunit",
)
_DISTANCES = _panel(
    "Distances above their noise",
    "How far have inputs moved, beyond what sampling alone produces?",
    f"topk(10, max by (subject, distance) (stationkeeper_drift_distance{{{MODEL}}}"
    f" - stationkeeper_drift_distance_noise{{{MODEL}}}))",
    "{{subject}} {{distance}}",
)
_QUALITY = _panel(
    "Broken data",
    "Which share of rows fails a check?",
    f"topk(10, max by (subject, check) (stationkeeper_quality_ratio{{{MODEL}}}))",
    "{{subject}} {{check}}",
    unit="percentunit",
)
_SERVING = f"sum by (le, model, version) (rate(stationkeeper_serving_seconds_bucket{{{MODEL}}}[5m]))"
_WEIGHT = _panel(
    "Canary's share of traffic",
    "Who gets how much?",
    f"stationkeeper_canary_weight_ratio{{{MODEL}}}",
    "{{model}} {{version}}",
    unit="percentunit",
)
_HARM = _panel(
    "Evidence of harm by the canary, as a share of what rolls it back",
    "Is the new version worse? At 1 the guardrail acts.",
    f"stationkeeper_canary_evidence{{{MODEL}}} / stationkeeper_canary_evidence_threshold{{{MODEL}}}",
    "{{version}} {{guardrail}}",
    threshold=1.0,
)
_ROWS = _panel(
    "Rows in the window",
    "Are there enough rows to say anything?",
    f"max by (version, segment) (stationkeeper_window_rows{{{MODEL}}})",
    "{{version}} {{segment}}",
)
_LAG = _panel(
    "How far behind",
    "Are the roles keeping up?",
    "sum by (role, topic) (stationkeeper_consumer_lag_records)",
    "{{role}} {{topic}}",
)
_DEAD_LETTERS = _panel(
    "Dead letters",
    "Why were records refused?",
    "sum by (topic, code) (rate(stationkeeper_dead_letters_total[5m]))",
    "{{topic}} {{code}}",
    unit="cps",
)
_STOPPED = _panel(
    "Input topics that are not read",
    "Which topic stopped, and why?",
    "max by (topic, reason, code) (stationkeeper_input_stopped)",
    "{{topic}} {{reason}} {{code}}",
)
_JOIN = Panel(
    "The label join",
    "Do labels find their predictions?",
    (
        ("sum by (result) (rate(stationkeeper_join_rows_total[5m]))", "{{result}} a second"),
        ("sum by (side) (stationkeeper_join_waiting_rows)", "waiting {{side}}"),
    ),
)
_MATURITY = _panel(
    "Age at which labels count",
    "When are a prediction's labels complete?",
    f"max by (model) (stationkeeper_label_maturity_seconds{{{MODEL}}})",
    "{{model}}",
    unit="s",
)
_EXPECTED = _panel(
    "Labels that are there at label_maturity",
    "Is label_maturity long enough for the slowest class?",
    f"min by (model) (stationkeeper_labels_expected_ratio{{{MODEL}}})",
    "{{model}}",
    unit="percentunit",
)
_UNSEEN = _panel(
    "Rows of which no label tells",
    "Does an action keep labels away, as of blocked payments?",
    f"max by (model) (stationkeeper_labels_unseen_ratio{{{MODEL}}})",
    "{{model}}",
    unit="percentunit",
)
_READY = _panel(
    "Roles that are ready",
    "Which part of the loop does not work?",
    "min by (role) (stationkeeper_role_ready)",
    "{{role}}",
    kind="state-timeline",
)

_FEATURE = (
    _panel(
        "State",
        "Is it well, and since when?",
        f"stationkeeper_subject_state{{{SUBJECT}}}",
        "{{subject}} {{segment}} {{version}}",
        kind="state-timeline",
        width=24,
        height=6,
        states=True,
    ),
    Panel(
        "Evidence and threshold",
        "How close is it to being found?",
        (
            (f"stationkeeper_drift_evidence{{{SUBJECT}}}", "evidence {{subject}} {{segment}} {{version}}"),
            (f"stationkeeper_drift_evidence_threshold{{{SUBJECT}}}", "threshold {{subject}} {{segment}} {{version}}"),
        ),
    ),
    Panel(
        "Distance and its noise",
        "How far is it from the reference, and what would sampling alone give?",
        (
            (f"stationkeeper_drift_distance{{{SUBJECT}}}", "{{distance}} {{subject}} {{segment}}"),
            (f"stationkeeper_drift_distance_noise{{{SUBJECT}}}", "noise of {{distance}} {{subject}} {{segment}}"),
        ),
    ),
    _panel(
        "Share of the traffic that moved",
        "How large is the change?",
        f"stationkeeper_drift_effect_ratio{{{SUBJECT}}}",
        "{{subject}} {{segment}} {{version}}",
        unit="percentunit",
    ),
    _panel(
        "Rows that fail a check",
        "Is the data broken?",
        f"stationkeeper_quality_ratio{{{SUBJECT}}}",
        "{{check}} {{subject}} {{segment}}",
        unit="percentunit",
    ),
    _panel(
        "Rows in the window",
        "Are there enough rows to say anything?",
        f"stationkeeper_window_rows{{{SUBJECT}}}",
        "{{subject}} {{segment}} {{version}}",
    ),
)

_LOOP = (
    _RETRAINING,
    _CHAMPION,
    _stat(
        "Breakers open",
        "Which part has stopped trying?",
        "max by (role, breaker) (stationkeeper_breaker_open) == 1",
        "{{role}} {{breaker}}",
    ),
    _stat(
        "Restoring",
        "How long does a start take?",
        "max by (role) (stationkeeper_restore_seconds)",
        "{{role}}",
        unit="s",
    ),
    Panel(
        "Records by what became of them",
        "Is everything that was read accounted for? The outcomes sum to what was received.",
        (
            ("sum by (outcome) (rate(stationkeeper_records_total[5m]))", "{{outcome}}"),
            ("sum (rate(stationkeeper_records_received_total[5m]))", "received"),
        ),
        unit="cps",
    ),
    _DEAD_LETTERS,
    _STOPPED,
    _JOIN,
    _LAG,
    _panel(
        "Time since the loop turned",
        "Does a role stand still?",
        "time() - max by (role) (stationkeeper_stage_heartbeat_timestamp_seconds)",
        "{{role}}",
        unit="s",
    ),
    _panel(
        "Time to commit a transaction (99 %)",
        "Is the broker slow?",
        "histogram_quantile(0.99, sum by (role, le) (rate(stationkeeper_flush_seconds_bucket[5m])))",
        "{{role}}",
        unit="s",
    ),
    _panel(
        "From a closed minute to its verdicts (99 %)",
        "How long does a decision take?",
        "histogram_quantile(0.99, sum by (role, le) (rate(stationkeeper_decision_delay_seconds_bucket[5m])))",
        "{{role}}",
        unit="s",
    ),
    _panel(
        "Verdicts",
        "What is decided, and how loud?",
        f"sum by (model, kind, level) (increase(stationkeeper_verdicts_total{{{MODEL}}}[1h]))",
        "{{model}} {{kind}} {{level}}",
    ),
    Panel(
        "Retrain requests by outcome",
        "What became of what was asked for?",
        (
            (f"sum by (model, outcome) (increase(stationkeeper_retrain_requests_total{{{MODEL}}}[1h]))", _OUTCOME),
            (f"max by (model, outcome) (stationkeeper_retrain_outcomes{{{MODEL}}})", f"{_OUTCOME} (on record)"),
            (
                f"sum by (model, outcome) (increase(stationkeeper_retrain_cures_total{{{MODEL}}}[1h]))",
                f"{_OUTCOME} (tested again)",
            ),
        ),
    ),
    _WEIGHT,
    _HARM,
    _panel(
        "Rollouts ended",
        "Were candidates promoted or rolled back?",
        f"sum by (model, outcome) (increase(stationkeeper_rollouts_total{{{MODEL}}}[1d]))",
        "{{model}} {{outcome}}",
    ),
    Panel(
        "Time to an answer",
        "Is one version slower than the other?",
        (
            (
                f"histogram_quantile(0.99, {_SERVING})",
                "p99 {{model}} {{version}}",
            ),
            (
                f"histogram_quantile(0.5, {_SERVING})",
                "p50 {{model}} {{version}}",
            ),
        ),
        unit="s",
    ),
    Panel(
        "Answers of the router",
        "Who is served by which version, and who is refused?",
        (
            (
                f"sum by (model, version, arm) (rate(stationkeeper_predictions_served_total{{{MODEL}}}[5m]))",
                "{{model}} {{version}} {{arm}}",
            ),
            (
                f"sum by (model, reason) (rate(stationkeeper_serving_errors_total{{{MODEL}}}[5m]))",
                "refused {{model}} {{reason}}",
            ),
            (
                f"sum by (model, reason) (rate(stationkeeper_predictions_unlogged_total{{{MODEL}}}[5m]))",
                "not logged {{model}} {{reason}}",
            ),
        ),
        unit="cps",
    ),
    _panel(
        "Transactions aborted",
        "Does something fail and come again?",
        "sum by (role, reason) (rate(stationkeeper_stage_errors_total[5m]))",
        "{{role}} {{reason}}",
        unit="cps",
    ),
    Panel(
        "Refused by a limit",
        "Does a limit hide something?",
        (
            ("sum by (limit) (rate(stationkeeper_limits_refused_total[5m]))", "{{limit}}"),
            ("sum (rate(stationkeeper_series_refused_total[5m]))", "series"),
            ("sum by (topic) (rate(stationkeeper_records_expired_total[5m]))", "expired {{topic}}"),
        ),
        unit="cps",
    ),
    Panel(
        "Notices by what became of them",
        "Do other systems hear of it?",
        (("sum by (notifier, outcome) (rate(stationkeeper_notices_total[5m]))", "{{notifier}} {{outcome}}"),),
        unit="cps",
    ),
)

_BY_MODEL = ("model", "stationkeeper_model_state", "model")

DASHBOARDS = (
    Dashboard(
        "fleet",
        "Stationkeeper: all models",
        (_STATE_OF_MODELS, _OPEN_INCIDENTS, _CHAMPION, _RETRAINING, _LABELS, _SUBJECTS, _AGE, _READY, _LAG),
        (_BY_MODEL,),
    ),
    Dashboard(
        "model",
        "Stationkeeper: one model",
        (
            _OPEN_INCIDENTS,
            _CHAMPION,
            _RETRAINING,
            _LABELS,
            _EVIDENCE,
            _EFFECT,
            _PERFORMANCE,
            _DISTANCES,
            _QUALITY,
            _SUBJECTS,
            _WEIGHT,
            _HARM,
            _ROWS,
            _AGE,
            _MATURITY,
            _EXPECTED,
            _UNSEEN,
            _AMOUNTS,
            _ESTIMATE_ERROR,
            _ESTIMATE_LABELS,
            _FAIRNESS,
        ),
        (_BY_MODEL,),
    ),
    Dashboard(
        "feature",
        "Stationkeeper: one feature",
        _FEATURE,
        (_BY_MODEL, ("subject", "stationkeeper_subject_state", "subject")),
    ),
    Dashboard("loop", "Stationkeeper: the loop", _LOOP, (_BY_MODEL,)),
)
