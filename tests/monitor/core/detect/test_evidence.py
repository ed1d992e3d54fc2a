import numpy as np
import pytest
from msgspec import structs

from stationkeeper.monitor.core.detect.evidence import EDetector, rank_bets
from stationkeeper.monitor.core.detect.plan import DENSE_ALTERNATIVES

PHI = np.ones((2, DENSE_ALTERNATIVES + 2))
DELTA = np.array([0.0, 0.02])


def detector(phi: float = 1.0) -> EDetector:
    return EDetector(rank_bets(DELTA), DELTA, PHI * phi)


def test_a_shift_brings_evidence_and_uniform_ranks_do_not():
    made, quiet = detector(), detector()
    for t in range(20):
        made.step(rank_bets(DELTA), np.tile(np.repeat([2.0, 3.0], 10), (2, 1)), 1.0, t)
        quiet.step(rank_bets(DELTA), np.full((2, 20), 2.5), 1.0, t)
    assert (made.evidence.score() > quiet.evidence.score() + 5).all()
    # M - t is a supermartingale: without a change it stays near the clock.
    assert (quiet.evidence.score() < np.log(20)).all()
    assert made.names[made.evidence.winner()[0]].kind in {"shift", "adaptive"}


def test_dependent_rows_count_less():
    one, two = detector(), detector(2.0)
    for made in (one, two):
        made.step(rank_bets(DELTA), np.tile(np.repeat([0.0, 5.0], 10), (2, 1)), 1.0, 0)
    assert (two.evidence.score() < one.evidence.score()).all()


def test_a_state_of_other_subjects_is_refused():
    state = detector().state()
    with pytest.raises(ValueError, match="average"):
        detector().restore(structs.replace(state, average=state.average[:1]))
