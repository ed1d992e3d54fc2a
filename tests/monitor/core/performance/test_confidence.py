"""Confidence sequences hold at every look together; an interval per look does not."""

import numpy as np
import pytest

from stationkeeper.monitor.core.performance import mean_sequence, share_sequence

STREAMS, RATE = 400, 0.1
LOOKS = np.unique(np.geomspace(50, 10_000, 60).astype(int))


def test_sequences_by_hand():
    assert share_sequence(0, 10) == pytest.approx((0.0, 0.37699), abs=1e-5)
    assert share_sequence(10, 10) == pytest.approx((1 - 0.37699, 1.0), abs=1e-5)
    assert share_sequence(0, 0) == (0.0, 1.0)
    low, high = mean_sequence(3.0, 1.0, 1_000)
    assert (high - low) / 2 == pytest.approx(0.09598, abs=1e-5)


def test_a_share_watched_at_every_look_is_missed_in_at_most_a_twentieth():
    rng = np.random.default_rng(1)
    hits = np.cumsum(rng.random((STREAMS, LOOKS[-1])) < RATE, axis=1)[:, LOOKS - 1]
    missed = np.zeros(STREAMS, np.bool_)
    for column, n in zip(hits.T, LOOKS.tolist(), strict=True):
        held = {x: share_sequence(x, n) for x in set(column.tolist())}
        missed |= [not held[x][0] <= RATE <= held[x][1] for x in column.tolist()]
    share = hits / LOOKS
    per_look = np.abs(share - RATE) > 1.96 * np.sqrt(share * (1 - share) / LOOKS)
    assert missed.mean() <= 0.05
    assert per_look.any(axis=1).mean() > 0.3
