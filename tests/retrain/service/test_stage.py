import errno
import json
import random
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from stationkeeper.contracts.labels.delay import Absence
from stationkeeper.contracts.messages import Approval, Candidate, GateOutcome, VerdictKind
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.status import check
from stationkeeper.contracts.times import to_datetime
from stationkeeper.contracts.topics import Topics, dead_letter_topic
from stationkeeper.registry import ArtifactError, Registry, RegistrySettings, read_run_file, write_run_file
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.stage import LoopTables, Retrain
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.service.steps import ModelInputs, Steps
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot import EVENT_ID, Erased, Erasure, LabelledRows, SnapshotStore, erase_snapshots
from stationkeeper.retrain.snapshot.object_store import ObjectStore
from stationkeeper.retrain.training.job import TrainingJob
from stationkeeper.retrain.training.process import TrainingProcess
from stationkeeper.retrain.verification import train_again
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.ports import Partition
from stationkeeper.streams.settings import KafkaSettings
from tests.retrain.bank import (
    HOUR,
    LABELS,
    ONSET,
    PREDICTIONS,
    SMALL,
    START,
    TOPICS,
    Bank,
    a_request,
    events,
    reference_builder,
    transactions,
)
from tests.waiting import until

KAFKA = KafkaSettings(flush_interval=0, poll_timeout=1)
T = Topics()


@dataclass
class World:
    """A log, a registry and the process that retrains; ``restart`` kills it and starts another."""

    bank: Bank
    directory: Path
    settings: RetrainSettings
    registry: Registry
    kafka: KafkaSettings = KAFKA
    log: MemoryLog = field(default_factory=MemoryLog)
    loops: list[Loop] = field(default_factory=list)
    absence: Absence | None = None

    def __post_init__(self) -> None:
        for topic in T.all():
            self.log.create(topic)
        for name in (PREDICTIONS, LABELS):
            self.log.create(name)

    def restart(self) -> Loop:
        if self.loops:
            stage = self.loops[-1].stage
            assert isinstance(stage, Retrain)
            stage._runner.reset()
        inputs = ModelInputs("bank", TOPICS, self.settings, absence=self.absence)
        steps = Steps(
            {"bank": inputs},
            self.registry,
            self.bank.snapshots,
            lambda: MemoryReader(self.log),
            reference_builder,
            self.directory / "work",
        )
        stage = Retrain({"bank": inputs}, T, steps)
        source, sink = MemorySource(self.log, self.kafka, "retrain"), MemorySink(self.log, self.kafka, "retrain")
        self.loops.append(Loop(stage, source, sink, MemoryReader(self.log), self.kafka))
        return self.loops[-1]

    def traffic(self, rows: int = 3_000, *, shifted: bool = True, seed: int = 2, until: int = START + 8 * HOUR) -> None:
        before = transactions(2_000, START, ONSET, seed=seed, shifted=False)
        after = transactions(rows, ONSET, until, seed=seed + 1, shifted=shifted)
        for part in (before, after):
            predictions, labels = events(part, self.bank.champion.version)
            self.log.produce(PREDICTIONS, predictions)
            self.log.produce(LABELS, labels)

    def ask(self, *values: bytes) -> None:
        self.log.produce(T.requests.name, list(values), keys=[b"bank"] * len(values))

    def run(self, loop: Loop, until: Callable[[], bool], limit_s: float = 300.0) -> None:
        end = time.monotonic() + limit_s
        while not until():
            assert time.monotonic() < end, f"never came about: {self.states()}"
            loop.turn()

    def states(self) -> dict[str, RetrainState]:
        return {key: RetrainState.decode(value) for key, value in self.latest(T.retrain_state.name).items()}

    def latest(self, topic: str) -> dict[str, bytes]:
        found = {}
        for key, value in self.records(topic):
            assert key is not None
            assert value is not None
            found[key.decode()] = value
        return found

    def records(self, topic: str) -> list[tuple[bytes | None, bytes | None]]:
        log = self.log.at(Partition(topic, 0))
        return list(zip(log.keys, log.values, strict=True))

    def stage_of(self, request: str = "req-1") -> RequestStage | None:
        # Its last record alone: this is asked at every turn.
        log, key = self.log.at(Partition(T.retrain_state.name, 0)), request.encode()
        last = next((log.values[i] for i in range(len(log.keys) - 1, -1, -1) if log.keys[i] == key), None)
        return RetrainState.decode(last).stage if last else None

    def finished(self) -> bool:
        stage = self.stage_of()
        return stage is not None and stage.final

    def candidates(self) -> list[Candidate]:
        return [Candidate.decode(value or b"") for _, value in self.records(T.candidates.name)]


