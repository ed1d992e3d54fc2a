"""The verbs as a user types them, without a broker: what they print, where they exit, and what they refuse."""

import csv
import importlib.metadata
import json
import random
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from stationkeeper import cli
from stationkeeper.commands.operate import refuse_idle
from stationkeeper.config import Config
from stationkeeper.contracts.messages import Approval, Rollout
from stationkeeper.contracts.topics import Topics
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.state import RetrainState
from tests.retrain.bank import a_request

WRONG_USE = 2
UNREACHABLE = 4


def main(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Return the exit code and all that a command line prints, as ``stationkeeper`` itself would."""
    code = cli.guarded(lambda **options: cli.app(list(arguments), **options))
    out, err = capsys.readouterr()
    return code, out + err


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "past.csv"
    drawn = random.Random(1)
    with path.open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["txn", "time", "amount", "method", "score", "label"])
        for i in range(600):
            time = f"2026-05-01T{i // 60:02}:{i % 60:02}:00Z"
            rows.writerow([f"t{i}", time, drawn.gauss(3 * (i >= 400), 1), drawn.choice("ab"), drawn.random(), i % 2])
    return path


def config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "stationkeeper.yaml"
    path.write_text(text)
    return str(path)


def test_every_verb_says_what_it_is_for() -> None:
    names = [verb.__name__ for verb in cli.VERBS]
    lines = [[name, "--help"] for name in names]
    lines += [[group, verb, "--help"] for group, (_, verbs) in cli.GROUPS.items() for verb in verbs]
    for line in lines:
        result = CliRunner().invoke(cli.app, line, terminal_width=200)
        assert result.exit_code == 0, line
        assert "Usage:" in result.stdout


def test_the_version_is_the_installed_one() -> None:
    result = CliRunner().invoke(cli.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"stationkeeper {importlib.metadata.version('stationkeeper')}\n")


def test_a_file_becomes_a_configuration_and_a_reference_with_its_power_card(
    capsys: pytest.CaptureFixture[str], table: Path, tmp_path: Path
) -> None:
    written = tmp_path / "first.yaml"
    code, text = main(capsys, "init", str(table), "--model", "fraud", "--output", str(written))
    assert (code, written.exists()) == (0, True)
    assert f"check --config {written}" in text
    assert f"profile {table} --model fraud --time time --prediction score --label label" in written.read_text()
    code, text = main(capsys, "init", str(table), "--output", str(written))
    assert code == WRONG_USE
    assert "exists" in text
    options = ("--model", "fraud", "--time", "time", "--prediction", "score", "--features", "amount,method")
    code, text = main(capsys, "profile", str(table), *options)
    assert code == 0
    assert "3 subjects, 600 rows" in text
    assert "power card at 60 rows an hour, false pages at most 1 per 30 days" in text
    reference = json.loads(table.with_suffix(".reference.json").read_text())
    assert reference["digest"] in text


def test_a_profile_of_a_column_that_is_not_there_names_it(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    code, text = main(capsys, "profile", str(table), "--time", "when")
    assert code == WRONG_USE
    assert "when" in text


def test_a_backtest_becomes_a_report(capsys: pytest.CaptureFixture[str], table: Path, tmp_path: Path) -> None:
    options = ("--reference-rows", "300", "--time", "time", "--features", "amount", "--level", "inform")
    code, lines = main(capsys, "backtest", str(table), *options)
    assert code == 0
    # Five hours of panes teach no dependence, so drift is held back, and the command says so.
    assert "nothing is judged but data quality (--adoption 0d judges at once)" in lines
    code, lines = main(capsys, "backtest", str(table), *options, "--pane", "5m", "--quiet")
    assert code == 0
    assert {json.loads(line)["subject"] for line in lines.splitlines()} == {"amount"}
    verdicts, page = tmp_path / "verdicts.jsonl", tmp_path / "page.html"
    verdicts.write_text(lines)
    code, text = main(capsys, "report", "--backtest", str(verdicts), "-o", str(page))
    assert (code, f"wrote {page}" in text) == (0, True)
    assert "amount" in page.read_text()
    code, text = main(capsys, "report", "--backtest", str(tmp_path / "nothing.jsonl"), "-o", str(page))
    assert code != 0
    assert "nothing.jsonl" in text
    code, text = main(capsys, "report")
    assert code == WRONG_USE
    assert "--backtest FILE" in text


@pytest.mark.parametrize("verb", [("monitor",), ("check",), ("requests", "list"), ("up",), ("verify",)])
def test_a_misspelt_key_names_the_nearest_right_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: tuple[str, ...]
) -> None:
    path = config(tmp_path, "models: {fraud: {prediction: fraud.predictions, predictions: fraud.predictions}}")
    code, text = main(capsys, *verb, "--config", path)
    assert code == WRONG_USE
    assert "models.fraud.prediction: unknown key 'prediction'; did you mean 'predictions'?" in text


@pytest.mark.parametrize("verb", [("deployments", "list"), ("dead-letters", "list"), ("dump", "verdicts"), ("verify",)])
def test_a_broker_that_is_away_is_named_without_a_trace(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: tuple[str, ...]
) -> None:
    path = config(tmp_path, "kafka: {bootstrap: 'localhost:1'}\nmodels: {fraud: {predictions: scores}}")
    code, text = main(capsys, *verb, "--config", path)
    assert code == UNREACHABLE
    assert "localhost:1" in text
    assert "Traceback" not in text


def test_check_goes_on_to_the_registry_when_the_broker_is_away(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = config(tmp_path, "kafka: {bootstrap: 'localhost:1'}\nmodels: {fraud: {predictions: scores}}")
    code, text = main(capsys, "check", "--config", path)
    assert code == cli.EXIT_FAILED
    assert "✗ Kafka: connect to Kafka at localhost:1" in text
    assert "✓ registry" in text


def test_check_tells_each_finding_before_it_looks_for_the_next(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_yet(_: Config) -> None:
        assert "✗ Kafka: connect to Kafka at localhost:1" in capsys.readouterr().out
        raise typer.Abort

    monkeypatch.setattr("stationkeeper.check.checks.check_platform", not_yet)
    path = config(tmp_path, "kafka: {bootstrap: 'localhost:1'}\nmodels: {fraud: {predictions: scores}}")
    assert main(capsys, "check", "--config", path)[0] == cli.EXIT_FAILED


def test_a_registry_that_is_away_is_a_finding_without_a_trace(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    text = "kafka: {bootstrap: 'localhost:1'}\nregistry: {tracking_uri: 'http://127.0.0.1:1'}\n"
    path = config(tmp_path, f"{text}models: {{fraud: {{predictions: scores, retrain: {{}}}}}}")
    code, text = main(capsys, "check", "--config", path)
    assert code == cli.EXIT_FAILED
    assert "✗ registry: could not reach the registry at http://127.0.0.1:1" in text


def test_one_topic_read_in_two_ways_is_refused_without_a_trace(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # A role goes on without the later of the two (tests/stationkeeper/process/test_role_alone.py).
    models = "models: {a: {predictions: s}, b: {predictions: {topic: s, map: {event_id: id}}}}"
    path = config(tmp_path, f"kafka: {{bootstrap: 'localhost:1'}}\n{models}")
    code, text = main(capsys, "check", "--config", path)
    assert code == cli.EXIT_FAILED
    assert "topic 's' is read in two ways" in text


def test_an_error_from_elsewhere_keeps_its_trace() -> None:
    def broken(**_: object) -> None:
        int("x")

    with pytest.raises(ValueError, match="invalid literal"):
        cli.guarded(broken)


def rollout(**changes: object) -> Rollout:
    plain = {"model": "fraud", "epoch": 1, "time": "2026-05-01T00:00:00Z", "phase": "steady", "champion": "1"}
    return Rollout.model_validate(plain | changes)


def word(decision: str) -> Approval:
    plain = {"time": "2026-05-01T00:00:00Z", "target": "rollout", "id": "fraud", "model": "fraud", "by": "ann"}
    return Approval.model_validate(plain | {"decision": decision})


PAUSED = {"candidate": "c", "phase": "hold", "canary": "2", "controller": {"held": "paused"}}
TIMED_OUT = PAUSED | {"controller": {"held": "timeout"}}


@pytest.mark.parametrize(
    ("state", "decision", "message"),
    [
        ({}, "roll_back", "has had no rollout since version 1 was adopted: there is nothing to roll back"),
        ({"candidate": "c", "reason": "done"}, "roll_back", "is steady with champion 1: there is nothing to roll back"),
        ({"candidate": "c", "phase": "canary", "canary": "2"}, "approve", "is canary with champion 1"),
        ({"candidate": "c", "phase": "probation"}, "pause", "is probation with champion 1: there is nothing to pause"),
        ({"candidate": "c", "phase": "hold", "canary": "2"}, "resume", "there is nothing to resume"),
        (PAUSED, "pause", "there is nothing to pause"),
        (
            {"candidate": "c", "phase": "awaiting_approval", "canary": "2"},
            "promote",
            "there is nothing to promote; .*; approve lets it out, abort rejects it",
        ),
        (TIMED_OUT, "pause", "max_duration is over and on_timeout is hold"),
        (TIMED_OUT, "resume", "promote it and accept the risk, or roll it back"),
    ],
)
def test_a_word_that_would_do_nothing_is_refused(state: dict[str, object], decision: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        refuse_idle(rollout(**state), word(decision))


@pytest.mark.parametrize(
    ("state", "decision"),
    [
        ({"candidate": "c", "phase": "canary", "canary": "2"}, "roll_back"),
        ({"candidate": "c", "controller": {"previous": "0"}}, "roll_back"),
        ({"candidate": "c", "phase": "awaiting_approval", "canary": "2"}, "approve"),
        ({"candidate": "c", "phase": "awaiting_approval", "canary": "2"}, "reject"),
        ({"candidate": "c", "phase": "hold", "canary": "2"}, "pause"),
        (PAUSED, "resume"),
    ],
)
def test_a_word_that_does_something_passes(state: dict[str, object], decision: str) -> None:
    refuse_idle(rollout(**state), word(decision))


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A log with the request r1, which failed; returns the records that verbs publish."""
    sent: list[Any] = []
    asked = a_request().model_copy(update={"id": "r1", "model": "fraud"})
    state = RetrainState(request=asked, stage=RequestStage.PLANNED, reason=RequestReason.ACCEPTED)
    failed = state.enter(RequestStage.FAILED, RequestReason.BAD_DATA, "the labels are 'a', 'b'")
    lineage = SimpleNamespace(requests={"r1": asked}, candidates={}, rollouts={}, outcomes={"r1": failed})
    settings = Config.parse({"models": {"fraud": {"predictions": "scores", "retrain": {}}}})
    monkeypatch.setattr(
        "stationkeeper.process.wiring.open_reader", lambda _: nullcontext((settings, None, Topics("t")))
    )
    monkeypatch.setattr("stationkeeper.process.wiring.publish", lambda _, record: sent.append(record))
    monkeypatch.setattr("stationkeeper.explain.lineage.Lineage", lambda *_: lineage)
    return sent


def test_a_request_that_failed_is_listed_with_its_reason_refuses_an_approval_and_is_asked_again(
    requests: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = main(capsys, "requests", "list")
    assert code == 0
    assert "failed (bad_data: the labels are 'a', 'b')" in text
    for verb in ("approve", "reject"):
        code, text = main(capsys, "requests", verb, "r1")
        assert code == WRONG_USE
        assert "bad_data" in text
    assert "requests retry r1" in main(capsys, "requests", "approve", "r1")[1].replace("\n│ ", " ")
    assert not requests
    assert main(capsys, "requests", "retry", "r1", "--by", "ada", "--note", "labels mended")[0] == 0
    found = Approval.decode(requests[0].value)
    assert (found.target, found.id, found.model, found.decision, found.by) == ("request", "r1", "fraud", "retry", "ada")
    code, text = main(capsys, "requests", "approve", "r2")
    assert code == WRONG_USE
    assert "no request is called 'r2'; the latest are r1" in text


def test_a_version_is_adopted_or_trained_and_never_quietly_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = main(capsys, "deployments", "adopt", "fraud", "3", "--train", "past.csv")
    assert code == WRONG_USE
    assert "give VERSION (3) or --train" in text
