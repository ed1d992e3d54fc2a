"""A past judged anew from history says what the daemon said, and under a changed configuration what it would have."""

import json
import uuid
from pathlib import Path

import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner

from stationkeeper.backtesting.comparison import matched
from stationkeeper.backtesting.topics import ReplayError, changed_settings, differences, period, replay_topic
from stationkeeper.check.baselines import baselines, known_references
from stationkeeper.cli import app
from stationkeeper.config import load
from stationkeeper.contracts.messages import Deployment, DeploymentAction, Level, Verdict
from stationkeeper.contracts.times import to_datetime
from stationkeeper.contracts.wire import ArmDelta, PaneDelta
from stationkeeper.monitor.core.reference import dump
from stationkeeper.monitor.core.reference import load as load_reference
from stationkeeper.monitor.judge import PastReferences, Rejudge
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.process.wiring import open_reader, topics_of
from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.kafka.topics import ensure_internal
from stationkeeper.streams.memory.ports import MemoryReader
from tests.monitor.rig import MINUTE, START, TOPICS, Rig, fraud, labels, predictions, reference, rollout

RUNNING = fraud(segments=["country"], false_pages="1 per 30 days", label_maturity="5m", pane="1m")


def lived(settings: ModelSettings = RUNNING) -> Rig:
    """Two quiet hours' worth in small, a shift, a new version that fits it, late events and labels on the way."""
    rig = Rig({"fraud": settings})
    rig.put_reference(reference("1"))
    rig.put_rollout(rollout("1"))
    rig.turn(3)
    rig.send("scores", predictions(40, 60))
    rig.send("outcomes", labels(range(4_000)))
    rig.turn()
    rig.send("scores", predictions(25, 60, first=2_400, start=START + 40 * MINUTE, shift=0.7))
    # Out of order: half within the lateness bound, after their panes have closed in part.
    rig.send("scores", predictions(2, 30, first=90_000, start=START + 62 * MINUTE, shift=0.7))
    rig.turn()
    rig.put_reference(reference("2", shift=0.7))
    rig.put_rollout(rollout("2", epoch=2))
    rig.turn(3)
    moment = to_datetime(START + 65 * MINUTE)
    for number, (at, champion) in enumerate([(to_datetime(START), "1"), (moment, "2")]):
        action = DeploymentAction.PROMOTED if number else DeploymentAction.ADOPTED
        record = Deployment(id=f"d{number}", time=at, model="fraud", action=action, champion=champion, reason="test")
        rig.log.produce(TOPICS.deployments.name, [record.encode()], keys=[b"fraud"])
    rig.send("scores", predictions(45, 60, first=3_900, start=START + 65 * MINUTE, version="2", shift=0.7))
    rig.turn()
    return rig


@pytest.fixture(scope="module")
def rig() -> Rig:
    return lived()


def ids(verdicts: list[Verdict]) -> list[str]:
    return [verdict.id for verdict in verdicts]


def test_the_running_configuration_says_anew_what_the_daemon_said(rig: Rig):
    found = replay_topic(MemoryReader(rig.log), TOPICS, RUNNING)
    (side,) = found.sides
    live = [verdict for verdict in rig.verdicts() if verdict.model == "fraud"]
    assert any(verdict.level is Level.PAGE for verdict in live)
    assert {verdict.kind.value for verdict in live} >= {"data_drift", "recovered"}
    assert ids(side.verdicts) == ids(live)
    assert [v.model_dump() for v in side.verdicts] == [v.model_dump() for v in live]
    assert ids(list(found.logged)) == ids(live)
    assert [r.id for r in side.requests] == [r.id for r in rig.requests()]


def test_a_changed_configuration_is_compared_with_the_running_one(rig: Rig):
    changed = changed_settings(RUNNING, ["adoption=1d", "lateness=5m"])
    said: list[tuple[str, str]] = []
    found = replay_topic(
        MemoryReader(rig.log), TOPICS, RUNNING, changed, said=lambda verdict, name: said.append((name, verdict.id))
    )
    running, other = found.sides
    assert running.pages
    assert other.pages == []
    assert [one for name, one in said if name == "running"] == ids(running.verdicts)
    assert [one for name, one in said if name == "changed"] == ids(other.verdicts)
    text = "\n".join(found.lines())
    assert "changed: adoption: 0 → 1d" in text
    assert "note: lateness: 2m → 5m is not replayed: history holds what was counted under the old value" in text
    assert f"fraud would have paged 0 times instead of {len(running.pages)} in" in text
    table = dict(found.rows())
    assert table["pages"] == [len(running.pages), 0, len(running.pages)]


def test_longer_panes_and_fewer_segments_find_the_same_change(rig: Rig):
    changed = changed_settings(RUNNING, ["pane=5m", "segments=[]"])
    found = replay_topic(MemoryReader(rig.log), TOPICS, RUNNING, changed)
    running, other = found.sides
    assert {verdict.segment for verdict in other.verdicts} == {""}
    both, before, new = matched(running.pages, other.pages, 60 * MINUTE)
    assert len(both) == 1
    assert (before, new) == ([], [])
    assert other.judge.rows == running.judge.rows
    with pytest.raises(ReplayError, match="pane 90s is not a multiple of 1m"):
        differences(RUNNING, changed_settings(RUNNING, ["pane=90s"]))


