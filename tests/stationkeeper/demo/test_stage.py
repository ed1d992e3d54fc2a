"""Where a story can be told on roles that run already, and what is said where it cannot."""

from pathlib import Path

import pytest
import yaml

from stationkeeper.config import load
from stationkeeper.demo.card_fraud import FraudScenario
from stationkeeper.demo.stage import Addresses, StageError, existing_config

ROOT = Path(__file__).resolve().parents[3]


def written(tmp_path, **changes):
    model = {"predictions": "fraud.predictions", "labels": "fraud.labels", "retrain": {}}
    settings = {"clock": "stream", "kafka": {"bootstrap": "broker:9092"}, "models": {"fraud": model}}
    path = tmp_path / "stationkeeper.yaml"
    path.write_text(yaml.safe_dump(settings | changes))
    return path


def test_the_roles_of_the_compose_file_are_dialled_by_their_names(monkeypatch):
    monkeypatch.setenv("STATIONKEEPER__CLOCK", "stream")
    config = existing_config(ROOT / "ops" / "stationkeeper.yaml", FraudScenario())
    assert Addresses.of(config) == Addresses(
        "http://serve:8080", "http://monitor:9101", "http://retrain:9102", "http://deploy:9103"
    )


def test_roles_of_this_machine_are_dialled_at_their_ports(tmp_path):
    changes = {"http": {"monitor": 1, "retrain": 2, "deploy": 3}, "serve": {"port": 4}}
    config = existing_config(written(tmp_path, **changes), FraudScenario())
    assert Addresses.of(config) == Addresses(*(f"http://127.0.0.1:{port}" for port in (4, 1, 2, 3)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clock": "wall"}, "every role must run with clock: stream"),
        ({"models": {"loans": {"predictions": "loans"}}}, "has no model 'fraud' \\(it has: loans\\)"),
        ({"http": {"callers": {"ops": {"env": "TOKEN"}}}}, "http.callers: the demo shows no token"),
    ],
)
def test_what_the_story_cannot_be_told_on_is_refused_with_the_way_out(tmp_path, monkeypatch, changes, said):
    monkeypatch.setenv("TOKEN", "a-token-of-sixteen-and-more")
    with pytest.raises(StageError, match=said):
        existing_config(written(tmp_path, **changes), FraudScenario())


def test_a_configuration_without_our_router_is_refused(tmp_path):
    path = written(tmp_path, targets=[{"kind": "http", "url": "http://own:1"}])
    with pytest.raises(StageError, match="names no router"):
        Addresses.of(load(path, {}))
