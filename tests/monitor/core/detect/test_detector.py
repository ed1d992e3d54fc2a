import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.core.detect.detector import DetectorState, DriftDetector
from stationkeeper.monitor.core.detect.plan import DetectorPlan, PlannedSubject
from stationkeeper.monitor.state_codec import freeze, thaw

FINE = 64
SHARES = np.full(FINE, 1 / FINE)


def _numeric(name, seed=0, rows=4000, strata=1, **options):
    rng = np.random.default_rng(seed)
    fine = rng.multinomial(rows, SHARES, size=strata)
    return PlannedSubject(name, "numeric", np.concatenate([fine, np.full((strata, 1), 8)], axis=1), **options)


def _categorical(name, counts=(500, 300, 150, 40, 10, 0), **options):
    return PlannedSubject(name, "categorical", np.array([counts]), **options)


def _plan(*subjects, alpha=1e-4):
    return DetectorPlan("fraud", "3", "", subjects, alpha)


def _mixed_plan():
    return _plan(_numeric("amount"), _categorical("country"), _numeric("age", 1, rows=900), alpha=1e-3)


def _panes(plan, rng, number, events=80):
    for _ in range(number):
        yield np.concatenate([rng.multinomial(events, s.reference[0] / s.reference[0].sum()) for s in plan.subjects])