@pytest.fixture
def world(bank: Bank, tmp_path: Path) -> Iterator[World]:
    made = World(bank, tmp_path, bank.settings, bank.registry)
    yield made
    for loop in made.loops:
        loop.close()
    made.bank.registry._connection.client("clean").delete_registered_model_alias("bank", "challenger")
    for version in made.bank.registry.remove_orphans("bank", "req-1"):
        assert version != made.bank.champion.version


@pytest.mark.parametrize("drawn", [True, False])
def test_labels_that_a_decision_keeps_away_are_told_and_weighed(world: World, *, drawn: bool):
    """A blocked payment gets no label; one in five of those that would be blocked is let through."""
    for seed, (start, end, shifted) in enumerate([(START, ONSET, False), (ONSET, START + 8 * HOUR, True)]):
        rows = transactions(3_000, start, end, seed=20 + seed, shifted=shifted)
        told = {}
        for value in events(rows, world.bank.champion.version)[0]:
            event = json.loads(value)
            p = 0.8 if event["features"]["amount"] > 4.2 else 0.0
            blocked = random.Random(event["event_id"]).random() < p
            done = {"action": "block" if blocked else "approve", "assignment_prob": p if blocked else 1.0 - p}
            told[event["event_id"]] = event | (done if drawn else {"action": done["action"]})
        world.log.produce(PREDICTIONS, [json.dumps(event).encode() for event in told.values()])
        labels = events(rows, world.bank.champion.version)[1]
        world.log.produce(LABELS, [one for one in labels if told[json.loads(one)["event_id"]]["action"] == "approve"])
    world.ask(a_request(world.bank.champion.version).encode())
    world.run(world.restart(), lambda: world.finished() or (world.stage_of() is RequestStage.WAITING))

    state = world.states()["req-1"]
    assert state.gate is not None, state.detail
    assert any("labels come for some actions rather than others" in entry.note for entry in state.history)
    found = state.gate.numbers["selection"]
    assert found["shut"][0]["action"] == "block"
    assert (found["shut"][0]["labelled"], found["flipped"] is None) == (0, False)
    if drawn:
        assert found["unseen"] == 0
        assert 0 < found["effective"] < found["weighted"]
        assert "weigh 1/assignment_prob" in state.gate.reason
    else:
        assert found["unseen"] == found["shut"][0]["rows"]
        assert found["weighted"] == 0
        assert "no assignment_prob says how they were drawn" in state.gate.reason


def test_a_model_whose_frauds_alone_are_labelled_is_retrained(world: World):
    """As all other tests of the loop, but good payments never get a label: their absence is one after ten minutes."""
    world.absence = Absence(pane=60_000, horizon=24 * HOUR, least=600_000)
    for seed, (start, end, shifted) in enumerate([(START, ONSET, False), (ONSET, START + 8 * HOUR, True)]):
        rows = transactions(3_000, start, end, seed=30 + seed, shifted=shifted)
        predictions, labels = events(rows, world.bank.champion.version)
        world.log.produce(PREDICTIONS, predictions)
        world.log.produce(LABELS, [one for one in labels if json.loads(one)["label"]])
    world.ask(a_request(world.bank.champion.version).encode())
    world.run(world.restart(), world.finished)

    state = world.states()["req-1"]
    assert state.stage is RequestStage.CANDIDATE, state.detail
    (candidate,) = world.candidates()
    manifest = world.bank.snapshots.find(candidate.snapshot).manifest  # type: ignore[union-attr]
    # Of 6 000 payments some 480 are frauds; the rest of what was old enough is negative, beside the base's own labels.
    assert 5_000 < manifest["absent"] < 6_000
    planned = next(one.note for one in state.history if "negative for want of a label" in one.note)
    assert "10m old and more" in planned
    client = world.registry._connection.client("look")
    assert state.run_id is not None
    card = Path(client.download_artifacts(state.run_id, "model-card.md", str(world.directory))).read_text()
    assert f"{manifest['absent']} of them negative for want of a label" in card
    assert state.gate is not None
    assert state.gate.outcome is GateOutcome.PASS


