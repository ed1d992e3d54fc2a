"""New values by name: exact for the first by hash, however events are cut into batches; never of sensitive features."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.column import categories
from stationkeeper.monitor.core.reference import NewValues, Reference, added, count_new, new_rows, plain_new, profile
from stationkeeper.monitor.core.reference.new_values import LONGEST_NAME, MOST_NAMES

KNOWN = np.array(["de", "fr", "us"] * 100, object)


def reference_of(**options: Any) -> Reference:
    return profile({"country": KNOWN, "number": np.arange(300.0)}, model="m", salt="s", **options)


REFERENCE = reference_of()


def counted(values: list[str | None], reference: Reference = REFERENCE) -> NewValues:
    column = categories(np.array([*values, None], object)[:-1])
    found = new_rows(reference, {"country": column})
    return count_new(found, np.zeros(len(values), np.int64)).get(0, {})


def test_a_new_value_is_counted_by_name_and_known_ones_are_not():
    assert counted(["de", "7", None, "7", "us", "x"]) == {"country": {"7": 2, "x": 1}}
    assert counted(["de", None]) == {}


def test_sensitive_values_and_long_texts_are_never_named():
    assert counted(["7"], reference_of(sensitive=["country"])) == {}
    assert counted(["y" * (LONGEST_NAME + 1), "7"]) == {"country": {"7": 1}}
    assert new_rows(REFERENCE, {"country": categories(np.array(["7"], object))}, hidden=("country",)) == []


@given(st.lists(st.integers(0, 40), max_size=80), st.data())
def test_the_cut_into_batches_does_not_show(numbers: list[int], data: st.DataObject):
    values = [f"v{number}" for number in numbers]
    cut = data.draw(st.integers(0, len(values)))
    whole, parts = counted(list(values)), added(counted(list(values[cut:])), counted(list(values[:cut])))
    assert plain_new(parts) == plain_new(whole)
    for name, count in whole.get("country", {}).items():
        assert count == values.count(name)
    assert len(whole.get("country", {})) == min(MOST_NAMES, len(set(values)))


def test_rows_are_counted_in_their_group():
    column = categories(np.array(["7", "x", "7", "de"], object))
    found = count_new(new_rows(REFERENCE, {"country": column}), np.array([0, 0, 2, 1]))
    assert found == {0: {"country": {"7": 1, "x": 1}}, 2: {"country": {"7": 1}}}
