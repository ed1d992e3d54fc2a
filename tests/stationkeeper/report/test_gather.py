"""The report: from the log of a whole loop in memory, from a backtest's lines, with rows for time, and its errors."""

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from typer.testing import CliRunner

from stationkeeper.cli import app, guarded
from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.messages import (
    Deployment,
    DeploymentAction,
    Message,
    Onset,
    Subject,
    SubjectType,
    Verdict,
)
from stationkeeper.contracts.times import to_datetime
from stationkeeper.contracts.topics import Topic, Topics
from stationkeeper.contracts.wire import OutcomeDelta, PaneDelta, Record, encode, pack
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.reference import dump
from stationkeeper.monitor.profiling import subject_columns
from stationkeeper.report.gather import ReportError, from_backtest, from_log, write, write_plot
from stationkeeper.report.page import report_page
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from tests.messages import candidate, request

MINUTE = 60_000
START = 1_790_000_040_000
ONSET = START + 60 * MINUTE
SEEN = START + 66 * MINUTE
TOPICS = Topics("test")
DATED = Onset(time=to_datetime(ONSET), low=to_datetime(ONSET - MINUTE), high=to_datetime(ONSET + MINUTE))


def table(rng: np.random.Generator, rows: int, *, drifted: bool) -> dict[str, Any]:
    methods = rng.choice(["card", "transfer", "instant"], rows, p=[0.6, 0.2, 0.2] if drifted else [0.7, 0.3, 0.0])
    return {"amount": rng.gamma(2, 60 * (1.4 if drifted else 1.0), rows), "method": methods}


def verdict(kind: str = "data_drift", at: int = SEEN, **more: Any) -> Verdict:
    fields: dict[str, Any] = {
        "id": f"ver-{kind}-{at}",
        "time": to_datetime(at),
        "model": "fraud",
        "version": "3",
        "subject": Subject(type=SubjectType.FEATURE, name="method"),
        "kind": kind,
        "level": "page",
        "state": "drifting",
        "cause": "new value",
        "reason": "method: instant <new> at 20 %",
        "statistic": 22.0,
        "threshold": 16.4,
        "effect": 0.2,
        "rows": 400,
        "onset": DATED,
        "incident": "inc-1",
    }
    return Verdict(**fields | more)


def log() -> MemoryLog:
    """A log in which a drift was seen, cured and is over; its history holds two hours of panes."""
    memory = MemoryLog()
    rng = np.random.default_rng(3)
    reference = profile(table(rng, 5_000, drifted=False))
    records: list[tuple[Topic, bytes, bytes]] = [
        (TOPICS.references, b"fraud/3", dump(reference).encode()),
        (TOPICS.references, b"other/1", b"not a reference"),
    ]

    def say(topic: Topic, message: Message) -> None:
        records.append((topic, b"fraud", message.encode()))

    for minute in range(120):
        at = START + minute * MINUTE
        columns = subject_columns(reference, table(rng, 100, drifted=at >= ONSET))
        (counts,) = reference.layout.tally(columns, np.zeros(100, np.int64), np.array([100]))
        half = reference.layout.width // 2
        blocks: list[Record] = [
            PaneDelta(
                "fraud", "3", reference.digest, "predictions", "", at, MINUTE, 100, first, len(counts), pack(part)
            )
            for first, part in ((0, counts[:half]), (half, counts[half:]))
        ]
        confusion = pack(np.array([9 if at < ONSET else 6, 1 if at < ONSET else 4, 2, 88]))
        blocks.append(OutcomeDelta("fraud", "3", "", at, MINUTE, 100, at, confusion, b"", 0, 0))
        records.append((TOPICS.history, b"fraud", encode(blocks)))
    say(TOPICS.verdicts, verdict())
    say(TOPICS.verdicts, verdict(at=SEEN + MINUTE, subject=Subject(type=SubjectType.FEATURE, name="amount")))
    asked = request(
        SEEN,
        verdict=f"ver-data_drift-{SEEN}",
        version="3",
        cause="new value",
        onset=DATED,
        subjects=("method", "amount"),
    )
    say(TOPICS.requests, asked)
    passed = candidate(
        SEEN + 5 * MINUTE,
        "4",
        "3",
        id="cand-1",
        request="req-1",
        run_id="run-7",
        snapshot="snap-ab12",
        artifact="models:/fraud/4",
        gate_reason="better by 0.14",
    )
    say(TOPICS.candidates, passed)
    for action, after in (("started", 6), ("promoted", 20)):
        deployment = Deployment(
            id=f"dep-{action}",
            time=to_datetime(SEEN + after * MINUTE),
            model="fraud",
            action=DeploymentAction(action),
            champion="3",
            canary="4",
            candidate="cand-1",
            request="req-1",
            weight_bp=10_000,
            reason=f"{action} because",
        )
        say(TOPICS.deployments, deployment)
    say(TOPICS.verdicts, verdict("recovered", SEEN + 40 * MINUTE))
    for topic in TOPICS.all():
        memory.create(topic)
    for topic, key, value in records:
        partition = partition_of("fraud", topic.partitions) if topic.partitions > 1 else 0
        memory.produce(topic.name, [value], keys=[key], partition=partition)
    return memory