def test_a_request_becomes_one_candidate_with_its_lineage(world: World):
    world.traffic()
    request = a_request(world.bank.champion.version)
    world.ask(request.encode())
    loop = world.restart()
    world.run(loop, world.finished)

    state = world.states()["req-1"]
    assert state.stage is RequestStage.CANDIDATE, state.detail
    (candidate,) = world.candidates()
    assert candidate.gate is GateOutcome.PASS
    segments = {one["name"].split("=")[0] for one in candidate.evidence["gate"]["segments"]}
    assert segments == {"foreign", "method"}, "the gate of the loop sees what the snapshot has few values of"
    assert candidate.evidence["gate"]["measured"]["p99_ms"] > 0
    assert candidate.request == "req-1"
    assert candidate.champion == world.bank.champion.version
    assert candidate.snapshot == state.snapshot
    manifest = world.bank.snapshots.find(candidate.snapshot).manifest  # type: ignore[union-attr]
    assert manifest["base"] == world.bank.champion.snapshot
    assert {one["topic"]: one["end"] for one in manifest["ranges"]} == {PREDICTIONS: 5_000, LABELS: 5_000}
    tags = world.registry.tags("bank", candidate.version)
    client = world.registry._connection.client("look")
    assert state.run_id is not None
    card = Path(client.download_artifacts(state.run_id, "model-card.md", str(world.directory))).read_text()
    shadow, rows = candidate.shadow, world.bank.snapshots.find(candidate.snapshot).rows  # type: ignore[union-attr]
    assert shadow is not None
    assert shadow.flipped is not None
    # Of the 5 000 rows 3 000 came after the change, with a label or without; each label here is ripe but those of the
    # last hours, and only what was held out tells who was right.
    assert (shadow.rows, shadow.silent) == (3_000, 0)
    assert 0 < shadow.labelled < shadow.flipped < 3_000 < rows
    assert shadow.challenger_right > shadow.champion_right
    assert any(place.startswith("method=wallet") for place in shadow.places), shadow.places
    connection, where = world.registry._connection, world.registry.settings.tracking_uri
    kept = json.loads(read_run_file(connection, where, candidate.run_id, "shadow.json"))
    assert kept["text"] == shadow.words()
    assert 0 < len(kept["rows"]) <= 100
    # Named by their events; of its features only the segments.
    assert {"@event_id", "@time", "reason", "segment:method"} <= set(kept["rows"][0])
    assert "amount" not in kept["rows"][0]
    write_run_file(connection, candidate.run_id, "shadow.json", "{}")
    assert read_run_file(connection, where, candidate.run_id, "shadow.json") == "{}"
    with pytest.raises(ArtifactError, match=r"holds no shadow.txt; it has: .*shadow\.json"):
        read_run_file(connection, where, candidate.run_id, "shadow.txt")
    for told in (
        shadow.words(),
        "cause: method moved",
        candidate.snapshot,
        "pass: better after the change",
        "| method=wallet |",
    ):
        assert told in card
    assert tags["request"] == "req-1"
    assert tags["incident"] == "inc-1"
    assert tags["snapshot"] == candidate.snapshot
    assert world.registry.alias("bank", "challenger") == candidate.version
    # Anybody can train it again, on the same rows and against the same champion.
    assert train_again(world.registry, world.bank.snapshots, model="bank", version=candidate.version).same
    references = world.latest(T.references.name)
    assert list(references) == [f"bank/{candidate.version}"]
    assert b'"rows": 3000' in references[f"bank/{candidate.version}"]
    seen = [entry.stage for entry in state.history]
    assert seen == [stage for stage in RequestStage if stage is not RequestStage.WAITING][:6]
    check(dict(loop.stage.status()))
    samples = {(s.metric, s.labels): s.value for s in loop.stage.samples()}
    assert samples["stationkeeper_retrain_outcomes", ("bank", "candidate")] == 1
    loop.stage.revoked(frozenset())
    assert loop.stage.samples() == [], "who does not own the requests must not show zeros"


