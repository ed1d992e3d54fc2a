"""Records read by columns are those that kafka-python's own reader finds, whatever the batches hold."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.consumer.fetcher import Fetcher, IsolationLevel
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.record.util import calc_crc32c
from kafka.structs import TopicPartition

from stationkeeper.streams.kafka.fetch import ColumnarRecords, Columns, OpenBatch, joined, read, varints

PARTITION = TopicPartition("scores", 0)
BYTES = st.one_of(st.none(), st.binary(max_size=200), st.integers(100, 20_000).map(lambda n: b"x" * n))
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.one_of(st.none(), st.binary(max_size=5))), max_size=2)
RECORD = st.tuples(st.integers(-5, 2**41), BYTES, BYTES, HEADERS)
BATCH = st.tuples(st.lists(RECORD, min_size=1, max_size=6), st.sampled_from([0, 0, 1]), st.integers(0, 3))


def fetch_of(batches: Any) -> tuple[bytes, int]:
    """Return what a broker would send, and the offset after it."""
    data, offset = b"", 7
    for records, compression, gap in batches:
        offset += gap
        builder = MemoryRecordsBuilder(2, compression, 1 << 24, offset=offset)
        for at, (timestamp, key, value, headers) in enumerate(records):
            assert builder.append(timestamp, key, value, headers) is not None
            if at == 0 and len(records) > 2:
                builder.skip(1)  # compaction leaves holes
        builder.close()
        # The builder numbers a batch's offsets from 0 when asked to start elsewhere only in its header.
        data += bytes(builder.buffer())
        offset = builder.next_offset()
    return data, offset


def both(data: bytes, fetch_offset: int, **options: Any) -> tuple[Any, Any]:
    """Return kafka-python's reader and ours on the same bytes."""
    given = {"isolation_level": IsolationLevel.READ_COMMITTED} | options
    return (
        Fetcher.PartitionRecords(fetch_offset, PARTITION, MemoryRecords(data), **given),
        ColumnarRecords(fetch_offset, PARTITION, MemoryRecords(data), **given),
    )


class Aborted(NamedTuple):
    """A transaction that the broker says was aborted."""

    producer_id: int
    first_offset: int


def transactional(offset: int, producer: int, records: list[tuple[bytes | None, bytes]], *, control: bool) -> bytes:
    """Return a batch of a transaction, or its marker, which the library's writer cannot write."""
    builder = MemoryRecordsBuilder(2, 0, 1 << 20, offset, True, producer, 0, 0)
    for key, value in records:
        builder.append(offset, key, value, [])
    builder.close()
    data = bytearray(builder.buffer())
    if control:
        at, crc = DefaultRecordBatch.ATTRIBUTES_OFFSET, DefaultRecordBatch.CRC_OFFSET
        data[at + 1] |= DefaultRecordBatch.CONTROL_MASK
        data[crc : crc + 4] = calc_crc32c(memoryview(data)[at:]).to_bytes(4, "big")
    return bytes(data)


def rows(columns: Columns) -> list[Any]:
    """Return records as tuples."""
    both = columns.offsets.tolist(), columns.timestamps.tolist()
    return list(zip(*both, columns.keys, columns.values, columns.headers, strict=True))


