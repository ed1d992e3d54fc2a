"""The ten tests of the statistics: each caught, or would have caught, an error.  Larger runs: benchmarks/detection."""

import numpy as np
import pytest
from scipy.special import ndtr

from stationkeeper.monitor.core.adoption.dependence import learned_phi
from stationkeeper.monitor.core.detect.change_point import change_point_log_ratios, locate_change_point
from stationkeeper.monitor.core.detect.detector import DriftDetector
from stationkeeper.monitor.core.detect.plan import DetectorPlan, PlannedSubject

PRODUCTION = np.log(1.3e7)
"""300 features, one false page in 30 days of one-minute panes."""


class World:
    """Replicates of one standard normal feature, each with a reference of its own, as subjects of one detector."""

    def __init__(self, replicates, n_ref, seed, *, delta=0.0, phi=1.0, fine=128, strata=1):
        self.rng = np.random.default_rng(seed)
        ref = np.sort(self.rng.standard_normal((replicates, n_ref)), axis=1)
        at = np.ceil(np.arange(1, fine) / fine * n_ref).astype(int) - 1
        self.edges = ref[:, at]
        self.fine = np.diff(np.concatenate([[0], at + 1, [n_ref]]))
        reference = np.tile(np.append(self.fine, 0), (strata, 1))
        self.subjects = tuple(
            PlannedSubject(f"f{i}", "numeric", reference, delta, phi[i] if isinstance(phi, list) else phi)
            for i in range(replicates)
        )
        self.plan = DetectorPlan("law", "1", str(seed), self.subjects, alpha=1e-30)
        self.detector = DriftDetector(self.plan)
        self.t = 0

    def shares(self, mean=0.0, sd=1.0):
        below = ndtr((self.edges - mean) / sd)
        f = len(below)
        return np.diff(np.concatenate([np.zeros((f, 1)), below, np.ones((f, 1))], axis=1), axis=1)

    def pane(self, shares, events):
        return self.flat(self.rng.multinomial(events, shares))

    def flat(self, cells):
        return np.concatenate([cells, np.zeros((len(cells), 1), int)], axis=1).ravel()

    def count(self, values):
        """Cell counts of values [F, B]."""
        return np.stack(
            [np.bincount(np.searchsorted(e, v), minlength=len(e) + 1) for e, v in zip(self.edges, values, strict=True)]
        )

    def step(self, flat, elapsed=1.0):
        scores = self.detector.step(flat, self.t, 0, elapsed)
        self.t += 1
        return scores


def _first_crossings(world, shares, panes, events, log_threshold):
    first = {"conformal": np.full(len(shares), np.inf), "fixed": np.full(len(shares), np.inf)}
    for t in range(panes):
        scores = world.step(world.pane(shares, events))
        for arm, when in first.items():
            when[(getattr(scores, arm) >= log_threshold) & np.isinf(when)] = t + 1
    return first


@pytest.mark.parametrize("n_ref", [200, 10_000])
def test_false_alarms_stay_within_the_budget(n_ref):
    replicates, panes, asked = 120, 300, 200.0
    world = World(replicates, n_ref, seed=n_ref)
    for arm, first in _first_crossings(world, world.shares(), panes, 50, np.log(asked)).items():
        alarms = np.isfinite(first).sum()
        exposure = np.minimum(first, panes).sum() / asked
        assert alarms <= exposure + 3 * np.sqrt(exposure), arm


def test_false_alarms_of_three_hundred_correlated_features_stay_within_the_budget():
    features, panes, alpha, rho = 300, 300, 0.02, 0.7
    world = World(features, 2000, seed=1, fine=64)
    plan = DetectorPlan("law", "1", "rho", world.subjects, alpha)
    detector = DriftDetector(plan)
    pages = 0
    for t in range(panes):
        common = world.rng.standard_normal(50)
        values = np.sqrt(rho) * common + np.sqrt(1 - rho) * world.rng.standard_normal((features, 50))
        pages += detector.step(world.flat(world.count(values)), t, 0, 1.0).paged.sum()
    budget = alpha * panes
    assert pages <= budget + 3 * np.sqrt(budget)


def _autoregressive(rng, previous, events, coefficient):
    values = np.empty((previous.size, events))
    noise = rng.standard_normal(values.shape) * np.sqrt(1 - coefficient**2)
    for i in range(events):
        previous = coefficient * previous + noise[:, i]
        values[:, i] = previous
    return values, previous


