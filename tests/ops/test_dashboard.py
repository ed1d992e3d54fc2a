"""Every panel asks for metrics and labels that exist, in PromQL that Prometheus parses."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from contracts.metrics import BY_NAME

DASHBOARD = json.loads(
    (Path(__file__).resolve().parents[2] / "ops" / "grafana" / "dashboards" / "loop.json").read_text(encoding="utf-8")
)
QUERIES = [(target["expr"], target["legendFormat"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]


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
    assert ("rate(" in expression) == (kinds <= {"counter", "histogram"})


def test_the_model_can_be_chosen_from_a_metric_that_carries_it():
    (variable,) = DASHBOARD["templating"]["list"]
    match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
    assert match is not None
    assert match[2] in BY_NAME[match[1]].labels


def test_panels_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert taken.isdisjoint(cells)
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.prometheus
def test_promtool_parses_every_expression(tool, tmp_path: Path):
    rules = [
        {"record": f"panel:expression:{number}", "expr": expression.replace("$model", ".*")}
        for number, (expression, _) in enumerate(QUERIES)
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    result = subprocess.run(
        [tool("promtool"), "check", "rules", str(path)], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(QUERIES)} rules found" in result.stdout