KILLS = [stage for stage in RequestStage if not stage.final and stage is not RequestStage.WAITING]


@pytest.mark.parametrize("killed_in", KILLS)
def test_killed_at_any_stage_it_resumes_with_one_candidate(world: World, killed_in: RequestStage):
    world.traffic()
    world.ask(a_request(world.bank.champion.version).encode())
    loop = world.restart()
    world.run(loop, lambda: world.stage_of() is killed_in)
    loop = world.restart()
    world.run(loop, world.finished)
    assert world.stage_of() is RequestStage.CANDIDATE
    (candidate,) = world.candidates()
    world.run(loop, lambda: _versions(world) == [candidate.version])


def test_a_version_registered_by_a_dead_process_is_removed(world: World, monkeypatch: pytest.MonkeyPatch):
    world.traffic()
    world.ask(a_request(world.bank.champion.version).encode())
    loop = world.restart()
    world.run(loop, lambda: world.stage_of() is RequestStage.REGISTERING)
    # The step ends, but the process dies before its flush.
    stage = loop.stage
    assert isinstance(stage, Retrain)
    orphan = until(lambda: _versions(world), "a version is registered", 300)
    loop = world.restart()
    world.run(loop, world.finished)
    (candidate,) = world.candidates()
    world.run(loop, lambda: _versions(world) == [candidate.version])
    assert candidate.version not in orphan


def _versions(world: World) -> list[str]:
    client = world.registry._connection.client("look")
    found = client.search_model_versions("name = 'bank' and tags.`stationkeeper.request` = 'req-1'")
    return sorted(str(version.version) for version in found)


def test_too_few_labels_are_waited_for(world: World):
    world.traffic(rows=800, until=ONSET + HOUR)
    world.ask(a_request(world.bank.champion.version).encode())
    loop = world.restart()
    world.run(loop, lambda: world.stage_of() is RequestStage.WAITING)
    state = world.states()["req-1"]
    assert state.reason is RequestReason.TOO_FEW_ROWS
    more = transactions(3_000, ONSET + HOUR, START + 8 * HOUR, seed=9, shifted=True)
    predictions, labels = events(more, world.bank.champion.version)
    world.log.produce(PREDICTIONS, predictions)
    world.log.produce(LABELS, labels)
    world.run(loop, world.finished)
    assert world.stage_of() is RequestStage.CANDIDATE


def test_a_request_whose_labels_suffice_goes_on_without_the_pause_between_two_countings(world: World):
    world.traffic()
    world.ask(a_request(world.bank.champion.version).encode())
    loop = world.restart()
    stage: Any = loop.stage
    # A clock that stands: no pause is ever over.
    stage._runner.monotonic = lambda: 0.0
    world.run(loop, lambda: world.stage_of() is RequestStage.TRAINING, limit_s=60)


def test_without_a_change_no_candidate_comes(world: World):
    world.settings = RetrainSettings.model_validate({**SMALL, "gate": {"looks": 1, "replicates": 500}})
    world.traffic(shifted=False)
    world.ask(a_request(world.bank.champion.version).encode())
    loop = world.restart()
    world.run(loop, world.finished)
    assert world.stage_of() is RequestStage.NO_EVIDENCE
    assert world.candidates() == []
    assert _versions(world) == []


def test_malformed_requests_become_dead_letters_and_the_good_one_is_served(world: World):
    good = a_request(world.bank.champion.version)
    text = good.encode()
    bad = {
        b"not json": "not_json",
        b"[]": "not_an_object",
        text.replace(b'"incident":"inc-1",', b""): "missing_field",
        text.replace(b'"manual":false', b'"manual":7'): "wrong_type",
        b"\xff\xfe": "not_utf8",
        text.replace(b'"schema_version":1', b'"schema_version":2'): "other_schema",
    }
    world.ask(*bad, text.replace(b'"bank"', b'"other"').replace(b"req-1", b"req-2"), text)
    loop = world.restart()
    world.run(loop, lambda: world.stage_of() is RequestStage.WAITING)
    log = world.log.at(Partition(dead_letter_topic(T.requests.name), 0))
    assert log.values == list(bad)
    codes = [dict(headers)["stationkeeper.error.code"].decode() for headers in log.headers]
    assert codes == list(bad.values())
    other = world.states()["req-2"]
    assert (other.stage, other.reason) == (RequestStage.REJECTED, RequestReason.NOT_CONFIGURED)