def _shifted(plan, events, rng):
    """A pane whose numeric subjects lost their lowest quarter and whose first category took over."""
    parts = []
    for s in plan.subjects:
        p = s.reference[0] / s.reference[0].sum()
        if s.kind == "numeric":
            p = np.where(np.arange(p.size) < FINE // 4, 0.0, p)
        else:
            p = 0.6 * p + 0.4 * (np.arange(p.size) == 3)
        parts.append(rng.multinomial(events, p / p.sum()))
    return np.concatenate(parts)


def _run(detector, panes):
    return [detector.step(pane, 60_000 * t, 0, 1.0) for t, pane in enumerate(panes)]


def _same(one, other):
    for field in ("conformal", "fixed", "level", "paged", "onset", "rows"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    assert one.alternative == other.alternative


def test_a_replay_gives_identical_scores_and_pages():
    plan = _mixed_plan()
    rng = np.random.default_rng(5)
    panes = [*_panes(plan, rng, 10), *(_shifted(plan, 80, rng) for _ in range(20))]
    first, second = _run(DriftDetector(plan), panes), _run(DriftDetector(plan), panes)
    for one, other in zip(first, second, strict=True):
        _same(one, other)
    assert sum(s.paged.any() for s in first) > 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
@settings(max_examples=10, deadline=None)
def test_a_restored_detector_goes_on_bit_for_bit(seed, cut):
    plan = _mixed_plan()
    rng = np.random.default_rng(seed)
    panes = [*_panes(plan, rng, 6), *(_shifted(plan, 700, rng) for _ in range(8))]
    whole = DriftDetector(plan)
    scores = _run(whole, panes)
    broken = DriftDetector(plan)
    _run(broken, panes[:cut])
    resumed = DriftDetector(plan)
    state = broken.state()
    state = structs.replace(state, bag_growth=np.asarray(state.bag_growth))
    resumed.restore(state_of(thaw(freeze(state)), DetectorState))
    for t in range(cut, len(panes)):
        _same(resumed.step(panes[t], 60_000 * t, 0, 1.0), scores[t])


def test_state_of_another_plan_is_refused():
    state = DriftDetector(_mixed_plan()).state()
    with pytest.raises(ValueError, match="start without it"):
        DriftDetector(_plan(_numeric("amount"))).restore(state)
    with pytest.raises(ValueError, match="shape"):
        DriftDetector(_plan(_numeric("a"), _categorical("b"))).restore(state)


def test_state_is_a_few_kilobytes_a_feature():
    detector = DriftDetector(_plan(*(_numeric(f"f{i}", i) for i in range(50))))
    state = structs.asdict(detector.state())
    evidence = sum(value.nbytes for name, value in state.items() if value is not None and name[:3] != "bag")
    assert evidence / 50 < 4_000


def test_shift_new_category_and_missing_values_page_their_own_subjects():
    plan = _plan(_numeric("shifts"), _numeric("stays", 1), _categorical("country"), _numeric("vanishes", 2), alpha=1e-6)
    rng = np.random.default_rng(6)
    detector = DriftDetector(plan)
    _run(detector, _panes(plan, rng, 20))
    paged = np.zeros(4, bool)
    for t in range(20, 40):
        shares = [s.reference[0] / s.reference[0].sum() for s in plan.subjects]
        shares[0] = np.where(np.arange(FINE + 1) < FINE // 3, 0, shares[0])
        shares[2] = 0.8 * shares[2] + 0.2 * (np.arange(6) == 4)
        shares[3] = 0.9 * shares[3] + 0.1 * (np.arange(FINE + 1) == FINE)
        pane = np.concatenate([rng.multinomial(100, p / p.sum()) for p in shares])
        scores = detector.step(pane, 60_000 * t, 0, 1.0)
        for index in np.flatnonzero(scores.paged & ~paged):
            assert abs(scores.onset[index] - 20 * 60_000) <= 3 * 60_000
        paged |= scores.paged
    np.testing.assert_array_equal(paged, [True, False, True, True])


def test_a_page_resets_only_the_e_detector_that_paged():
    plan = _plan(_numeric("amount"), alpha=1e-3)
    rng = np.random.default_rng(7)
    detector = DriftDetector(plan)
    t = 0
    while True:
        scores = detector.step(_shifted(plan, 4, rng), t, 0, 1.0)
        t += 1
        if scores.paged[0]:
            break
    reset = {"conformal": scores.conformal[0], "twin": scores.fixed[0]}
    for name, score in reset.items():
        one = {known: found for known, found, _ in detector._detectors()}[name]
        assert np.isneginf(one.evidence.score()[0]) == (score >= scores.log_threshold[0])
    assert not all(score >= scores.log_threshold[0] for score in reset.values())


def test_a_silent_month_changes_nothing():
    plan = _mixed_plan()
    rng = np.random.default_rng(8)
    detector = DriftDetector(plan)
    before = _run(detector, _panes(plan, rng, 10))[-1]
    silent = np.zeros(plan.offsets()[-1], np.int64)
    after = before
    for t in range(10, 60):
        after = detector.step(silent, 60_000 * t, 0, 1000.0)
    np.testing.assert_array_equal(after.leading, before.leading)
    assert not after.paged.any()


def test_partitions_and_flushes_do_not_change_pages():
    # Partial panes of 16 partitions are merged before the step, so the detector sees the same closed pane.
    plan = _mixed_plan()
    rng = np.random.default_rng(9)
    panes = [_shifted(plan, 200, rng) for _ in range(6)]
    merged = []
    for pane in panes:
        partitions = np.zeros((16, pane.size), np.int64)
        for cell, count in enumerate(pane):
            partitions[:, cell] = rng.multinomial(count, np.full(16, 1 / 16))
        merged.append(partitions.sum(axis=0))
    for one, other in zip(_run(DriftDetector(plan), panes), _run(DriftDetector(plan), merged), strict=True):
        _same(one, other)


def test_one_minute_and_ten_second_panes_page_alike_up_to_a_minute():
    plan = _plan(_numeric("amount"), alpha=1e-6)
    rng = np.random.default_rng(10)
    quiet = list(_panes(plan, rng, 60, events=20))
    drifted = [_shifted(plan, 20, rng) for _ in range(90)]
    stream = [*quiet, *drifted]
    pages = []
    for size in (1, 6):
        detector = DriftDetector(plan)
        for t in range(0, len(stream), size):
            scores = detector.step(np.sum(stream[t : t + size], axis=0), 10_000 * t, 0, size / 6)
            if scores.paged[0]:
                pages.append(t + size)
                break
    assert len(pages) == 2
    assert min(pages) > 60
    assert abs(pages[0] - pages[1]) <= 6


def test_freezing_and_retracting_bring_the_bag_back_to_before_the_onset():
    plan = _mixed_plan()
    rng = np.random.default_rng(11)
    detector = DriftDetector(plan)
    _run(detector, _panes(plan, rng, 5))
    before = detector.bag.counts.copy()
    drifted = [_shifted(plan, 300, rng) for _ in range(4)]
    for t, pane in enumerate(drifted):
        detector.step(pane, 60_000 * (5 + t), 0, 1.0)
    detector.retract([(pane, 0) for pane in drifted], ["amount", "age", "country"])
    np.testing.assert_array_equal(detector.bag.counts, before)
    detector.freeze(["amount"])
    detector.step(drifted[0], 60_000 * 20, 0, 1.0)
    np.testing.assert_array_equal(detector.bag.counts[0, 0], before[0, 0])
    assert detector.bag.counts[0, 1].sum() > before[0, 1].sum()


def test_reset_drops_the_evidence_of_named_subjects():
    plan = _mixed_plan()
    detector = DriftDetector(plan)
    _run(detector, _panes(plan, np.random.default_rng(12), 5))
    detector.reset(["age"])
    score = detector._detectors()[0][1].evidence.score()
    assert np.isfinite(score[0])
    assert np.isneginf(score[1])


def test_a_subject_without_reference_values_can_be_watched():
    empty = PlannedSubject("empty", "numeric", np.array([[0, 0, 0, 50]]))
    scores = DriftDetector(_plan(empty)).step(np.array([3, 2, 1, 4]), 0, 0, 1.0)
    assert np.isfinite(scores.conformal).all()


def test_numeric_subjects_of_different_widths_share_one_pass():
    narrow = PlannedSubject("flag", "numeric", np.array([[600, 400, 5]]))
    plan = _plan(_numeric("amount"), narrow, alpha=1e-5)
    detector = DriftDetector(plan)
    rng = np.random.default_rng(13)
    paged = np.zeros(2, bool)
    for t in range(40):
        pane = np.concatenate([rng.multinomial(100, SHARES), [0], rng.multinomial(100, [0.45, 0.55, 0])])
        paged |= detector.step(pane, t, 0, 1.0).paged
    np.testing.assert_array_equal(paged, [False, True])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "text"}, "text"),
        ({"reference": np.zeros((1, 3), int)}, "reference rows"),
        ({"reference": np.ones(4, int)}, "shape"),
        ({"delta": 1.0}, "delta"),
        ({"phi": 0.5}, "phi"),
        ({"phi": np.ones(3)}, "phi"),
    ],
)
def test_a_bad_subject_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message) as raised:
        dataclasses.replace(_numeric("amount"), **change)
    assert "amount" in str(raised.value)


def test_a_bad_plan_or_pane_is_refused():
    with pytest.raises(ValueError, match="more than once"):
        _plan(_numeric("a"), _categorical("a"))
    with pytest.raises(ValueError, match="strata"):
        _plan(_numeric("a"), _numeric("b", strata=24))
    detector = DriftDetector(_plan(_numeric("a")))
    with pytest.raises(ValueError, match="65 cell counts"):
        detector.step(np.zeros(3), 0, 0, 1.0)
    with pytest.raises(ValueError, match="stratum 7"):
        detector.step(np.zeros(65), 0, 7, 1.0)
