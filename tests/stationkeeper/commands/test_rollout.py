"""What a person is told of a rollout, and that a drill takes nothing back unasked."""

import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import typer

from stationkeeper.commands.erase import erase_shadow
from stationkeeper.commands.rollout import drill, plan, show_deployment, show_shadow
from stationkeeper.config import Config
from stationkeeper.contracts.messages import RolloutPhase, Shadow
from stationkeeper.contracts.times import to_datetime
from stationkeeper.contracts.topics import Topics
from stationkeeper.deploy.adoption import Deployments
from stationkeeper.deploy.core.admission import offer
from stationkeeper.deploy.core.forecast import Forecast
from stationkeeper.deploy.core.policy import Policy
from stationkeeper.deploy.core.state import memory, remember
from stationkeeper.deploy.targets.target import Abilities
from stationkeeper.retrain.snapshot import Erasure
from stationkeeper.streams.errors import Retryable
from tests.deploy.core.ramp import POLICY, candidate, first, started


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A log whose rollouts a test sets; ``sent`` is what verbs publish."""
    held: dict[str, Any] = {"rollouts": {}, "sent": [], "unreadable": Counter()}
    settings = Config.parse({"models": {"fraud": {"predictions": "scores"}}, "targets": [{"kind": "dry-run"}]})
    monkeypatch.setattr(
        "stationkeeper.process.wiring.open_reader", lambda _: nullcontext((settings, None, Topics("t")))
    )
    monkeypatch.setattr(
        "stationkeeper.deploy.adoption.read_deployments",
        lambda *_: Deployments(held["rollouts"], (), unreadable=held["unreadable"]),
    )
    monkeypatch.setattr("stationkeeper.process.wiring.publish", lambda _, one: held["sent"].append(one))
    return held


def test_a_canary_is_shown_with_its_steps_and_the_limits_of_its_guardrails(
    log: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    spans = {"weight_not_seen": 120_000, "restarted": 60_000, "of_a_newer_version": 60_000}
    begun = started(POLICY)
    log["rollouts"]["fraud"] = remember(begun, memory(begun).with_step(uncounted=spans))
    log["unreadable"]["fraud"] = 2
    show_deployment("fraud")
    text = capsys.readouterr().out
    assert "  2 records of the audit log cannot be read" in text
    assert "fraud: canary, champion 1, canary 2 at 1 %" in text
    assert "step 1 %: current, 0 canary rows" in text
    told = "2 min: traffic did not show the weight yet; 1 min: before the step started again"
    assert f"not counted or not compared: {told}" in text
    assert "step 50 %: planned" in text
    assert "errors: evidence 0.00 nats against a ratio above 1; roll_back at 4.61 nats" in text


def test_a_holdback_is_not_claimed_of_a_target_that_cannot_split_it(
    log: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """KServe gives a promoted version 100 %; the log alone says 2 % of the old one."""
    held = {"phase": RolloutPhase.PROBATION, "champion": "2", "canary": None, "weight_bp": 0}
    memory = {"controller": {"previous": "1", "holdback_bp": 200}}
    log["rollouts"]["fraud"] = started(POLICY).model_copy(update=held | memory)
    able = {"dry-run": Abilities(holds_back=True)}
    monkeypatch.setattr("stationkeeper.deploy.targets.abilities_of", lambda target: able[target.name])
    show_deployment("fraud")
    assert "fraud: probation, champion 2, holdback 1 at 2 %\n" in capsys.readouterr().out
    able["dry-run"] = Abilities(holds_back=True, step_bp=500)
    show_deployment("fraud")
    told = "champion 2, holdback 1 at 2 % (not at dry-run: there version 2 has all traffic)\n"
    assert told in capsys.readouterr().out


def test_what_a_candidate_would_have_answered_otherwise_is_shown_row_by_row_as_its_run_keeps_it(
    log: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Shadow(
        rows=40, since=to_datetime(0), until=to_datetime(9), flipped=2, risen=2, labelled=2, challenger_right=2
    )
    log["rollouts"]["fraud"] = offer(first(), candidate().model_copy(update={"shadow": told}), POLICY, 0).rollout
    show_deployment("fraud")
    words = "it changes 2 of 40 logged rows since 1970-01-01T00:00:00+00:00 (5.00%), 2 to positive and 0 from it"
    assert f"  shadow: {words}; of 2 with a label it was right in 2, the champion in 0\n" in capsys.readouterr().out

    rows = [{"@event_id": f"e{n}", "@time": n, "kind": "flip", "reason": "no becomes yes"} for n in range(2)]
    rows[0]["segment:channel"] = "web"
    offered = [candidate("2"), candidate("3").model_copy(update={"shadow": told})]
    held = {("run-3", "shadow.json"): json.dumps({"text": told.words(), "rows": rows})}
    monkeypatch.setattr("stationkeeper.explain.lineage.read_messages", lambda *_: iter(offered))
    monkeypatch.setattr("stationkeeper.registry.read_run_file", lambda _, __, run, name: held[run, name])
    offered[1] = offered[1].model_copy(update={"id": "cand-3", "run_id": "run-3"})
    show_shadow("fraud", "3", first=1)
    text = capsys.readouterr().out
    assert text.startswith(f"fraud 3 against 1: {words}")
    assert (
        "  1970-01-01T00:00:00+00:00 event e0 flip: no becomes yes  channel=web\n  and 1 more rows: --first 2\n" in text
    )
    with pytest.raises(typer.BadParameter, match="version 2 of fraud was registered without a shadow"):
        show_shadow("fraud", "2", first=1)
    with pytest.raises(typer.BadParameter, match="fraud has no candidate 9; candidates in the log: 2, 3"):
        show_shadow("fraud", "9", first=1)


def test_an_erased_entity_leaves_the_lists_of_disagreements_and_the_sentence_above_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = ("customer=bob (2 of 2 rows)", "hour=12 (9 of 9 rows)", f"customer={'x' * 59}… (5 of 6 rows)")
    told = Shadow(rows=40, since=to_datetime(0), until=to_datetime(9), flipped=2, places=places)
    rows = [
        {"@event_id": "12", "segment:customer": "ann", "right": "unknown", "kind": "flip"},
        {"@event_id": "b", "segment:customer": "ann", "segment:hour": "12", "right": "unknown", "kind": "flip"},
        {"@event_id": "c", "segment:customer": "bob", "right": "unknown", "kind": "flip"},
    ]
    report = {"summary": told.model_dump(mode="json"), "text": told.words(), "rows": rows}
    held = {"run-2": json.dumps(report)}
    monkeypatch.setattr("stationkeeper.registry.read_run_file", lambda _, __, run, ___: held[run])
    monkeypatch.setattr("stationkeeper.registry.write_run_file", lambda _, run, __, text: held.update({run: text}))
    settings = Config.parse({"models": {"fraud": {"predictions": "scores"}}})
    # Our own words in a row are nobody's name.
    for word in ("unknown", "flip"):
        assert erase_shadow(settings, "run-2", Erasure(word, frozenset()), really=True) is None
    bob = Erasure("bob", frozenset({"12"}))
    assert erase_shadow(settings, "run-2", bob, really=False).rows == 3
    assert json.loads(held["run-2"]) == report, "a rehearsal changes nothing"
    # Two rows, and the segment that the sentence names; the event 12 is not the hour 12.
    assert erase_shadow(settings, "run-2", bob, really=True).rows == 3
    assert "bob" not in held["run-2"]
    left = json.loads(held["run-2"])
    assert [row["@event_id"] for row in left["rows"]] == ["b"]
    assert left["summary"]["places"] == ["customer=(erased) (2 of 2 rows)", *places[1:]]
    assert left["text"] == Shadow.model_validate(left["summary"]).words()
    assert erase_shadow(settings, "run-2", bob, really=True) is None, "a second run has nothing left to do"
    # A long name is told by its beginning.
    assert erase_shadow(settings, "run-2", Erasure("x" * 70, frozenset()), really=True).rows == 1
    assert "xxx" not in held["run-2"]

    def away(*_: object) -> str:
        raise Retryable("the registry is away")

    monkeypatch.setattr("stationkeeper.registry.read_run_file", away)
    kept = erase_shadow(settings, "run-2", bob, really=True)
    assert kept.kept == "the registry is away; run erase again when the registry answers"


def test_a_model_without_a_rollout_is_named_with_those_there_are(log: dict[str, Any]) -> None:
    with pytest.raises(typer.BadParameter, match="model 'fraud' has no champion in the log; known: none"):
        show_deployment("fraud")


def test_a_drill_takes_nothing_back_unasked_and_rehearses_where_nothing_is_out(
    log: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    log["rollouts"]["fraud"] = started(POLICY)
    with pytest.raises(typer.BadParameter, match="the drill ends it and leaves version 1 alone; say --yes"):
        drill("fraud", by="ann")
    log["rollouts"]["fraud"] = first()
    assert drill("fraud", by="ann") == 0
    text = capsys.readouterr().out
    assert "rehearsal, nothing was moved" in text
    assert "dry-run: 0.0 s (champion 1, 0 % to nobody)" in text
    assert log["sent"] == []


@pytest.mark.parametrize(
    ("entities", "asks"), [(500, "allow more time (about 309 minutes)"), (5, "differ too much, however long it takes")]
)
def test_a_short_deadline_is_not_blamed_on_the_entities(
    entities: int, asks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forecast itself takes seconds; these are its answers at 1 000 requests a minute of which 0.8 % fail."""

    def forecast(policy: Policy, *given: Any, by_request: bool) -> Forecast:
        minutes = policy.max_ms // 60_000
        promoted = 250 if by_request else {500: 309, 5: None}[given[4]]
        return Forecast(promoted if promoted and promoted <= minutes else None, 87, 2.0, minutes)

    monkeypatch.setattr("stationkeeper.deploy.core.forecast.forecast", forecast)
    (tmp_path / "c.yaml").write_text("models: {fraud: {predictions: scores, rollout: {max_duration: 4h}}}")
    plan("fraud", 1_000, 0.008, entities=entities, config=tmp_path / "c.yaml")
    told = capsys.readouterr().out
    assert "not by max_duration (240 minutes)" in told
    assert asks in told
    assert ("however long" in told) is (entities == 5)


