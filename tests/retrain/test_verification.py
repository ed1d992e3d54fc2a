"""A registered version is trained again from its run's job and its snapshot; what cannot be is said by name."""

import json
from pathlib import Path

import numpy as np
import pytest

from stationkeeper.registry import ArtifactError
from stationkeeper.retrain.bootstrap import training_rows
from stationkeeper.retrain.snapshot import SnapshotError, SnapshotStore
from stationkeeper.retrain.snapshot.files import TOMBSTONE
from stationkeeper.retrain.training.job import JOB_FILE
from stationkeeper.retrain.verification import ALIKE, Retrained, distance, train_again
from tests.retrain.bank import HOUR, START, Bank, transactions


def test_a_version_trained_again_is_the_same_bytes_and_nothing_is_registered(bank: Bank):
    before = bank.registry.snapshots()
    found = train_again(bank.registry, bank.snapshots, model="bank", version=bank.champion.version)
    assert (found.same, found.alike, found.furthest, found.exit_code) == (True, True, 0.0, 0)
    assert found.differences == ()
    assert found.text().startswith(f"SAME: model.onnx has the same SHA-256: version {bank.champion.version} of bank")
    assert found.to_json()["snapshot"] == bank.champion.snapshot
    assert bank.registry.snapshots() == before


def test_another_recipe_than_the_run_names_is_another_model(bank: Bank, tmp_path: Path):
    rows = transactions(2_000, START - 50 * HOUR, START - 40 * HOUR, seed=31, shifted=False).drop("event_id")
    other = bank.challenger(training_rows(rows), tmp_path)
    # What a run tells was changed behind our back, as by a person in MLflow's page.
    client = bank.registry._connection.client("forge a job")
    forged = bank.registry.source("bank", other.version, tmp_path / "job", JOB_FILE)
    job = json.loads(forged.read_text())
    forged.write_text(json.dumps(job | {"exclude": ["foreign"]}))
    client.log_artifact(other.run_id, str(forged))
    found = train_again(bank.registry, bank.snapshots, model="bank", version=other.version)
    assert (found.alike, found.exit_code) == (False, 1)
    assert "features: 4 when it was registered, 3 now" in found.differences
    assert found.text().startswith("OTHER")


def test_what_cannot_be_trained_again_says_why(bank: Bank, tmp_path: Path):
    version = bank.champion.version
    with pytest.raises(ArtifactError, match="404"):
        train_again(bank.registry, bank.snapshots, model="bank", version="404")
    with pytest.raises(SnapshotError, match="run this where the role retrain runs"):
        train_again(bank.registry, SnapshotStore(tmp_path), model="bank", version=version)
    client = bank.registry._connection.client("register by hand")
    uri = client.get_model_version_download_uri("bank", version)
    by_hand = str(client.create_model_version("bank", source=uri).version)
    with pytest.raises(ArtifactError, match=r"has no job\.json: it was not trained by this role"):
        train_again(bank.registry, bank.snapshots, model="bank", version=by_hand)
    client.delete_model_version("bank", by_hand)
    rest = SnapshotStore(tmp_path / "erased")
    kept = rest.write(bank.snapshots.read(bank.champion.snapshot)[:100], {"model": "bank"})
    rest.bury(bank.champion.snapshot, json.dumps({"schema": TOMBSTONE, "became": kept.digest}))
    with pytest.raises(SnapshotError, match="somebody was erased"):
        train_again(bank.registry, rest, model="bank", version=version)


def test_other_bytes_that_answer_alike_are_the_same_model():
    found = Retrained("bank", "3", "ab" * 32, 100, 7, same=False, furthest=ALIKE / 2, differences=("packages x",))
    assert (found.alike, found.exit_code) == (True, 0)
    assert found.text().splitlines()[1] == "  packages x"
    assert not Retrained("bank", "3", "ab" * 32, 100, 7, same=False, furthest=float("nan"), differences=()).alike


@pytest.mark.parametrize("level", [0.5, 120.0, 25_000.0, 3e6, -3e6])
def test_amounts_that_differ_by_the_last_digit_of_a_float32_are_alike(level: float):
    old = np.array([level, 0.25])
    step = float(np.spacing(np.float32(abs(level))))
    assert distance(old, old + np.array([step, 0.0])) <= ALIKE < distance(old, old * 1.001)
    # A score of another split is another one, whatever large amounts stand beside it.
    assert distance(old, old + np.array([0.0, 0.001])) == pytest.approx(0.001)
    assert np.isnan(distance(old, np.array([level, np.nan])))
