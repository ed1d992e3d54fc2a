from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stationkeeper.contracts.messages import GateOutcome
from stationkeeper.registry import AdoptionRules, ArtifactError, Registry, look_at
from stationkeeper.registry.mlflow import _experiment
from stationkeeper.retrain import gate_command
from stationkeeper.retrain.bootstrap import training_rows
from stationkeeper.retrain.core.gate import GateRules, GateVerdict
from stationkeeper.retrain.core.split import split_rows
from stationkeeper.retrain.core.verdict import Compared
from stationkeeper.retrain.gate_command import GateReport, _held_out, _learnt_until, gate_version
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot.events import LABEL, TIME
from stationkeeper.retrain.snapshot.files import SnapshotError
from stationkeeper.retrain.snapshot.snapshot import SnapshotStore
from tests.retrain.bank import HOUR, ONSET, Bank, transactions


def judge(
    bank: Bank,
    candidate: str,
    champion: str,
    snapshot: str,
    store: SnapshotStore | None = None,
    *,
    model: str = "bank",
    learnt_until: int | None = None,
) -> GateReport:
    return gate_version(
        bank.registry,
        store or bank.snapshots,
        bank.settings,
        model=model,
        candidate=candidate,
        champion=champion,
        snapshot=snapshot,
        learnt_until=learnt_until,
    )


def test_labels_that_a_decision_kept_away_are_weighed_and_told(bank: Bank):
    rows = training_rows(transactions(3_000, ONSET, ONSET + 10 * HOUR, seed=22, shifted=True).drop("event_id"))
    block = np.where((rows["amount"] > 4.0).to_numpy(), 0.8, 0.0)
    blocked = np.random.default_rng(2).random(len(rows)) < block
    acted = rows.with_columns(
        pl.Series("@action", np.where(blocked, "block", "approve")),
        pl.Series("@assignment_prob", np.where(blocked, block, 1.0 - block)),
        pl.when(pl.Series(blocked)).then(None).otherwise(pl.col(LABEL)).alias(LABEL),
    )
    facts = {"model": "bank", "as_of": int(rows[TIME].max()), "maturity": 0}  # type: ignore[arg-type]
    made = bank.snapshots.write(acted, facts)
    found = judge(bank, bank.champion.version, "champion", made.digest).verdict
    selection = found.numbers["selection"]
    assert (selection["shut"][0]["rows"], selection["weighted"]) == (int(blocked.sum()), int((~blocked).sum()))
    assert (selection["flipped"], selection["unseen"]) == (0, 0)
    assert "rows of 'block'" in found.reason
    assert found.numbers["champion_overall"]["rows"] == int((~blocked).sum())


def test_a_version_is_judged_on_rows_neither_has_learnt_from(bank: Bank, tmp_path: Path):
    new = transactions(6_000, ONSET, ONSET + 10 * HOUR, seed=21, shifted=True).drop("event_id")
    challenger = bank.challenger(training_rows(new[:3_000]), tmp_path)
    later = bank.snapshots.write(training_rows(new), {"model": "bank"})
    found = judge(bank, challenger.version, "champion", later.digest)
    assert found.verdict.outcome is GateOutcome.PASS
    assert found.exit_code == 0
    assert found.rows == 3_000
    assert found.champion == bank.champion.version
    assert found.text().startswith(f"PASS: bank {challenger.version} against {bank.champion.version} on 3000")
    assert found.shadow is not None
    assert f"\nshadow: it changes {found.shadow.flipped} of 6000 logged rows since" in found.text()
    assert found.to_json()["shadow"]["rows"] == 6_000
    assert found.shadow.labelled > 0
    worse = judge(bank, bank.champion.version, challenger.version, later.digest)
    assert (worse.verdict.outcome, worse.exit_code) == (GateOutcome.FAIL, 1)
    own = judge(bank, challenger.version, challenger.version, challenger.snapshot)
    assert (own.verdict.outcome, own.exit_code) == (GateOutcome.NO_EVIDENCE, 3)
    assert own.to_json()["outcome"] == "no_evidence"


