import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.monitor.core.detect import shiryaev_roberts as restarts
from stationkeeper.monitor.core.detect.shiryaev_roberts import Restarts


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 900), st.floats(0.0, 0.4))
def test_every_place_has_the_time_that_was_last_put_there(seed: int, panes: int, share: float):
    rng = np.random.default_rng(seed)
    made, times = Restarts((7, 5)), np.zeros((7, 5), np.int64)
    for pane in range(panes):
        mask = rng.random((7, 5)) < share
        made.put(mask, 1_700_000_000_000 + 60_000 * pane)
        times[mask] = 1_700_000_000_000 + 60_000 * pane
    np.testing.assert_array_equal(made.times(), times)
    row = rng.integers(0, 5, 7)
    np.testing.assert_array_equal(made.of(row), times[np.arange(7), row])
    again = Restarts((7, 5))
    again.replace(made.times())
    mask = rng.random((7, 5)) < 0.5
    again.put(mask, 5)
    np.testing.assert_array_equal(again.times(), np.where(mask, 5, times))


def test_times_that_no_place_has_any_more_are_let_go():
    made = Restarts((3, 4))
    for pane in range(100_000):
        made.put(np.ones((3, 4), bool), pane)
    assert len(made._known) == restarts._FEW
    assert (made.times() == 99_999).all()


def test_more_times_than_two_bytes_can_number():
    many = Restarts((300, 300))
    times = np.arange(90_000).reshape(300, 300)
    many.replace(times)
    np.testing.assert_array_equal(many.times(), times)
    many.put(times % 2 == 0, 123_456)
    np.testing.assert_array_equal(many.times(), np.where(times % 2 == 0, 123_456, times))


def test_nothing_to_keep_is_no_error():
    made = Restarts((0, 5))
    made.replace(made.times())
    made.put(np.zeros((0, 5), bool), 0)
    assert made.times().shape == (0, 5)
