import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.monitor.core.detect import shiryaev_roberts
from stationkeeper.monitor.core.detect.shiryaev_roberts import Restarts, ShiryaevRoberts


def _fresh(features=1, rows=1):
    return ShiryaevRoberts(np.full((features, rows), 1 / rows))


def _all(shape):
    return np.ones(shape, bool)


@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(0.1, 5)), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_recursions_equal_their_linear_form(steps):
    detector = _fresh()
    m, c = 0.0, 1.0
    for t, (log_e, elapsed) in enumerate(steps):
        detector.step(np.array([[log_e]]), elapsed, _all((1, 1)), _all(1), t)
        m, c = np.exp(log_e) * (elapsed + m), np.exp(log_e) * max(c, 1.0)
    np.testing.assert_allclose(np.exp(detector.score()[0]), m, rtol=1e-9)
    np.testing.assert_allclose(np.exp(detector.log_c[0, 0]), c, rtol=1e-9)


def test_evidence_far_beyond_floats_stays_finite():
    detector = _fresh()
    for t in range(10):
        detector.step(np.array([[5000.0]]), 1.0, _all((1, 1)), _all(1), t)
    assert 49_999 < detector.score()[0] < 50_001


def test_a_row_inside_the_null_does_not_grow_with_time():
    detector = _fresh(1, 2)
    live = np.array([[False, True]])
    for t in range(1000):
        detector.step(np.zeros((1, 2)), 1.0, live, _all(1), t)
    assert detector.log_m[0, 0] == -np.inf
    np.testing.assert_allclose(np.exp(detector.log_m[0, 1]), 1000)


def test_silence_leaves_evidence_unchanged_and_adds_no_start():
    detector = _fresh(2, 1)
    for t in range(5):
        detector.step(np.full((2, 1), 0.1), 1.0, _all((2, 1)), _all(2), t)
    before = detector.score()
    for t in range(43_200 // 100):
        detector.step(np.zeros((2, 1)), 100.0, _all((2, 1)), np.array([False, True]), t)
    assert detector.score()[0] == before[0]
    assert detector.score()[1] > before[1]


def test_onset_is_the_last_restart_of_the_leading_row():
    detector = _fresh(1, 2)
    for t, gain in enumerate([-1.0, 0.5, -2.0, 1.0, 1.0, 1.0]):
        detector.step(np.array([[gain, -0.1]]), 1.0, _all((1, 2)), _all(1), 60_000 * t)
    assert detector.winner()[0] == 0
    assert detector.onset(detector.winner())[0] == 180_000
    detector.reset(np.array([True]))
    assert detector.score()[0] == -np.inf


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
    assert len(made._known) == shiryaev_roberts._FEW
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
