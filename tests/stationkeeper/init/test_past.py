"""``init`` on a table as people have it: the command that it prints profiles it, under what it wrote."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from stationkeeper.cli import app
from stationkeeper.config import Config
from stationkeeper.events import ValueRules
from stationkeeper.init.first import first_configuration
from stationkeeper.init.infer import ColumnRoles
from stationkeeper.monitor.core.reference import Kind, Reference, load
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from stationkeeper.streams.settings import KafkaSettings

INPUTS = sorted((Path(__file__).parents[1] / "tables" / "inputs").glob("*.[cp][sa]*"))


def first(table: Path, tmp_path: Path, *options: str) -> tuple[dict[str, Any], str, Reference]:
    """The model's block, the whole text, and the reference that the printed command makes under it."""
    answer = CliRunner().invoke(app, ["init", str(table), "--model", "m", *options, "--json"], catch_exceptions=False)
    assert answer.exit_code == 0, answer.stderr
    made = json.loads(answer.stdout)
    config, target = tmp_path / "config.yaml", tmp_path / "reference.json"
    config.write_text(made["configuration"])
    command = [*shlex.split(made["profile"])[1:], "--config", str(config), "--output", str(target)]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, f"{command}\n{done.output}"
    loaded = yaml.safe_load(made["configuration"])
    assert Config.parse(loaded).models
    return loaded["models"]["m"], made["configuration"], load(target.read_bytes())


@pytest.mark.parametrize("table", INPUTS, ids=lambda path: path.name)
def test_what_is_written_profiles_every_kind_of_file(table: Path, tmp_path: Path) -> None:
    _, text, reference = first(table, tmp_path)
    assert reference.subjects
    if reference.last is not None and "--time" in text:
        assert reference.last > 946_684_800_000


def write(tmp_path: Path, rows: list[str]) -> Path:
    path = tmp_path / "past.csv"
    path.write_text("\n".join(rows))
    return path


def test_the_decimal_mark_zip_codes_and_the_positive_class_are_written_down_with_the_reason(tmp_path: Path) -> None:
    rows = [f"{i % 97},{i % 10}5;0{i % 9}106;0,{9 if i % 4 else 1};{'fraud' if i % 4 else 'legit'}" for i in range(400)]
    block, text, reference = first(write(tmp_path, ["price;zip;score;label", *rows]), tmp_path)
    assert block["values"] == {"decimal": ",", "text": ["zip"]}
    assert block["positive"] == "fraud" == reference.positive
    assert "'price' holds numbers as in" in text
    assert reference.by_name["price"].kind is Kind.NUMERIC
    assert reference.by_name["zip"].kind is not Kind.NUMERIC


def test_what_a_person_says_goes_into_the_configuration(tmp_path: Path) -> None:
    rows = [f"{i % 7},{'NIL' if i % 5 else 'x'},{i / 400}" for i in range(400)]
    path = write(tmp_path, ["code,note,score", *rows])
    block, _, reference = first(path, tmp_path, "--text", "code", "--na", "NIL")
    assert block["values"] == {"text": ["code"], "na": ["", "NIL"]}
    assert reference.by_name["note"].missing_share > 0.7
    assert reference.by_name["code"].kind is not Kind.NUMERIC


def test_columns_that_cannot_be_watched_are_named_with_the_reason(tmp_path: Path) -> None:
    rows = [f"r{i},u-{i},{i % 3},2026-01-05T00:{i % 60:02}:00Z,{i / 400}" for i in range(400)]
    _, text, reference = first(write(tmp_path, ["id,trace,plan,opened,score", *rows]), tmp_path)
    assert "# not watched: 'trace': " in text
    assert {subject.name for subject in reference.features} == {"plan"}


def test_two_classes_of_which_nobody_knows_the_positive_one_are_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path, ["amount,score,label", *(f"{i},{(i * 7919) % 400 / 400},{'ab'[i % 2]}" for i in range(400))])
    answer = CliRunner().invoke(app, ["init", str(path)], catch_exceptions=False)
    assert "# positive: # labels are 'a' and 'b': which one are the scores about?" in answer.stdout
    told = CliRunner().invoke(app, ["init", str(path), "--positive", "b"], catch_exceptions=False)
    assert yaml.safe_load(told.stdout)["models"]["model"]["positive"] == "b"


def test_a_decimal_mark_that_would_make_text_of_other_columns_is_not_taken(tmp_path: Path) -> None:
    rows = [f"{i % 97},{i % 10}5;{i / 400}" for i in range(400)]
    block, text, _ = first(write(tmp_path, ["price;score", *rows]), tmp_path)
    assert "values" not in block
    assert "# not watched: 'price': numbers written as text. To read them: --decimal ," in text


