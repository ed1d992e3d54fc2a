"""Write the Grafana dashboards of scripts/panels.py; ``--check`` fails when a committed one is not what this writes."""

import json
import sys
from pathlib import Path
from typing import Any

from scripts.panels import DASHBOARDS, STATES, Dashboard, Panel

FOLDER = Path(__file__).resolve().parent.parent / "ops" / "grafana" / "dashboards"
# Grafana's own grid.
COLUMNS = 24
# Chosen in the dashboard, so that it imports into any Grafana whatever its Prometheus is called there.
SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
CHOICE = {"name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1}
# Unknown is grey: neither the colour of good nor of bad.
COLOURS = {0: "#8e8e8e", 1: "green", 2: "orange", 3: "red", 4: "blue"}


def place(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """Return the panels as Grafana's JSON, left to right and row by row."""
    placed: list[dict[str, Any]] = []
    x = y = row = 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > COLUMNS:
            x, y, row = 0, y + row, 0
        placed.append(
            {
                "id": number,
                "type": panel.kind,
                "title": panel.title,
                "description": panel.question,
                "datasource": SOURCE,
                "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
                "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
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


def _defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "custom": {"lineWidth": 2, "fillOpacity": 5}, "noValue": "none"}
    if panel.threshold is not None:
        defaults["custom"]["thresholdsStyle"] = {"mode": "line"}
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": [{"color": "green", "value": None}, {"color": "red", "value": panel.threshold}],
        }
    if panel.states:
        options = {str(value): {"text": text, "color": COLOURS[value]} for value, text in STATES.items()}
        defaults["mappings"] = [{"type": "value", "options": options}]
    return defaults


def render(dashboard: Dashboard) -> str:
    """Return a dashboard as JSON text."""
    others = [other for other in DASHBOARDS if other.name != dashboard.name]
    page = {
        "uid": f"stationkeeper-{dashboard.name}",
        "title": dashboard.title,
        "description": "Written by scripts/dashboard.py from scripts/panels.py; change it there.",
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "tags": ["stationkeeper"],
        "links": [
            {"type": "link", "title": other.title, "url": f"/d/stationkeeper-{other.name}", "includeVars": True}
            for other in others
        ],
        "templating": {
            "list": [
                CHOICE,
                *(
                    {
                        "name": name,
                        "type": "query",
                        "datasource": SOURCE,
                        "query": f"label_values({metric}, {label})",
                        "refresh": 2,
                        "multi": True,
                        "includeAll": True,
                        "current": {"text": "All", "value": "$__all"},
                    }
                    for name, metric, label in dashboard.variables
                ),
            ]
        },
        "panels": place(dashboard.panels),
    }
    return json.dumps(page, indent=2) + "\n"


def main(arguments: list[str]) -> int:
    """Write the dashboards, or compare them with the committed ones; one that no longer exists is stale too."""
    wanted = {FOLDER / f"{dashboard.name}.json": render(dashboard) for dashboard in DASHBOARDS}
    if "--check" not in arguments:
        FOLDER.mkdir(parents=True, exist_ok=True)
        for path, text in wanted.items():
            path.write_text(text, encoding="utf-8")
        return 0
    found = {path: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    stale = sorted(path for path in {*wanted, *found} if wanted.get(path) != found.get(path))
    for path in stale:
        print(f"{path} is not what this script writes", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
