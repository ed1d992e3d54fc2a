import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from stationkeeper.contracts.times import to_datetime
from stationkeeper.registry import ModelTask
from stationkeeper.retrain.bootstrap import BootstrapError, bootstrap, training_rows
from stationkeeper.retrain.core.plan import TrainingWindow, WindowKind
from stationkeeper.retrain.core.split import split_rows
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot import TrainingTable
from stationkeeper.retrain.snapshot.events import LABEL, TIME
from stationkeeper.retrain.snapshot.snapshot import SnapshotStore
from stationkeeper.retrain.training.job import (
    HELD_OUT_FILE,
    LOG_FILE,
    TrainingError,
    TrainingJob,
    TrainingResult,
)
from stationkeeper.retrain.training.process import Finished, NoModel, TimedOut, TrainingProcess
from stationkeeper.retrain.training.trainer import TrainingData, load_trainer
from stationkeeper.retrain.training.training import WindowFits, busiest
from tests.retrain.bank import HOUR, ONSET, SMALL, START, Bank, reference_builder, transactions
from tests.waiting import until

TRAIN = "stationkeeper.retrain.training.train"
ONE_WINDOW = (TrainingWindow(WindowKind.ALL),)


class Sleeper:
    """A trainer that never ends."""

    def fit(self, data):
        time.sleep(600)


class Hungry:
    """A trainer that wants more memory than it may have."""

    def fit(self, data):
        return bytearray(40 * 1024**3)


class Mean:
    """A trainer of the one share of positives that it was shown."""

    def fit(self, data):
        share = float(data.labels.mean())
        return SimpleNamespace(score=lambda features: np.full(len(features), share))


class Broken:
    """A trainer with an error of its own."""

    def fit(self, data):
        raise RuntimeError("the trainer's own words")


def job_of(
    tmp_path: Path,
    trainer: str = "logistic-regression",
    rows: pl.DataFrame | None = None,
    parameters: dict[str, object] | None = None,
    **facts,
) -> TrainingJob:
    if rows is None:
        before = transactions(3_000, START, ONSET, seed=3, shifted=False)
        after = transactions(2_000, ONSET, ONSET + 5 * HOUR, seed=4, shifted=True)
        rows = training_rows(pl.concat([before, after]).drop("event_id"))
    snapshot = SnapshotStore(tmp_path / "snapshots").write(rows, {"model": "bank"})
    settings = RetrainSettings.model_validate({**SMALL, "trainer": trainer, "parameters": parameters or {}})
    windows = tuple(TrainingWindow(kind=kind, weight=10.0) for kind in (WindowKind.ALL, WindowKind.SINCE_CHANGE))
    known = {
        "model": "bank",
        "snapshot": snapshot.path,
        "digest": snapshot.digest,
        "windows": windows,
        "onset_ms": ONSET,
    }
    return TrainingJob.of(settings, 1.0, **(known | facts))


def wait(process: TrainingProcess, limit_s: float = 60.0) -> Finished:
    # Any outcome is an object, and true.
    finished = until(process.poll, "the training has ended", limit_s)
    assert finished is not None
    return finished


def test_the_subprocess_trains_alike_twice_and_keeps_its_log(tmp_path: Path):
    job = job_of(tmp_path).model_copy(update={"amount": "amount", "exclude": ("amount",)})
    one = wait(TrainingProcess.start(job, tmp_path / "one", 60))
    two = wait(TrainingProcess.start(job, tmp_path / "two", 60))
    assert isinstance(one, TrainingResult)
    assert isinstance(two, TrainingResult)
    assert one.onnx_sha256 == two.onnx_sha256
    assert set(one.backtest) == {"all", "since_change"}
    assert one.backtest[one.window.value] == min(one.backtest.values())
    assert (tmp_path / "one" / LOG_FILE).exists()
    held = pl.read_parquet(tmp_path / "one" / HELD_OUT_FILE)
    assert held.filter("after").height == 600
    rows = pl.read_parquet(job.snapshot)
    # What decisions are valued by goes to the gate, also where models may not use it.
    assert one.features == 3
    assert held["amount"].equals(held.select("@event_id").join(rows, on="@event_id", how="left")["amount"])
    learnt = rows.join(held, on="@event_id", how="anti").filter(pl.col(TIME) >= ONSET)
    assert learnt[TIME].max() <= held.filter("after")[TIME].min()


