"""Segments against the rest: bets that are fair whenever the gap is tolerated, and what is told and closed."""

from math import comb
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.contracts.messages import SubjectType
from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.core.finding import PAGE, Finding
from stationkeeper.monitor.core.performance.fairness import (
    APPROVAL,
    Fairness,
    FairnessRules,
    FairnessState,
    log_gap_bets,
    rates_of,
)

MINUTE = 60_000
ALPHA = 1 / 43_200


def made(alpha: float = ALPHA, phi: float = 1.0, *dimensions: str) -> Fairness:
    return Fairness(FairnessRules(dimensions or ("country",), 0.05), alpha, {"approval rate": phi})


def approvals(mine: int, rows: int, others: int, of: int) -> dict[str, Any]:
    """Approvals of one segment, and of all traffic."""
    counts = np.zeros((2, 3, 2), np.int64)
    counts[0, APPROVAL], counts[1, APPROVAL] = (mine, rows), (mine + others, rows + of)
    return {"country=de": counts[0], "": counts[1]}


def pmf(hits: int, rows: int, share: float) -> float:
    return comb(rows, hits) * share**hits * (1 - share) ** (rows - hits)


def told(fairness: Fairness, share: float, others: float, minutes: range, seed: int = 0) -> list[tuple[int, Finding]]:
    rng, found = np.random.default_rng([seed, minutes.start]), []
    for minute in minutes:
        drawn = int(rng.binomial(20, share)), 20, int(rng.binomial(60, others)), 60
        fairness.add(approvals(*drawn), minute * MINUTE)
        found += [(minute, finding) for finding in fairness.step(1.0)]
    return found


def test_a_bet_by_hand():
    counts = np.array([[6, 10], [4, 10]])
    (found,) = log_gap_bets(counts, 0.0, np.array([0.2]), 0.5)
    assert found == pytest.approx(12 * np.log(1.2) + 8 * np.log(0.8), abs=1e-9)
    assert rates_of(np.array([90, 5, 10, 95])).tolist() == [[90, 100], [5, 100], [0, 0]]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 9),
    st.floats(-0.3, 0.3),
    st.floats(0.001, 0.4),
    st.floats(0.001, 0.999),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_the_mean_of_a_bet_is_at_most_one_wherever_the_gap_is_tolerated(n, m, tolerance, beyond, centre, low, below):
    other = low * (1 - abs(tolerance)) + max(-tolerance, 0.0)
    mine = min(max((other + tolerance) * (1 if below > 0.5 else below), 0.0), 1.0)
    assert mine <= other + tolerance + 1e-12
    mean = 0.0
    for x in range(n + 1):
        for y in range(m + 1):
            chance = pmf(x, n, mine) * pmf(y, m, other)
            bet = log_gap_bets(np.array([[x, n], [y, m]]), tolerance, np.array([tolerance + beyond]), centre)
            mean += chance * float(np.exp(bet[0]))
    assert mean <= 1 + 1e-6


def test_a_gap_beyond_the_tolerance_is_told_once_with_its_numbers_and_closes():
    fairness = made()
    assert told(fairness, 0.5, 0.5, range(500)) == []
    found = told(fairness, 0.3, 0.5, range(500, 800))
    pages = [one for one in found if one[1].level == PAGE]
    (first, finding) = pages[0]
    assert [minute for minute, _ in pages] == list(range(first, 800))
    assert first < 560
    assert (finding.subject, finding.type) == ("fairness of country", SubjectType.FAIRNESS)
    last = pages[-1][1]
    assert last.reason.startswith("country=de: approval rate ")
    assert last.reason.endswith(", 5 are tolerated")
    assert last.effect == pytest.approx(0.2, abs=0.03)
    assert -0.3 < last.evidence["low"] < -0.2 < last.evidence["high"] < -0.1
    assert abs(last.onset / MINUTE - 500) <= 10
    (gap,) = [gap for gap in fairness.gaps() if gap.rate == "approval rate"]
    assert gap.open
    after = told(fairness, 0.5, 0.5, range(800, 1_800))
    assert after[-1][0] < 1_700
    (gap,) = [gap for gap in fairness.gaps() if gap.rate == "approval rate"]
    assert not gap.open


def test_what_is_tolerated_is_never_told():
    for seed in range(4):
        assert [f for _, f in told(made(1 / 200), 0.46, 0.5, range(300), seed) if f.level == PAGE] == []


def test_false_pages_keep_to_the_budget_at_the_edge_of_the_tolerance():
    streams, minutes, alpha = 20, 300, 1 / 200
    pages = 0
    for seed in range(streams):
        fairness = made(alpha)
        pages += any(one.level == PAGE for _, one in told(fairness, 0.45, 0.5, range(minutes), seed))
    # 20 x 300 minutes at one in 200, of which a first segment has half and one rate of three a third.
    assert pages <= streams * minutes * alpha / 2 / 3