def test_json_lines_of_flat_rows_without_ids_are_a_table_as_they_are_to_profile(tmp_path: Path) -> None:
    path = tmp_path / "exported.jsonl"
    rows = [
        {"when": f"2026-05-{1 + i // 24:02d}T{i % 24:02d}:00:00Z", "amt": i % 97, "score": i / 400} for i in range(400)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    block, text, reference = first(path, tmp_path)
    assert isinstance(block["predictions"], str), text
    assert {subject.name for subject in reference.subjects} == {"amt", "prediction"}
    # With ids they may be a topic's records, and a mapping is written.
    path.write_text("\n".join(json.dumps({"request_id": f"r{i}", **row}) for i, row in enumerate(rows)))
    answer = CliRunner().invoke(app, ["init", str(path), "--model", "m", "--json"], catch_exceptions=False)
    assert "event_id: request_id" in json.loads(answer.stdout)["configuration"]


@pytest.mark.parametrize("written", ["NW|{:05d}|x", "a;{}", "FL {:05d}", "4711-{} 0815"])
def test_an_id_of_parts_is_an_id_of_records_however_they_are_joined(tmp_path: Path, written: str) -> None:
    path = tmp_path / "records.jsonl"
    rows = [
        {"key": written.format(i), "ts": 1_790_000_000_000 + i * 1_000, "score": i / 50, "amount": i * 3.5}
        for i in range(40)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    answer = CliRunner().invoke(app, ["init", str(path), "--model", "m", "--json"], catch_exceptions=False)
    assert "event_id: key " in json.loads(answer.stdout)["configuration"]


def test_a_number_that_some_records_lack_is_not_their_time(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    rows: list[dict[str, object]] = [
        {"key": f"a{i:05d}", "account": 1_072_748_015_029_268_437 + i * 10**12, "score": i / 50} for i in range(40)
    ]
    rows[7]["account"] = None
    path.write_text("\n".join(map(json.dumps, rows)))
    answer = CliRunner().invoke(app, ["init", str(path), "--model", "m", "--json"], catch_exceptions=False)
    assert "time: account" not in json.loads(answer.stdout)["configuration"]


@pytest.mark.parametrize("written", ["row {} says", "note, {}"])
def test_a_text_that_is_another_one_in_every_row_of_a_short_table_is_no_feature(tmp_path: Path, written: str) -> None:
    path = tmp_path / "exported.jsonl"
    rows = [
        {"note": written.format(i + 1), "ts": 1_790_000_000_000 + i * 1_000, "score": i / 50, "amount": i * 3.5}
        for i in range(40)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    answer = CliRunner().invoke(app, ["init", str(path), "--model", "m", "--json"], catch_exceptions=False)
    text = json.loads(answer.stdout)["configuration"]
    assert "--features amount" in text
    assert "# not watched: 'note': another one in nearly every row" in text


@pytest.mark.parametrize(
    "note", ["row {} says", "EUR {}", "{} km", "1 {:03d}", "{},5", "{}.25", "€{}", "{}%", "2026-05-01 00:{:02d}:{:02d}"]
)
def test_what_is_another_one_in_every_row_is_no_id_where_no_id_looks_so(tmp_path: Path, note: str) -> None:
    path = tmp_path / "exported.jsonl"
    times = [f"2026-05-{1 + i // 24:02d}T{i % 24:02d}:00:00Z" for i in range(400)]
    notes = [note.format(i) if note.count("{") == 1 else note.format(*divmod(i, 60)) for i in range(400)]
    rows = [
        {"when": time, "note": one, "score": i / 400} for i, (time, one) in enumerate(zip(times, notes, strict=True))
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    answer = CliRunner().invoke(app, ["init", str(path), "--model", "m", "--json"], catch_exceptions=False)
    block = yaml.safe_load(json.loads(answer.stdout)["configuration"])["models"]["m"]
    # A topic's records would get a mapping: of a table only the topic's name is written.
    assert isinstance(block["predictions"], str), answer.stdout


@pytest.mark.parametrize(
    ("score", "label", "values"),
    [
        ("churn_score", "churned", "yes no"),
        ("fraudProbability", "is_fraud", "True False"),
        ("default_prob", "default", "1 0"),
        ("cancel_score", "cancelled", "yes no"),
    ],
)
def test_the_label_that_a_score_is_named_after_is_no_feature(
    score: str, label: str, values: str, tmp_path: Path
) -> None:
    yes, no = values.split()
    rows = [f"{i % 97},{i % 2},{i / 400},{yes if i % 5 < i / 100 else no}" for i in range(400)]
    block, text, reference = first(write(tmp_path, [f"amount,member,{score},{label}", *rows]), tmp_path)
    assert f"label: column {label!r}" in text
    assert f"{score!r} is named after it" in text
    assert {subject.name for subject in reference.subjects} == {"amount", "member", "prediction"}
    assert block.get("positive", yes) == yes


@pytest.mark.parametrize(("two", "label"), [("1 0", "column 'Ausfall'"), ("ja nein", None)])
def test_a_share_of_something_is_the_prediction_and_what_may_be_the_label_is_asked_about(
    two: str, label: str | None, tmp_path: Path
) -> None:
    yes, no = two.split()
    rows = [f"{i % 97},{'a' if i % 2 else 'b'},{i / 400},{yes if i % 5 < i / 100 else no}" for i in range(400)]
    _, text, _ = first(write(tmp_path, ["Alter,Wohnen,p_bad,Ausfall", *rows]), tmp_path)
    assert "prediction: column 'p_bad'" in text
    asks = "no label was found, and Wohnen, Ausfall would be watched as features; if one of them is the label say"
    assert (f"label: {label}" if label else asks) in text
    answer = CliRunner().invoke(app, ["init", str(tmp_path / "past.csv"), "--model", "m"], catch_exceptions=False)
    assert (asks in answer.stderr) is (label is None)


@pytest.mark.parametrize(
    ("score", "label", "taken"),
    [
        ("p_e_ratio", "Ausfall", False),
        ("p_value", "Ausfall", False),
        ("p", "Ausfall", False),
        ("p_is_fraud", "Ausfall", True),
        ("p_repaid", "repaid", True),
        ("pRepaid", "was_repaid", True),
        ("p_renew", "renewed", True),
        ("prob_x", "Ausfall", True),
    ],
)
def test_what_a_p_stands_before_says_whether_it_is_a_score(
    score: str, label: str, *, taken: bool, tmp_path: Path
) -> None:
    rows = [f"{i % 97},{i / 400},{'ja' if i % 5 < i / 100 else 'nein'}" for i in range(400)]
    _, text, _ = first(write(tmp_path, [f"Alter,{score},{label}", *rows]), tmp_path)
    assert (f"prediction: column {score!r}" in text) is taken
    assert (f"{score} would be watched as" in text) is not taken


def test_a_table_in_which_no_prediction_is_found_is_said_to_have_none(tmp_path: Path) -> None:
    rows = [f"{i % 97},{900 + i},{905 + i}" for i in range(400)]
    _, text, _ = first(write(tmp_path, ["sqm,answer,rent", *rows]), tmp_path)
    assert "# no prediction was found; say --field prediction=COLUMN" in text


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\u202e", "\x01", "\x7f"])
def test_a_name_with_a_sign_that_ends_a_line_of_yaml_or_may_not_stand_in_it_is_watched(
    sign: str, tmp_path: Path
) -> None:
    rows = [f"{i % 97},{i / 400}" for i in range(400)]
    _, _, reference = first(write(tmp_path, [f"a{sign}b,score", *rows]), tmp_path)
    assert {subject.name for subject in reference.subjects} == {f"a{sign}b", "prediction"}


def test_two_columns_that_a_score_is_named_after_are_a_persons_choice(tmp_path: Path) -> None:
    rows = [f"{i % 97},{i / 400},{i % 2},{i % 3 % 2}" for i in range(400)]
    _, text, _ = first(write(tmp_path, ["amount,churn_score,churned,churn_risk_flag", *rows]), tmp_path)
    assert "label: column" not in text


@pytest.mark.parametrize("columns", ["credit_card,credit_score,bad", "has_credit,credit_score,bad"])
@pytest.mark.parametrize("values", ["yes no", "1 0", "business private"])
def test_a_feature_that_shares_a_word_with_the_score_is_not_taken_for_the_label(
    columns: str, values: str, tmp_path: Path
) -> None:
    two = values.split()
    rows = [f"{i % 97},{two[i % 3 % 2]},{i / 400},{int(i % 5 >= i / 100)}" for i in range(400)]
    block, text, _ = first(write(tmp_path, [f"amount,{columns}", *rows]), tmp_path)
    assert "label: column" not in text
    assert "positive" not in block


def test_what_somebody_has_is_the_label_where_nothing_else_can_be(tmp_path: Path) -> None:
    rows = [f"{i % 97},{i / 400},{'yes' if i % 5 < i / 100 else 'no'}" for i in range(400)]
    _, text, _ = first(write(tmp_path, ["amount,disease_prob,has_disease", *rows]), tmp_path)
    assert "label: column 'has_disease'" in text


def test_the_label_of_a_topic_of_its_own_is_found_by_the_name_that_it_has_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"{i % 97},{i / 400},{'yes' if i % 5 < i / 100 else 'no'}" for i in range(400)]
    path = write(tmp_path, ["amount,churn_score,churned", *rows])
    log = MemoryLog()
    log.create("scores", 1)
    log.create("truths", 1)
    times = [f"2026-05-01T00:{i:02d}:00Z" for i in range(50)]
    log.produce(
        "scores",
        [
            json.dumps({"rid": f"r{i}", "ts": at, "amount": i, "churn_score": 0.1}).encode()
            for i, at in enumerate(times)
        ],
    )
    log.produce(
        "truths", [json.dumps({"rid": f"r{i}", "ts": at, "churned": "no"}).encode() for i, at in enumerate(times)]
    )
    monkeypatch.setattr("stationkeeper.init.first.reader_for", lambda *_: MemoryReader(log))
    nothing = (KafkaSettings(), 200, ColumnRoles(), ValueRules(), None)
    found = first_configuration(str(path), "scores", "truths", "m", *nothing)
    block = yaml.safe_load(found.text)["models"]["m"]["labels"]
    assert block["map"]["label"] == "churned", found.text
