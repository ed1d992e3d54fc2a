import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from stationkeeper.contracts import wire
from stationkeeper.contracts.wire import (
    BY_PROBABILITY,
    FORMAT,
    JOIN_ROW,
    MOST_STEPS,
    SCORE_BINS,
    SCORE_EDGES,
    ArmDelta,
    JoinBatch,
    OutcomeDelta,
    PaneDelta,
    Progress,
    WireError,
    decode,
    encode,
    latency_bin,
    pack,
    score_bin,
    slower_bin,
    sparse,
    tolerated_bin,
)
from stationkeeper.monitor.packets import packed

I64 = st.integers(-(2**63), 2**63 - 1)
NAME = st.text(max_size=20)
COUNTS = st.lists(I64, max_size=30).map(lambda counts: pack(np.array(counts, dtype=np.int64)))
RECORD = st.one_of(
    st.builds(
        PaneDelta,
        model=NAME,
        version=NAME,
        digest=NAME,
        source=NAME,
        segment=NAME,
        start=I64,
        length=I64,
        rows=I64,
        first=I64,
        width=I64,
        counts=COUNTS,
    ),
    st.builds(Progress, topic=NAME, partition=I64, source=NAME, next_offset=I64, clock=I64, idle=st.booleans()),
    st.builds(
        ArmDelta,
        model=NAME,
        version=NAME,
        segment=NAME,
        start=I64,
        length=I64,
        rows=I64,
        errors=I64,
        positives=I64,
        timed=I64,
        latency_us=I64,
        scores=COUNTS,
    ),
    st.builds(
        OutcomeDelta,
        model=NAME,
        version=NAME,
        segment=NAME,
        start=I64,
        length=I64,
        rows=I64,
        known_at=I64,
        confusion=COUNTS,
        scored=COUNTS,
        loss=I64,
        age_ms=I64,
    ),
    st.builds(
        JoinBatch,
        side=NAME,
        model=NAME,
        version=NAME,
        segments=st.lists(NAME, max_size=3).map(tuple),
        rows=st.integers(0, 5).map(lambda n: np.zeros(n, JOIN_ROW).tobytes()),
    ),
)


@given(st.lists(RECORD, max_size=5))
def test_records_come_back_as_they_went(records):
    assert decode(encode(records)) == records


@given(st.lists(I64, max_size=50))
def test_counts_come_back_whole(counts):
    delta = PaneDelta("m", "1", "d", "prediction", "", 0, 60_000, 3, 0, len(counts), pack(np.array(counts, np.int64)))
    assert decode(encode([delta]))[0].vector().tolist() == counts  # type: ignore[union-attr]


@given(st.lists(st.one_of(st.just(0), st.integers(0, 70_000), I64), max_size=50), st.integers(0, 1_000))
def test_counts_without_their_zeros_come_back_whole(counts, gap):
    block = np.array(counts + [0] * gap, np.int64)
    delta = PaneDelta("m", "1", "d", "prediction", "", 0, 60_000, 3, 0, len(block), *sparse(block))
    again = decode(encode([delta]))[0]
    assert again.vector().tolist() == block.tolist()  # type: ignore[union-attr]


def test_counts_travel_in_the_narrowest_type_and_steps_in_two_bytes():
    block = np.zeros(MOST_STEPS, np.int64)
    block[[0, 9, MOST_STEPS - 1]] = [1, 255, 3]
    counts, size, steps = sparse(block)
    assert (counts, size, len(steps)) == (b"\x01\xff\x03", MOST_STEPS, 6)
    block[9] = 256
    assert len(sparse(block)[0]) == 3 * 2
    with pytest.raises(ValueError, match=r"at most 65536 counts, got 65537"):
        sparse(np.zeros(MOST_STEPS + 1, np.int64))


def test_records_of_format_1_are_read():
    dense = ["pane", "m", "1", "d", "prediction", "", 0, 60_000, 3, 0, 2, pack(np.array([4, 5], np.int64))]
    value = b"\x01" + zstandard.ZstdCompressor().compress(msgspec.msgpack.encode([dense]))
    assert decode(value)[0].vector().tolist() == [4, 5]  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [PaneDelta, Progress, ArmDelta, OutcomeDelta, JoinBatch])
def test_a_reader_leaves_out_fields_that_a_newer_writer_put_last(kind):
    blank = {str: "x", int: 1, bytes: b"", bool: False, tuple[str, ...]: ()}
    needed = {f.name: blank[f.type] for f in msgspec.structs.fields(kind) if f.required}
    record = kind(**needed)
    plain = msgspec.to_builtins(record, builtin_types=(bytes,))
    packed = zstandard.ZstdCompressor().compress(msgspec.msgpack.encode([[*plain, {"of": "the future"}]]))
    assert decode(bytes((FORMAT,)) + packed) == [record]