def test_the_log_becomes_a_file_that_needs_nothing_else(tmp_path: Path) -> None:
    report = from_log(MemoryReader(log()), TOPICS, "fraud")
    assert [case.id for case in report.cases] == ["inc-1"]
    assert report.cases[0].subjects == ["method", "amount"]
    assert report.cases[0].recovered is not None
    path = tmp_path / "report.html"
    write(report, path)
    page = path.read_text()
    for reference in ("http://", "https://", "<script", "<link", "src="):
        assert reference not in page.replace("http://www.w3.org/2000/svg", "")
    chain = ["ver-data_drift-", "req-1", "snap-ab12", "run-7", "fraud/4", "dep-started", "dep-promoted"]
    told = page.index('<ol class="timeline">')
    places = [page.index(name, told) for name in chain]
    assert places == sorted(places)
    assert "instant &lt;new&gt; at 20 %" in page
    assert "1 incident (1 × the inputs changed); 1 paged, 1 ended. 1 retrain request, 1 candidate, 1 promoted." in page
    assert len(page) < 300_000


def test_the_plots_are_the_numbers_of_the_history() -> None:
    report = from_log(MemoryReader(log()), TOPICS, "fraud")
    method = next(s for s in report.subjects if s["name"] == "method")
    distances = dict(zip(method["series"]["time"], method["series"]["distance"], strict=True))
    before = [d for at, d in distances.items() if at < ONSET and d is not None]
    after = [d for at, d in distances.items() if at >= ONSET and d is not None]
    assert max(before) < 0.15 < min(after)
    assert sum(method["cells"]["window"]) == method["rows"] == 4_600
    precision = next(p for p in report.performance if p["measure"].startswith("precision"))
    # By hand: 46 minutes of a hundred rows, from onset to recovery; an hour at 9 of 10, an hour at 6 of 10.
    assert precision["value"] == pytest.approx(0.75)
    assert precision["series"]["real"][0] == pytest.approx(0.9)


def test_a_period_is_kept_and_an_unknown_model_is_named() -> None:
    reader = MemoryReader(log())
    report = from_log(reader, TOPICS, "fraud", START, ONSET)
    assert report.cases == ()
    assert "No incident was opened" in report_page(report)
    with pytest.raises(ReportError, match="'frod'; it knows fraud"):
        from_log(reader, TOPICS, "frod")


def test_a_backtest_with_rows_for_time(tmp_path: Path) -> None:
    lines = [
        {
            "kind": "data_drift",
            "subject": "amount",
            "model": "m",
            "version": "1",
            "segment": "",
            "time": 5_200,
            "row": 5_200,
            "onset_row": 5_000,
            "onset_time": 5_000,
            "effect": 0.12,
            "rows": 200,
            "incident": "inc-9",
        }
    ]
    path = tmp_path / "verdicts.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    page = report_page(from_backtest(path))
    assert "row 5\u202f200" in page
    assert "row 5\u202f000" in page
    assert "1970" not in page


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "verdicts.jsonl:1 has no field 'subject'"),
        ('{"subject": "a"}', "has no field 'kind'"),
        ("nonsense", "verdicts.jsonl:1 cannot be read"),
        ('{"subject": "a", "kind": "k", "time": "yesterday"}', "yesterday"),
    ],
)
def test_a_line_that_is_no_verdict_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_text(text)
    with pytest.raises(ReportError, match=said):
        from_backtest(path)


def test_a_file_that_is_no_text_is_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "model.parquet"
    path.write_bytes(b"PAR1\xff\xfe\x00")
    with pytest.raises(ReportError, match=r"model\.parquet:1 cannot be read"):
        from_backtest(path)


def test_a_file_with_two_models_asks_which(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    line = verdict().model_dump(mode="json", exclude_none=True)
    path.write_text("\n".join(json.dumps(line | {"model": model}) for model in ("a", "b")))
    with pytest.raises(ReportError, match="models a, b; choose one with --model"):
        from_backtest(path)
    assert from_backtest(path, "b").findings[0].onset == ONSET


def test_one_plot_is_a_well_formed_svg_file(tmp_path: Path) -> None:
    report = from_log(MemoryReader(log()), TOPICS, "fraud")
    write_plot(report, "amount", tmp_path / "amount.svg")
    with pytest.raises(ReportError, match="plots exist for: method, amount"):
        write_plot(report, "colour", tmp_path / "colour.svg")
    drawing = (tmp_path / "amount.svg").read_text()
    root = ET.fromstring(drawing)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "#1f6fbf" in drawing


def test_the_command_line_names_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = verdict().model_dump(mode="json", exclude_none=True)
    (tmp_path / "verdicts.jsonl").write_text(json.dumps(line))
    run = CliRunner().invoke
    monkeypatch.setattr(sys, "argv", ["stationkeeper", "report"])
    assert guarded(app) == 2
    made = run(app, ["report", "--backtest", "verdicts.jsonl"])
    assert (made.exit_code, (tmp_path / "report.html").exists()) == (0, True)
    assert "wrote report.html" in made.output
    for arguments, said in (
        (["--backtest", "verdicts.jsonl", "--plot", "colour"], "nothing called 'colour' moved"),
        (["--backtest", "verdicts.jsonl", "--model", "frod"], "it holds fraud"),
        ([], "give --model NAME"),
    ):
        answer = run(app, ["report", *arguments], env={"COLUMNS": "200"})
        assert answer.exit_code == 2
        assert said in answer.output


def test_a_warning_in_no_incident_is_a_verdict_and_no_incident(tmp_path: Path):
    lines = [verdict(id="ver-1", incident="inc-1", level="page")]
    lines += [verdict(at=SEEN + at * MINUTE, id=f"ver-w{at}", incident=None, level="warn") for at in range(6)]
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(one.encode().decode() + "\n" for one in lines))
    report = from_backtest(path)
    assert [case.id for case in report.cases] == ["inc-1"]
    page = report_page(report)
    assert "1 incident (" in page
    assert "ver-w3" in page
