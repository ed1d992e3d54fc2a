"""Where the page of a role finds the other roles."""

from pathlib import Path

import pytest
import structlog.testing

from stationkeeper.config import Config, ConfigError, load
from stationkeeper.contracts.status import Conservation, FleetStatus
from stationkeeper.page.fleet_status import empty_fleet, merge
from stationkeeper.process.children import children
from stationkeeper.process.wiring import peer_addresses

ROOT = Path(__file__).resolve().parents[2]
MODEL = {"predictions": "scores", "labels": "outcomes"}


def test_by_default_the_others_are_on_this_machine() -> None:
    config = Config.parse({"models": {"fraud": {**MODEL, "retrain": {}}}})
    assert peer_addresses(config, "monitor") == {"retrain": "http://127.0.0.1:9102", "deploy": "http://127.0.0.1:9103"}
    everywhere = Config.parse({"http": {"host": "0.0.0.0", "unprotected": True}, "models": {"fraud": MODEL}})
    assert peer_addresses(everywhere, "deploy") == {"monitor": "http://127.0.0.1:9101"}


def test_a_role_on_a_port_of_the_systems_choice_is_not_looked_for() -> None:
    config = Config.parse({"http": {"monitor": 0}, "models": {"fraud": MODEL}})
    assert "monitor" not in peer_addresses(config, "deploy")


def test_in_the_stack_they_have_the_names_of_the_services() -> None:
    config = load(ROOT / "ops" / "stationkeeper.yaml", {})
    assert peer_addresses(config, "retrain") == {"monitor": "http://monitor:9101", "deploy": "http://deploy:9103"}


def test_an_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"http\.peers\.deploy"):
        Config.parse({"http": {"peers": {"deploy": "deploy:9103"}}})


def test_several_monitors_listen_apart_and_know_each_other() -> None:
    config = Config.parse({"models": {"fraud": {**MODEL, "retrain": {}}}})
    by_name = {child.name: child.environment for child in children(config, Path("c.yaml"), 3)}
    assert list(by_name) == ["monitor-0", "monitor-1", "monitor-2", "deploy", "serve", "retrain"]
    assert [by_name[f"monitor-{i}"]["STATIONKEEPER__HTTP__MONITOR"] for i in range(3)] == ["9101", "9111", "9121"]
    seen = load(None, by_name["monitor-1"])
    assert (seen.kafka.instance, seen.http.monitor) == (f"{config.kafka.replica}-1", 9111)
    assert peer_addresses(seen, "monitor") == {
        "monitor-0": "http://127.0.0.1:9101",
        "monitor-2": "http://127.0.0.1:9121",
        "retrain": "http://127.0.0.1:9102",
        "deploy": "http://127.0.0.1:9103",
    }
    assert set(peer_addresses(load(None, by_name["deploy"]), "deploy")) == {
        *("monitor-0", "monitor-1", "monitor-2"),
        "retrain",
    }


def test_one_monitor_is_found_as_before_and_a_port_twice_is_refused() -> None:
    config = Config.parse({"models": {"fraud": MODEL}})
    (monitor, *_) = children(config, None, 1)
    assert "STATIONKEEPER__HTTP__PEERS" not in monitor.environment
    clash = Config.parse({"http": {"monitor": 9101, "deploy": 9111}, "models": {"fraud": MODEL}})
    with pytest.raises(ConfigError, match="monitor-1 at 9111"):
        children(clash, None, 2)


def test_pages_of_two_monitors_show_every_partition_once_as_its_owner_counts_it() -> None:
    def fleet(*counts: tuple[int, int]) -> FleetStatus:
        made = empty_fleet(0)
        made["conservation"] = [
            Conservation(topic="s", partition=p, received=n, tallied=n, late=0, duplicate=0, rejected=0, dropped=0)
            for p, n in counts
        ]
        return made

    merged = merge([fleet((0, 5), (1, 7)), fleet((1, 9), (2, 4))], 0)
    assert [(c["partition"], c["received"]) for c in merged["conservation"]] == [(0, 5), (1, 9), (2, 4)]


@pytest.mark.parametrize(
    ("more", "serves"),
    [
        ({}, False),
        ({"serve": {}}, True),
        ({"targets": [{"kind": "http", "url": "http://models:9000"}]}, False),
        ({"targets": [{"kind": "router"}]}, True),
        ({"targets": [{"kind": "router", "url": "http://127.0.0.1:8080/"}]}, True),
        ({"targets": [{"kind": "router", "url": "http://elsewhere:8080"}]}, False),
        ({"models": {"fraud": {**MODEL, "retrain": {}}}}, True),
        ({"models": {"fraud": {**MODEL, "retrain": {}}}, "targets": []}, False),
    ],
)
def test_up_starts_a_router_only_where_one_is_asked_for_and_says_why(more: dict[str, object], serves: bool) -> None:
    config = Config.parse({"models": {"fraud": MODEL}, **more})
    with structlog.testing.capture_logs() as logs:
        started = {child.name: child.why for child in children(config, None, 1)}
    left_out = {line["role"]: line["why"] for line in logs if line["event"] == "role_left_out"}
    assert ("serve" in started, "serve" in left_out) == (serves, not serves)
    assert all(started.values())
    assert all(left_out.values())
