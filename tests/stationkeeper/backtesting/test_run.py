import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from stationkeeper.backtesting.replay import ReplaySettings
from stationkeeper.backtesting.run import replay_settings, run
from stationkeeper.backtesting.table import Table, table_of
from stationkeeper.commands.backtest import backtest
from stationkeeper.contracts.messages import Level
from stationkeeper.events import ValueRules
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.budget import Budget
from stationkeeper.monitor.core.reference import dump
from stationkeeper.tables import Parts, TableRefused, read_events, read_frame, read_table
from tests.monitor.core.streams import bank

APP = typer.Typer()
APP.command()(backtest)
FIELDS = {
    "kind",
    "subject",
    "model",
    "version",
    "segment",
    "time",
    "row",
    "onset_row",
    "onset_time",
    "effect",
    "rows",
    "incident",
}


def shifted(rows: int = 6_000, at: int = 4_000) -> dict[str, Any]:
    data = bank(rows)
    data["age"][at:] += 8
    return data


def invoke(*options: str) -> tuple[int, list[dict[str, Any]], str]:
    result = CliRunner().invoke(APP, list(options))
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return result.exit_code, lines, result.stderr


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    pl.DataFrame({name: values.tolist() for name, values in shifted().items()}).write_csv(path)
    return path


def test_a_planted_change_is_one_line_with_every_field(table: Path):
    code, lines, err = invoke(str(table), "--reference-rows", "2000", "--false-alarms-every", "20000")
    assert code == 0
    assert len(lines) == 1
    line = lines[0]
    assert set(line) >= FIELDS
    assert (line["kind"], line["subject"], line["segment"]) == ("data_drift", "age", "")
    assert 4_000 <= line["row"] < 4_300
    assert line["time"] == line["row"]
    assert abs(line["onset_row"] - 4_000) <= 60
    assert "budget: false pages at most 1 per 20000 rows" in err


def test_parquet_and_times_print_rfc_3339(tmp_path: Path):
    data = shifted()
    data["at"] = np.arange(6_000) * 60_000
    path = tmp_path / "table.parquet"
    pl.DataFrame({name: values.tolist() for name, values in data.items()}).write_parquet(path)
    code, lines, _ = invoke(
        str(path),
        "--time",
        "at",
        "--time-unit",
        "ms",
        "--reference-rows",
        "2000",
        "--pane",
        "30m",
        "--false-alarms-every",
        "30d",
    )
    assert code == 0
    assert [line["subject"] for line in lines] == ["age"]
    assert lines[0]["time"].startswith("1970-01-0")
    assert abs(lines[0]["onset_row"] - 4_000) <= 60


def test_a_reference_file_judges_as_its_rows_do(tmp_path: Path, table: Path):
    reference = profile({name: values[:2_000] for name, values in shifted().items()}, ordered=True, pane=20)
    path = tmp_path / "reference.json"
    path.write_text(dump(reference))
    code, lines, _ = invoke(str(table), "--reference", str(path), "--false-alarms-every", "20000", "--renew", "never")
    assert code == 0
    assert [line["subject"] for line in lines] == ["age"]
    assert lines[0]["version"] == "1"


def concept(rows: int = 8_000) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    x = rng.normal(size=rows)
    label = (x > 0) ^ (rng.random(rows) < 0.1)
    label[5_000:] ^= rng.random(rows - 5_000) < 0.25
    return {"x": x, "score": np.where(x > 0, 0.9, 0.1), "label": label.astype(int)}


@pytest.mark.parametrize(("prediction", "delay"), [("score", 0), (None, 0), ("score", 500)])
def test_a_changed_concept_shows_in_labels_when_they_arrive(prediction: str | None, delay: int):
    data = concept()
    if prediction is None:
        del data["score"]
    made = Table(data, np.arange(8_000), prediction=prediction, label="label")
    settings = ReplaySettings(Budget(1.0, 20_000.0, "rows"), 50, 1_000, 3_000, delay=delay)
    out = io.StringIO()
    run(made, settings, out=out)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert lines
    assert {line["kind"] for line in lines} <= {"performance", "concept_drift"}
    assert 5_000 + delay <= lines[0]["row"] < 5_700 + delay
    assert abs(lines[0]["onset_row"] - 5_000) <= 150


