"""``init`` guesses from names and values, says why, and what it writes parses and reads the sample."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from stationkeeper.cli import USAGE_ERROR, app
from stationkeeper.commands.options import names_of
from stationkeeper.config import Config
from stationkeeper.init.infer import WHY_BINARY, ColumnRoles, InitError, Sketch, sketch_events, sketch_table
from stationkeeper.init.records import RecordSample, sampled
from stationkeeper.init.write import Sampled, profile_command, render
from stationkeeper.streams.settings import KafkaSettings
from stationkeeper.tables import read_frame

KAFKA = KafkaSettings(bootstrap="b:9092")
T0 = 1_767_571_200


def look(records: Sequence[Any], frame: bytes = b"") -> tuple[RecordSample, Sketch]:
    values = [frame + (one if isinstance(one, bytes) else json.dumps(one).encode()) for one in records]
    sample = sampled("topic t", values)
    return sample, sketch_events(sample)


def configured(records: Sequence[Any], *, model: str = "m", frame: bytes = b"") -> dict[str, Any]:
    """The model's block that ``init`` writes; fails unless the records are read by it, all but those that are bytes."""
    sample, sketch = look(records, frame)
    written = yaml.safe_load(render(Sampled("t", sketch), model=model, kafka=KAFKA))
    found = sample.as_written(Config.parse(written), "t")
    assert found["read"] == sum(isinstance(one, dict) for one in records), found
    block: dict[str, Any] = next(iter(written["models"].values()))
    return block


def test_events_in_our_own_form_need_no_mapping() -> None:
    event = {"kind": "prediction", "time": T0 * 1_000, "model": "fraud", "version": "3", "features": {"a": 1}}
    assert configured([event | {"event_id": f"e{i}"} for i in range(5)])["predictions"] == "t"


def test_broken_events_of_our_own_form_are_no_reason_for_a_mapping() -> None:
    event = {"kind": "prediction", "time": "soon", "model": "fraud", "version": "3", "features": {"a": 1}}
    records = [event | {"event_id": f"e{i}"} for i in range(5)] + [event | {"event_id": "e", "time": T0 * 1_000}]
    _, sketch = look(records)
    text = render(Sampled("t", sketch), model="m", kafka=KAFKA)
    assert yaml.safe_load(text)["models"]["fraud"]["predictions"] == "t"


def test_our_own_form_in_seconds_behind_a_frame_and_with_labels_beside_it_is_read_as_it_is() -> None:
    event = {"kind": "prediction", "time": T0, "model": "fraud", "version": "3", "features": {"a": 1}}
    label = {"kind": "label", "time": T0, "model": "fraud", "label": True}
    records = [one | {"event_id": f"e{i}"} for i in range(5) for one in (event, label)]
    block = configured(records, frame=b"\0\0\0\0\x07")
    assert block["predictions"] == {"topic": "t", "decoder": "confluent-json", "time_unit": "s"} == block["labels"]


def test_foreign_events_get_a_mapping_by_name_and_the_rest_are_features() -> None:
    events = [
        {"meta": {"request_id": f"r-{i}", "ts": T0 + i}, "out": {"score": 0.5}, "in": {"amount": 1.5, "to": "DE"}}
        for i in range(3)
    ]
    assert look([*events, b"not json"])[1].unreadable == 1
    mapping = configured([*events, b"not json"], model="loans")["predictions"]
    assert mapping["map"]["event_id"] == "meta.request_id"
    assert mapping["map"]["time"] == "meta.ts"
    assert mapping["time_unit"] == "s"
    assert mapping["map"]["prediction"] == "out.score"
    assert mapping["map"]["features"] == {"amount": "in.amount", "to": "in.to"}
    assert mapping["constants"] == {"model": "loans", "version": "1"}


