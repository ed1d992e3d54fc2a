"""``check --sample`` and ``verify`` over a real broker: what is printed for good records and for bad ones."""

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner, Result

from stationkeeper.cli import app
from stationkeeper.config import load
from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.process.wiring import loop_for, monitor_stages, prepare_topics
from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.kafka.topics import create_missing, ensure_inputs

pytestmark = pytest.mark.broker

NOW = round(time.time())
BAD: dict[bytes, DeadLetterCode] = {
    b"{not json": DeadLetterCode.NOT_JSON,
    b"[1, 2]": DeadLetterCode.NOT_AN_OBJECT,
    b"": DeadLetterCode.EMPTY_VALUE,
    b"\xff\xfe": DeadLetterCode.NOT_UTF8,
    b'{"req": {"ts": %d, "in": {}}}' % NOW: DeadLetterCode.MISSING_FIELD,
    b'{"req": {"id": "b", "ts": "soon", "in": {}}}': DeadLetterCode.BAD_TIME,
    b'{"req": {"id": "c", "ts": %d, "in": [1]}}' % NOW: DeadLetterCode.WRONG_TYPE,
    b'{"req": {"id": "d", "ts": %d, "in": {}}, "score": Infinity}' % NOW: DeadLetterCode.NOT_FINITE,
    b'{"req": {"id": "e", "ts": %d, "in": {}}}' % (NOW + 86_400): DeadLetterCode.FUTURE_TIME,
    b'{"req": {"id": "f", "ts": %d, "in": {"note": "%s"}}}' % (NOW, b"x" * 5_000): DeadLetterCode.TOO_LARGE,
}


@pytest.fixture
def world(kafka: FoundBroker, tmp_path: Path) -> tuple[str, str]:
    """A configuration over a topic in our own form and a mapped one; returns its path and the topics' prefix."""
    prefix = f"v{uuid.uuid4().hex[:8]}"
    path = tmp_path / "stationkeeper.yaml"
    path.write_text(f"""
kafka: {{bootstrap: '{kafka.bootstrap}', prefix: {prefix}}}
models:
  own: {{predictions: {prefix}.own, labels: {prefix}.labels}}
  shop:
    predictions:
      topic: {prefix}.shop
      map: {{event_id: req.id, time: req.ts, prediction: score, features: req.in}}
      constants: {{model: shop, version: "7"}}
      time_unit: s
    limits: {{message_bytes: 4000}}
""")
    settings = load(path).kafka
    ensure_inputs(settings, [f"{prefix}.own", f"{prefix}.labels", f"{prefix}.shop"], create_inputs=True, partitions=1)
    event = {"kind": "prediction", "event_id": "p", "time": NOW * 1_000, "model": "own", "version": "1"}
    own = [event | {"event_id": f"p{i}", "features": {"amount": i}, "prediction": 0.25} for i in range(4)]
    good = {"req": {"id": "a", "ts": NOW, "in": {"basket": 12.5, "country": "DE", "coupon": None}}, "score": 0.75}
    producer = KafkaProducer(acks="all", **settings.connection("test"))
    try:
        for one in [*own, event | {"model": "stranger"}, event | {"kind": "guess"}]:
            producer.send(f"{prefix}.own", json.dumps(one).encode())
        for value in [json.dumps(good).encode(), *BAD]:
            producer.send(f"{prefix}.shop", value)
        producer.flush(30)
    finally:
        producer.close()
    return str(path), prefix


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False, standalone_mode=False)


def test_a_sample_shows_each_event_mapped_and_each_failure_with_its_code(world: tuple[str, str]) -> None:
    config, prefix = world
    shown = run("check", "--sample", "100", "--config", config).stdout
    assert f"△ topic {prefix}.own: 4 mapped, failed: 1 × unknown_model, 1 × unknown_kind" in shown
    assert "of own 1: prediction 0.25 amount=3\n" in shown
    assert f"△ topic {prefix}.labels: is empty" in shown
    mapped = f"{prefix}.shop/0/0  prediction at "
    (line,) = [line for line in shown.splitlines() if mapped in line]
    assert line.endswith("of shop 7: prediction 0.75 basket=12.5 country=DE coupon=[null]")
    for offset, code in enumerate(BAD.values(), start=1):
        assert f"✗ {prefix}.shop/0/{offset}  {code.value}" in shown
    result = run("check", "--sample", "100", "--config", config, "--json")
    found = {finding["what"]: finding for finding in json.loads(result.stdout)}
    assert len(found[f"topic {prefix}.shop"]["lines"]) == 1 + len(BAD)


def turn(path: str, done: Callable[[int, int], bool]) -> None:
    """Run the monitor's loops until the tally's (received, rejected) are as wanted and written."""
    config = load(Path(path))
    prepare_topics(config)
    loops = [loop_for(stage, config.kafka) for stage in monitor_stages(config)]
    try:
        deadline, rows = time.monotonic() + 90, []
        while time.monotonic() < deadline:
            for loop in loops:
                loop.turn()
            rows = loops[0].status().get("conservation", [])
            if done(sum(row["received"] for row in rows), sum(row["rejected"] for row in rows)):
                return
        pytest.fail(f"the tally read {rows}")
    finally:
        for loop in loops:
            loop.close()


def test_verify_counts_again_what_the_tally_counted_and_every_rejection_is_listed(world: tuple[str, str]) -> None:
    config, prefix = world
    turn(config, lambda received, rejected: (received, rejected) == (7 + len(BAD), 2 + len(BAD)))
    result = run("verify", "--config", config, "--json")
    found = json.loads(result.stdout)
    assert found["differences"] == []
    assert (found["equal"], found["records"]) == (True, 7 + len(BAD))
    listed = json.loads(run("dead-letters", "list", "--config", config, "--json").stdout)
    codes = {row["code"]: row["count"] for row in listed if row["topic"] == f"{prefix}.shop"}
    assert codes == {code.value: 1 for code in BAD.values()}


def test_the_local_broker_makes_the_topics_that_are_named_and_says_which_there_are(
    world: tuple[str, str], kafka: FoundBroker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopped = threading.Event()
    stopped.set()
    monkeypatch.setattr("stationkeeper.process.run.stop_on_signals", lambda: stopped)
    monkeypatch.setattr("stationkeeper.streams.broker.LocalBroker", lambda *_, **__: contextlib.nullcontext(kafka))
    prefix, own = f"b{uuid.uuid4().hex[:8]}", f"o{uuid.uuid4().hex[:8]}"
    named = tmp_path / "named.yaml"
    named.write_text(f"kafka: {{bootstrap: 'away:9', prefix: {prefix}}}\nmodels: {{m: {{predictions: {own}.p}}}}")
    shown = run("broker", "--topic", f"{own}.extra", "--config", str(named)).stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("topics: ")]
    assert {f"{own}.p", f"{own}.extra"} <= set(line.removeprefix("topics: ").partition(";")[0].split(", "))
    assert line.endswith("; others are made with --topic NAME or --config FILE")
    settings = load(Path(world[0])).kafka.model_copy(update={"prefix": prefix})
    assert ensure_inputs(settings, [f"{own}.p", f"{own}.extra"], create_inputs=False) == []
    assert create_missing(settings, []) != []
