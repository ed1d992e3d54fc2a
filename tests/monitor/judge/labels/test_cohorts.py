"""Cohorts of labels: what is stored of them is what a pane changed, and versions nobody watches are let go."""

from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, pack
from stationkeeper.monitor.judge import Cohorts
from stationkeeper.monitor.judge.labels import charts
from stationkeeper.monitor.judge.labels import cohorts as cohorts_module
from stationkeeper.monitor.judge.labels.cohorts import CohortsState
from stationkeeper.monitor.judge.labels.slots import SLOT_PANES, CohortSlot
from stationkeeper.monitor.judge.pending import Closed
from stationkeeper.monitor.state_codec import freeze, thaw
from tests.monitor.judge.test_stage import Bench, arm, pane, progress
from tests.monitor.rig import MINUTE, START, fraud

SEGMENTS = ("", *(f"country=c{index}" for index in range(20)))


def fed(minute: int, version: str, segments: tuple[str, ...], *, delay: int = 0, labels: bool = True) -> Closed:
    """A closed pane with predictions and with labels of the pane ``delay`` minutes before."""
    rng = np.random.default_rng(minute)
    arms, outcomes = [], []
    for segment in segments:
        scores, cells = rng.poisson(30, 32).astype(np.int64), rng.poisson(100, 4).astype(np.int64)
        start, known = START + minute * MINUTE, START + (minute - delay) * MINUTE
        rows = int(scores.sum())
        arms.append(ArmDelta("fraud", version, segment, start, MINUTE, rows, 0, 0, 0, 0, pack(scores)))
        scored = pack(rng.poisson(10, 64).astype(np.int64))
        outcomes.append(OutcomeDelta("fraud", version, segment, known, MINUTE, 9, start, pack(cells), scored, 5, 6))
    return Closed(START + minute * MINUTE, {}, arms, outcomes if labels else [])


def counted(closed: Closed) -> tuple[list[ArmDelta], list[OutcomeDelta]]:
    return closed.arms, closed.outcomes


def inside(cohorts: Cohorts) -> Any:
    """All that it holds, plainly."""
    rings = [
        {who: [(start, counts.tolist()) for start, counts in ring] for who, ring in kept.items()}
        for kept in (cohorts.charts.mature, cohorts.charts.scores)
    ]
    growing = {
        start: {who: counts.tolist() for who, counts in found.items()}
        for start, found in cohorts._growing.counts.items()
    }
    return rings, growing, cohorts._growing.rows, cohorts.counted


def keep(cohorts: Cohorts, slots: dict[int, CohortSlot]) -> int:
    """Store what changed; returns how many bytes that is."""
    size = len(freeze(cohorts.state()))
    for number, value in cohorts.changed():
        if value is None:
            del slots[number]
            continue
        data = freeze(value)
        slots[number], size = state_of(thaw(data), CohortSlot), size + len(data)
    return size


def restored(cohorts: Cohorts, slots: dict[int, CohortSlot]) -> Cohorts:
    made = Cohorts(fraud(label_maturity="30m", label_horizon="5h"))
    made.restore(state_of(thaw(freeze(cohorts.state())), CohortsState), slots)
    return made


@pytest.mark.parametrize("step", [1, 7])
def test_slots_are_put_together_again_after_any_pane(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Rings that become full, so that rows leave them.
    for module in (charts, cohorts_module):
        monkeypatch.setattr(module, "KEPT", 90)
    whole = Cohorts(fraud(label_maturity="30m", label_horizon="5h"))
    other, slots = Cohorts(fraud(label_maturity="30m", label_horizon="5h")), dict[int, CohortSlot]()
    said = []
    for minute in range(500):
        version = "1" if minute < 150 else "2"
        closed = fed(minute, version, ("", "country=de"), delay=minute * 7 % 25, labels=not 200 < minute < 260)
        mine = []
        for one in (whole, other):
            one.forget({"2"} if minute >= 150 else {"1"}, closed.start)
            mine.append(
                [
                    (v, s, p.confusion.tolist())
                    for v, s, p in one.close(closed.arms, closed.outcomes, closed.start, None)
                ]
            )
        said.append(mine)
        keep(other, slots)
        if minute % step == 0:
            other = restored(other, slots)
        assert inside(other) == inside(whole)
    assert all(one == two for one, two in said)
    # The rings, what is still growing, and a slot begun at each end.
    assert len(slots) <= (90 + 30) // SLOT_PANES + 3
    assert {who[0] for who in whole.charts.scores} == {"2"}


def test_a_closed_pane_writes_a_fraction_of_what_is_held() -> None:
    cohorts, slots = Cohorts(fraud(label_maturity="1h")), dict[int, CohortSlot]()
    sizes = []
    for minute in range(600):
        for _ in cohorts.close(*counted(fed(minute, "1", SEGMENTS)), START + minute * MINUTE, None):
            pass
        sizes.append(keep(cohorts, slots))
    held = sum(len(freeze(slot)) for slot in slots.values())
    assert held > 300_000
    # At two hours the delays of the first labels are believed, and an hour of cohorts is judged at once.
    assert max(sizes[130:]) < held / 10


def test_what_an_older_version_stored_whole_is_stored_in_slots() -> None:
    before, slots = Cohorts(fraud(label_maturity="30m")), dict[int, CohortSlot]()
    for minute in range(100):
        for _ in before.close(*counted(fed(minute, "1", ("",))), START + minute * MINUTE, None):
            pass
    keep(before, slots)
    old = {"growing": [], "mature": [], "scores": [], "rows": [], "counted": before.state().counted}
    for kind in ("growing", "mature", "scores", "rows"):
        old[kind] = [row for slot in slots.values() for row in getattr(slot, kind)]
    made, anew = Cohorts(fraud(label_maturity="30m")), dict[int, CohortSlot]()
    made.restore(state_of(thaw(freeze(old)), CohortsState), {})
    assert inside(made) == inside(before)
    keep(made, anew)
    assert inside(restored(made, anew)) == inside(before)


def test_a_judge_lets_go_of_versions_without_a_watch_once_no_label_can_come() -> None:
    bench = Bench(label_maturity="10m", label_horizon="1h", limits={"segments": 1, "versions": 1})
    held: list[set[str]] = []
    for minute in range(120):
        extra = [pane(minute, version=str(v)) for v in range(2, 9)] if minute < 5 else []
        arms = [arm(minute, version=str(v)) for v in range(2, 9)] if minute < 5 else []
        bench.feed(pane(minute), *extra, arm(minute), *arms, progress(minute + 1, minute + 1))
        held.append({version for version, _ in bench.judge.judges["fraud"].cohorts.charts.scores})
    assert held[60] == {str(v) for v in range(1, 9)}
    # The one beside it has the second place of a watch.
    assert held[-1] == {"1", "2"}
    again = Bench(bench)
    again.flush()
    assert {version for version, _ in again.judge.judges["fraud"].cohorts.charts.scores} == {"1", "2"}


def test_slots_that_are_gone_lend_their_names_to_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (charts, cohorts_module):
        monkeypatch.setattr(module, "KEPT", 20)
    bench = Bench(label_maturity="10m", label_horizon="1h")
    for minute in range(100):
        bench.feed(pane(minute, rows=20), arm(minute, 20), progress(minute + 1, minute + 1))
        if minute == 60:
            bench = Bench(bench, label_maturity="10m", label_horizon="1h")
    # Without labels a cohort waits for the horizon, an hour, and ten minutes: nine slots of eight minutes, and ends.
    names = {name for name in bench.state if name.startswith(b"fraud/cohorts/")}
    assert 9 <= len(names) <= 11
