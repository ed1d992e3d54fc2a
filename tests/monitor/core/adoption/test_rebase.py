import numpy as np
import pytest

from stationkeeper.monitor.core.adoption.rebase import HISTORY, PaneLabels, rebase
from tests.monitor.core.streams import bank, panes, reference_of

REFERENCE = reference_of(bank(4_000))


def test_the_counts_and_labels_are_those_of_the_panes():
    used = list(panes(REFERENCE, bank(2_000, 3)))
    scored = np.zeros((32, 2), np.int64)
    scored[4] = 3, 1
    made = rebase(REFERENCE, used, [PaneLabels(0, scored, np.array([1, 0, 0, 3]))])
    total = sum((pane.counts for pane in used), REFERENCE.layout.zeros())
    for subject in made.subjects:
        np.testing.assert_array_equal(subject.counts, total[REFERENCE.layout[subject.name].histogram])
    assert made.source == HISTORY
    assert made.labels is not None
    np.testing.assert_array_equal(made.labels.scored, scored)


@pytest.mark.parametrize("rows", [0, 900])
def test_a_short_period_is_no_reference(rows: int):
    with pytest.raises(ValueError, match="too little for a reference"):
        rebase(REFERENCE, list(panes(REFERENCE, bank(1_000)))[: rows // 50])