def test_after_a_page_a_new_reference_shows_the_next_change():
    data = bank(12_000)
    data["age"][4_000:] += 8
    data["age"][8_000:] += 8
    settings = ReplaySettings(Budget(1.0, 20_000.0, "rows"), 50, 1_000, 2_000, renew=2_000)
    out = io.StringIO()
    run(Table(data, np.arange(12_000)), settings, out=out)
    rows = [json.loads(line)["onset_row"] for line in out.getvalue().splitlines()]
    assert rows == pytest.approx([4_000, 8_000], abs=60)


def test_a_replay_repeats_itself(table: Path):
    options = (str(table), "--reference-rows", "2000", "--level", Level.INFORM.value)
    assert invoke(*options)[1] == invoke(*options)[1]


def test_a_shuffled_stream_keeps_the_budget():
    rng = np.random.default_rng(0)
    rows, found = 0, 0
    for _ in range(3):
        order = rng.permutation(6_000)
        data = {name: values[order] for name, values in shifted().items()}
        out = io.StringIO()
        run(Table(data, np.arange(6_000)), ReplaySettings(Budget(1.0, 2_000.0, "rows"), 20, 1_000, 2_000), out=out)
        found += len(out.getvalue().splitlines())
        rows += 4_000
    assert found <= rows / 2_000 + 3 * np.sqrt(rows / 2_000)


def events(rows: int = 3_000) -> list[str]:
    data = shifted(rows, 2_000)
    lines = []
    for i in range(rows):
        features = {
            name: values[i].item() if hasattr(values[i], "item") else values[i] for name, values in data.items()
        }
        event = {"kind": "prediction", "event_id": f"e{i}", "time": i * 1_000, "model": "fraud", "version": "3"}
        lines.append(json.dumps({**event, "features": features, "prediction": 0.5}))
        lines.append(
            json.dumps({"kind": "label", "event_id": f"e{i}", "time": i * 1_000 + 500, "model": "fraud", "label": 0})
        )
    return lines


def test_events_are_joined_with_their_labels(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(events()))
    made = read_table(path)
    assert (len(made), made.model, made.version, made.prediction, made.label) == (
        3_000,
        "fraud",
        "3",
        "prediction",
        "label",
    )
    assert made.label_times is not None
    assert made.times is not None
    assert (made.label_times - made.times == 500).all()
    code, lines, _ = invoke(
        str(path), "--reference-rows", "1000", "--pane", "20s", "--false-alarms-every", "7d", "--renew", "never"
    )
    assert code == 0
    assert [(line["model"], line["subject"]) for line in lines] == [("fraud", "age")]
    # Two lines an event: the row is the line of the last event used.
    assert abs(lines[0]["onset_row"] - 4_000) <= 120


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["missing.csv", "--reference-rows", "10"], "there is no file"),
        (["TABLE"], "needs --reference FILE or --reference-rows N"),
        (["TABLE", "--reference-rows", "999999"], "leave some to judge"),
        (["TABLE", "--reference-rows", "100", "--label", "nope"], "has no such column"),
        (["TABLE", "--reference-rows", "100", "--pane", "5m"], "write a number of rows"),
        (["TABLE", "--reference-rows", "100", "--false-alarms-every", "30d"], "write a number of rows"),
        (["TABLE", "--reference-rows", "100", "--renew", "maybe"], "auto, never or a number"),
        (["TABLE", "--reference", "nope.json"], "no such file"),
    ],
)
def test_a_wrong_option_says_what_to_write(table: Path, options: list[str], message: str):
    code, lines, err = invoke(*[str(table) if option == "TABLE" else option for option in options])
    assert code == 2
    assert lines == []
    assert message in err


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_recognised(tmp_path: Path, separator: str):
    path = tmp_path / "table.csv"
    path.write_text(separator.join("ab") + "\n" + separator.join(["1.5", "x"]) + "\n")
    made = read_table(path)
    assert made.columns["a"].tolist() == [1.5]
    assert made.columns["b"].tolist() == ["x"]


