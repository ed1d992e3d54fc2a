import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.monitor.core.detect.alternatives import Alternative
from stationkeeper.monitor.core.detect.change_point import change_point_log_ratios, locate_change_point
from stationkeeper.monitor.core.detect.plan import PlannedSubject


def test_by_hand():
    onset = locate_change_point([-1.0, -1.0, 2.0, 2.0])
    assert (onset.index, onset.first, onset.last) == (2, 0, 3)
    with pytest.raises(ValueError, match="at least one pane"):
        locate_change_point([])


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50))
def test_the_interval_holds_the_best_pane(steps):
    onset = locate_change_point(steps)
    assert onset.first <= onset.index <= onset.last
    tails = [sum(steps[t:]) for t in range(len(steps))]
    assert tails[onset.index] == pytest.approx(max(tails))


@pytest.mark.parametrize("row", [Alternative("cell", 0.1, 2), Alternative("adaptive", 300.0)])
def test_a_risen_category_is_dated_by_its_own_row_and_by_an_adaptive_one(row):
    rng = np.random.default_rng(1)
    p = np.array([0.5, 0.3, 0.1, 0.1, 0.0])
    q = 0.85 * p + 0.15 * np.eye(5)[2]
    subject = PlannedSubject("country", "categorical", np.array([[500, 300, 100, 100, 0]]))
    panes = np.concatenate([rng.multinomial(100, p, size=30), rng.multinomial(100, q, size=10)])
    ratios = change_point_log_ratios(subject, row, panes, np.zeros(40), 28)
    assert abs(locate_change_point(ratios).index - 30) <= 1


def test_strata_are_compared_with_their_own_reference():
    rng = np.random.default_rng(2)
    laws = np.array([[0.7, 0.2, 0.1, 0.0], [0.1, 0.2, 0.7, 0.0]])
    subject = PlannedSubject("amount", "numeric", (laws * 4000).astype(int))
    strata = np.arange(40) % 2
    shift = np.array([0.0, 0.1, -0.1, 0.0])
    panes = np.array(
        [rng.multinomial(100, laws[s] - shift * (t >= 30) * (1 if s else -1)) for t, s in enumerate(strata)]
    )
    ratios = change_point_log_ratios(subject, Alternative("shift", 0.4), panes[:30], strata[:30], 0)
    assert abs(ratios.mean()) < 12
    other = change_point_log_ratios(subject, Alternative("shift", 0.4), panes[:30], np.zeros(30), 0)
    assert np.abs(other).max() > 30
