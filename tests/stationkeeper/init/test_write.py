"""``init`` guesses from names and values, says why, and what it writes parses."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from stationkeeper.cli import USAGE_ERROR, app
from stationkeeper.init.infer import WHY_BINARY, ColumnRoles, sketch_events, sketch_table
from stationkeeper.init.write import profile_command, render


def test_events_in_our_own_form_need_no_mapping() -> None:
    events = [
        json.dumps(
            {"kind": "prediction", "event_id": f"e{i}", "time": 1_767_571_200_000 + i, "model": "fraud", "version": "3"}
        )
        for i in range(5)
    ]
    sketch = sketch_events([e.encode() for e in events], "fraud.predictions")
    assert sketch.own_form
    assert sketch.models == ("fraud",)
    config = yaml.safe_load(render(sketch, model="x", bootstrap="b:9092", topic="fraud.predictions"))
    assert config["models"]["fraud"]["predictions"] == "fraud.predictions"
    assert config["kafka"]["bootstrap"] == "b:9092"


def test_foreign_events_get_a_mapping_by_name_and_the_rest_are_features() -> None:
    events = [
        {
            "meta": {"request_id": f"r-{i}", "ts": 1_767_571_200 + i},
            "out": {"score": 0.5},
            "in": {"amount": 1.5, "to": "DE"},
        }
        for i in range(3)
    ]
    sketch = sketch_events([json.dumps(e).encode() for e in events] + [b"not json"], "scores")
    assert sketch.unreadable == 1
    assert not sketch.own_form
    model = yaml.safe_load(render(sketch, model="loans", bootstrap="b:1", topic="scores"))["models"]["loans"]
    mapping = model["predictions"]
    assert mapping["map"]["event_id"] == "meta.request_id"
    assert mapping["map"]["time"] == "meta.ts"
    assert mapping["time_unit"] == "s"
    assert mapping["map"]["prediction"] == "out.score"
    assert mapping["map"]["features"] == {"amount": "in.amount", "to": "in.to"}
    assert mapping["constants"] == {"model": "loans", "version": "1"}


def test_a_number_that_is_no_time_is_not_taken_for_one() -> None:
    sketch = sketch_events(
        [json.dumps({"id": "a", "time": 3}).encode(), json.dumps({"id": "b", "time": 4}).encode()], "t"
    )
    assert sketch.guess("time") is None
    assert "time" in sketch.features
    assert "# time: path.to.time" in render(sketch, model="m", bootstrap="b", topic="t")


def test_a_table_gets_the_command_that_profiles_it() -> None:
    table: dict[str, list[object]] = {
        "ts": ["2026-01-05T00:00:00Z"] * 2,
        "score": [0.1, 0.2],
        "y": [0, 1],
        "age": [30, 40],
    }
    text = render(sketch_table(table, "past.csv"), model="credit", bootstrap="b", topic=None)
    assert "stationkeeper profile past.csv --model credit --time ts --prediction score --label y --features age" in text
    assert yaml.safe_load(text)["models"]["credit"]["predictions"] == "credit.predictions"


def test_names_that_yaml_would_misread_are_quoted() -> None:
    sketch = sketch_events([json.dumps({"id": "a", "yes": 1, "no: x": 2}).encode()], "t")
    config = yaml.safe_load(render(sketch, model="on", bootstrap="b", topic="t"))
    assert list(config["models"]) == ["on"]
    assert config["models"]["on"]["predictions"]["map"]["features"] == {"yes": "yes", "no: x": "no: x"}


PAST: dict[str, list[object]] = {
    "time": ["2026-01-05T00:00:00Z", "2026-01-05T00:01:00Z", "2026-01-05T00:02:00Z"],
    "amount": [10.5, 20.5, 11.0],
    "branch": [3, 4, 4],
    "score": [0.1, 0.2, 0.4],
    "churned": [0, 1, 0],
}


def test_the_one_column_of_0_and_1_beside_a_score_is_taken_for_the_label_and_no_column_twice() -> None:
    sketch = sketch_table(PAST, "past.csv")
    label = sketch.guess("label")
    assert label is not None
    assert (label.path, label.why) == ("churned", WHY_BINARY)
    assert sketch.guess("event_id") is None  # the times differ in every row, and are the time
    assert sketch.features == ("amount", "branch")
    two = sketch_table({**PAST, "urgent": [True, False, False]}, "past.csv")
    assert two.guess("label") is None


def test_a_file_beside_a_topic_gives_the_reference_of_what_both_have_and_names_the_rest() -> None:
    events = [{"request_id": f"r{i}", "ts": 1_767_571_200 + i, "in": {"amount": 1.5, "plan": "x"}} for i in range(3)]
    topic = sketch_events([json.dumps(event).encode() for event in events], "topic churn.scores")
    past = sketch_table(PAST, "past.csv")
    text = render(topic, model="churn", bootstrap="b:1", topic="churn.scores", past=past)
    command = "profile past.csv --model churn --time time --prediction score --label churned --features amount\n"
    assert command in text
    assert "Not in the topic, so not in the reference: branch." in text
    assert "Not in past.csv, so not watched: plan" in text
    assert yaml.safe_load(text)["models"]["churn"]["predictions"]["topic"] == "churn.scores"


def test_what_is_told_goes_before_guesses_and_must_exist() -> None:
    roles = ColumnRoles(
        "map.yaml", {"label": "branch", "prediction": "amount"}, categorical=("churned",), left_out=("score",)
    )
    sketch = sketch_table(PAST, "past.csv", roles)
    assert {guess.field: guess.path for guess in sketch.guesses} == {
        "label": "branch",
        "prediction": "amount",
        "time": "time",
    }
    assert sketch.features == ("churned",)
    assert profile_command(sketch, "m").endswith("--features churned --categorical churned")
    with pytest.raises(ValueError, match=r"map.yaml: past.csv has no column 'nope'; columns are time, amount"):
        sketch_table(PAST, "past.csv", ColumnRoles("map.yaml", {"label": "nope"}))


def test_init_answers_in_json_too(tmp_path: Path) -> None:
    table = tmp_path / "past.csv"
    table.write_text("time;amount;score;churned\n2026-01-05T00:00:00Z;1,5;0.5;1\n2026-01-05T00:01:00Z;NA;0.25;0\n")
    words = ["init", str(table), "--model", "churn", "--field", "event_id=amount", "--json"]
    answer = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    seen = answer["looked_at"][str(table)]
    assert [guess["field"] for guess in seen["guesses"]] == ["event_id", "time", "prediction", "label"]
    assert yaml.safe_load(answer["configuration"])["models"]["churn"]["predictions"] == "churn.predictions"
    assert answer["profile"].startswith(f"stationkeeper profile {table} --model churn --time time")
    with pytest.raises(USAGE_ERROR, match="write FIELD=COLUMN; fields are event_id, time"):
        app([*words, "--field", "lable=churned"], standalone_mode=False)


def test_profile_answers_in_json_too(tmp_path: Path) -> None:
    table = tmp_path / "past.csv"
    rows = [f"{i / 7:.3f},{'ab'[i % 2]}" for i in range(400)]
    table.write_text("\n".join(["amount,plan", *rows]))
    words = ["profile", str(table), "--per-hour", "60", "--json"]
    found = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert (found["rows"], found["subjects"], Path(found["output"]).exists()) == (400, ["amount", "plan"], True)
    assert [subject["subject"] for subject in found["power"]["subjects"]] == ["amount", "plan"]