@pytest.mark.parametrize(("name", "content"), [("a.csv", b""), ("a.csv", b"\xff\xfe\x00\n\x80"), ("a.jsonl", b"\xc8")])
def test_a_file_that_is_no_text_is_refused_by_its_name(tmp_path: Path, name: str, content: bytes):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TableRefused, match=name):
        read_table(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not_json"),
        ('{"a": 1}', r"line 1: unknown_kind \(kind\)"),
        ('{"kind": "feature"}', r"line 1: missing_field \(event_id\)"),
        ('{"kind": "feature", "event_id": "a", "time": "yesterday", "model": "m"}', "neither RFC 3339 nor epoch"),
    ],
)
def test_a_bad_event_is_named_by_its_line(line: str, message: str):
    with pytest.raises(TableRefused, match=message):
        read_events([line.encode()])


def test_a_daily_batch_pages_neither_on_its_last_pane_nor_for_its_rhythm():
    """Ten days of bursts know no hour of the week, and the last burst is cut in half by the end of the file."""
    starts = np.arange(25) * 86_400_000 + 7_200_000
    times = (starts[:, None] + np.arange(200) * 1_600).reshape(-1)[:-100]
    made = table_of(read_frame({**bank(len(times)), "at": times}, ValueRules(time_unit="ms"), Parts(time="at")))
    options = dict.fromkeys(("label_delay", "every", "pane"))
    settings = replay_settings(
        made, reference_rows=2_000, renew="never", effect_floor=0.02, features=None, categorical=(), **options
    )
    err = io.StringIO()
    assert not run(made, settings, err=err).lines
    assert "note: the last 100 rows, from 1970-01-25 02:00:00 UTC, are not judged" in err.getvalue()


def test_bursts_at_any_hour_page_neither_for_their_number_nor_for_the_silence_between_them():
    """Three weeks see each hour of the week three times: a burst in an hour that was empty then was a surge."""
    rng = np.random.default_rng(99)
    begins = np.cumsum(rng.exponential(3 * 3_600_000, 360)).astype(np.int64)
    sizes = rng.choice([3, 30, 150, 500], 360)
    times = np.sort(np.repeat(begins, sizes) + rng.integers(0, 90_000, sizes.sum()))
    made = table_of(read_frame({**bank(len(times)), "at": times}, ValueRules(time_unit="ms"), Parts(time="at")))
    settings = replay_settings(
        made,
        reference_rows=len(times) // 2,
        renew="never",
        effect_floor=0.02,
        features=None,
        categorical=(),
        label_delay=None,
        every=None,
        pane=None,
    )
    err = io.StringIO()
    assert not run(made, settings, err=err).lines
    assert "note: volume and silence are not judged: rows come in bursts at any hour" in err.getvalue()


def test_labels_are_judged_at_their_maturity_and_not_when_they_come():
    """What is told early is told of the bad ones: judged on arrival, a steady stream would page."""
    rng = np.random.default_rng(4)
    score = np.round(rng.beta(1.0, 3.0, 6_000), 3)
    label = (rng.random(6_000) < score).astype(int)
    columns = {"x": rng.normal(size=6_000), "score": score, "label": label}
    known = np.arange(6_000) + np.where(label == 1, 10, 900)
    made = Table(columns, np.arange(6_000), label_times=known, prediction="score", label="label")
    budget = Budget(1.0, 20_000.0, "rows")
    early = run(made, ReplaySettings(budget, 50, 1_000, 2_000, maturity=100))
    ripe = run(made, ReplaySettings(budget, 50, 1_000, 2_000, maturity=1_000))
    assert early.lines
    assert any("came later than --label-maturity 100" in note for note in early.replay.summary.notes)
    assert not ripe.lines
    assert "labels of the last 1000 rows are not judged: they are younger than 1000" in ripe.replay.summary.notes