def test_dependent_events_do_not_page_once_phi_is_learned():
    replicates, coefficient = 6, 0.6
    plain = World(replicates, 10_000, seed=2, fine=64)
    previous = plain.rng.standard_normal(replicates)
    history = []
    for _ in range(400):
        values, previous = _autoregressive(plain.rng, previous, 50, coefficient)
        history.append(plain.count(values))
    panes = np.array(history)
    phi = [learned_phi(np.pad(panes[:, f], ((0, 0), (0, 1))), "numeric") for f in range(replicates)]
    assert 2.5 < np.median([p.max() for p in phi]) < 9
    world = World(replicates, 10_000, seed=2, fine=64, phi=phi)
    naive_alarms = repaired_alarms = 0
    for _ in range(500):
        values, previous = _autoregressive(plain.rng, previous, 50, coefficient)
        flat = world.flat(world.count(values))
        naive_alarms += (plain.step(flat).leading >= np.log(2000.0)).sum()
        repaired_alarms += (world.step(flat).leading >= PRODUCTION).sum()
    assert repaired_alarms == 0
    assert naive_alarms > 0


@pytest.mark.parametrize(
    ("mean", "sd", "prototype"),
    [(0.25, 1, 700), (0.5, 1, 200), (1, 1, 50), (0, 1.5, 200), (0, 1.2, 700), (0, 0.7, 250)],
)
def test_delay_at_the_production_budget_is_near_the_prototype(mean, sd, prototype):
    world = World(40, 10_000, seed=3, fine=256)
    quiet, changed = world.shares(), world.shares(mean, sd)
    for _ in range(20):
        world.step(world.pane(quiet, 50))
    delay = np.full(40, np.inf)
    for t in range(40):
        crossed = world.step(world.pane(changed, 50)).conformal >= PRODUCTION
        delay[crossed & np.isinf(delay)] = 50 * (t + 1)
    assert np.median(delay) <= 1.3 * prototype


def test_change_points_lie_within_250_events_for_a_quarter_of_a_deviation():
    events, before, replicates = 50, 30, 40
    world = World(replicates, 10_000, seed=4, fine=128)
    quiet, changed = world.shares(), world.shares(0.25)
    stored, error, inside = [], np.full(replicates, np.inf), np.zeros(replicates, bool)
    for t in range(120):
        flat = world.pane(quiet if t < before else changed, events)
        stored.append(flat.reshape(replicates, -1))
        scores = world.step(flat)
        found = np.flatnonzero((scores.conformal >= PRODUCTION) & np.isinf(error))
        for f in found:
            panes = np.array([pane[f] for pane in stored])
            ratios = change_point_log_ratios(
                world.subjects[f], scores.alternative[f], panes, np.zeros(len(panes)), scores.onset[f]
            )
            onset = locate_change_point(ratios)
            error[f] = abs(onset.index - before) * events
            inside[f] = onset.first <= before <= onset.last
    assert np.isfinite(error).mean() > 0.95
    assert (error <= 250).mean() >= 0.85
    assert inside.mean() >= 0.9


def test_a_pane_many_times_the_reference_is_seen_before_it_is_absorbed():
    world = World(6, 10_000, seed=5, fine=128)
    for _ in range(5):
        world.step(world.pane(world.shares(), 50))
    assert (world.step(world.pane(world.shares(0.25), 60_000)).conformal >= PRODUCTION).all()
    quiet = World(6, 10_000, seed=6, fine=128)
    assert (quiet.step(quiet.pane(quiet.shares(), 60_000)).conformal < 3).all()


def test_rows_inside_the_ball_let_nothing_grow_with_time():
    world = World(5, 5000, seed=7, delta=0.9)
    for _ in range(20):
        assert (world.step(world.pane(world.shares(1.0), 50), elapsed=1e6).leading < np.log(1e6)).all()


def test_strata_keep_a_daily_cycle_from_paging():
    rng = np.random.default_rng(8)
    hours, days, events, f = 24, 30, 30, 6
    swing = 0.8 * np.sin(2 * np.pi * np.arange(hours) / hours)
    edges = np.linspace(-2.5, 2.5, 63)

    def shares(hour):
        return np.diff(np.concatenate([[0], ndtr(edges - swing[hour]), [1]]))

    by_hour = np.array([rng.multinomial(1500, shares(h)) for h in range(hours)])
    by_hour = np.concatenate([by_hour, np.zeros((hours, 1), int)], axis=1)
    pooled = by_hour.sum(axis=0, keepdims=True)
    seasonal = DriftDetector(
        DetectorPlan("m", "1", "s", tuple(PlannedSubject(f"f{i}", "numeric", by_hour) for i in range(f)), 1e-30)
    )
    flat = DriftDetector(
        DetectorPlan("m", "1", "g", tuple(PlannedSubject(f"f{i}", "numeric", pooled) for i in range(f)), 1e-30)
    )
    top = {"seasonal": 0.0, "flat": 0.0}
    for t in range(days * hours):
        pane = np.concatenate([np.append(rng.multinomial(events, shares(t % hours)), 0) for _ in range(f)])
        top["seasonal"] = max(top["seasonal"], seasonal.step(pane, t, t % hours, 1.0).leading.max())
        top["flat"] = max(top["flat"], flat.step(pane, t, 0, 1.0).leading.max())
    assert top["seasonal"] < PRODUCTION - 3
    assert top["flat"] > PRODUCTION
