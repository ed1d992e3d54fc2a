import pytest

from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.contracts.topics import dead_letter_topic
from stationkeeper.streams.dead_letters.box import REPLAYED, letters, replay, show, summary
from stationkeeper.streams.dead_letters.letters import dead_letter, without_value
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink
from stationkeeper.streams.ports import Partition
from stationkeeper.streams.settings import KafkaSettings

TOPIC = "fraud.predictions"
VALUES = (b"{", b"\xff\xfe", b"good", b"[]", b"")


@pytest.fixture
def log():
    log = MemoryLog(clock_ms=lambda: 1_700_000_000_000)
    log.create(TOPIC, 2)
    log.create(dead_letter_topic(TOPIC), 1)
    log.produce(TOPIC, VALUES, keys=[b"k", None, b"g", b"", None], partition=1, headers=[(("trace", b"t1"),)] * 5)
    return log


class Send:
    """One transaction a call, as the command's producer does it."""

    def __init__(self, log):
        self.sink = MemorySink(log, KafkaSettings(), "box")
        self.calls = []

    def __call__(self, records):
        self.calls.append(list(records))
        self.sink.begin()
        self.sink.send(records)
        self.sink.commit({}, None)


@pytest.fixture
def send(log):
    return Send(log)


@pytest.fixture
def reader(log, send):
    reader = MemoryReader(log)
    (batch,) = reader.read([Partition(TOPIC, 1)])
    bad = [(0, DeadLetterCode.NOT_JSON, ""), (1, DeadLetterCode.NOT_UTF8, ""), (3, DeadLetterCode.NOT_AN_OBJECT, "x")]
    send([dead_letter(batch, row, code, "tally", detail=detail, connect_headers=True) for row, code, detail in bad])
    send([without_value(dead_letter(batch, 4, DeadLetterCode.NOT_JSON, "tally"))])
    send.calls.clear()
    return reader


def test_the_list_counts_by_code_and_shows_the_newest(reader):
    rows = summary(reader, TOPIC)
    assert {row["code"]: row["count"] for row in rows} == {
        "not_json": 1,
        "not_utf8": 1,
        "not_an_object": 1,
        "oversize": 1,
    }
    row = next(row for row in rows if row["code"] == "not_an_object")
    assert row["newest"] == "2023-11-14T22:13:20.000Z"
    assert (row["detail"], row["address"], row["replayed"]) == ("x", f"{TOPIC}/1/3", 0)
    assert summary(reader, "never.created") == []


def test_one_record_is_shown_whole(reader):
    letter = show(reader, f"{TOPIC}/1/1")
    assert letter.to_json() == {
        "address": f"{TOPIC}/1/1",
        "code": "not_utf8",
        "detail": "",
        "time": "2023-11-14T22:13:20.000Z",
        "replayed": False,
        "key": None,
        "value": "base64://4=",
        "headers": {"trace": "t1"},
    }


@pytest.mark.parametrize("address", ["", "fraud.predictions", "fraud.predictions/x/1", "/1/2", "t/1/"])
def test_what_is_no_address_says_what_one_is(reader, address):
    with pytest.raises(LookupError, match="topic/partition/offset"):
        show(reader, address)


def test_a_record_that_was_not_rejected_is_not_found(reader):
    with pytest.raises(LookupError, match=r"fraud\.predictions\.dlq"):
        show(reader, f"{TOPIC}/1/2")


def after(reader, end=5):
    (batch,) = reader.read([Partition(TOPIC, 1)], {Partition(TOPIC, 1): end})
    return batch


def test_a_replay_is_byte_identical_to_the_same_partition_and_happens_once(reader, send):
    done = replay(reader, TOPIC, send)
    assert done.sent == tuple(f"{TOPIC}/1/{offset}" for offset in (0, 1, 3))
    assert done.skipped == (f"{TOPIC}/1/4: holds no value (oversize)",)
    assert len(send.calls) == 1
    batch = after(reader)
    assert list(batch.values) == [VALUES[0], VALUES[1], VALUES[3]]
    assert list(batch.keys) == [b"k", None, b""]
    assert [dict(headers) for headers in batch.headers] == [
        {"trace": b"t1", REPLAYED: f"{TOPIC}/1/{offset}".encode()} for offset in (0, 1, 3)
    ]
    again = replay(reader, TOPIC, send)
    assert again.sent == ()
    assert len(again.skipped) == 4
    assert len(after(reader)) == 3
    assert {row["code"]: row["replayed"] for row in summary(reader, TOPIC)}["not_json"] == 1
    assert show(reader, f"{TOPIC}/1/0").replayed


def test_a_replay_takes_what_is_named(reader, send):
    assert replay(reader, TOPIC, send, codes={"not_utf8"}).sent == (f"{TOPIC}/1/1",)
    named = replay(reader, TOPIC, send, addresses=[f"{TOPIC}/1/3", f"{TOPIC}/1/77"])
    assert named.sent == (f"{TOPIC}/1/3",)
    assert named.skipped == (f"{TOPIC}/1/77: is not in {TOPIC}.dlq",)


def test_a_replayed_record_that_is_rejected_again_can_be_replayed_again(reader, send):
    replay(reader, TOPIC, send, addresses=[f"{TOPIC}/1/0"])
    batch = after(reader)
    send([dead_letter(batch, 0, DeadLetterCode.NOT_JSON, "tally")])
    assert show(reader, f"{TOPIC}/1/{batch.offsets[0]}").code == "not_json"
    assert replay(reader, TOPIC, send, codes={"not_json"}).sent == (f"{TOPIC}/1/{batch.offsets[0]}",)


def test_a_record_of_anothers_making_hides_no_letter_beside_it(log, reader):
    before = [letter.address for letter in letters(reader, TOPIC)]
    half = [("stationkeeper.error.code", b"not_json"), ("stationkeeper.topic", TOPIC.encode())]
    odd = [("stationkeeper.partition", b"one"), ("stationkeeper.offset", b"7")]
    log.produce(dead_letter_topic(TOPIC), [b"x", b"y"], headers=[tuple(half), (*half, *odd)])
    assert [letter.address for letter in letters(reader, TOPIC)] == before
    assert len(before) == 4


def test_an_address_whose_offset_is_no_plain_number_is_refused_with_what_one_is(reader):
    with pytest.raises(LookupError, match="write topic/partition/offset"):
        show(reader, f"{TOPIC}/1/\u00b2")
