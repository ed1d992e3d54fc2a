"""Evidently's mappings become ours, our reference becomes rows and a definition; the real run is a benchmark."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from stationkeeper.cli import app
from stationkeeper.evidently import environment
from stationkeeper.evidently.mapping import MappingRefused, definition_of, read_mapping, roles_of
from stationkeeper.evidently.report import Job, ReportRefused, job_of, read_current
from stationkeeper.evidently.rows import apportion, rows_of
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.reference import NumericCells, Reference
from stationkeeper.retrain.snapshot import SnapshotStore
from stationkeeper.streams.errors import Retryable

DEFINITION = {
    "id_column": "id",
    "timestamp": "ts",
    "numerical_columns": ["age", "score"],
    "categorical_columns": ["plan"],
    "text_columns": ["note"],
    "classification": [{"name": "default", "target": "churned", "prediction_probas": "score"}],
    "regression": None,
}
COLUMN_MAPPING = {
    "target": "churned",
    "prediction": "score",
    "datetime": "ts",
    "id": "id",
    "numerical_features": ["age"],
    "categorical_features": ["plan"],
    "text_features": ["note"],
    "task": "classification",
    "pos_label": 1,
}


@pytest.mark.parametrize("mapping", [DEFINITION, COLUMN_MAPPING], ids=["DataDefinition", "ColumnMapping"])
def test_both_forms_say_the_same(mapping: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "mapping.json"
    file.write_text(json.dumps(mapping))
    roles = read_mapping(file)
    file.write_text(repr(mapping))
    assert read_mapping(file) == roles
    file.write_text(yaml.safe_dump(mapping))
    assert read_mapping(file) == roles
    assert roles.fields == {"event_id": "id", "time": "ts", "label": "churned", "prediction": "score"}
    assert (roles.features, roles.categorical, roles.left_out) == (("age", "plan"), ("plan",), ("note",))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"numerical": ["a"]}, "'numerical' is no field of Evidently's DataDefinition"),
        ({"timestamp": "t", "target": "y"}, r"mixes fields of DataDefinition \['timestamp'\]"),
        ({"prediction": ["p0", "p1"]}, "name the column of the positive one"),
        ({"classification": [{"target": "a"}, {"target": "b"}]}, "more than one task"),
        ({"classification": "y"}, "must be a list of objects"),
        ({"numerical_columns": "a"}, "write a list of column names"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_write(mapping: dict[str, object], message: str) -> None:
    with pytest.raises(MappingRefused, match=message):
        roles_of(mapping, "m.yaml")


def test_a_mapping_of_lists_is_refused_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_text("{[1]: 2}")
    with pytest.raises(MappingRefused, match=r"mapping\.yaml is neither JSON, YAML nor a Python dict"):
        read_mapping(file)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40), st.integers(1, 5_000))
def test_apportioned_numbers_sum_up_and_miss_their_share_by_less_than_one(weights: list[int], total: int) -> None:
    found = apportion(np.array(weights, np.float64), total)
    assert found.sum() == total
    if sum(weights):
        assert (abs(found - np.array(weights) * total / sum(weights)) < 1).all()


@pytest.fixture(scope="module")
def reference() -> Reference:
    dice = np.random.default_rng(3)
    frame = pl.DataFrame(
        {
            "age": np.where(dice.random(4_000) < 0.05, np.nan, dice.normal(40, 10, 4_000)),
            "plan": dice.choice(["basic", "gold"], 4_000, p=[0.7, 0.3]),
            "score": dice.random(4_000),
        }
    )
    return profile(frame, prediction="score", model="churn", version="1")


def test_drawn_rows_have_the_shares_of_the_reference(reference: Reference) -> None:
    drawn = rows_of(reference, most=1_000)
    assert {len(column) for column in drawn.values()} == {1_000}
    plan = reference.by_name["plan"]
    gold = plan.counts[[plan.cell_name(cell) for cell in range(len(plan.counts))].index("'gold'")] / plan.rows
    assert abs(drawn["plan"].count("gold") / 1_000 - gold) < 0.001
    age = reference.by_name["age"]
    assert abs(drawn["age"].count(None) / 1_000 - age.missing_share) < 0.001
    values = np.array([np.nan if value is None else value for value in drawn["age"]])
    assert isinstance(age.cells, NumericCells)
    again = np.bincount(age.cells.index(values), minlength=age.cells.count)
    # Counted again in the reference's own cells, each holds what it was given.
    assert (again == apportion(age.counts.astype(np.float64), 1_000)).all()


def test_a_job_compares_the_columns_that_both_have(reference: Reference) -> None:
    now = pl.DataFrame({"age": [30, 40], "plan": ["gold", "silver"], "p": [0.5, 0.25], "extra": [1, 2]})
    job = job_of(reference, now, "p")
    assert job.definition == {"numerical_columns": ["age", "prediction"], "categorical_columns": ["plan"]}
    assert job.reference.schema == job.current.schema
    assert job.current["prediction"].to_list() == [0.5, 0.25]
    assert definition_of(reference, ["plan"]) == {"numerical_columns": [], "categorical_columns": ["plan"]}
    with pytest.raises(ReportRefused, match="no column in common: the reference has age, plan, prediction"):
        job_of(reference, pl.DataFrame({"x": [1]}))
    with pytest.raises(ReportRefused, match="--prediction q: no such column; columns are age, plan, p, extra"):
        job_of(reference, now, "q")


def test_rows_are_a_file_or_a_snapshot(tmp_path: Path) -> None:
    with pytest.raises(ReportRefused, match="no snapshot 0123abcd in"):
        read_current("0123abcd", SnapshotStore(tmp_path))
    (tmp_path / "rows.csv").write_text("a;b\n1;NA\n2;3\n")
    assert read_current(str(tmp_path / "rows.csv"), SnapshotStore(tmp_path)).rows() == [(1, None), (2, 3)]


def test_the_verb_says_what_evidently_said(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stationkeeper.evidently import report
    from stationkeeper.monitor.core.reference import dump

    (tmp_path / "churn.json").write_text(dump(reference))
    (tmp_path / "now.csv").write_text("age,plan\n30,gold\n41,basic\n")
    monkeypatch.setattr(environment, "ready", lambda: True)

    def run(job: Job, output: Path) -> list[dict[str, object]]:
        output.write_text("<html>")
        return [{"name": f"ValueDrift({name})", "value": 0.5} for name in job.columns]

    monkeypatch.setattr(report, "run", run)
    words = ["evidently", "report", str(tmp_path / "churn.json"), str(tmp_path / "now.csv")]
    shown = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "x.html")], catch_exceptions=False).stdout
    assert "2 columns, 4,000 rows drawn from the reference against 2" in shown
    assert "ValueDrift(plan): 0.5" in shown


def test_a_failed_environment_says_what_the_installer_said_and_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    failing = subprocess.CompletedProcess[str]([], 1, "", "no space left on device")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failing)
    with pytest.raises(Retryable, match="no space left on device"):
        environment.prepare()
    assert not environment.ready()


def test_every_pin_has_a_hash_and_the_one_that_matters_is_below_3() -> None:
    pins = environment.pins().replace("\\\n", "").splitlines()
    assert all("--hash=sha256:" in line for line in pins if line and not line.startswith("#"))
    assert [line for line in pins if line.startswith("pandas==2.")]


def test_the_runner_imports_nothing_of_ours() -> None:
    file = Path(environment.__file__).with_name("runner.py")
    ours = "[name for name in sys.modules if name in {'stationkeeper', 'monitor', 'contracts'}]"
    code = f"import runpy, sys; runpy.run_path({str(file)!r}); print({ours})"
    done = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