def test_a_training_past_its_time_is_killed(tmp_path: Path):
    job = job_of(tmp_path, trainer="tests.retrain.training.test_training:Sleeper")
    process = TrainingProcess.start(job, tmp_path / "run", 2.0)
    assert isinstance(wait(process), TimedOut)
    assert process.child.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("trainer", "said", "final"),
    [("Hungry", "training.memory_bytes is 1073741824", True), ("Broken", "the trainer's own words", False)],
)
def test_a_training_that_fails_says_why(tmp_path: Path, trainer: str, said: str, final: bool):
    job = job_of(
        tmp_path,
        trainer=f"tests.retrain.training.test_training:{trainer}",
        windows=(TrainingWindow(kind=WindowKind.ALL),),
    )
    job = job.model_copy(update={"memory_bytes": 1024**3})
    found = wait(TrainingProcess.start(job, tmp_path / "run", 60))
    assert isinstance(found, TrainingError)
    assert said in found.detail
    assert found.final is final


def test_a_trainer_in_the_working_directory_is_found_and_shadows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home = tmp_path / "home"
    home.mkdir()
    for name in ("monitor", "polars", "stationkeeper"):
        (home / f"{name}.py").write_text("raise RuntimeError('the user's own module was imported')")
    (home / "my_trainer.py").write_text(
        "from stationkeeper.retrain.training.estimators import LogisticRegression\n\n\n"
        "class Boosted(LogisticRegression):\n    pass\n"
    )
    monkeypatch.chdir(home)
    job = job_of(tmp_path, trainer="my_trainer:Boosted", windows=(TrainingWindow(WindowKind.ALL),))
    found = wait(TrainingProcess.start(job, tmp_path / "run", 60))
    assert isinstance(found, TrainingResult), found
    assert found.trainer == "my_trainer:Boosted"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (pl.lit("maybe").alias(LABEL), "needs two classes"),
        (pl.lit(None, pl.String).alias(LABEL), "0 labelled rows"),
        (pl.when(pl.col(TIME) < ONSET).then(LABEL).otherwise(pl.lit("false")).alias(LABEL), "one label only"),
    ],
)
def test_labels_that_cannot_be_learnt_are_named(tmp_path: Path, change: pl.Expr, said: str):
    rows = training_rows(transactions(800, START, ONSET + HOUR, seed=3, shifted=False).drop("event_id"))
    job = job_of(tmp_path, rows=rows.with_columns(change))
    found = wait(TrainingProcess.start(job, tmp_path / "run", 60))
    assert isinstance(found, TrainingError)
    assert found.final
    assert said in found.detail


def test_a_damaged_snapshot_is_refused(tmp_path: Path):
    job = job_of(tmp_path)
    job.snapshot.write_bytes(job.snapshot.read_bytes() + b"x")
    found = wait(TrainingProcess.start(job, tmp_path / "run", 60))
    assert isinstance(found, TrainingError)
    assert "the snapshot hashes to" in found.detail