def test_one_last_name_twice_dots_commas_quotes_and_line_breaks_are_each_watched_under_a_name_of_its_own() -> None:
    odd = {'size, "cm"\n': 1.5, "card.type": "visa", "card": {"type": "debit"}, "a\\": 1, "yes": 2, "1": 3, "x: {y": 4}
    record = {"ts": T0, "billing": {"country": "DE"}, "shipping": {"country": "FR"}, "score": 0.5, **odd}
    features = configured([record | {"id": f"r{i}"} for i in range(3)])["predictions"]["map"]["features"]
    assert features["billing.country"] == "billing.country"
    assert features["shipping.country"] == "shipping.country"
    assert features['size, "cm"\n'] == '"size, \\"cm\\"\n"'
    assert features["type"] == "card.type"
    assert features["card.type"] == '"card.type"'
    assert features.keys() >= {"a\\", "yes", "1", "x: {y"}


@pytest.mark.parametrize("name", ["model_rev", "modelVersion", "model-version", "revision"])
def test_the_version_has_other_names_too_and_may_be_a_number(name: str) -> None:
    records = [{"id": f"r{i}", "ts": T0, name: 17, "score": 0.5, "x": 1} for i in range(3)]
    mapping = configured(records)["predictions"]
    assert (mapping["map"]["version"], mapping["constants"]) == (name, {"model": "m"})


def test_the_models_of_a_topic_are_those_that_its_records_name_and_one_that_no_model_has_is_a_feature() -> None:
    record = {"ts": T0, "score": 0.5, "x": 1}
    records = [record | {"id": f"r{i}", "model": {"name": f"m{i % 2}", "version": "3"}} for i in range(4)]
    sample, sketch = look(records)
    written = yaml.safe_load(render(Sampled("t", sketch), model="ignored", kafka=KAFKA))
    assert list(written["models"]) == ["m0", "m1"]
    assert sample.as_written(Config.parse(written), "t") == {"read": 4}
    cars = configured([record | {"id": f"r{i}", "model": "VW Golf"} for i in range(4)])
    assert cars["predictions"]["map"]["features"] == {"x": "x", "model": "model"}


def test_times_ids_and_lists_are_no_features_and_are_said_to_be_none() -> None:
    records = [
        {
            "request_id": f"r{i}",
            "scored_at": "2026-01-05T00:00:00Z",
            "opened_at": f"2026-01-05T00:{i:02}:00Z",
            "trace": f"t{i}",
            "user_id": i,
            "basket": [1, 2],
            "x": 1,
            "score": {"yes": 0.25, "no": 0.75},
        }
        for i in range(30)
    ]
    _, sketch = look(records)
    assert set(sketch.left_out) == {"opened_at", "trace", "user_id", "basket"}
    mapping = configured(records)["predictions"]
    assert (mapping["map"]["time"], mapping["map"]["prediction"]) == ("scored_at", "score")
    assert mapping["map"]["features"] == {"x": "x"}
    assert "# not watched: 'trace': another one in nearly every record" in render(
        Sampled("t", sketch), model="m", kafka=KAFKA
    )


def test_labels_of_a_topic_of_their_own_are_mapped_beside_the_predictions() -> None:
    answers = sampled("topic s", [json.dumps({"id": f"r{i}", "ts": T0, "score": 0.5, "x": 1}).encode() for i in (1, 2)])
    truths = sampled(
        "topic l",
        [json.dumps({"ref": {"request_id": f"r{i}"}, "when": T0 * 1_000, "truth": 1}).encode() for i in (1, 2)],
    )
    labels = Sampled("l", sketch_events(truths, "label"))
    text = render(Sampled("s", sketch_events(answers)), model="m", kafka=KAFKA, labels=labels)
    written = yaml.safe_load(text)
    assert written["models"]["m"]["labels"] == {
        "topic": "l",
        "map": {"event_id": "ref.request_id", "time": "when", "label": "truth"},
        "constants": {"model": "m"},
        "time_unit": "ms",
    }
    assert truths.as_written(Config.parse(written), "l") == {"read": 2}
    assert answers.as_written(Config.parse(written), "s") == {"read": 2}


def test_a_label_within_the_answer_is_the_answer_and_labels_beside_predictions_share_their_block() -> None:
    _, sketch = look([{"id": f"r{i}", "ts": T0, "prediction": {"label": "fraud", "score": 0.5}} for i in (1, 2)])
    assert {guess.field for guess in sketch.guesses} == {"event_id", "time", "prediction"}
    records = [
        {"type": kind, "id": f"r{i}", "ts": T0, "model": "m", "version": "1", "score": 0.5, "truth": 1, "x": i}
        for i in (1, 2)
        for kind in ("prediction", "label")
    ]
    block = configured(records)
    assert block["labels"] == block["predictions"]
    assert block["predictions"]["map"]["kind"] == "type"