def test_both_directions_of_a_rate_near_its_ends_and_rows_that_lean_on_each_other():
    for share, others in ((1.0, 0.8), (0.0, 0.2)):
        assert told(made(), share, others, range(300))
    slow, fast = (told(made(ALPHA, phi), 0.3, 0.5, range(600)) for phi in (5.0, 1.0))
    assert slow[0][0] > fast[0][0]


def test_a_segment_of_few_rows_waits_and_is_compared_all_the_same():
    fairness, found = made(), list[Finding]()
    rng = np.random.default_rng(3)
    for minute in range(1_500):
        fairness.add(approvals(int(rng.random() < 0.2), 1, int(rng.binomial(50, 0.5)), 50), minute * MINUTE)
        found += fairness.step(1.0)
    assert found
    assert fairness.margin("fairness of shop") == -np.inf


def test_labels_and_dimensions_that_are_not_declared_say_nothing_and_many_segments_share_the_budget():
    fairness = made()
    counts = np.full((3, 2), 50, np.int64)
    fairness.add({"": 9 * counts, "shop=a": counts, **{f"country={k}": counts for k in range(5)}}, 0)
    fairness.step(1.0)
    limits = [side[0].test.log_threshold[0] for side in fairness._sides.values()]
    assert len(limits) == 5
    assert sum(6 * np.exp(-limit) for limit in limits) == pytest.approx(ALPHA * (1 - 1 / 6))


def test_restored_in_the_middle_it_says_the_same():
    for cut in (3, 520, 700):
        whole, first, second = made(), made(), made()
        expected = told(whole, 0.5, 0.5, range(500)) + told(whole, 0.3, 0.5, range(500, 800))
        rng = {0: np.random.default_rng([0, 0]), 500: np.random.default_rng([0, 500])}
        got = list[tuple[int, Finding]]()
        one = first
        for minute in range(800):
            if minute == cut:
                second.restore(first.state())
                one = second
            start = 0 if minute < 500 else 500
            share = 0.5 if minute < 500 else 0.3
            drawn = int(rng[start].binomial(20, share)), 20, int(rng[start].binomial(60, 0.5)), 60
            one.add(approvals(*drawn), minute * MINUTE)
            got += [(minute, finding) for finding in one.step(1.0)]
        assert got == expected


def counted(rng: np.random.Generator, shares: dict[str, tuple[float, int]]) -> dict[str, Any]:
    rates = {f"country={name}": np.zeros((3, 2), np.int64) for name in shares}
    for name, (share, rows) in shares.items():
        rates[f"country={name}"][APPROVAL] = rng.binomial(rows, share), rows
    return {**rates, "": np.sum(list(rates.values()), axis=0)}


def opened(fairness: Fairness) -> set[str]:
    return {gap.segment for gap in fairness.gaps() if gap.open}


def test_the_segment_that_changed_is_told_and_not_those_whose_rest_it_moves():
    for seed in range(6):
        rng, fairness, pages = np.random.default_rng(seed), made(), list[Finding]()
        for minute in range(60):
            share = 0.5 if minute < 30 else 0.2
            fairness.add(counted(rng, {"a": (share, 8_000), "b": (0.5, 6_000), "c": (0.5, 6_000)}), minute * MINUTE)
            pages += [one for one in fairness.step(1.0) if one.level == PAGE]
        assert {one.evidence["segment"] for one in pages} == {"country=a"}
        assert opened(fairness) == {"country=a"}


def test_a_second_segment_that_changed_too_is_open_beside_the_first_and_leads_where_its_evidence_is_stronger():
    rng, fairness, found = np.random.default_rng(1), made(), list[Finding]()
    for minute in range(60):
        moved = (0.5, 0.5) if minute < 30 else (0.35, 0.1)
        shares = {"a": (moved[0], 3_000), "b": (moved[1], 3_000), "c": (0.5, 6_000), "d": (0.5, 6_000)}
        fairness.add(counted(rng, shares), minute * MINUTE)
        found = fairness.step(1.0)
    assert opened(fairness) == {"country=a", "country=b"}
    assert [one.evidence["segment"] for one in found] == ["country=b"]
    assert found[0].score > found[0].threshold
    again = made()
    again.restore(fairness.state())
    assert again.step(1.0) == fairness.step(1.0)


def test_a_state_without_the_evidence_of_its_open_gaps_is_read():
    fairness = made()
    told(fairness, 0.2, 0.5, range(100))
    plain = msgspec.to_builtins(fairness.state(), builtin_types=(np.ndarray,))
    for _, sides in plain["segments"]:
        for side in sides:
            del side["excess"]
    again = made()
    again.restore(state_of(plain, FairnessState))
    (finding,) = again.step(1.0)
    assert (finding.level, finding.score) == (PAGE, finding.threshold)