def test_a_training_ends_with_its_parent(tmp_path: Path):
    job = job_of(tmp_path, trainer="tests.retrain.training.test_training:Sleeper")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "job.json").write_text(job.model_dump_json())
    program = (
        "import os, subprocess, sys;"
        "child = subprocess.Popen([sys.executable, '-m', '" + TRAIN + "', sys.argv[1], str(os.getpid())]);"
        "print(child.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "run" / "job.json")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    parent.stdin.close()
    until(lambda: not _alive(child), "the child has ended too")


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_training_file_without_its_columns_is_refused():
    table = pl.DataFrame({"when": [1], "y": [True]})
    with pytest.raises(BootstrapError, match="no column 'label'; the table has when, y"):
        training_rows(table, time_column="when")
    with pytest.raises(BootstrapError, match="epoch milliseconds or a datetime"):
        training_rows(pl.DataFrame({"time": ["x"], "label": [True]}))


def test_a_training_file_becomes_rows():
    table = pl.DataFrame(
        {"label": [1, 0, None], "n": [1.5, float("nan"), 3.0], "zip": [10115, 80331, 1], "b": [True, None, False]}
    )
    rows = training_rows(table, time_column=None, categorical=["zip"])
    assert rows[LABEL].to_list() == ["1", "0"]
    assert rows[TIME].to_list() == [0, 1]
    assert rows["n"].to_list() == [1.5, None]
    assert rows["zip"].to_list() == ["10115", "80331"]
    assert rows["b"].to_list() == [True, None]


def test_a_bootstrap_of_bad_labels_leaves_no_version(bank: Bank, tmp_path: Path):
    table = transactions(300, START, ONSET, seed=1, shifted=False).with_columns(label=pl.lit("x"))
    with pytest.raises(NoModel, match="needs two classes"):
        bootstrap(
            "nobody",
            training_rows(table.drop("event_id")),
            bank.settings,
            registry=bank.registry,
            snapshots=bank.snapshots,
            build_reference=reference_builder,
            work_dir=tmp_path,
        )
    assert bank.registry.champion("nobody") is None


def test_the_reference_is_built_from_all_rows_with_honest_scores(bank: Bank):
    facts = json.loads(bank.champion.reference)
    assert facts["rows"] == 8_000
    assert facts["labelled"] == 8_000
    assert facts["features"] == ["age", "amount", "foreign", "method"]
    assert facts["mean_score"] == pytest.approx(0.08, abs=0.01)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_training_after_a_change_tells_how_its_loss_fell_with_the_rows_since():
    times = np.arange(6_000, dtype=np.int64)
    rng = np.random.default_rng(5)
    labels = (rng.random(6_000) < 0.3).astype(np.float64)
    # Before the change the number says nothing of the label, after it all: what is learnt comes from the new rows.
    signal = np.where(times >= 3_000, labels * 2.0 + rng.normal(size=6_000), rng.normal(size=6_000))
    frame = pl.DataFrame({"time": times, "signal": signal, "label": labels == 1.0})
    table = TrainingTable.of(training_rows(frame), ModelTask.BINARY, "true")
    settings = RetrainSettings.model_validate(SMALL)
    job = TrainingJob.of(settings, model="m", snapshot=Path(), digest="", windows=ONE_WINDOW, onset_ms=3_000)
    split = split_rows(times, 3_000, job.holdout, job.validation)
    fits = WindowFits(job, load_trainer("gradient-boosting", {}), table, np.arange(6_000), split, lambda *_: None)
    curve = fits.curve(ONE_WINDOW[0])
    assert curve is not None
    assert (curve.rows, curve.until) == (3_000, to_datetime(5_999))
    assert curve.quarter - curve.loss > curve.error > 0.0


@pytest.mark.parametrize(
    ("max_rows", "kind", "learnt", "most"),
    [
        # A backtest's share, 3 000 rows, holds them all; or the rows of a whole fit do. Of 3 000 rows since the change
        # 2 100 are learnt from, so 10 000 are filled by 14 286.
        (10_000, WindowKind.SINCE_CHANGE, [375, 1_500], 14_286),
        (3_000, WindowKind.SINCE_CHANGE, [375, 1_500], 4_286),
        # `all` takes as many from before the change: 2 100 of them leave 900 rows, half of the room are 1 500.
        (3_000, WindowKind.ALL, [2_625, 3_000], 2_143),
        (2_000, WindowKind.ALL, None, None),
        (1_000, WindowKind.SINCE_CHANGE, None, None),
    ],
)
def test_a_curve_is_of_a_quarter_and_all_of_the_rows_since_or_there_is_none(
    max_rows: int, kind: WindowKind, learnt: list[int] | None, most: int | None
):
    times, rng = np.arange(6_000, dtype=np.int64), np.random.default_rng(5)
    frame = pl.DataFrame({"time": times, "signal": rng.normal(size=6_000), "label": rng.random(6_000) < 0.3})
    table = TrainingTable.of(training_rows(frame), ModelTask.BINARY, "true")
    window = TrainingWindow(kind)
    job = TrainingJob.of(
        RetrainSettings(), model="m", snapshot=Path(), digest="", windows=(window,), onset_ms=3_000
    ).model_copy(update={"max_rows": max_rows})
    counted: list[int] = []

    class Counting:
        """A trainer that answers one score, and says what it was given."""

        def fit(self, data: TrainingData) -> Any:
            counted.append(len(data.labels))
            return SimpleNamespace(score=lambda features: np.full(len(features), 0.3))

    split = split_rows(times, 3_000, job.holdout, job.validation)
    fits = WindowFits(job, Counting(), table, np.arange(6_000), split, lambda *_: None)
    curve = fits.curve(window)
    assert counted == (learnt or [])
    assert (curve and curve.rows) == (3_000 if learnt else None)
    assert (curve and curve.most) == most


def test_folds_score_the_rows_since_the_change_that_no_model_learns_from_beside_their_own():
    times = np.arange(100, dtype=np.int64)
    frame = pl.DataFrame({"time": times, "signal": times * 1.0, "label": times % 2 == 0})
    table = TrainingTable.of(training_rows(frame), ModelTask.BINARY, "true")
    # The newest ten have no label yet.
    rows = np.arange(90)
    job = TrainingJob.of(
        RetrainSettings.model_validate(SMALL), model="m", snapshot=Path(), digest="", windows=ONE_WINDOW, onset_ms=40
    )
    split = split_rows(times[rows], 40, 0.3, 0.2)
    mean: Any = Mean()
    found = WindowFits(job, mean, table, rows, split, lambda *_: None).out_of_fold(ONE_WINDOW[0])
    seen = np.flatnonzero(~np.isnan(found.scores))
    assert np.array_equal(np.sort(np.concatenate([seen, found.fresh])), np.arange(40, 100))
    assert found.fresh.min() == 75
    assert np.array_equal(found.beside[:, 0], found.scores[[seen[0], seen[len(seen) // 2], seen[-1]]])


def test_a_training_weighs_labelled_rows_for_those_that_get_none(tmp_path: Path):
    before = transactions(3_000, START, ONSET, seed=3, shifted=False)
    after = transactions(3_000, ONSET, ONSET + 5 * HOUR, seed=4, shifted=True)
    rows = training_rows(pl.concat([before, after]).drop("event_id"))
    risky = (rows["amount"] > 4.0).to_numpy()
    block = np.where(risky, 0.8, 0.0)
    blocked = np.random.default_rng(1).random(len(rows)) < block
    acted = rows.with_columns(
        pl.Series("@action", np.where(blocked, "block", "approve")),
        pl.Series("@assignment_prob", np.where(blocked, block, 1.0 - block)),
        pl.when(pl.Series(blocked)).then(None).otherwise(pl.col(LABEL)).alias(LABEL),
    )
    until = int(rows[TIME].max())  # type: ignore[arg-type]
    found = wait(TrainingProcess.start(job_of(tmp_path, rows=acted, ripe_until_ms=until), tmp_path / "one", 60))
    assert isinstance(found, TrainingResult)
    since = (rows[TIME] >= ONSET).to_numpy()
    assert found.selection is not None
    assert found.selection.shut[0].rows == int((blocked & since).sum())
    assert found.selection.weighted == int((~blocked).sum())
    assert found.selection.flipped is None, "there is no champion"
    held = pl.read_parquet(tmp_path / "one" / HELD_OUT_FILE).join(acted, on="@event_id")
    heavy = held.filter(pl.col("amount") > 4.0)["weight"] / held.filter(pl.col("amount") <= 4.0)["weight"].mean()
    assert heavy.to_numpy() == pytest.approx(5.0)
    # Another model than without their weights, and the columns are no features.
    blind = wait(TrainingProcess.start(job_of(tmp_path, rows=acted), tmp_path / "two", 60))
    assert isinstance(blind, TrainingResult)
    assert (blind.selection, blind.features) == (None, found.features)
    assert blind.onnx_sha256 != found.onnx_sha256


def test_the_busiest_half_hour_is_told_by_the_minute():
    half_hour = 30 * 60_000
    assert busiest(np.array([0, half_hour, half_hour + 1, half_hour + 2])) == pytest.approx(0.1)