def test_a_number_is_no_span_of_time_in_what_is_said_of_a_change():
    assert differences(RUNNING, changed_settings(RUNNING, ["dedupe=2000000"]))[1] == [
        "dedupe: 1000000 → 2000000 is not replayed: history holds what was counted under the old value"
    ]


def test_only_the_period_is_told_and_what_came_before_warms_up(rig: Rig):
    whole = replay_topic(MemoryReader(rig.log), TOPICS, RUNNING).sides[0].verdicts
    part = replay_topic(MemoryReader(rig.log), TOPICS, RUNNING, since="40m").sides[0].verdicts
    assert 0 < len(part) < len(whole)
    assert ids(part) == ids(whole)[-len(part) :]


def test_what_came_late_changes_no_decision():
    settings = fraud()
    rig = Rig({"fraud": settings})
    made = reference("1")
    rig.put_reference(made)
    rig.send("scores", predictions(10, 60))
    rig.turn()
    records = [r for r in rig.records(TOPICS.history.name) if isinstance(r, PaneDelta | ArmDelta)]
    judge = Rejudge(settings, _references(settings, rig))
    first = [r for r in records if r.start == records[0].start]
    for record in first:
        judge.take(record)
    before = judge.rows
    for record in first:
        judge.take(record)
    assert (judge.rows, before) == (60, 60)


def _references(settings: ModelSettings, rig: Rig):
    found = PastReferences({"fraud": settings}, {})
    found.put_reference(b"fraud/1", dump(reference("1")).encode())
    return found


def test_a_wrong_change_and_a_wrong_period_say_what_to_write():
    with pytest.raises(ReplayError, match=r"--set 'false_page=2'.*false_pages='1 per 7 days'"):
        changed_settings(RUNNING, ["false_page=2"])
    with pytest.raises(ReplayError, match="--set: false_pages"):
        changed_settings(RUNNING, ["false_pages=often"])
    with pytest.raises(ReplayError, match="--set 'positive=a: b: c': 'a: b: c' is not YAML"):
        changed_settings(RUNNING, ["positive=a: b: c"])
    with pytest.raises(ReplayError, match=r"--since yesterday: .*write 30d"):
        period("yesterday", None, 0, 10)
    assert period("1m", None, 0, 90_000) == (30_000, 90_000)
    empty = Rig({"fraud": fraud()})
    with pytest.raises(ReplayError, match="holds no pane of 'fraud' yet"):
        replay_topic(MemoryReader(empty.log), TOPICS, fraud())


@pytest.mark.broker
def test_the_verb_reads_a_real_topic(rig: Rig, kafka: FoundBroker, tmp_path: Path):
    prefix = f"p{uuid.uuid4().hex[:8]}"
    path = tmp_path / "stationkeeper.yaml"
    path.write_text(f"""
kafka: {{bootstrap: '{kafka.bootstrap}', prefix: {prefix}}}
models:
  fraud: {{predictions: scores, labels: outcomes, adoption: 0d, segments: [country], label_maturity: 5m}}
""")
    config = load(path)
    topics = topics_of(config)
    ensure_internal(config.kafka, topics)
    producer = KafkaProducer(acks="all", **config.kafka.connection("test"))
    for name in ("history", "references", "deployments", "verdicts"):
        source, target = getattr(TOPICS, name).name, getattr(topics, name).name
        reader = MemoryReader(rig.log)
        for batch in reader.read(list(reader.partitions(source))):
            for key, value in zip(batch.keys, batch.values, strict=True):
                producer.send(target, value, key=key, partition=batch.partition.index)
    producer.flush(30)
    producer.close()
    arguments = ["backtest", "--topic", "fraud", "--since", "2h", "--config", str(path), "--set", "adoption=14d"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False, standalone_mode=False)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["configuration"], line["kind"]) for line in lines if line["level"] == "page"] == [
        ("running", verdict.kind.value) for verdict in rig.verdicts() if verdict.level is Level.PAGE
    ]
    assert "fraud would have paged 0 times instead of 1 in" in result.stderr
    target, end = tmp_path / "past.json", to_datetime(START + 40 * MINUTE).isoformat()
    arguments = ["profile", "--history", "fraud", "--version", "1", "--to", end, "--config", str(path), "--publish"]
    result = CliRunner().invoke(app, [*arguments, "-o", str(target)], catch_exceptions=False, standalone_mode=False)
    assert "note: from 40 panes of production with 2400 rows" in result.stdout
    assert "published as the reference of fraud/1" in result.stdout
    made = load_reference(target.read_text())
    assert made.source == "history"
    with open_reader(path) as (settings, log, names):
        (baseline,) = baselines(known_references(log, names), log, names, settings.models)
    assert baseline.words == f"version 1, {made.rows:,} rows of history, in order of time: judged at once"
