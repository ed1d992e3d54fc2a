"""Traces: nulls that rise by a few rows in a thousand, and a tail that is multiplied, are named within two days."""

from collections.abc import Iterator

import numpy as np
import pytest

from stationkeeper.contracts.column import Numbers
from stationkeeper.contracts.messages import Level, Verdict
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import Reference
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.profiling import profile

HOUR, ROWS = 3_600_000, 250
PANE = HOUR // 4


def draw(rng: np.random.Generator, rows: int, nulls: float = 0.001, tail: float = 1.0) -> dict[str, np.ndarray]:
    """An amount whose top hundredth is multiplied by ``tail``, and a number that lacks a share of ``nulls``."""
    amount = np.exp(rng.normal(size=rows))
    late = rng.normal(size=rows)
    late[rng.random(rows) < nulls] = np.nan
    return {"amount": np.where(amount > np.exp(2.326), amount * tail, amount), "late": late}


@pytest.fixture(scope="module")
def reference() -> Reference:
    return profile(draw(np.random.default_rng(0), 10_000), ordered=True)


def panes(reference: Reference, rng: np.random.Generator, first: int, hours: int, **law: float) -> Iterator[Pane]:
    for at in range(hours * HOUR // PANE):
        columns = {name: Numbers(values) for name, values in draw(rng, ROWS, **law).items()}
        (vector,) = reference.layout.tally(columns, np.zeros(ROWS, np.int64), np.array([ROWS]))
        yield Pane(first + at * PANE, PANE, ROWS, vector)


def said(watch: Watch, stream: Iterator[Pane]) -> list[Verdict]:
    found = [verdict for pane in stream for verdict in watch.step(pane).verdicts]
    return [verdict for verdict in found if verdict.level in (Level.PAGE, Level.WARN)]


@pytest.mark.parametrize("seed", range(3))
def test_nulls_of_a_row_in_a_thousand_that_become_five_are_named_within_two_days(
    reference: Reference, seed: int
) -> None:
    rng, watch = np.random.default_rng(seed), Watch(reference)
    assert not said(watch, panes(reference, rng, 0, 24))
    found = said(watch, panes(reference, rng, 24 * HOUR, 48, nulls=0.005))
    assert {(one.subject.name, one.subject.check, one.level) for one in found} == {("late", "null", Level.WARN)}
    (first, *_) = found
    assert first.evidence["usual"] < 0.003 < first.evidence["share"]
    assert "rows" in (first.reason or "")


@pytest.mark.parametrize("seed", range(3))
def test_the_top_hundredth_times_ten_is_named_within_a_day(reference: Reference, seed: int) -> None:
    rng, watch = np.random.default_rng(seed), Watch(reference)
    found = said(watch, panes(reference, rng, 0, 24, tail=10.0))
    assert {(one.subject.name, one.subject.check) for one in found} == {("amount", "above")}
    assert "lie above everything in the reference" in (found[0].reason or "")


def test_a_watch_restored_between_two_judgements_of_traces_says_the_same(reference: Reference) -> None:
    rng, watch = np.random.default_rng(4), Watch(reference)
    # An odd number of panes of 250 rows: the last one waits for its second half.
    said(watch, iter(list(panes(reference, rng, 0, 6))[:-1]))
    again = Watch(reference)
    again.restore(watch.state())
    later = list(panes(reference, rng, 6 * HOUR, 48, nulls=0.006))
    told = said(watch, iter(later))
    assert told
    assert said(again, iter(later)) == told
