"""Where the page of a role finds the other roles."""

from pathlib import Path

import pytest

from stationkeeper.config import Config, ConfigError, load
from stationkeeper.wiring import peer_addresses

ROOT = Path(__file__).resolve().parents[2]
MODEL = {"predictions": "scores", "labels": "outcomes"}


def test_by_default_the_others_are_on_this_machine() -> None:
    config = Config.parse({"models": {"fraud": {**MODEL, "retrain": {}}}})
    assert peer_addresses(config, "monitor") == {"retrain": "http://127.0.0.1:9102", "deploy": "http://127.0.0.1:9103"}
    everywhere = Config.parse({"http": {"host": "0.0.0.0"}, "models": {"fraud": MODEL}})
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
