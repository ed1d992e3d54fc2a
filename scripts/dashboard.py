"""Write the Grafana dashboard of the loop; with ``--check`` fail when the committed one is not this one."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "ops" / "grafana" / "dashboards" / "loop.json"
COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "prometheus"}
MODEL = 'model=~"$model"'


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


PANELS = (
    Panel(
        "Champion",
        "Which version answers now?",
        ((f"stationkeeper_champion_info{{{MODEL}}}", "{{model}} {{version}}"),),
        kind="stat",
        width=6,
        height=4,
    ),
    Panel(
        "Open incidents",
        "Is something wrong that nobody has closed?",
        ((f"count by (kind, cause) (stationkeeper_incident_info{{{MODEL}}} == 1)", "{{kind}} {{cause}}"),),
        kind="stat",
        width=6,
        height=4,
    ),
    Panel(
        "Retraining",
        "At which stage is a request?",
        ((f"stationkeeper_retrain_stage{{{MODEL}}} == 1", "{{model}} {{stage}}"),),
        kind="stat",
        width=6,
        height=4,
    ),
    Panel(
        "Labels",
        "How much of what should be known is known?",
        ((f"stationkeeper_label_completeness_ratio{{{MODEL}}}", "{{model}}"),),
        unit="percentunit",
        kind="stat",
        width=6,
        height=4,
    ),
    Panel(
        "Evidence of drift, as a share of what opens an incident",
        "Which subjects are closest to being found? At 1 an incident opens.",
        (
            (
                (
                    f"topk(10, max by (model, version, segment, subject) (stationkeeper_drift_evidence{{{MODEL}}}"
                    f" / stationkeeper_drift_evidence_threshold{{{MODEL}}}))"
                ),
                "{{subject}} {{segment}} {{version}}",
            ),
        ),
        threshold=1.0,
    ),
    Panel(
        "Performance of matured labels",
        "Is the model still right?",
        ((f"stationkeeper_performance_ratio{{{MODEL}}}", "{{measure}} {{version}} {{segment}}"),),
        unit="percentunit",
    ),
    Panel(
        "Distances above their noise",
        "How far have inputs moved, beyond what sampling alone produces?",
        (
            (
                (
                    f"topk(10, max by (subject, distance) (stationkeeper_drift_distance{{{MODEL}}}"
                    f" - stationkeeper_drift_distance_noise{{{MODEL}}}))"
                ),
                "{{subject}} {{distance}}",
            ),
        ),
    ),
    Panel(
        "Broken data",
        "Which share of rows fails a check?",
        (
            (
                f"topk(10, max by (subject, check) (stationkeeper_quality_ratio{{{MODEL}}}))",
                "{{subject}} {{check}}",
            ),
        ),
        unit="percentunit",
    ),
    Panel(
        "Canary's share of traffic",
        "Who gets how much?",
        ((f"stationkeeper_canary_weight_ratio{{{MODEL}}}", "{{model}} {{version}}"),),
        unit="percentunit",
    ),
    Panel(
        "Evidence of harm by the canary, as a share of what rolls it back",
        "Is the new version worse? At 1 the guardrail acts.",
        (
            (
                f"stationkeeper_canary_evidence{{{MODEL}}} / stationkeeper_canary_evidence_threshold{{{MODEL}}}",
                "{{version}} {{guardrail}}",
            ),
        ),
        threshold=1.0,
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
    Panel(
        "Dead letters",
        "Why were records refused?",
        (("sum by (topic, code) (rate(stationkeeper_dead_letters_total[5m]))", "{{topic}} {{code}}"),),
        unit="cps",
    ),
    Panel(
        "How far behind",
        "Are the roles keeping up?",
        (("sum by (role, topic) (stationkeeper_consumer_lag_records)", "{{role}} {{topic}}"),),
    ),
    Panel(
        "Time to commit a transaction (99 %)",
        "Is the broker slow?",
        (
            (
                "histogram_quantile(0.99, sum by (role, le) (rate(stationkeeper_flush_seconds_bucket[5m])))",
                "{{role}}",
            ),
        ),
        unit="s",
    ),
)


def place(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """Return the panels as Grafana's JSON, left to right and row by row."""
    placed: list[dict[str, Any]] = []
    x = y = row = 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > COLUMNS:
            x, y, row = 0, y + row, 0
        defaults: dict[str, Any] = {"unit": panel.unit, "custom": {"lineWidth": 2, "fillOpacity": 5}, "noValue": "none"}
        if panel.threshold is not None:
            defaults["custom"]["thresholdsStyle"] = {"mode": "line"}
            defaults["thresholds"] = {
                "mode": "absolute",
                "steps": [{"color": "green", "value": None}, {"color": "red", "value": panel.threshold}],
            }
        placed.append(
            {
                "id": number,
                "type": panel.kind,
                "title": panel.title,
                "description": panel.question,
                "datasource": SOURCE,
                "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
                "fieldConfig": {"defaults": defaults, "overrides": []},
                "options": {"textMode": "value_and_name"}
                if panel.kind == "stat"
                else {"legend": {"placement": "bottom"}},
                "targets": [
                    {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
                    for index, (expression, legend) in enumerate(panel.queries)
                ],
            }
        )
        x, row = x + panel.width, max(row, panel.height)
    return placed


def render() -> str:
    """Return the dashboard as JSON text."""
    dashboard = {
        "uid": "stationkeeper-loop",
        "title": "Stationkeeper: the loop",
        "description": "Written by scripts/dashboard.py from contracts/metrics.py; change it there.",
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "tags": ["stationkeeper"],
        "templating": {
            "list": [
                {
                    "name": "model",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": "label_values(stationkeeper_model_state, model)",
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "current": {"text": "All", "value": "$__all"},
                }
            ]
        },
        "panels": place(PANELS),
    }
    return json.dumps(dashboard, indent=2) + "\n"


def main(arguments: list[str]) -> int:
    """Write the dashboard, or compare it with the committed one."""
    if "--check" not in arguments:
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        TARGET.write_text(render(), encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == render():
        return 0
    print(f"{TARGET} is not what this script writes", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
