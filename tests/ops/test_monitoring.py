"""Prometheus, Alertmanager and Grafana accept their files, by their own checkers where there is one."""

import subprocess
from pathlib import Path

import pytest
import yaml

OPS = Path(__file__).resolve().parents[2] / "ops"


@pytest.mark.prometheus
def test_promtool_accepts_the_configuration(tool):
    result = subprocess.run(
        [tool("promtool"), "check", "config", str(OPS / "prometheus" / "prometheus.yml")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.prometheus
def test_amtool_accepts_the_configuration(tool):
    result = subprocess.run(
        [tool("amtool"), "check-config", str(OPS / "alertmanager" / "alertmanager.yml")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


EXAMPLE = OPS / "examples" / "alertmanager" / "pagerduty-slack.yml"


@pytest.mark.prometheus
def test_amtool_accepts_the_example_with_receivers(tool):
    done = subprocess.run([tool("amtool"), "check-config", str(EXAMPLE)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_with_receivers_differs_in_them_alone_and_holds_no_secret():
    base = yaml.safe_load((OPS / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8"))
    example = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    assert [one["name"] for one in example.pop("receivers")] == [one["name"] for one in base.pop("receivers")]
    assert example == base
    assert "routing_key:" not in EXAMPLE.read_text(encoding="utf-8")
    assert "api_url:" not in EXAMPLE.read_text(encoding="utf-8")


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("severity", "receiver"), [("page", "page"), ("warn", "warn"), ("info", "nobody")], ids=["page", "warn", "rest"]
)
def test_alerts_reach_the_receiver_of_their_severity(tool, severity: str, receiver: str):
    result = subprocess.run(
        [
            tool("amtool"),
            "config",
            "routes",
            "test",
            f"--config.file={OPS / 'alertmanager' / 'alertmanager.yml'}",
            f"--verify.receivers={receiver}",
            f"severity={severity}",
            "alertname=Example",
            "model=fraud",
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_prometheus_sends_alerts_to_the_alertmanager_of_the_stack():
    configuration = yaml.safe_load((OPS / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (manager,) = configuration["alerting"]["alertmanagers"]
    assert manager["static_configs"] == [{"targets": ["alertmanager:9093"]}]


def test_grafana_finds_its_source_and_its_dashboards():
    provisioning = OPS / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "stationkeeper.yml").read_text(encoding="utf-8"))[
        "providers"
    ]
    compose = yaml.safe_load((OPS.parent / "docker-compose.yml").read_text(encoding="utf-8"))
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    assert mounts["./ops/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./ops/grafana/provisioning"] == "/etc/grafana/provisioning"
