"""Generated forms of a record: what ``init`` writes for a topic passes ``check``, and no field goes unmentioned.

``make generated`` tries a thousand; by default a few, for the suite's time. On a real broker each goes the whole way:
``init``, ``check``, a reference of its first half, then tally, join and judge, which watch what does not change.
"""

import contextlib
import json
import os
import random
import struct
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kafka import KafkaProducer

from stationkeeper.check.baselines import KnownReferences
from stationkeeper.check.inputs import check_inputs
from stationkeeper.config import Config
from stationkeeper.contracts.messages import Level, Verdict
from stationkeeper.contracts.model_status import ModelStatus
from stationkeeper.events import ValueRules, path_text
from stationkeeper.explain.lineage import read_messages
from stationkeeper.frames import ReferenceFile, profile
from stationkeeper.init import first
from stationkeeper.init.infer import ColumnRoles, Sketch
from stationkeeper.monitor.core.reference import dump
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.verify import verify
from stationkeeper.process.wiring import loop_for, monitor_stages, prepare_topics, publish, topics_of
from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.connect import reader_for
from stationkeeper.streams.kafka.topics import admin_client, ensure_inputs
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from stationkeeper.streams.ports import Outgoing
from stationkeeper.streams.settings import KafkaSettings
from tests.waiting import until

# Each takes some milliseconds; forty meet each kind of name, place, time and frame several times.
FORMS = int(os.environ.get("STATIONKEEPER_FORMS") or 40)
# Of them the suite sends these through a real broker: each costs a third of a second there.
SENT = int(os.environ.get("STATIONKEEPER_FORMS") or 4)
# So many share one run of the monitor and one set of topics of our own; more take longer than hypothesis may draw.
TOGETHER = 20
# What a guess at a form needs; on a broker an hour of a record each quarter of a minute, so that panes close and judge.
ROWS, HOUR, EVERY_S = 30, 240, 15
# As init's readers must: more than one to a topic.
PARTITIONS = 2
# Later than that before the last record a pane is closed: lateness, the pane itself, and some records' time.
CLOSED_MS = 300_000
# Columns of a reference; no form draws these names.
TIME, ANSWER = "its time", "its answer"
SHARES = {"no": 0.25, "yes": 0.75}
NOW_S = int(time.time()) - 3_600

IDS = st.sampled_from(["id", "event_id", "requestId", "request-id", "uuid", "transaction_id"])
TIMES = st.sampled_from(["ts", "time", "scored_at", "eventTime", "created_at", "@timestamp", "when"])
VERSIONS = st.sampled_from(["version", "model_rev", "modelVersion", "model.version", "rev"])
ANSWERS = st.sampled_from(["score", "prediction", "proba", "y_pred", "output"])
TRUTHS = st.sampled_from(["label", "target", "y_true", "outcome", "ground_truth"])
ENVELOPES = st.sampled_from([(), ("data",), ("payload", "after"), ("a.b",), ("meta data",)])
CLOCKS = st.sampled_from(["Z", "offset", "s", "ms", "us", "ns", "float"])
ODD = ("amount", "country", "yes", "null", "1", "a,b", 'size 15"', "x: {y", "a\\", "income\n(EUR)", "#", "*x")
LETTERS = st.characters(exclude_categories=["Cs"])
NAMES = st.one_of(st.sampled_from(ODD), st.text(LETTERS, min_size=1, max_size=12))
KINDS = st.sampled_from(["number", "integer", "text", "boolean", "list", "null", "key", "time", "seldom"])
PLACES = st.sampled_from([(), ("in",), ("in", "billing"), ("in", "shipping"), ("features",)])


def moment(clock: str, number: int) -> Any:
    at = NOW_S + number
    if clock == "Z":
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    if clock == "offset":
        return time.strftime("%Y-%m-%dT%H:%M:%S.250+00:00", time.gmtime(at))
    return at + 0.5 if clock == "float" else at * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[clock]


def value(kind: str, number: int, dice: random.Random) -> Any:
    return {
        "number": dice.gauss(5, 2),
        "integer": dice.randrange(9),
        "text": dice.choice(["x", "y", "NA", ""]),
        "boolean": dice.random() < 0.5,
        "list": [1, 2],
        "null": None,
        "key": f"key-{number}",
        "time": moment("Z", number),
        "seldom": None if number % 3 else "z",
    }[kind]


def put(record: dict[str, Any], path: tuple[str, ...], leaf: Any) -> None:
    """Set a field; an object that another field already is stays one."""
    for key in path[:-1]:
        if not isinstance(record.get(key), dict):
            record[key] = {}
        record = record[key]
    if not isinstance(record.get(path[-1]), dict):
        record[path[-1]] = leaf


