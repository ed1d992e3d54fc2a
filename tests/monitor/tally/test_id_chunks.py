"""Chunks of ids: a ring of keys, whose records say what may still be repeated."""

import numpy as np

from stationkeeper.monitor.tally.dedupe import CHUNK
from stationkeeper.monitor.tally.id_chunks import IdChunk, IdChunks


def fed(chunks: IdChunks, first: int, end: int) -> dict[bytes, IdChunk]:
    offsets = np.arange(first, end, dtype=np.int64)
    chunks.remember(offsets.astype(np.uint64), offsets, np.zeros(len(offsets), np.uint16))
    return {key: chunk for key, chunk in chunks.records(end) if chunk is not None}


def test_only_the_open_chunk_is_written_again_and_keys_come_round() -> None:
    chunks = IdChunks(b"scores/0", CHUNK)
    assert set(fed(chunks, 0, CHUNK + 5)) == {b"scores/0/ids/3/0", b"scores/0/ids/3/1"}
    (key, chunk), *others = fed(chunks, CHUNK + 5, CHUNK + 8).items()
    assert (key, others) == (b"scores/0/ids/3/1", [])
    assert np.frombuffer(chunk.offsets, "<i8").tolist() == list(range(CHUNK, CHUNK + 8))
    assert set(fed(chunks, 3 * CHUNK, 3 * CHUNK + 1)) == {b"scores/0/ids/3/0"}


def test_what_comes_back_is_what_the_horizon_still_holds() -> None:
    stored = fed(IdChunks(b"p", CHUNK), 0, CHUNK + 10)
    again = IdChunks(b"p", CHUNK)
    found = [offsets.tolist() for _, offsets, _ in again.restore(stored.items(), CHUNK + 10)]
    assert (found[0][0], found[-1][-1]) == (9, CHUNK + 9)
    # The chunk that was begun is filled on, not written over.
    (chunk,) = fed(again, CHUNK + 10, CHUNK + 11).values()
    assert len(chunk.offsets) == 11 * 8


def test_what_labels_said_comes_back_and_costs_nothing_where_nothing_was_said() -> None:
    offsets, said = np.arange(4), np.array([0, 7, 65_535, 1], np.uint16)
    chunks = IdChunks(b"p", CHUNK)
    chunks.remember(offsets.astype(np.uint64), offsets, said)
    stored = [(key, chunk) for key, chunk in chunks.records(4) if chunk is not None]
    ((_, _, back),) = IdChunks(b"p", CHUNK).restore(stored, 4)
    assert back.tolist() == said.tolist()
    silent = fed(IdChunks(b"p", CHUNK), 0, 4)
    assert [chunk.said for chunk in silent.values()] == [b""]
    # An older build's chunk says nothing.
    ((_, _, none),) = IdChunks(b"p", CHUNK).restore(silent.items(), 4)
    assert none.tolist() == [0, 0, 0, 0]


def test_chunks_of_another_ring_go_once_all_their_ids_are_too_old() -> None:
    stored = fed(IdChunks(b"p", 4 * CHUNK), 0, 10)
    made = IdChunks(b"p", CHUNK)
    made.restore(stored.items(), 10)
    assert list(made.records(CHUNK + 10)) == []
    assert list(made.records(CHUNK + 11)) == [(b"p/ids/6/0", None)]
    made.discard(b"p/ids/6/7")
    assert list(made.records(0)) == [(b"p/ids/6/7", None)]


def test_without_a_horizon_nothing_is_kept() -> None:
    assert fed(IdChunks(b"p", 0), 0, 10) == {}
