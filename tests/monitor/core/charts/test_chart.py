import numpy as np

from stationkeeper.monitor.core.charts.chart import measure, quality_shares
from tests.monitor.core.streams import bank, reference_of

REFERENCE = reference_of(bank(3_000))


def test_a_subject_does_not_differ_from_itself():
    for subject in REFERENCE.subjects:
        found = measure(subject, subject.counts)
        assert {name: distance.value for name, distance in found.items()} == dict.fromkeys(found, 0.0)
        assert ("ks" in found) == (subject.name != "method")


def test_no_rows_have_no_distance():
    subject = REFERENCE.by_name["age"]
    assert measure(subject, np.zeros_like(subject.counts)) == {}


def test_shares_by_hand():
    assert list(quality_shares(np.array([1, 0, 0, 2, 0, 0, 0]), 10).values()) == [0.1, 0, 0, 0.2, 0, 0, 0]
    assert set(quality_shares(np.zeros(7, np.int64), 0).values()) == {0.0}
