from dataclasses import replace

import numpy as np
import pytest

from stationkeeper.contracts.messages import Level
from stationkeeper.monitor.core.budget import parse_budget
from stationkeeper.monitor.core.power import power_card
from stationkeeper.monitor.core.reference import TrafficProfile
from stationkeeper.monitor.core.watch import Watch, WatchSettings
from stationkeeper.monitor.core.watch_plan import split_budget
from tests.monitor.core.streams import bank, panes, reference_of

REFERENCE = reference_of(bank(5_000))
BUDGET = parse_budget("1 per 1000000 rows")


def test_more_traffic_sees_smaller_changes():
    few = power_card(REFERENCE, BUDGET, rows_per_hour=300).subjects[0]
    many = power_card(REFERENCE, BUDGET, rows_per_hour=3_000).subjects[0]
    for found in (few.shift, few.scale, few.missing):
        assert found["1 day"] is not None
        assert found["1 hour"] is not None
        assert found["1 day"] < found["1 hour"]
    assert many.shift["1 hour"] is not None
    assert few.shift["1 hour"] is not None
    assert many.shift["1 hour"] < few.shift["1 hour"]


def test_false_pages_of_all_subjects_keep_the_budget_of_their_group():
    card = power_card(REFERENCE, parse_budget("1 per 30 days"), rows_per_hour=1_000)
    # Features have .35 of the shares .35 + .20 (quality) + .05 (pairs): no predictions, labels or traffic.
    assert sum(subject.false_pages for subject in card.subjects) == pytest.approx(0.35 / 0.60)
    assert "amount" in card.text()
    assert {line["within"] for line in card.lines()} == {"1 hour", "1 day"}


def test_a_promised_shift_is_found_and_a_third_of_it_is_not():
    card = power_card(REFERENCE, BUDGET, rows_per_hour=3_000)
    promised = next(power for power in card.subjects if power.subject == "age").shift["1 hour"]
    assert promised is not None
    outcomes = []
    for share in (1 / 3, 1.4):
        found = 0
        for seed in range(6):
            data = bank(3_000, 100 + seed)
            data["age"] = data["age"] + 10 * promised * share
            watch = Watch(REFERENCE, settings=WatchSettings(budget=BUDGET))
            said = [verdict for pane in panes(REFERENCE, data) for verdict in watch.step(pane).verdicts]
            found += any(verdict.level is Level.PAGE for verdict in said)
        outcomes.append(found)
    assert outcomes[0] <= 2
    assert outcomes[1] >= 5


def test_traffic_must_be_positive():
    with pytest.raises(ValueError, match="rows_per_hour must be above 0"):
        power_card(REFERENCE, BUDGET, rows_per_hour=0.0)


def test_what_cannot_be_found_is_none_and_not_a_number():
    card = power_card(reference_of(bank(300)), parse_budget("1 per 30 days"), rows_per_hour=2)
    assert card.subjects[0].shift["1 hour"] is None
    assert "none" in card.text()
    assert all(np.isfinite(line["shift"]) for line in card.lines())


def test_a_reference_whose_traffic_pages_leaves_its_features_less():
    made = replace(REFERENCE, traffic=TrafficProfile(np.full(168, 600.0), 10.0, 60_000), source="live")
    budget = parse_budget("1 per 30 days")
    card = power_card(made, budget, rows_per_hour=1_000)
    split = split_budget(made, WatchSettings(budget=budget), "")
    found = sum(subject.false_pages for subject in card.subjects)
    # Features, their pairs, quality and volume; the reference knows no labels.
    assert found == pytest.approx(0.35 / 0.70)
    assert found == pytest.approx(split["features"] * 43_200)