def test_a_request_of_a_model_whose_entry_is_refused_waits_until_it_is_right(world: World):
    world.ask(a_request(world.bank.champion.version).encode())
    loop = world.restart()
    stage: Any = loop.stage
    stage.models, stage._refused = {}, frozenset({"bank"})
    world.run(loop, lambda: bool(world.states()))
    held = world.states()["req-1"]
    assert (held.stage, held.reason) == (RequestStage.WAITING, RequestReason.ENTRY_REFUSED)
    loop = world.restart()
    world.run(loop, lambda: world.states()["req-1"].reason is not RequestReason.ENTRY_REFUSED)
    # Decided as if it had just come: accepted, and its rows are counted.
    world.run(loop, lambda: world.states()["req-1"].reason is RequestReason.TOO_FEW_ROWS)


@pytest.mark.parametrize("moment", ["pieces", "job", "gate"])
def test_nobody_whom_another_machine_erases_meanwhile_is_learnt_from(
    world: World, monkeypatch: pytest.MonkeyPatch, moment: str
):
    objects = ObjectStore(f"memory://{uuid.uuid4().hex}/rows")
    here, there = (SnapshotStore(world.directory / name, objects) for name in ("here", "there"))
    shutil.copytree(world.bank.snapshots.directory, here.directory)
    base = world.bank.champion.snapshot
    assert here.send(base)
    world.bank = replace(world.bank, snapshots=here)
    # Of the champion's rows while they are taken over; else of the new ones, before a training begins or when it ended.
    event = here.read(base)[EVENT_ID][0] if moment == "pieces" else "tx-3-7"
    owner: Any = LabelledRows if moment == "pieces" else Steps
    done, real, begun = list[Erased](), getattr(owner, moment), list[str]()

    def erase() -> None:
        if not done:
            done.extend(erase_snapshots(there, Erasure(event, frozenset()), 0, really=True))

    def first_erased(*given: Any) -> Any:
        erase()
        return real(*given)

    def then_erased(*given: Any) -> Iterator[pl.DataFrame]:
        yield from real(*given)
        erase()

    def training(job: TrainingJob, *given: Any) -> TrainingProcess:
        begun.append(job.digest)
        return start(job, *given)

    start = TrainingProcess.start
    monkeypatch.setattr(TrainingProcess, "start", training)
    monkeypatch.setattr(owner, moment, then_erased if moment == "pieces" else first_erased)
    world.traffic()
    world.ask(a_request(world.bank.champion.version).encode())
    world.run(world.restart(), world.finished)
    state = world.states()["req-1"]
    assert state.stage is RequestStage.CANDIDATE, state.detail
    (one,) = done
    (candidate,) = world.candidates()
    assert world.registry.tags("bank", candidate.version)["snapshot"] == candidate.snapshot
    found = here.find(candidate.snapshot)
    assert found is not None
    # Nobody was erased from what it names, and what it names is what it has learnt from.
    assert found.digest == candidate.snapshot
    if moment == "pieces":
        assert (one.digest, one.became) == (base, found.manifest["base"])
    else:
        assert (one.digest, one.became) == (state.snapshot, candidate.snapshot)
    # Whose training had ended before is the only one that it knew of.
    assert begun == ([one.digest] if moment == "gate" else []) + [candidate.snapshot]
    kept = set(here.read(candidate.snapshot)[EVENT_ID])
    assert event not in kept
    assert "tx-3-8" in kept


def test_the_same_request_twice_is_one(world: World):
    text = a_request(world.bank.champion.version).encode()
    world.ask(text, text)
    loop = world.restart()
    world.run(loop, lambda: world.stage_of() is RequestStage.WAITING)
    world.ask(text)
    for _ in range(5):
        loop.turn()
    assert [key for key, _ in world.records(T.retrain_state.name)].count(b"req-1") == 2


