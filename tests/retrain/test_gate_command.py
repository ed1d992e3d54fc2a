from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stationkeeper.contracts.messages import GateOutcome
from stationkeeper.registry import ArtifactError, Registry, RegistrySettings
from stationkeeper.retrain.bootstrap import bootstrap, training_rows
from stationkeeper.retrain.gate_command import gate_version
from stationkeeper.retrain.settings import RetrainSettings, SnapshotSettings
from stationkeeper.retrain.snapshot.snapshot import SnapshotError, SnapshotStore
from tests.retrain.bank import HOUR, ONSET, START, Bank, reference_builder, transactions


@dataclass(frozen=True)
class Section:
    retrain: RetrainSettings | None


@dataclass(frozen=True)
class Config:
    registry: RegistrySettings
    snapshots: SnapshotSettings
    models: Mapping[str, Section] = field(default_factory=dict)


@pytest.fixture
def config(bank: Bank) -> Config:
    snapshots = SnapshotSettings(directory=bank.snapshots.directory)
    return Config(bank.registry.settings, snapshots, {"bank": Section(bank.settings)})


def test_a_version_is_judged_on_rows_neither_has_learnt_from(bank: Bank, config: Config, tmp_path: Path):
    new = transactions(6_000, ONSET, ONSET + 10 * HOUR, seed=21, shifted=True).drop("event_id")
    challenger = bootstrap(
        "bank",
        training_rows(new[:3_000]),
        bank.settings,
        registry=bank.registry,
        snapshots=bank.snapshots,
        build_reference=reference_builder,
        work_dir=tmp_path,
        alias="challenger",
    )
    later = bank.snapshots.write(training_rows(new), {"model": "bank"})
    found = gate_version(config, "bank", challenger.version, "champion", later.digest)
    assert found.verdict.outcome is GateOutcome.PASS
    assert found.exit_code == 0
    assert found.rows == 3_000
    assert found.champion == bank.champion.version
    assert found.text().startswith(f"PASS: bank {challenger.version} against {bank.champion.version} on 3000")
    worse = gate_version(config, "bank", bank.champion.version, challenger.version, later.digest)
    assert (worse.verdict.outcome, worse.exit_code) == (GateOutcome.FAIL, 1)
    own = gate_version(config, "bank", challenger.version, challenger.version, challenger.snapshot)
    assert (own.verdict.outcome, own.exit_code) == (GateOutcome.NO_EVIDENCE, 3)
    assert own.to_json()["outcome"] == "no_evidence"


def test_what_is_missing_is_named(bank: Bank, config: Config):
    with pytest.raises(SnapshotError, match="no snapshot cafe"):
        gate_version(config, "bank", bank.champion.version, "champion", "cafe")
    with pytest.raises(ArtifactError, match="version 404 of bank"):
        gate_version(config, "bank", "404", "champion", bank.champion.snapshot)
    empty = Config(config.registry, SnapshotSettings(directory=Path("/nonexistent")))
    with pytest.raises(SnapshotError, match="none is stored"):
        gate_version(empty, "bank", "1", "champion", "cafe")
    assert isinstance(bank.registry, Registry)
    assert isinstance(bank.snapshots, SnapshotStore)
    assert START < ONSET