def test_a_number_that_is_no_time_is_not_taken_for_one() -> None:
    _, sketch = look([{"id": "a", "time": 3}, {"id": "b", "time": 4}])
    assert sketch.guess("time") is None
    assert "time" in sketch.features
    assert "# time: path.to.time" in render(Sampled("t", sketch), model="m", kafka=KAFKA)


def test_a_path_that_is_told_goes_before_the_guess_and_must_exist() -> None:
    values = [json.dumps({"id": f"r{i}", "ts": T0, "score": 0.5, "y": 0.1}).encode() for i in (1, 2)]
    sketch = sketch_events(sampled("topic t", values), told={"prediction": "y"})
    assert sketch.guess("prediction") is not None
    assert sketch.features == {"score": "score"}
    with pytest.raises(InitError, match=r"topic t has no field 'nope'; fields are id, ts, score, y"):
        sketch_events(sampled("topic t", values), told={"prediction": "nope"})


def test_a_table_gets_the_command_that_profiles_it() -> None:
    table: dict[str, list[object]] = {
        "ts": ["2026-01-05T00:00:00Z"] * 2,
        "score": [0.1, 0.2],
        "y": [0, 1],
        "age": [30, 40],
    }
    text = render(Sampled(None, sketch_table(read_frame(table, source="past.csv"))), model="credit", kafka=KAFKA)
    assert "stationkeeper profile past.csv --model credit --time ts --prediction score --label y --features age" in text
    assert yaml.safe_load(text)["models"]["credit"]["predictions"] == "credit.predictions"


def test_names_with_commas_go_through_the_command_that_is_printed() -> None:
    table: dict[str, list[object]] = {"size, cm": [1.0, 2.5], 'w "x"': [1.5, 2.0], "score": [0.1, 0.2]}
    command = profile_command(sketch_table(read_frame(table, source="past.csv")), "m")
    assert command.endswith("""--features '"size, cm","w ""x""\"'""")
    assert names_of('"size, cm","w ""x""", b') == ("size, cm", 'w "x"', "b")


def test_names_that_yaml_would_misread_are_quoted() -> None:
    _, sketch = look([{"id": "a", "yes": 1, "no: x": 2}])
    config = yaml.safe_load(render(Sampled("t", sketch), model="on", kafka=KAFKA))
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
    sketch = sketch_table(read_frame(PAST, source="past.csv"))
    label = sketch.guess("label")
    assert label is not None
    assert (label.path, label.why) == ("churned", WHY_BINARY)
    assert sketch.guess("event_id") is None  # the times differ in every row, and are the time
    assert list(sketch.features) == ["amount", "branch"]
    two = sketch_table(read_frame({**PAST, "urgent": [True, False, False]}, source="past.csv"))
    assert two.guess("label") is None


def test_a_file_beside_a_topic_gives_the_reference_of_what_both_have_and_names_the_rest() -> None:
    events = [{"request_id": f"r{i}", "ts": T0 + i, "in": {"amount": 1.5, "plan": "x"}} for i in range(3)]
    _, topic = look(events)
    past = sketch_table(read_frame(PAST, source="past.csv"))
    text = render(Sampled("churn.scores", topic), model="churn", kafka=KAFKA, past=past)
    command = "profile past.csv --model churn --time time --prediction score --label churned --features amount\n"
    assert command in text
    assert "Not in the topic, so not in the reference: branch." in text
    assert "Not in past.csv, so not watched: plan" in text
    assert yaml.safe_load(text)["models"]["churn"]["predictions"]["topic"] == "churn.scores"


def test_a_feature_has_the_name_of_its_column_in_the_file() -> None:
    values = [json.dumps({"id": f"r{i}", "ts": T0, "billing": {"country": "DE"}, "score": 1}).encode() for i in (1, 2)]
    sketch = sketch_events(sampled("topic t", values), columns=("billing_country",))
    assert sketch.features == {"billing_country": "billing.country"}


