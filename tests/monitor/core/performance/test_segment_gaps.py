"""Rates of labelled rows by segment, and how far they lie apart."""

import numpy as np
import pytest

from stationkeeper.monitor.core.performance import segment_gaps


def test_the_example_of_the_docstring():
    true, false, chosen = segment_gaps("sex", {"sex=a": np.array([90, 5, 10, 95]), "sex=b": np.array([60, 5, 40, 95])})
    assert (true.rate, true.lowest, true.highest) == ("true positive rate", "sex=b", "sex=a")
    assert true.gap == pytest.approx(0.3)
    assert 0 < true.low < 0.3 < true.high
    assert (false.rate, false.gap, false.low) == ("false positive rate", 0.0, 0.0)
    assert chosen.rate == "approval rate"
    assert chosen.gap == pytest.approx(0.15)


def test_segments_of_few_rows_are_left_out_and_counted():
    many = {f"land={name}": np.array([50, 50, 50, 50]) for name in "ab"}
    gaps = segment_gaps("land", many | {"land=c": np.array([20, 0, 0, 0])})
    assert [(one.gap, one.left_out) for one in gaps] == [(0.0, 1)] * 3
    assert segment_gaps("land", {"land=a": many["land=a"], "land=c": np.array([20, 0, 0, 0])}) == []
