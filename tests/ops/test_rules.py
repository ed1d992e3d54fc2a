"""Alert rules name what exists, lead to a runbook, and fire and keep silent as promtool's tests say."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stationkeeper.contracts.metrics import BY_NAME

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "ops" / "prometheus" / "rules" / "stationkeeper.yml"
RECORDING = FILE.with_name("recording.yml")
TESTS = Path(__file__).with_name("rules.test.yml")
ALERTS: dict[str, Any] = {
    rule["alert"]: rule
    for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
RECORDED: dict[str, str] = {
    rule["record"]: rule["expr"]
    for file in (FILE, RECORDING)
    for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "record" in rule
}
RUNBOOK = [
    "What it means",
    "First command",
    "Which cause",
    "What to do",
    "If nothing is done",
    "When to silence it",
]
# A command and what it printed.
TYPED = re.compile(r"^```console\n\$ (.+)\n((?:.+\n)+)```$", re.MULTILINE)
NAME = re.compile(r"(?<![\w:])stationkeeper_[a-z0-9_]+")


def metrics_of(expression: str) -> set[str]:
    """The exported metrics under an expression, through the recorded rules it names."""
    found = set(NAME.findall(expression))
    for record in re.findall(r"\w+:stationkeeper_\w+:\w+", expression):
        found |= metrics_of(RECORDED[record])
    return found


@pytest.mark.prometheus
def test_promtool_finds_nothing_to_complain_about(tool):
    result = subprocess.run(
        [tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(FILE), str(RECORDING)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.prometheus
def test_alerts_fire_and_keep_silent(tool):
    result = subprocess.run(
        [tool("promtool"), "test", "rules", str(TESTS)], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_is_seen_firing_and_silent():
    tests = yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)
    # The heartbeat is never silent.
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(ALERTS) - {"StationkeeperHeartbeat"}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_names_metrics_and_labels_that_exist(name: str):
    expression = ALERTS[name]["expr"]
    metrics = metrics_of(expression)
    labels = {"job", "instance", "process"}.union(*(BY_NAME[metric].labels for metric in metrics))
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
    matched = set(re.findall(r"[{,](\w+)=", expression))
    shown = set(re.findall(r"\$labels\.(\w+)", " ".join(ALERTS[name]["annotations"].values())))
    assert grouped | matched <= labels
    assert metrics <= set(BY_NAME)
    assert shown <= (grouped or labels)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_rule_is_named_by_its_level_and_reads_metrics_that_exist(name: str):
    level = name.split(":", maxsplit=1)[0]
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", RECORDED[name]) for label in group.split(",")}
    assert grouped == set(level.split("_"))
    metrics = metrics_of(RECORDED[name])
    assert metrics
    assert all(grouped <= set(BY_NAME[metric].labels) for metric in metrics)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_severity_and_a_runbook(name: str):
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"page", "warn", "none"}
    assert {"summary", "description", "runbook_url"} <= alert["annotations"].keys()
    base = "{{ with $externalLabels.runbooks_base }}{{ . }}{{ else }}{{ $externalURL }}/consoles{{ end }}"
    assert alert["annotations"]["runbook_url"] == f"{base}/{name}.md"
    by_model = "$labels.model" in alert["annotations"]["summary"]
    assert ("page_url" in alert["annotations"]) is by_model, "what is about a model leads to its page"
    text = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text(encoding="utf-8")
    assert re.findall(r"^#+ (.+)$", text, re.MULTILINE) == [name, *RUNBOOK]
    sections = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
    assert all(len(section.split()) > 0 for section in sections)


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_begins_with_one_sentence_and_one_command_and_tells_causes_apart(name: str):
    text = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text(encoding="utf-8")
    section = dict(re.findall(r"^## ([^\n]+)\n\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert section["What it means"].strip().endswith(".")
    assert len(re.findall(r"\.(?:\s|$)", section["What it means"])) == 1
    # tests/docs/test_commands.py parses each command of a console block with the real command line.
    ((command, printed),) = TYPED.findall(section["First command"])
    assert not command.isspace()
    assert printed.strip()
    rows = [line for line in section["Which cause"].splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 3
    assert all(len(cell.strip()) > 1 for row in rows for cell in re.split(r"(?<!\\)\|", row)[1:-1])


def test_every_runbook_has_its_alert_and_is_in_the_index():
    pages = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert pages == set(ALERTS)
    index = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(runbooks/(\w+)\.md\) \| (?:page|warn|none) \| \S", index)) == set(ALERTS)


def test_only_an_incident_or_nobody_to_find_one_pages():
    assert {name for name, alert in ALERTS.items() if alert["labels"]["severity"] == "page"} == {
        "StationkeeperAbsent",
        "StationkeeperIncident",
        "StationkeeperInputStopped",
        "StationkeeperModelRefused",
    }


def test_no_inhibition_reaches_another_installation_role_or_model():
    manager = yaml.safe_load((ROOT / "ops" / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8"))
    assert all(rule.get("equal") for rule in manager["inhibit_rules"])


def test_inhibition_names_alerts_that_exist():
    manager = yaml.safe_load((ROOT / "ops" / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8"))
    named = {
        alert
        for rule in manager["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
        for alert in matcher.split('"')[1].split("|")
    }
    assert named <= set(ALERTS)
