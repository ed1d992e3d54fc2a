"""Where a change is: parts that add up, small segments together, and nothing silently left out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.monitor.core.charts import FEW_ROWS, SegmentPart, segment_parts


def counts(*cells: int) -> np.ndarray:
    return np.array(cells, np.int64)


def test_the_example_of_the_docstring():
    before = {"country=a": counts(100, 100), "country=b": counts(100, 100)}
    parts = segment_parts(before, {"country=a": counts(0, 200), "country=b": counts(100, 100)})
    by_hand = [SegmentPart("country=a", 200, 200, 1.0, 0.5, 0.0), SegmentPart("country=b", 200, 200, 0.0, 0.0, 0.0)]
    assert [(p.segment, p.before, p.rows, p.share, p.moved) for p in parts] == [
        (p.segment, p.before, p.rows, p.share, p.moved) for p in by_hand
    ]
    # 1.96 sqrt(.5 .5 / 200 + 1 0 / 200)
    assert parts[0].noise == pytest.approx(0.0693, abs=1e-4)


def test_a_segment_that_differs_from_the_others_as_ever_is_no_part_of_the_change():
    before = {"shop=cheap": counts(900, 100), "shop=dear": counts(100, 900)}
    first, second = segment_parts(before, {"shop=cheap": counts(600, 400), "shop=dear": counts(100, 900)})
    assert (first.segment, first.share) == ("shop=cheap", 1.0)
    assert first.moved == pytest.approx(0.3)
    assert (second.share, second.moved) == (0.0, 0.0)


def test_growth_of_a_segment_is_its_part_though_none_of_its_own_rows_moved():
    before = {"shop=cheap": counts(900, 100), "shop=dear": counts(100, 900)}
    first, second = segment_parts(before, {"shop=cheap": counts(450, 50), "shop=dear": counts(150, 1_350)})
    assert (first.segment, first.share > 1, first.moved) == ("shop=dear", True, 0.0)
    assert second.share < 0


def test_small_segments_are_one_part_with_their_number():
    before = {f"shop={i}": counts(5, 5) for i in range(7)} | {"shop=big": counts(500, 500)}
    now = {f"shop={i}": counts(0, FEW_ROWS - 1) for i in range(7)} | {"shop=big": counts(500, 500)}
    parts = segment_parts(before, now | {"shop=new": counts(0, 40)})
    by = {(part.segment, part.pooled): part for part in parts}
    assert set(by) == {("shop", 7), ("shop=big", 0), ("shop=new", 0)}
    assert by["shop", 7].rows == 7 * (FEW_ROWS - 1)
    assert math.isnan(by["shop=new", 0].moved)
    assert sum(part.rows for part in parts) == 7 * (FEW_ROWS - 1) + 1_040


def test_where_nothing_moved_or_a_period_is_empty_there_is_nothing_to_say():
    one = {"shop=a": counts(100, 100)}
    assert segment_parts(one, one) == segment_parts({}, one) == segment_parts(one, {}) == segment_parts({}, {}) == []


def test_the_interval_of_a_segment_that_did_not_move_holds_zero():
    rng, law, moved = np.random.default_rng(1), np.full(20, 0.05), np.full(20, 0.9 / 20)
    moved[3] += 0.1
    for one in (law, moved):
        missed = 0
        for _ in range(150):
            old = {f"d={i}": rng.multinomial(500, law) for i in range(4)}
            new = {f"d={i}": rng.multinomial(500, one if i == 0 else law) for i in range(4)}
            missed += sum(abs(part.moved) > part.noise for part in segment_parts(old, new) if part.segment != "d=0")
        assert missed / (150 * 3) < 0.1


sides = st.dictionaries(
    st.sampled_from(["d=a", "d=b", "d=c", "d=e"]), st.lists(st.integers(0, 200), min_size=3, max_size=3), max_size=4
)


@given(sides, sides)
def test_the_parts_add_up_to_the_whole_and_no_row_is_lost(before: dict[str, list[int]], now: dict[str, list[int]]):
    old, new = ({name: counts(*cells) for name, cells in side.items()} for side in (before, now))
    parts = segment_parts(old, new)
    if parts:
        assert sum(part.share for part in parts) == pytest.approx(1.0)
        assert sum(part.rows for part in parts) == sum(map(sum, now.values()))
        assert sum(part.before for part in parts) == sum(map(sum, before.values()))