def test_broken_data_refuse_retraining(world: World):
    world.ask(a_request(world.bank.champion.version, kind=VerdictKind.DATA_QUALITY).encode())
    loop = world.restart()
    world.run(loop, world.finished)
    assert world.states()["req-1"].reason is RequestReason.DATA_QUALITY


def _approval(decision: str, at: int = ONSET) -> bytes:
    facts: dict[str, Any] = {"target": "request", "id": "req-1", "model": "bank", "by": "ada"}
    return Approval.model_validate(facts | {"time": to_datetime(at), "decision": decision}).encode()


def test_a_person_can_reject_and_approve(world: World):
    world.settings = RetrainSettings.model_validate({**SMALL, "approval": True})
    world.traffic()
    world.ask(a_request(world.bank.champion.version).encode())
    loop = world.restart()
    world.run(loop, lambda: world.stage_of() is RequestStage.WAITING)
    assert world.states()["req-1"].reason is RequestReason.APPROVAL_PENDING
    for _ in range(5):
        loop.turn()
    assert world.stage_of() is RequestStage.WAITING
    world.log.produce(T.approvals.name, [b"nonsense", _approval("approve")], keys=[b"x", b"req-1"])
    world.run(loop, lambda: world.stage_of() is RequestStage.SNAPSHOT)
    # Counted where alerts look, as a reference that cannot be used is.
    assert Sample("stationkeeper_stage_errors_total", ("retrain", "table"), 1) in loop.samples()
    world.log.produce(T.approvals.name, [_approval("reject")], keys=[b"req-1"])
    world.run(loop, world.finished)
    assert world.states()["req-1"].reason is RequestReason.REJECTED_BY_PERSON
    assert world.candidates() == []


def test_two_people_who_approve_while_the_role_is_down_both_count():
    settings = RetrainSettings.model_validate({**SMALL, "risk": "high"})
    waiting = RetrainState(
        request=a_request(), stage=RequestStage.WAITING, reason=RequestReason.APPROVAL_PENDING, champion="1"
    )
    states, tables = {"req-1": waiting}, LoopTables(T)
    for by in ("ada", "bob"):
        said = Approval.decode(_approval("approve")).model_copy(update={"by": by})
        tables.see(T.approvals.name, b"req-1", said.encode())
    models = {"bank": ModelInputs("bank", TOPICS, settings)}
    for moved in tables.after_approvals(states.get, models):
        states[moved.id] = moved
    assert states["req-1"].stage is RequestStage.PLANNED
    assert states["req-1"].approvers == ("ada", "bob")
    # Read through again at the next flush: nothing moves.
    assert list(tables.after_approvals(states.get, models)) == []


def test_an_unreachable_registry_is_waited_for(world: World, free_port: int):
    away = Registry(RegistrySettings(tracking_uri=f"http://127.0.0.1:{free_port}", timeout=1_000, retries=0))
    world.registry = away
    world.traffic()
    world.ask(a_request(world.bank.champion.version).encode())
    loop = world.restart()
    world.run(loop, lambda: "could not" in _details(loop))
    assert f"127.0.0.1:{free_port}" in _details(loop)
    assert world.stage_of() is RequestStage.SNAPSHOT
    world.registry = world.bank.registry
    loop = world.restart()
    world.run(loop, world.finished)
    assert world.stage_of() is RequestStage.CANDIDATE


def test_a_full_disk_is_waited_for_and_leaves_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch):
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = world.bank.snapshots.directory
    before = {path.name for path in store.iterdir()}
    monkeypatch.setattr("stationkeeper.retrain.snapshot.files.os.fsync", full)
    # Rows that no test before stored: what is there under its name is not written again.
    world.traffic(seed=70)
    world.ask(a_request(world.bank.champion.version).encode())
    loop = world.restart()
    world.run(loop, lambda: "No space left" in _details(loop))
    assert world.stage_of() is RequestStage.SNAPSHOT
    assert {path.name for path in store.iterdir()} == before
    monkeypatch.undo()
    world.run(loop, lambda: world.stage_of() is not RequestStage.SNAPSHOT)
    assert world.stage_of() is RequestStage.TRAINING


def _details(loop: Loop) -> str:
    return " ".join(request["reason"] for request in loop.stage.status()["requests"])
