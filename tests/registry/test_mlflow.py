import shutil
from pathlib import Path

import pytest

from stationkeeper.registry.artifact import CARD_FILE, CHAMPION_ALIAS, MODEL_FILE
from stationkeeper.registry.mlflow import Registration, Registry, RegistryError
from stationkeeper.registry.settings import RegistrySettings
from stationkeeper.streams.errors import Retryable
from tests.retrain.bank import Bank


@pytest.fixture
def artifact(bank: Bank, tmp_path: Path) -> Path:
    bank.registry.fetch("bank", bank.champion.version, tmp_path / "artifact")
    return tmp_path / "artifact"


def registration(artifact: Path, request: str = "req-r", model: str = "registry-test") -> Registration:
    return Registration(
        model,
        artifact,
        params={"p": "1"},
        metrics={"m": 1.5},
        tags={"incident": "inc-9", "empty": "", "long": "x" * 9_000},
        files=(artifact / CARD_FILE, artifact / "absent"),
        request=request,
    )


def test_the_first_champion_is_registered_with_its_facts(bank: Bank):
    assert bank.registry.champion("bank") == bank.champion.version
    tags = bank.registry.tags("bank", bank.champion.version)
    assert tags["snapshot"] == bank.champion.snapshot
    assert tags["cause"] == "first champion"
    assert len(tags["code"]) == 64
    run = bank.registry._connect("look").get_run(bank.champion.run_id)
    assert run.data.params["trainer"] == "logistic-regression"
    assert run.data.metrics["held_out.precision"] > 0
    assert run.info.status == "FINISHED"
    assert bank.champion.result.rows == 8_000


def test_what_is_registered_comes_back_and_any_tool_can_load_it(bank: Bank, artifact: Path, tmp_path: Path):
    made = bank.registry.register(registration(artifact))
    card = bank.registry.fetch("registry-test", made.version, tmp_path / "back")
    assert (tmp_path / "back" / MODEL_FILE).read_bytes() == (artifact / MODEL_FILE).read_bytes()
    assert card.encode() == (artifact / CARD_FILE).read_bytes()
    assert bank.registry.tags("registry-test", made.version)["incident"] == "inc-9"
    assert bank.registry.alias("registry-test", "challenger") == made.version
    from mlflow.models import Model

    found = Model.load(made.artifact)
    assert "onnx" in found.flavors
    assert found.get_input_schema().input_names() == list(card.names)


def test_orphans_of_a_request_are_removed_and_others_stay(bank: Bank, artifact: Path):
    first = bank.registry.register(registration(artifact, "req-a"))
    second = bank.registry.register(registration(artifact, "req-a"))
    other = bank.registry.register(registration(artifact, "req-b"))
    assert bank.registry.remove_orphans("registry-test", "req-a", keep=second.version) == [first.version]
    assert bank.registry.remove_orphans("registry-test", "req-a", keep=second.version) == []
    client = bank.registry._connect("look")
    left = {v.version for v in client.search_model_versions("name = 'registry-test'")}
    assert {second.version, other.version} <= {str(version) for version in left}
    assert client.get_run(first.run_id).info.lifecycle_stage == "deleted"
    assert client.get_run(second.run_id).info.lifecycle_stage == "active"


def test_a_version_that_lost_its_bytes_is_refused(bank: Bank, artifact: Path, tmp_path: Path):
    made = bank.registry.register(registration(artifact, "req-c"))
    Path(made.artifact, MODEL_FILE).write_bytes(b"other")
    with pytest.raises(RegistryError, match="is damaged"):
        bank.registry.fetch("registry-test", made.version, tmp_path / "damaged")
    shutil.rmtree(made.artifact)
    with pytest.raises((RegistryError, Retryable), match=r"could not fetch|has no"):
        bank.registry.fetch("registry-test", made.version, tmp_path / "gone")


def test_what_does_not_exist_is_said(bank: Bank, tmp_path: Path):
    assert bank.registry.champion("nobody") is None
    with pytest.raises(RegistryError, match="version 9 of nobody"):
        bank.registry.fetch("nobody", "9", tmp_path / "x")
    with pytest.raises(RegistryError, match="could not read version 99"):
        bank.registry.tags("bank", "99")


def test_an_unreachable_server_is_retryable_and_named_without_its_password(free_port: int):
    away = Registry(RegistrySettings(tracking_uri=f"http://ada:secret@127.0.0.1:{free_port}", timeout=1_000, retries=0))
    with pytest.raises(Retryable, match=f"could not reach the registry at http://127.0.0.1:{free_port}") as caught:
        away.ping()
    assert "ada:secret" not in str(caught.value).split(": ", 1)[0]


def test_the_champion_alias_moves(bank: Bank, artifact: Path):
    made = bank.registry.register(registration(artifact, "req-d", model="alias-test"))
    assert bank.registry.champion("alias-test") is None
    bank.registry.set_alias("alias-test", CHAMPION_ALIAS, made.version)
    assert bank.registry.champion("alias-test") == made.version
