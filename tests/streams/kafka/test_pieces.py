"""Byte strings that are cut out when asked for are those that would have been cut out at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.streams.kafka.fetch import Pieces

PLACES = st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 6)), max_size=6)


def pieces(data: bytes, places: list[tuple[int, int]]) -> Pieces:
    """Return pieces at these places."""
    return Pieces(data, *np.array(places, np.int64).reshape(-1, 2).T)


def test_by_hand() -> None:
    found = pieces(b"abcdef", [(0, 2), (3, 2), (4, 4), (4, 6)])
    assert list(found) == [b"ab", None, b"", b"ef"]
    assert (found[0], found[1], found[2], found[-1], len(found)) == (b"ab", None, b"", b"ef", 4)
    with pytest.raises(IndexError):
        found[4]


@given(PLACES, st.integers(-7, 7), st.integers(-7, 7))
def test_a_part_of_the_pieces_is_the_part_of_the_list(places: list[tuple[int, int]], first: int, last: int) -> None:
    found = pieces(b"abcdef", places)
    whole = [found[at] for at in range(len(found))]
    assert list(found) == whole
    assert list(found[first:last]) == whole[first:last]
