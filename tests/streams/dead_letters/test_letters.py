import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.streams.dead_letters.letters import dead_letter, is_dead_letter, without_value
from stationkeeper.streams.dead_letters.oversize import BATCH_BYTES, Oversize
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Batch, Outgoing, Partition

HERE, THERE = Partition("fraud.predictions", 2), Partition("fraud.predictions", 3)
maybe_bytes = st.none() | st.binary(max_size=30)


def batch(key, value, headers=()):
    at = np.array([1042], dtype=np.int64)
    return Batch(HERE, at, np.array([1_700_000_000_123], dtype=np.int64), (key,), (value,), 1043, (headers,))


@given(key=maybe_bytes, value=maybe_bytes, name=st.text(max_size=5), text=st.binary(max_size=5))
def test_key_value_and_own_headers_stay_as_they_came(key, value, name, text):
    letter = dead_letter(batch(key, value, ((name, text),)), 0, DeadLetterCode.NOT_JSON, "tally")
    assert letter.topic == "fraud.predictions.dlq"
    assert letter.value == value
    assert letter.key == (b"" if key is None and value is None else key)
    assert letter.headers[-1] == (name, text)
    assert is_dead_letter(letter)


def test_headers_say_where_when_why_and_who():
    letter = dead_letter(batch(b"k", b"v"), 0, DeadLetterCode.BAD_TIME, "tally", detail="time")
    assert dict(letter.headers) == {
        "stationkeeper.topic": b"fraud.predictions",
        "stationkeeper.partition": b"2",
        "stationkeeper.offset": b"1042",
        "stationkeeper.timestamp": b"2023-11-14T22:13:20.123Z",
        "stationkeeper.error.code": b"bad_time",
        "stationkeeper.error.detail": b"time",
        "stationkeeper.stage": b"tally",
    }


def test_connects_names_are_written_on_request():
    letter = dead_letter(batch(b"k", b"v"), 0, DeadLetterCode.BAD_TIME, "tally", connect_headers=True)
    connect = {name: text for name, text in letter.headers if name.startswith("__connect.errors.")}
    assert connect["__connect.errors.offset"] == b"1042"
    assert connect["__connect.errors.exception.class.name"] == b"bad_time"
    assert len(connect) == 9


def test_what_is_too_large_keeps_its_address_and_its_hash():
    letter = dead_letter(batch(b"k", b"v" * 99, (("trace", b"1"),)), 0, DeadLetterCode.NOT_JSON, "tally")
    cut = without_value(letter)
    headers = dict(cut.headers)
    assert cut.value is None
    assert cut.key == b"fraud.predictions/2/1042"
    assert headers["stationkeeper.error.code"] == b"oversize"
    assert headers["stationkeeper.error.detail"] == b"not_json"
    assert headers["stationkeeper.value.sha256"] == hashlib.sha256(b"v" * 99).hexdigest().encode()
    assert headers["stationkeeper.value.bytes"] == b"99"
    assert "trace" not in headers


def test_a_refused_letter_goes_cut_the_next_time_and_any_other_record_is_fatal():
    oversize = Oversize(alone=True)
    letter = dead_letter(batch(b"k", b"v" * 99), 0, DeadLetterCode.NOT_JSON, "tally")
    other = dead_letter(batch(b"k", b"w"), 0, DeadLetterCode.NOT_JSON, "tally")
    oversize.refuse(letter, "limit 50")
    assert oversize.fitted(letter) == without_value(letter)
    assert oversize.fitted(other) == other
    with pytest.raises(Fatal, match=r"panes refused a record of 3 bytes \(limit 2\); raise its max"):
        oversize.refuse(Outgoing("panes", b"abc"), "limit 2")
    with pytest.raises(Fatal, match="refused"):
        oversize.refuse(without_value(letter), "limit 50")


def test_what_may_have_shared_its_batch_is_neither_cut_nor_fatal_before_it_came_alone():
    letter = dead_letter(batch(b"k", b"v" * 99), 0, DeadLetterCode.NOT_JSON, "tally")
    for record in (letter, without_value(letter), Outgoing("panes", b"abc")):
        oversize = Oversize()
        oversize.refuse(record, "limit 50")
        assert oversize.alone
        assert oversize.fitted(letter) == letter
    large = Oversize()
    large.refuse(letter._replace(value=bytes(BATCH_BYTES)), "limit 50")
    assert not large.alone


@pytest.mark.parametrize(
    ("stamp", "shown"),
    [(-1, "1969-12-31T23:59:59.999Z"), (1_767_225_600_000_000, "1767225600000000"), (-(2**62), str(-(2**62)))],
)
def test_a_time_that_no_calendar_has_is_written_as_its_number(stamp, shown):
    record = batch(None, b"v")
    record.timestamps[0] = stamp
    headers = dict(dead_letter(record, 0, DeadLetterCode.NOT_JSON, "tally").headers)
    assert headers["stationkeeper.timestamp"].decode() == shown