@given(st.lists(BATCH, min_size=1, max_size=4), st.integers(0, 12), st.integers(1, 7))
def test_the_same_records_and_positions_as_the_librarys_reader(batches: Any, skipped: int, part: int) -> None:
    data, _ = fetch_of(batches)
    theirs, ours = both(data, 7 + skipped)
    expected = [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in theirs.take()]
    found: list[Columns] = []
    while ours:
        taken = ours.take(part)
        assert len(taken) <= part
        found.extend(taken)
        if ours:
            assert ours.next_fetch_offset == taken.offsets[-1] + 1
    assert rows(joined(found)) == expected
    assert ours.next_fetch_offset == theirs.next_fetch_offset


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans()), min_size=1, max_size=8), st.booleans())
def test_aborted_transactions_and_markers_are_left_out_and_passed(
    transactions: list[tuple[int, int, bool]], committed_only: bool
) -> None:
    data, offset, aborted, kept, every = b"", 7, [], [], []
    for at, (producer, count, committed) in enumerate(transactions):
        values = [f"{at}.{i}".encode() for i in range(count)]
        every += values
        kept += values if committed else []
        aborted += [] if committed else [Aborted(producer, offset)]
        data += transactional(offset, producer, [(None, value) for value in values], control=False)
        offset += count
        marker = (0).to_bytes(2, "big") + int(committed).to_bytes(2, "big")
        data += transactional(offset, producer, [(marker, bytes(6))], control=True)
        offset += 1
    level = IsolationLevel.READ_COMMITTED if committed_only else IsolationLevel.READ_UNCOMMITTED
    theirs, ours = both(data, 7, isolation_level=level, aborted_transactions=aborted)
    found = ours.take()
    assert list(found.values) == (kept if committed_only else every)
    assert found.offsets.tolist() == [record.offset for record in theirs.take()]
    # The last batch is a marker: the position lies behind it, so that an end that holds no more is reached.
    assert ours.next_fetch_offset == theirs.next_fetch_offset == offset
    assert not ours


def test_a_damaged_batch_fails_after_the_good_ones_and_is_never_passed() -> None:
    good, end = fetch_of([([(1, None, b"a", []), (2, b"k", b"b", [])], 0, 0)])
    builder = MemoryRecordsBuilder(2, 0, 1 << 20, offset=end)
    builder.append(3, None, b"c", [])
    builder.close()
    bad = bytearray(builder.buffer())
    bad[-2] ^= 0xFF
    _, ours = both(good + bytes(bad), 7)
    assert list(ours.take(10).values) == [b"a", b"b"]
    assert ours.next_fetch_offset == end
    with pytest.raises(CorruptRecordError, match="is damaged"):
        ours.take(10)
    assert (len(ours.take(10)), ours.next_fetch_offset) == (0, end)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x0e\x00\x00\x00\x01\x02a", "runs past the end"),
        (b"\x10\x00\x00\x00\x01\x02a\x00\x00", "not as long as it says"),
        (b"\x0e\x00\x00\x00\x01\x02a\x00\x00", "1 bytes are left"),
        (b"\x0e\x00\x00\x00\x01\x7ea\x00", "not as long as it says"),
        (b"\x1e\x00\x00\x00\x01\xfe" + b"\xff" * 8 + b"\x01\x00", "do not fit its length"),
        (b"\xff" * 12, "do not fit its length"),
    ],
)
def test_lengths_that_do_not_agree_are_refused(data: bytes, told: str) -> None:
    fine = b"\x0e\x00\x00\x00\x01\x02a\x00"
    assert rows(read([OpenBatch(fine, 1, 5, 100, appended=False)])) == [(5, 100, None, b"a", ())]
    with pytest.raises(CorruptRecordError, match=told):
        read([OpenBatch(data, 1, 5, 100, appended=False)])


def test_a_batch_whose_times_the_broker_set_has_its_latest_for_all() -> None:
    data = b"\x0e\x00\x08\x00\x01\x02a\x00"
    assert read([OpenBatch(data, 1, 5, 900, appended=True)]).timestamps.tolist() == [900]


def test_varints_by_hand() -> None:
    raw = np.array([0xAC, 0x02, 0x00, 0x01, 0x02, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F], np.uint8)
    value, after = varints(raw, np.array([0, 2, 3, 4, 5]))
    assert value.tolist() == [150, 0, -1, 1, 2**31 - 1]
    assert after.tolist() == [2, 3, 4, 5, 10]
    with pytest.raises(IndexError):
        varints(np.full(20, 0xFF, np.uint8), np.array([0]))