@pytest.mark.parametrize(("written", "split"), [
    ("targets: [{kind: gateway-api, url: 'https://k:6443', token: {secret: x}, options: {namespace: m}}]", True),
    ("serve: {sticky: event_id}", True),
    ("serve: {sticky: entity_id}", False),
    ("targets: [{kind: http, url: 'http://team'}]", False),
])  # fmt: skip
def test_a_plan_takes_the_split_of_the_configured_targets(
    written: str, split: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty people behind a gateway were told that no time is enough, and to take a gateway."""
    asked: list[bool] = []

    def forecast(policy: Policy, *given: Any, by_request: bool) -> Forecast:
        of_entities = len(given) == 5
        if of_entities:
            asked.append(by_request)
        return Forecast(300 if of_entities else 99, 230 if of_entities else 43, 2.0, policy.max_ms // 60_000)

    monkeypatch.setattr("stationkeeper.deploy.core.forecast.forecast", forecast)
    (tmp_path / "c.yaml").write_text(f"models: {{fraud: {{predictions: scores}}}}\n{written}\n")
    for given in (None, not split):
        plan("fraud", 100, 0.05, entities=20, by_request=given, config=tmp_path / "c.yaml")
        told = capsys.readouterr().out
        assert "times as many fail): after 300 minutes" in told
        # Tenants that send alike all day were promoted in half of that, and the forecast said nothing of it.
        assert ("at best after 99 and 43 minutes" in told) is asked[-1]
    assert asked == [split, not split]


def test_a_plan_of_many_is_no_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text("models: {fraud: {predictions: scores}}\nserve: {sticky: event_id}\n")
    for entities, bounds in ((20, True), (5_000, False)):
        plan("fraud", 100, 0.05, entities=entities, config=tmp_path / "c.yaml")
        assert ("bounds, as 20 entities" in capsys.readouterr().out) is bounds
        plan("fraud", 100, 0.05, entities=entities, config=tmp_path / "c.yaml", json=True)
        assert (json.loads(capsys.readouterr().out)["sooner"] is not None) is bounds
