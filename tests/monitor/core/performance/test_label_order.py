"""Errors that come in clusters: phi of the labels, and what it spares."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.adoption.adopt import Timeline
from stationkeeper.monitor.core.performance import OutcomePane, Performance, labels_in_order
from stationkeeper.monitor.core.performance.label_order import region_phi
from stationkeeper.monitor.core.reference import Labels


def test_region_phi_by_hand_and_one_for_independent_rows():
    group = np.repeat(np.arange(200), 50)
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.permutation(np.arange(200) % 2), 50).astype(float)
    # Blocks of one pane: 200 squares of 25 over 10 000 rows of variance 1/4.
    assert region_phi(truth, np.zeros(10_000, np.int64), group, 200) >= 50.0
    free = (rng.random(10_000) < 0.3).astype(float)
    assert region_phi(free, np.arange(10_000) % 8, group, 200) == 1.0


def test_a_profile_in_order_of_time_learns_that_errors_cluster():
    rng = np.random.default_rng(2)
    days = np.repeat(np.arange(60), 200)
    score = rng.uniform(0.05, 0.95, 12_000)
    storm = (rng.random(60) < 0.2)[days]
    label = np.where(storm, rng.random(12_000) < 0.5, rng.random(12_000) < score).astype(int)
    columns = {"score": score, "label": label, "x": rng.normal(size=12_000)}
    clustered = profile(columns, prediction="score", label="label", ordered=True).labels
    mixed = rng.permutation(12_000)
    shuffled = {name: values[mixed] for name, values in columns.items()}
    free = profile(shuffled, prediction="score", label="label", ordered=True).labels
    assert clustered is not None
    assert free is not None
    assert clustered.phi > 5 * free.phi
    assert free.phi == pytest.approx(1.0, abs=0.3)


def test_bad_days_like_those_of_the_reference_page_nobody_and_a_lasting_rise_does():
    rng = np.random.default_rng(3)
    scores = np.zeros((SCORE_BINS, 2), np.int64)
    scores[4], scores[-5] = (4_500, 500), (500, 4_500)

    number = count()

    def day(rate: float) -> OutcomePane:
        wrong, start = int(rng.binomial(200, rate)), next(number) * 1_440
        scored = np.zeros((SCORE_BINS, 2), np.int64)
        scored[4], scored[-5] = (100 - wrong // 2, wrong // 2), (wrong - wrong // 2, 100 - wrong + wrong // 2)
        confusion = np.array([scored[-5, 1], scored[-5, 0], scored[4, 1], scored[4, 0]])
        return OutcomePane(start, start + 1_440, scored, confusion)

    usual = [0.35 if rng.random() < 0.1 else 0.07 for _ in range(120)]
    labels = Labels(scores, np.array([4_500, 500, 500, 4_500]))
    blind = Performance(labels, alpha=1 / 43_200)
    assert any(f.level == 3 for rate in usual for f in blind.step(day(rate), 1_440.0))
    watch = Performance(replace(labels, phi=18.0), alpha=1 / 43_200)
    assert not any(f.level == 3 for rate in usual for f in watch.step(day(rate), 1_440.0))
    assert any(f.level == 3 for _ in range(120) for f in watch.step(day(0.25), 1_440.0))


def test_too_few_panes_teach_nothing():
    rng = np.random.default_rng(4)
    reference = profile({"score": rng.random(100), "label": rng.integers(0, 2, 100)}, prediction="score", label="label")
    labels = reference.labels
    assert labels is not None
    line = Timeline.of_rows(100, 10)
    assert labels_in_order(labels, reference, rng.random(100), rng.integers(0, 2, 100), line) is labels
