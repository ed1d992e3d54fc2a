import numpy as np
import pytest

from stationkeeper.monitor.core.adoption.rebase import HISTORY, PaneLabels, rebase
from stationkeeper.monitor.core.performance import judged, judged_counts
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


def test_of_a_model_of_numbers_the_errors_stay_judged():
    """Panes without their sums lost the size of the errors, and performance was watched no more."""
    data = bank(4_000)
    data["predicted"] = data["amount"] * 1.1
    before = reference_of(data, prediction="predicted", label="amount")
    assert before.labels is not None
    sums = before.labels.sums
    confusion, scored = judged_counts(before.labels.confusion, before.labels.scored, sums)
    used = list(panes(before, data))
    made = rebase(before, used, [PaneLabels(0, scored.reshape(32, 2), confusion, sums)] * 2)
    assert made.labels is not None
    assert judged(made) is not None
    assert (made.labels.phi, made.labels.rows) == (before.labels.phi, 2 * before.labels.rows)
    np.testing.assert_array_equal(made.labels.sums.errors, (sums + sums).errors)
