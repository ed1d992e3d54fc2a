"""One input that is bad, gone or another than before stops itself alone, says so, and goes on by a person's word."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from stationkeeper.contracts.messages import InputDecision
from stationkeeper.contracts.times import to_datetime
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.verify import verify
from stationkeeper.streams.memory.ports import MemoryReader
from stationkeeper.streams.ports import Partition
from tests.monitor.rig import START, TOPICS, Rig, fraud, labels, predictions, reference

SHOP = ModelSettings.model_validate({"name": "shop", "predictions": "carts", "adoption": "0d"})


def carts(minutes: int, per_minute: int, **more: Any) -> list[bytes]:
    return [value.replace(b'"fraud"', b'"shop"') for value in predictions(minutes, per_minute, **more)]


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Two models, each on a topic of its own."""
    made = Rig({"fraud": fraud(), "shop": SHOP})
    made.put_reference(reference())
    made.put_reference(reference(model="shop"))
    yield made
    for loop in made.loops.values():
        loop.close()


def turn(rig: Rig, times: int = 12) -> None:
    """Let every role take some steps, as the loop's thread does: a failure goes back to what is committed."""
    for _ in range(times):
        rig.now += 1_000
        for loop in rig.loops.values():
            loop._attempt(loop.turn)


def decide(rig: Rig, topic: str, action: Any) -> None:
    """Write what the verbs write."""
    reader = MemoryReader(rig.log)
    ends = {p.index: end for p, (_, end) in reader.bounds(reader.partitions(topic)).items()}
    word = InputDecision(
        time=to_datetime(rig.now), topic=topic, action=action, topic_id=rig.log.ids[topic], ends=ends, by="sre"
    )
    rig.log.produce(TOPICS.input_decisions.name, [word.encode()], keys=[f"{topic}/{action}".encode()])


def state(rig: Rig, model: str) -> tuple[str, str]:
    (found,) = [one for one in rig.stage("judge").status()["models"] if one["model"] == model]
    return found["state"], found["reason"]


def received(rig: Rig, topic: str) -> int:
    rows = rig.stage("tally").status()["conservation"]
    return sum(row["received"] for row in rows if row["topic"] == topic)


def stopped(rig: Rig) -> dict[str, str]:
    return {one["topic"]: one["reason"] for one in rig.stage("tally").status().get("stopped", [])}


def steady(rig: Rig) -> None:
    """Two hours of good events on both topics."""
    rig.send("scores", predictions(120, 20))
    rig.send("carts", carts(120, 20))
    turn(rig)
    assert state(rig, "fraud")[0] == state(rig, "shop")[0] == "steady"


def test_a_topic_of_nothing_but_rejected_records_stops_alone_and_its_models_say_so(rig: Rig) -> None:
    steady(rig)
    with capture_logs() as logs:
        rig.send("carts", [b'{"kind": "prediction", "model": "shop"}'] * 3_000, partition=1)
        turn(rig, 3)
        rig.send("scores", predictions(60, 20, first=2_400, start=START + 120 * 60_000))
        turn(rig)
    (line,) = [line for line in logs if line["event"] == "input_stopped"]
    assert (line["topic"], line["cause"]) == ("carts", "rejected")
    assert "501 of the last " in line["reason"]
    assert "for example carts/1/1700 as missing_field (event_id)" in line["reason"]
    assert "stationkeeper topics resume carts" in line["reason"]
    assert state(rig, "shop") == ("unknown", f"input stopped: one of the topics is not read. {line['reason']}")
    assert state(rig, "fraud")[0] == "steady"
    assert received(rig, "scores") == 3_600, "the other topic goes on"
    assert received(rig, "carts") == 2_400, "nothing past the stop is committed"
    sample = [s for s in rig.loops["tally"].samples() if s.metric == "stationkeeper_input_stopped"]
    assert [(s.labels, s.value) for s in sample] == [(("carts", "rejected", "missing_field"), 1)]
    assert rig.loops["tally"].ready()


def test_the_stop_is_found_again_after_a_restart_and_a_word_lets_the_bad_records_pass_once(rig: Rig) -> None:
    steady(rig)
    rig.send("carts", [b"{"] * 3_000, partition=0)
    turn(rig)
    rig.start("tally")
    turn(rig)
    assert stopped(rig) == {"carts": "rejected"}
    assert received(rig, "carts") == 2_400
    decide(rig, "carts", "resume")
    rig.send("carts", carts(60, 20, first=2_400, start=START + 120 * 60_000), partition=0)
    turn(rig)
    assert stopped(rig) == {}
    assert received(rig, "carts") == 2_400 + 3_000 + 1_200
    assert state(rig, "shop")[0] == "steady"
    rig.send("carts", [b"{"] * 3_000, partition=0)
    turn(rig)
    assert stopped(rig) == {"carts": "rejected"}, "what came after the word stops it again"
    assert received(rig, "carts") == 2_400 + 3_000 + 1_200