@pytest.mark.parametrize("kind", [ArmDelta, OutcomeDelta, JoinBatch])
def test_records_of_builds_before_actions_are_read(kind):
    blank = {str: "x", int: 1, bytes: b"", tuple[str, ...]: ()}
    record = kind(**{f.name: blank[f.type] for f in msgspec.structs.fields(kind) if f.required})
    plain = msgspec.to_builtins(record, builtin_types=(bytes,))
    packed = zstandard.ZstdCompressor().compress(msgspec.msgpack.encode([plain[:-1]]))
    assert decode(bytes((FORMAT,)) + packed) == [record]
    assert not record.actions


def test_a_join_row_is_28_bytes_and_comes_back_by_column():
    rows = np.zeros(2, JOIN_ROW)
    rows["id"], rows["score"] = [2**64 - 1, 7], [0.5, np.nan]
    again = decode(encode([JoinBatch("prediction", "m", "1", ("",), rows.tobytes())]))[0].table()  # type: ignore[union-attr]
    assert JOIN_ROW.itemsize == 28
    assert again["id"].tolist() == [2**64 - 1, 7]
    assert np.isnan(again["score"][1])


@pytest.mark.parametrize("value", [b"", b"\x03whatever", bytes((FORMAT,)) + b"not zstd", encode([])[:-1], b"\x01"])
def test_what_this_version_cannot_read_is_refused_with_a_reason(value):
    with pytest.raises(WireError, match=r"format|damaged"):
        decode(value)


def outcome(confusion: list[int], scored: dict[tuple[int, int], int]) -> OutcomeDelta:
    table = np.zeros((SCORE_BINS, 2), np.int64)
    for place, rows in scored.items():
        table[place] = rows
    return OutcomeDelta("m", "1", "", 0, 60_000, 10, 60_000, pack(np.array(confusion)), pack(table.ravel()), 0, 0)


def test_right_answers_scored_by_probability_are_refused_by_builds_that_would_take_them_for_positives(monkeypatch):
    two = outcome([3, 1, 2, 4], {(20, 1): 5, (4, 0): 5})
    bare = outcome([0, 2, 0, 8], {(31, 0): 8, (0, 0): 2})
    several = outcome([0, 2, 0, 8], {(20, 1): 6, (31, 0): 2, (4, 0): 2})
    assert [encode([one])[0] for one in (two, bare, several)] == [FORMAT, FORMAT, BY_PROBABILITY]
    # What such a build can read lies in a value of its own, however often formats take turns.
    values = packed([bare, several, two, several, bare])
    assert [value[0] for value in values] == [FORMAT, BY_PROBABILITY]
    assert [decode(value) for value in values] == [[bare, two, bare], [several, several]]
    corrections = [structs.replace(one, rows=0, corrected=1) for one in (bare, several)]
    values = packed([corrections[1], several, corrections[0], bare])
    assert [one for value in values for one in decode(value)] == [bare, several, *corrections]
    assert decode(encode([two, several])) == [two, several]
    # What the build before reads.
    monkeypatch.setattr(wire, "READ", (1, 2))
    assert decode(encode([two, bare])) == [two, bare]
    with pytest.raises(WireError, match="has format 3, this version reads 1 to 2; upgrade this role"):
        decode(encode([two, several]))


def test_score_bins_are_equal_steps_of_log_odds():
    assert len(SCORE_EDGES) == SCORE_BINS - 1
    odds = np.log(SCORE_EDGES / (1 - SCORE_EDGES))
    np.testing.assert_allclose(np.diff(odds), 0.5)
    # 0.5 has log-odds 0, the sixteenth edge (from -7.5 in steps of 0.5), and an edge belongs to the bin above it.
    assert score_bin(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])).tolist() == [0, 0, 16, 31, 31]


@given(st.lists(st.one_of(st.sampled_from(SCORE_EDGES.tolist()), st.floats(-1e300, 1e300)), min_size=1))
def test_score_bins_are_those_of_a_binary_search(scores):
    values = np.concatenate([scores, np.nextafter(scores, np.inf), np.nextafter(scores, -np.inf), SCORE_EDGES])
    assert score_bin(values).tolist() == np.searchsorted(SCORE_EDGES, values, side="right").tolist()


@given(
    ms=st.floats(0.0, 1_000.0),
    ratio=st.floats(1.2, 20.0),
    more=st.sampled_from([0.0, 0.2, 5.0]),
    by=st.floats(1.0, 2.0),
)
def test_a_margin_of_latency_is_rounded_to_the_side_that_errs_on_caution(ms, ratio, more, by):
    """1.5 was rounded to 1.41, which condemned what is tolerated, and 2.25 to 2.38, which let pass what is not.

    Below a sixteenth of a millisecond nothing is told apart: .058 ms beside .02 was shown to be no slower.
    """
    longer = max(ms * ratio, ms + more)
    start, inside, beyond = latency_bin(np.array([ms, longer / by, longer * by])).tolist()
    assert inside <= slower_bin(start + 1, ratio, more)
    assert beyond >= tolerated_bin(start, ratio, more)


def test_a_ratio_of_whole_bins_takes_effect_as_itself():
    # The first bin has no start that a ratio could be of.
    for cut in range(1, 80):
        for bins in range(1, 12):
            ratio = 2.0 ** (bins / 4)
            assert slower_bin(cut, ratio, 0.0) == tolerated_bin(cut, ratio, 0.0) == cut + bins
