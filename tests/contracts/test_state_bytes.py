import sys

import numpy as np
import pytest

from stationkeeper.contracts.state import expand, squeeze


@pytest.mark.parametrize("size", [0, 1, 300, 90_000])
def test_what_is_squeezed_comes_back(size: int):
    data = np.random.default_rng(0).poisson(2.0, size).astype(np.uint8).tobytes()
    assert expand(squeeze(data)) == data


def test_counts_take_half_and_no_room_beyond_their_bytes():
    data = np.random.default_rng(0).poisson(2.0, 50_000).astype(np.uint8).tobytes()
    squeezed = squeeze(data)
    assert len(squeezed) < len(data) / 2
    assert sys.getsizeof(squeezed) == sys.getsizeof(b"") + len(squeezed)