def test_a_topic_that_is_bad_from_its_first_record_on_is_told_to_the_judge(rig: Rig) -> None:
    rig.send("carts", [b"{"] * 3_000)
    turn(rig)
    assert state(rig, "shop")[0] == "unknown"
    assert "carts/" in state(rig, "shop")[1]
    assert "not_json" in state(rig, "shop")[1]
    assert received(rig, "carts") == 0


def recreate(rig: Rig, values: list[bytes]) -> None:
    rig.log.delete("carts")
    rig.log.create("carts", 2)
    rig.send("carts", values)


@pytest.mark.parametrize("running", [True, False], ids=["running", "down"])
def test_a_topic_that_was_created_anew_stops_alone_and_is_read_whole_when_that_is_accepted(
    rig: Rig, running: bool
) -> None:
    steady(rig)
    # More than was read of the one before: by offsets alone the first 2 400 would be passed over without a word.
    again = carts(240, 20, start=START + 120 * 60_000)
    again = [json.dumps(json.loads(value) | {"event_id": f"n{at}"}).encode() for at, value in enumerate(again)]
    if running:
        recreate(rig, again)
    else:
        rig.loops["tally"].close()
        recreate(rig, again)
        rig.start("tally")
    turn(rig)
    assert stopped(rig) == {"carts": "recreated"}
    assert state(rig, "shop")[0] == "unknown"
    assert "stationkeeper topics accept-new carts" in state(rig, "shop")[1]
    rig.send("scores", predictions(60, 20, first=2_400, start=START + 120 * 60_000))
    turn(rig)
    assert received(rig, "scores") == 3_600
    assert received(rig, "carts") == 2_400
    decide(rig, "carts", "accept_new")
    turn(rig)
    assert stopped(rig) == {}
    assert received(rig, "carts") == 4_800, "of the new topic, from its first record on"
    assert state(rig, "shop")[0] == "steady"
    rig.start("tally")
    turn(rig)
    assert received(rig, "carts") == 4_800
    found = verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream")
    assert found.equal, found.summary()
    assert any("created anew" in line for line in found.unverifiable)


def test_what_is_known_to_be_unread_of_a_topic_that_went_is_counted_as_lost(rig: Rig) -> None:
    steady(rig)
    rig.send("carts", [b"{"] * 2_000, partition=0)
    rig.loops["tally"]._ends._at = 0.0  # it asks for the ends now, and not when a second has passed
    turn(rig)
    assert stopped(rig) == {"carts": "rejected"}
    rig.loops["tally"]._ends._at = 0.0
    turn(rig)
    behind = [one for one in rig.loops["tally"].samples() if one.metric == "stationkeeper_consumer_lag_records"]
    assert sum(one.value for one in behind if one.labels[1] == "carts") == 2_000
    recreate(rig, [])
    decide(rig, "carts", "accept_new")
    turn(rig)
    rows = [row for row in rig.stage("tally").status()["conservation"] if row["topic"] == "carts"]
    assert [row["expired"] for row in rows] == [2_000, 0]


def test_a_topic_that_is_gone_holds_up_nobody_and_is_read_on_when_it_is_back(rig: Rig) -> None:
    steady(rig)
    kept = rig.log._topics["carts"], rig.log.ids["carts"]
    rig.log.delete("carts")
    rig.send("scores", predictions(60, 20, first=2_400, start=START + 120 * 60_000))
    turn(rig)
    assert received(rig, "scores") == 3_600
    rig.log._topics["carts"], rig.log.ids["carts"] = kept
    for group in rig.log.groups.values():
        group.generation += 1
    rig.send("carts", carts(1, 20, first=2_400, start=START + 120 * 60_000))
    turn(rig)
    assert stopped(rig) == {}
    assert received(rig, "carts") == 2_420


def test_a_log_that_lost_its_end_stops_its_topic_alone_and_is_read_on_from_there(rig: Rig) -> None:
    steady(rig)
    log = rig.log.at(Partition("carts", 0))
    for column in (log.offsets, log.timestamps, log.keys, log.values, log.headers):
        del column[1_000:]
    log.end = 1_000
    rig.start("tally")
    turn(rig)
    assert stopped(rig) == {"carts": "shorter"}
    assert state(rig, "fraud")[0] == "steady"
    decide(rig, "carts", "accept_new")
    rig.send("carts", carts(1, 20, first=2_400, start=START + 120 * 60_000), partition=0)
    turn(rig)
    assert stopped(rig) == {}
    assert received(rig, "carts") == 2_420
    rig.start("tally")
    turn(rig)
    assert (stopped(rig), received(rig, "carts")) == ({}, 2_420)


def test_state_of_before_ids_were_kept_takes_the_topic_for_the_one_it_read(rig: Rig) -> None:
    steady(rig)
    for state_ in rig.stage("tally")._partitions.values():
        state_.topic_id = ""
        rig.stage("tally")._touched.add(state_.partition)
    rig.send("outcomes", labels(range(10)))
    turn(rig)
    rig.start("tally")
    turn(rig)
    assert stopped(rig) == {}
    assert received(rig, "carts") == 2_400
