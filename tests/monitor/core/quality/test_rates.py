"""Rates of quality counters: which are watched, what is usual, and how they are named."""

import numpy as np
import pytest

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.monitor.core.detect import ETA, clopper_pearson
from stationkeeper.monitor.core.finding import WARN
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.quality.rates import RANGE_TOLERANCE, QualityRates, rate_checks, rate_count
from stationkeeper.monitor.core.reasons import Check
from stationkeeper.monitor.core.reference import Counts, profile
from tests.monitor.core.streams import bank, columns_for, reference_of

REFERENCE = reference_of(bank(2_000))


def rates() -> QualityRates:
    return QualityRates(REFERENCE, 1 / 50_000, 1, None)


def counts(**more: int) -> Counts:
    data = bank(100, 1)
    out: Counts = REFERENCE.layout.tally(columns_for(REFERENCE, data), np.zeros(100, np.int64), np.array([100]))[0]
    for check, rows in more.items():
        out[REFERENCE.layout["age"].counter(check)] += rows
    return out


def test_numbers_watch_their_range_and_categories_new_values():
    assert rate_checks(REFERENCE.by_name["age"])[-2:] == ("below", "above")
    assert rate_checks(REFERENCE.by_name["method"])[-1] == "unseen"
    # Two numbers with six, one category with five, and duplicates and late rows.
    assert rate_count(REFERENCE) == 2 * 6 + 5 + 2


def test_a_rate_that_rose_is_named_with_its_share_and_usual_rates_are_silent():
    made = rates()
    assert made.step(Pane(0, 1, 100, counts()), 100) == []
    found = made.step(Pane(1, 1, 100, counts(null=60)), 100)
    assert [(f.subject, f.check, f.type, f.kind) for f in found] == [
        ("age", Check.NULL, SubjectType.FEATURE, VerdictKind.DATA_QUALITY)
    ]
    assert found[0].evidence["share"] == 0.6


def test_values_out_of_range_warn_and_never_page():
    made = rates()
    levels = [f.level for pane in range(20) for f in made.step(Pane(pane, 1, 100, counts(above=50)), 100)]
    assert levels
    assert max(levels) == WARN


def test_the_margin_is_the_evidence_over_the_page_threshold():
    made = rates()
    assert made.margin("age", Check.UNIT) == -np.inf
    before = made.margin("age", Check.NULL)
    made.step(Pane(1, 1, 100, counts(null=5)), 100)
    assert before < made.margin("age", Check.NULL) < 0


def test_evidence_read_back_goes_on_alike():
    first, second = rates(), rates()
    first.step(Pane(0, 1, 100, counts(null=3)), 100)
    second.restore(first.state())
    assert first.margin("age", Check.NULL) == second.margin("age", Check.NULL)


def test_a_range_allows_for_the_one_row_that_made_it() -> None:
    reference = profile({"x": np.arange(1_000.0)}, model="m", version="1")
    rates = QualityRates(reference, 1e-6, 1, None)
    eta = ETA / len(rates.detector.null_rate)
    edge = float(clopper_pearson(1, 1_000, eta)[1]) + RANGE_TOLERANCE
    assert rates.detector.null_rate[4:6] == pytest.approx([edge, edge])