def test_the_reference_is_made_for_the_version_that_the_topic_carries() -> None:
    record = {"ts": T0, "model_rev": 7, "in": {"amount": 1.5}, "churn score": 0.5}
    _, topic = look([record | {"id": f"r{i}"} for i in range(3)])
    past = sketch_table(read_frame(PAST, source="past.csv"))
    assert "past.csv --model churn --version 7 --time" in profile_command(past, "churn", topic)
    score = topic.guess("prediction")
    assert score is not None
    assert (score.path, score.why) == ("churn score", "'churn score' is the only score between 0 and 1")


def test_what_is_told_goes_before_guesses_and_must_exist() -> None:
    roles = ColumnRoles(
        "map.yaml", {"label": "branch", "prediction": "amount"}, categorical=("churned",), left_out=("score",)
    )
    sketch = sketch_table(read_frame(PAST, source="past.csv"), roles)
    assert {guess.field: guess.path for guess in sketch.guesses} == {
        "label": "branch",
        "prediction": "amount",
        "time": "time",
    }
    assert list(sketch.features) == ["churned"]
    assert profile_command(sketch, "m").endswith("--features churned --categorical churned")
    with pytest.raises(InitError, match=r"map.yaml: past.csv has no column 'nope'; columns are time, amount"):
        sketch_table(read_frame(PAST, source="past.csv"), ColumnRoles("map.yaml", {"label": "nope"}))


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
    with pytest.raises(USAGE_ERROR, match="has no column 'nope'"):
        app([*words, "--field", "label=nope"], standalone_mode=False)


def test_profile_answers_in_json_too(tmp_path: Path) -> None:
    table = tmp_path / "past.csv"
    rows = [f"{i / 7:.3f},{'ab'[i % 2]}" for i in range(400)]
    table.write_text("\n".join(["amount,plan", *rows]))
    words = ["profile", str(table), "--per-hour", "60", "--json"]
    found = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert (found["rows"], found["subjects"], Path(found["output"]).exists()) == (400, ["amount", "plan"], True)
    assert [subject["subject"] for subject in found["power"]["subjects"]] == ["amount", "plan"]


@pytest.mark.parametrize(
    ("labels", "lines"),
    [
        (
            ["fraud"],
            {"positive: fraud    # the only label that came", "# absent_is: negative          # only 'fraud' came"},
        ),
        ([True], {"# absent_is: negative          # only 'true' came"}),
        (["fraud", "legit"], {"# positive: # labels are 'fraud' and 'legit': which one are the scores about?"}),
        (["yes", "no"], {'positive: "yes"    # the other one means no'}),
        ([0, 1], set()),
        ([0], set()),
        (["no"], set()),
        ([12.5], set()),
    ],
)
def test_the_labels_of_a_topic_tell_the_positive_class_or_are_asked_about(labels: list[Any], lines: set[str]) -> None:
    made = [{"id": f"r{i}", "ts": T0, "outcome": labels[i % len(labels)]} for i in range(30)]
    truths = sketch_events(sampled("topic l", [json.dumps(one).encode() for one in made]), "label")
    _, answers = look([{"id": f"r{i}", "ts": T0, "score": 0.5, "x": i} for i in range(3)])
    text = render(Sampled("t", answers), model="m", kafka=KAFKA, labels=Sampled("l", truths))
    found = [line.strip() for line in text.splitlines() if "positive:" in line or "absent_is" in line]
    assert len(found) == len(lines)
    assert all(any(line.startswith(one) for line in found) for one in lines), found


def test_how_the_broker_is_reached_is_written_down_without_its_password() -> None:
    security = {"protocol": "SASL_SSL", "mechanism": "SCRAM-SHA-512", "username": "12345", "password": "s3cret#: x"}
    reached = KafkaSettings.model_validate({"bootstrap": "b:1", "prefix": "team", "security": security})
    _, sketch = look([{"id": f"r{i}", "ts": T0, "score": 0.5, "x": 1} for i in (1, 2)])
    text = render(Sampled("t", sketch), model="m", kafka=reached)
    del security["password"]
    assert yaml.safe_load(text)["kafka"] == {"bootstrap": "b:1", "prefix": "team", "security": security}
    assert "s3cret" not in text
    assert "password_env" in text
