"""Every panel asks for metrics and labels that exist, in PromQL that Prometheus parses."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.panels import STATES
from stationkeeper.contracts.metrics import BY_NAME, STATE_NUMBER

DASHBOARDS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in (Path(__file__).resolve().parents[2] / "ops" / "grafana" / "dashboards").glob("*.json")
}
QUERIES = sorted(
    {
        (target["expr"], target["legendFormat"])
        for dashboard in DASHBOARDS.values()
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
)


def test_the_dashboards_are_the_promised_ones():
    assert set(DASHBOARDS) == {"fleet", "model", "feature", "loop"}
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == 4


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_imports_wherever_a_prometheus_is(name: str):
    dashboard = DASHBOARDS[name]
    (choice,) = (one for one in dashboard["templating"]["list"] if one["type"] == "datasource")
    assert (choice["name"], choice["query"]) == ("DS_PROMETHEUS", "prometheus")
    others = [one for one in dashboard["templating"]["list"] if one is not choice]
    asking = [*others, *dashboard["panels"], *(one for panel in dashboard["panels"] for one in panel["targets"])]
    assert {one["datasource"]["uid"] for one in asking} == {"${DS_PROMETHEUS}"}


def test_every_metric_that_is_exported_is_on_a_dashboard_or_named_here():
    shown = {name for expression, _ in QUERIES for name in metrics_in(expression)}
    # Information that a panel would only repeat, or that tables and alerts read.
    unshown = {
        "stationkeeper_build_info",
        "stationkeeper_input_stopped",
        "stationkeeper_model_refused",
        "stationkeeper_model_served",
        "stationkeeper_stale_after_seconds",
        "stationkeeper_incident_onset_timestamp_seconds",
        "stationkeeper_window_end_timestamp_seconds",
    }
    assert shown | unshown == set(BY_NAME)


def metrics_in(expression: str) -> list[str]:
    return [re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"stationkeeper_[a-z0-9_]+", expression)]


@pytest.mark.parametrize(("expression", "legend"), QUERIES)
def test_metrics_and_labels_exist(expression: str, legend: str):
    names = metrics_in(expression)
    assert names
    labels = set[str]().union(*(BY_NAME[name].labels for name in names)) | {"le"}
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
    assert grouped <= labels
    shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert shown <= (grouped or labels)


@pytest.mark.parametrize(("expression", "legend"), QUERIES)
def test_counters_are_rated_and_gauges_are_not(expression: str, legend: str):
    kinds = {BY_NAME[name].kind for name in metrics_in(expression)}
    assert bool(re.search(r"\b(rate|increase)\(", expression)) == (kinds <= {"counter", "histogram"})


@pytest.mark.parametrize("name", DASHBOARDS)
def test_what_can_be_chosen_comes_from_a_metric_that_carries_it_and_is_used(name: str):
    dashboard = DASHBOARDS[name]
    for variable in (one for one in dashboard["templating"]["list"] if one["type"] == "query"):
        match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
        assert match is not None
        assert match[2] in BY_NAME[match[1]].labels
        assert any(f"${variable['name']}" in t["expr"] for p in dashboard["panels"] for t in p["targets"])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap(name: str):
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert taken.isdisjoint(cells)
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_states_have_the_numbers_of_the_contract():
    assert {state.value: number for state, number in STATE_NUMBER.items()} == {
        ("broken" if words == "broken data" else words): number for number, words in STATES.items()
    }


@pytest.mark.prometheus
def test_promtool_parses_every_expression(tool, tmp_path: Path):
    rules = [
        {"record": f"panel:expression:{number}", "expr": expression.replace("$model", ".*").replace("$subject", ".*")}
        for number, (expression, _) in enumerate(QUERIES)
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    result = subprocess.run(
        [tool("promtool"), "check", "rules", str(path)], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(QUERIES)} rules found" in result.stdout