class Records(list[bytes]):
    """Shows its first record: a failing example of many topics is else megabytes, which hypothesis will not print."""

    def __repr__(self) -> str:
        return f"{len(self)} of {self[0]!r}"


@st.composite
def forms(draw: st.DrawFn, whose: str = "m", rows: int = ROWS, every: int = 1) -> tuple[Records, Records | None]:
    """The records of a topic of predictions, and of one of labels where there is one, ``every`` so many seconds.

    ``whose`` begins the names of models.
    """
    envelope, clock, dice = draw(ENVELOPES), draw(CLOCKS), random.Random(draw(st.integers(0, 99)))
    name_id, name_time, name_answer, name_truth = draw(IDS), draw(TIMES), draw(ANSWERS), draw(TRUTHS)
    version = draw(st.one_of(st.none(), VERSIONS))
    model = draw(st.sampled_from([None, ("model",), ("model", "name"), ("model_name",)]))
    numbered, shares = draw(st.booleans()), draw(st.booleans())
    features = draw(st.lists(st.tuples(PLACES, NAMES, KINDS), max_size=6))
    records, truths = list[bytes](), list[bytes]()
    for number in range(rows):
        record: dict[str, Any] = {}
        for place, name, kind in features:
            put(record, (*place, name), value(kind, number, dice))
        answer = SHARES if shares else dice.random()
        fixed: dict[tuple[str, ...], Any] = {
            (name_id,): 10**9 + number if numbered else f"r-{number}",
            (name_time,): moment(clock, number * every),
        }
        fixed[name_answer,] = None if number % 7 == 6 else answer
        if version is not None:
            fixed[version,] = 7 if numbered else "2026-04"
        if model is not None:
            fixed[model] = f"{whose}{number % 2}"
        for path, leaf in fixed.items():
            record.pop(path[0], None)
            put(record, path, leaf)
        for key in reversed(envelope):
            record = {key: record}
        records.append(json.dumps(record).encode())
        truth = {name_id: fixed[name_id,], name_time: moment(clock, number * every), name_truth: number // 2 % 2 == 0}
        truths.append(json.dumps(truth | ({} if model is None else {"model": f"{whose}{number % 2}"})).encode())
    frame = struct.pack(">bI", 0, 7) if draw(st.booleans()) else b""
    labels = Records(frame + one for one in truths) if draw(st.booleans()) else None
    return Records(frame + one for one in records), labels


def leaves(record: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every field that holds something, by its path; objects of shares are not entered."""
    found: dict[str, Any] = {}
    for key, inner in record.items():
        deeper = isinstance(inner, dict) and inner and inner != SHARES
        found |= leaves(inner, (*above, key)) if deeper else {path_text((*above, key)): inner}
    return found


def bodies(records: Iterable[bytes]) -> list[dict[str, Any]]:
    """The fields of each record by path, a schema registry's frame taken off."""
    return [leaves(json.loads(record[5:] if record[:1] == b"\0" else record)) for record in records]


@settings(max_examples=FORMS)
@given(forms())
def test_what_init_writes_for_a_topic_passes_check_and_mentions_every_field(
    made: tuple[Records, Records | None],
) -> None:
    records, labels = made
    log = MemoryLog()
    log.create("t", 2)
    log.produce("t", records)
    if labels is not None:
        log.create("l", 1)
        log.produce("l", labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first, "reader_for", lambda *_: MemoryReader(log))
        found = first.first_configuration(
            "t", None, None if labels is None else "l", "m", KafkaSettings(), 200, ColumnRoles(), ValueRules(), None
        )
    config = Config.parse(yaml.safe_load(found.text))
    results = list(check_inputs(config, MemoryReader(log), KnownReferences({}, {}), 0))
    assert [one.outcome for one in results] == ["ok"] * len(results), (found.text, results)
    assert {one.what for one in results} >= {"topic t", *(["topic l"] if labels is not None else [])}
    # What is neither watched nor a field of the contract is named as left out: nothing is passed over in silence.
    (sketch, *_) = found.looked
    told = {*sketch.features.values(), *sketch.left_out, *(guess.path for guess in sketch.guesses)}
    for fields in bodies(records):
        assert fields.keys() <= told, found.text


def reference_of(model: str, sketch: Sketch, fields: list[dict[str, Any]]) -> ReferenceFile:
    """What ``profile`` makes of the first half of these records, its columns the features that ``init`` found."""
    paths = {guess.field: guess.path for guess in sketch.guesses}
    past = [one for one in fields[: HOUR // 2] if "model" not in paths or one[paths["model"]] == model]
    # Shares of classes are no one number; such a form is watched by its features.
    answer = None if isinstance(past[0][paths["prediction"]], dict) else ANSWER
    named = {**sketch.features, TIME: paths["time"], **({} if answer is None else {answer: paths["prediction"]})}
    columns = {name: [one.get(path) for one in past] for name, path in named.items()}
    version = str(past[0].get(paths.get("version", ""), "1"))
    return profile(columns, model=model, version=version, time=TIME, prediction=answer)


TOPICS_TOGETHER = min(SENT, TOGETHER)


@pytest.mark.broker
@settings(
    max_examples=-(-SENT // TOGETHER),
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, *HealthCheck],
)
@given(st.tuples(*(forms(f"f{number}x", HOUR, EVERY_S) for number in range(TOPICS_TOGETHER))))
def test_the_monitor_counts_and_watches_every_form_on_a_real_broker_and_never_pages(
    kafka: FoundBroker, made: tuple[tuple[Records, Records | None], ...]
) -> None:
    prefix = f"forms{uuid.uuid4().hex[:8]}"
    mine = KafkaSettings(bootstrap=kafka.bootstrap, prefix=prefix, flush_interval=300)
    sent = {f"{prefix}-t{number}": records for number, (records, _) in enumerate(made)}
    sent |= {f"{prefix}-l{number}": labels for number, (_, labels) in enumerate(made) if labels is not None}
    ensure_inputs(mine, [*sent], create_inputs=True, partitions=PARTITIONS)
    with closing(KafkaProducer(acks="all", **mine.connection("test"))) as producer:
        for topic, records in sent.items():
            for number, record in enumerate(records):
                producer.send(topic, record, partition=number % PARTITIONS)
        producer.flush()
    models: dict[str, ModelSettings] = {}
    frozen: dict[str, ReferenceFile] = {}
    with closing(reader_for(mine, "test")) as reader:
        for number, (records, _) in enumerate(made):
            topic, labels = f"{prefix}-t{number}", f"{prefix}-l{number}"
            mine_of = (labels if labels in sent else None, f"f{number}", mine, 200, ColumnRoles(), ValueRules(), None)
            written = first.first_configuration(topic, None, *mine_of)
            config = Config.parse(yaml.safe_load(written.text))
            results = list(check_inputs(config, reader, KnownReferences({}, {}), 0))
            assert [one for one in results if one.outcome != "ok"] == [], written.text
            models |= config.models
            fields = bodies(records)
            for model in config.models:
                # A form without one feature or score to watch has no reference, and its state says so.
                with contextlib.suppress(ValueError):
                    frozen[model] = reference_of(model, written.looked[0], fields)
        config = config.model_copy(update={"kafka": mine, "models": models})
        prepare_topics(config)
        for model, one in frozen.items():
            key = f"{model}/{one.frozen.version}".encode()
            publish(config, Outgoing(topics_of(config).references.name, dump(one.frozen).encode(), key, 0))
        said = watched(config, sum(map(len, sent.values())))
        found = verify(reader, models, topics_of(config), clock="wall")
        assert found.summary().endswith("equal")
        assert found.records == sum(map(len, sent.values()))
        verdicts = read_messages(reader, topics_of(config).verdicts.name, Verdict)
    assert [one for one in verdicts if one.level is Level.PAGE] == []
    for model, status in said.items():
        if model not in frozen:
            assert (status["state"], bool(status["reason"])) == ("unknown", True), status
            continue
        shown = {subject["name"] for subject in status["subjects"]}
        assert {subject.name for subject in frozen[model].frozen.subjects} <= shown, status
        assert status["incidents"] == [], status
    with admin_client(mine) as admin:
        admin.delete_topics([*sent, *(topic.name for topic in topics_of(config).all())])


def watched(config: Config, records: int) -> dict[str, ModelStatus]:
    """Run the monitor's roles until each model's panes are closed up to the last; return what the page then says."""
    stop = threading.Event()
    loops = [loop_for(stage, config.kafka) for stage in monitor_stages(config)]
    threads = [threading.Thread(target=loop.run, args=(stop,)) for loop in loops]
    tally, judge = loops[0], loops[-1]
    last = (NOW_S + HOUR * EVERY_S) * 1_000

    def judged() -> dict[str, ModelStatus]:
        assert all(thread.is_alive() for thread in threads)
        found = {one["model"]: one for one in judge.status().get("models", [])}
        late = [one for one in found.values() if (one["watermark"] or 0) < last - CLOSED_MS]
        return {} if late or len(found) < len(config.models) else found

    def progress() -> list[object]:
        # What only grows, and not beyond what was sent: on a machine that is busy thirty times over it takes minutes.
        read = [row["tallied"] for row in tally.status().get("conservation", [])]
        return [*read, *(one["watermark"] for one in judge.status().get("models", []))]

    for thread in threads:
        thread.start()
    try:
        said = until(judged, "every pane is judged", 300.0, progress)
        assert sum(row["tallied"] for row in tally.status().get("conservation", [])) == records
        assert tally.status()["dead_letters"] == {}
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    return said