@pytest.mark.parametrize(("tag", "shares"), [("0.05 0.2", (0.05, 0.2)), ("", (0.3, 0.2))])
def test_held_out_is_what_its_own_training_held_out(tag: str, shares: tuple[float, float]):
    # Of nine weeks' rows a training holds out the share of what its look asked for, which no setting says.
    assert _held_out({"held_out": tag}, RetrainSettings()) == shares


@pytest.mark.parametrize("champion", [9_500, 4_000, 9_900, None])
def test_a_candidate_is_never_judged_on_rows_that_it_learnt_whichever_champion_is_named(champion: int | None):
    times = np.arange(20_000, dtype=np.int64)
    # Its own champion learnt until 9 500: rows from there to the change are its guard, all older ones it was taught.
    trained = split_rows(times, 10_000, 0.3, 0.2, learnt_until=9_500)
    named: Any = None if champion is None else SimpleNamespace(manifest={"last_labelled": champion})
    until = _learnt_until({"champion_until": "9500"}, named)
    judged = split_rows(times, 10_000, 0.3, 0.2, learnt_until=until).judged
    assert not (judged & trained.learn).any()
    assert judged.sum() == trained.holdout.sum() + 9_999 - max(9_500, champion or 0)


def test_of_a_version_of_an_older_build_the_named_champion_alone_is_known():
    named: Any = SimpleNamespace(manifest={"last_labelled": 4_000})
    assert _learnt_until({}, named) == 4_000
    assert _learnt_until({"champion_until": ""}, None) is None


@pytest.mark.parametrize(("cause", "looks"), [("ageing", 5), ("more_rows", 1), ("input_drift", 5)])
def test_it_is_judged_by_the_rules_of_the_request_that_it_was_made_for(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, cause: str, looks: int
):
    monkeypatch.setattr(Registry, "tags", lambda *_: {"cause": cause, "looks": "1" if looks == 1 else ""})
    rules: list[GateRules] = []

    def keep(compared: Compared, asked: GateRules, *_: Any) -> GateVerdict:
        rules.append(asked)
        return GateVerdict(GateOutcome.NO_EVIDENCE, "kept")

    monkeypatch.setattr(gate_command, "judge", keep)
    judge(bank, bank.champion.version, "champion", bank.champion.snapshot)
    assert (rules[0].aged, rules[0].looks) == (cause == "ageing", looks)


def test_a_version_that_may_have_learnt_the_rows_proves_nothing_until_somebody_says(bank: Bank, tmp_path: Path):
    new = training_rows(transactions(6_000, ONSET, ONSET + 10 * HOUR, seed=24, shifted=True).drop("event_id"))
    elsewhere = SnapshotStore(tmp_path / "another-machine")
    challenger = bank.challenger(new[:3_000], tmp_path, snapshots=elsewhere)
    later = bank.snapshots.write(new, {"model": "bank"})
    found = judge(bank, challenger.version, "champion", later.digest)
    assert (found.verdict.outcome, found.exit_code, found.rows) == (GateOutcome.NO_EVIDENCE, 3, 0)
    assert "--learnt-until" in found.verdict.reason
    told = judge(bank, challenger.version, "champion", later.digest, learnt_until=ONSET + 5 * HOUR)
    assert told.verdict.outcome is GateOutcome.PASS
    assert 0 < told.rows < 6_000


