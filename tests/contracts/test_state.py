import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from stationkeeper.contracts.state import State, state_of


class Inner(State, frozen=True, array_like=True):
    count: int
    label: str = "none"


class Outer(State, frozen=True):
    values: NDArray[np.int64]
    inner: dict[str, Inner] = {}


def test_a_state_is_read_back_by_name_with_arrays_and_old_lists_by_position():
    found = state_of({"values": np.arange(2), "inner": {"a": [3]}, "later": "a field of a newer build"}, Outer)
    assert found.values.tolist() == [0, 1]
    assert found.inner == {"a": Inner(count=3)}


def test_what_does_not_fit_is_named_by_its_path():
    with pytest.raises(msgspec.ValidationError, match=r"\$\.inner\[\.\.\.\]"):
        state_of({"values": np.arange(2), "inner": {"a": ["x"]}}, Outer)
