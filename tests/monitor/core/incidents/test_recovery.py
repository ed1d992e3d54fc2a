import numpy as np
import pytest

from stationkeeper.contracts.column import numbers
from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.incidents.incident import Member
from stationkeeper.monitor.core.incidents.recovery import Recovery, member_expected, moved_since
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reasons import Check
from tests.monitor.core.streams import bank, reference_of

HOUR = 3_600_000
REFERENCE = np.array([[500, 400, 100]])
DRIFTED = np.array([100, 400, 500])


def made(reference: np.ndarray = REFERENCE) -> Recovery:
    return Recovery(reference, DRIFTED, np.array([1_000] * len(reference)), 1.0)


def steps_to_recovery(law: list[float], rows: int = 50, most: int = 200) -> int | None:
    rng, test = np.random.default_rng(0), made()
    for step in range(most):
        if test.step(rng.multinomial(rows, law)):
            return step + 1
    return None


def test_the_effect_is_the_share_that_moved_by_hand():
    assert made().effect == pytest.approx(0.4, abs=1e-3)


def test_the_reference_recovers_soon_and_the_drift_never():
    found = steps_to_recovery([0.5, 0.4, 0.1])
    assert found is not None
    assert 4 <= found <= 10
    assert steps_to_recovery([0.1, 0.4, 0.5]) is None
    assert steps_to_recovery([0.3, 0.4, 0.3]) is None


def test_a_row_counts_half_way_to_the_drift_by_hand():
    test = Recovery(np.array([[50_000, 50_000]]), np.array([90_000, 10_000]), np.array([1]), 1.0)
    test.step(np.array([0, 1]))
    assert test.evidence == pytest.approx(np.log(0.5 / 0.3), abs=1e-3)
    test.step(np.array([1, 0]))
    assert test.evidence == pytest.approx(np.log(0.5 / 0.3) - np.log(0.7 / 0.5), abs=1e-3)


def test_a_third_law_is_no_recovery():
    assert steps_to_recovery([0.95, 0.02, 0.03]) is None


def test_dependent_rows_take_longer():
    quick, slow = made(), Recovery(REFERENCE, DRIFTED, np.array([1_000]), 5.0)
    for test in (quick, slow):
        test.step(np.array([25, 20, 5]))
    assert quick.evidence == pytest.approx(5 * slow.evidence)


def test_each_stratum_is_judged_by_its_own_law():
    two = np.array([[900, 50, 50], [50, 50, 900]])
    drifted, weights = np.array([300, 400, 300]), np.array([500, 500])
    for stratum, usual in ((0, [90, 5, 5]), (1, [5, 5, 90])):
        test = Recovery(two, drifted, weights, 1.0)
        assert [test.step(np.array(usual), stratum) for _ in range(3)][-1]
        moved = Recovery(two, drifted, weights, 1.0)
        assert not any(moved.step(np.array([45, 50, 5] if stratum == 0 else [5, 50, 45]), stratum) for _ in range(20))


def test_a_test_read_back_goes_on_alike():
    first = made()
    first.step(np.array([25, 20, 5]))
    second = Recovery.restore(REFERENCE, first.state())
    for test in (first, second):
        test.step(np.array([20, 20, 10]))
    assert first.evidence == second.evidence
    assert first.latest.tolist() == second.latest.tolist()


def test_luck_while_a_small_drift_lasts_is_seldom_called_likely():
    rng, drifted = np.random.default_rng(1), np.array([430, 400, 170])
    test = Recovery(REFERENCE, drifted, np.array([1_000]), 1.0)
    above, likely = 0, 0
    for _ in range(2_000):
        assert not test.step(rng.multinomial(5, drifted / 1_000))
        above += test.evidence > 0.0
        likely += test.likely
    assert above > 500
    assert likely < 20
    while not test.step(rng.multinomial(50, REFERENCE[0] / 1_000)):
        pass
    assert test.likely


@pytest.mark.parametrize(("late", "back"), [(0.03, True), (0.2, False)])
def test_events_that_are_late_no_more_often_than_allowed_have_recovered(late: float, back: bool):
    reference = reference_of({"age": bank(2_000)["age"]})
    member = Member("quality:events:late", "events", SubjectType.QUALITY, VerdictKind.DATA_QUALITY, Check.LATE, 0, 0)
    expected = member_expected(reference, member)
    assert expected.tolist() == [[50, 950]]
    test = Recovery(expected, np.array([400, 600]), np.zeros(1, np.int64), 1.0)
    assert any(test.step(np.array([round(late * 200), 200])) for _ in range(50)) is back


def test_an_evening_says_nothing_of_mornings():
    reference = np.tile(REFERENCE, (24, 1))
    weights = np.zeros(24, np.int64)
    weights[6:12] = 100
    test, rng = Recovery(reference, DRIFTED, weights, 1.0), np.random.default_rng(0)
    assert not any(test.step(rng.multinomial(50, [0.5, 0.4, 0.1]), hour) for hour in [*range(12, 24), *range(6)])
    assert any(test.step(rng.multinomial(50, [0.5, 0.4, 0.1]), hour) for hour in range(6, 12))
    # A batch at six comes at seven when the clocks change.
    weights[:] = 0
    weights[6] = 600
    batch = Recovery(reference, DRIFTED, weights, 1.0)
    assert any(batch.step(rng.multinomial(600, [0.5, 0.4, 0.1]), 7) for _ in range(3))


def test_what_moved_is_told_from_the_hours_it_was_seen_in():
    rng, hours = np.random.default_rng(2), np.repeat(np.arange(24 * 21), 200)
    x = rng.normal(size=len(hours)) + 2.0 * (hours % 24 < 6)
    reference = profile({"x": x, "t": hours * HOUR}, time="t", pane="1h")

    def panes_of(shift: float) -> list[Pane]:
        values = [rng.normal(size=200) + 2.0 + shift for _ in range(6)]
        counted = [reference.layout.tally({"x": numbers(v)}, np.zeros(200, np.int64), np.array([200])) for v in values]
        return [Pane((21 * 24 + hour) * HOUR, HOUR, 200, vector[0]) for hour, vector in enumerate(counted)]

    assert moved_since(reference, "x", panes_of(0.0)) < 0.05
    # A shift of one standard deviation moves 2 Phi(1 / 2) - 1 = .38 of the rows.
    assert 0.3 < moved_since(reference, "x", panes_of(1.0)) < 0.45
    assert moved_since(reference, "x", []) == 0.0