@pytest.mark.filterwarnings("ignore")  # what MLflow says while somebody's own model is logged is not ours to mend
def test_a_champion_of_another_mlflow_flavour_is_compared_with(bank: Bank):
    new = transactions(2_000, ONSET, ONSET + 4 * HOUR, seed=22, shifted=False).drop("event_id")
    later = bank.snapshots.write(training_rows(new), {"model": "bank"})
    version = log_coin(bank, new.drop("time", "label").to_pandas())
    look_at(bank.registry, "bank", version, AdoptionRules("true", allow_pickle=True))
    found = judge(bank, bank.champion.version, version, later.digest)
    assert (found.verdict.outcome, found.champion) == (GateOutcome.PASS, version)
    assert found.shadow is not None
    # Nobody knows what it learnt from, so no label says that it was right, or wrong.
    assert (found.shadow.labelled, found.shadow.champion_right) == (0, 0)


@pytest.mark.filterwarnings("ignore")  # as above
def test_versions_of_several_classes_are_compared(bank: Bank):
    rows = transactions(3_000, ONSET, ONSET + 4 * HOUR, seed=23, shifted=False).drop("event_id", "method", "foreign")
    rows = rows.with_columns(pl.col("age").fill_null(0.0))
    kinds = np.array(["low", "middle", "high"])[np.digitize(rows["amount"], [2.8, 3.3])]
    table = rows.with_columns(pl.Series("label", kinds))
    later = bank.snapshots.write(training_rows(table), {"model": "kinds"})
    frame = table.drop("time", "label").to_pandas()
    blind = log_classes(bank, frame, LogisticRegression().fit(frame[["amount", "age"]] * [0, 1], kinds))
    sound = log_classes(bank, frame, make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, kinds))
    for version in (blind, sound):
        look_at(bank.registry, "kinds", version, AdoptionRules("true", allow_pickle=True))
    # Neither says what it was trained on: that it was trained before these rows is what a person says.
    found = judge(bank, sound, blind, later.digest, model="kinds", learnt_until=ONSET - HOUR)
    assert (found.verdict.outcome, found.rows) == (GateOutcome.PASS, 3_000)
    assert "accuracy" in found.verdict.numbers["champion_after"]
    worse = judge(bank, blind, sound, later.digest, model="kinds", learnt_until=ONSET - HOUR)
    assert worse.verdict.outcome is GateOutcome.FAIL


def log_classes(bank: Bank, frame: Any, fitted: Any) -> str:
    bank.registry.ping()
    import mlflow
    from mlflow.models import infer_signature
    from mlflow.sklearn import log_model

    mlflow.set_tracking_uri(bank.registry.settings.tracking_uri)
    with mlflow.start_run(experiment_id=_experiment(bank.registry._connection.client("log"), bank.registry.settings)):
        made = log_model(
            fitted,
            name="kinds",
            registered_model_name="kinds",
            signature=infer_signature(frame, ["low"]),
            pip_requirements=[],
        )
    return str(made.registered_model_version)


def log_coin(bank: Bank, frame: Any) -> str:
    """Register a model that knows nothing as a version of bank, as people log their own, and return the version."""
    bank.registry.ping()
    import mlflow
    from mlflow.models import infer_signature
    from mlflow.pyfunc import PythonModel, log_model

    class Coin(PythonModel):  # type: ignore[misc] # mlflow gives no types here
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return [0.5] * len(model_input)

    mlflow.set_tracking_uri(bank.registry.settings.tracking_uri)
    with mlflow.start_run(experiment_id=_experiment(bank.registry._connection.client("log"), bank.registry.settings)):
        made = log_model(
            name="coin",
            python_model=Coin(),
            registered_model_name="bank",
            signature=infer_signature(frame, [0.5]),
            pip_requirements=[],
        )
    return str(made.registered_model_version)


def test_what_is_missing_is_named(bank: Bank):
    with pytest.raises(SnapshotError, match="no snapshot cafe"):
        judge(bank, bank.champion.version, "champion", "cafe")
    with pytest.raises(ArtifactError, match="version 404 of bank"):
        judge(bank, "404", "champion", bank.champion.snapshot)
    with pytest.raises(SnapshotError, match="none is stored"):
        judge(bank, "1", "champion", "cafe", SnapshotStore(Path("/nonexistent")))
