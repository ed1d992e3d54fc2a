"""The table that explain prints: its numbers are those that a pocket calculator gives."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from stationkeeper.contracts.messages import Level, Onset, Subject, SubjectState, SubjectType, Verdict, VerdictKind
from stationkeeper.contracts.wire import PaneDelta
from stationkeeper.explain.bins import Bins, Panes
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.charts.distance import distances
from stationkeeper.monitor.core.reference import CategoricalCells, Reference

START = 1_790_000_000_000
MINUTE = 60_000


def test_the_lines_are_what_a_pocket_calculator_gives() -> None:
    window, reference = np.array([40, 60]), np.array([600, 400])
    lines = Bins("plan", "ref-1", ("'a'", "'b'"), window, reference, dict(distances(window, reference))).lines()
    # p = .4, .6 and q = .6, .4: half of |p - q| is .1 in each cell, .2 in all.
    assert lines[1].split() == ["'a'", "600", "60.00%", "40", "40.00%", "0.1000"]
    assert lines[3].split() == ["sum", "1,000", "100%", "100", "100%", "0.2000"]
    # r = .58, .42; ½ √(2/π) · 2 √(.58 · .42 (1/100 + 1/1000)) = .0413; √(.2² − .0413²) = .1957.
    assert "√(0.2000² − 0.0413²) = 19.57% of the rows" in lines[4]
    # (40.5/101 − 600.5/1001) ln(…) + (60.5/101 − 400.5/1001) ln(…) = .1604; (2 − 1)(1/100 + 1/1000) = .0110.
    assert "psi = Σ (p − q) ln(p/q) = 0.1604" in lines[5]
    assert "0.0110: 0.1494" in lines[5]


def test_many_cells_are_cut_and_still_add_up() -> None:
    window, reference = np.arange(1, 41), np.arange(40, 0, -1)
    names = tuple(f"v{i}" for i in range(40))
    lines = Bins("x", "ref-1", names, window, reference, dict(distances(window, reference))).lines()
    shown = [float(line.split()[-1]) for line in lines[1:27]]
    assert lines[26].startswith("15 more cells")
    assert sum(shown) == pytest.approx(float(lines[27].split()[-1]), abs=2e-3)


def reference_of(*, sensitive: bool) -> Reference:
    frame = pl.DataFrame({"plan": ["a"] * 600 + ["b"] * 400})
    return profile(frame, model="m", version="1", sensitive=("plan",) if sensitive else ())


def pane(reference: Reference, start: int, counts: list[int], length: int = MINUTE) -> PaneDelta:
    place, vector = reference.layout["plan"].histogram, reference.layout.zeros()
    vector[place.start : place.start + len(counts)] = counts
    block = vector[place].astype("<i8").tobytes()
    return PaneDelta(
        "m", "1", reference.digest, "prediction", "", start, length, sum(counts), place.start, len(vector), block
    )


def verdict(rows: int, onset: int, minutes: int) -> Verdict:
    moments = [datetime.fromtimestamp(ms / 1_000, tz=UTC) for ms in (onset, START + minutes * MINUTE)]
    return Verdict(
        id="ver-1",
        time=moments[1],
        model="m",
        version="1",
        subject=Subject(type=SubjectType.FEATURE, name="plan"),
        kind=VerdictKind.DATA_DRIFT,
        cause="category_share",
        level=Level.PAGE,
        state=SubjectState.DRIFTING,
        reason="plan moved",
        rows=rows,
        onset=Onset(time=moments[0], low=moments[0], high=moments[0]),
        effect=0.2,
    )


def test_the_panes_from_the_onset_that_the_verdict_counted_are_summed() -> None:
    reference = reference_of(sensitive=False)
    minutes = [pane(reference, START + i * MINUTE, [4, 6]) for i in range(6)]
    panes = Panes(tuple(minutes), {reference.digest: reference})
    # Asked with two onsets, the rows say which one the verdict counted from; its own minute's end is not in it.
    found = panes.bins(verdict(40, START, 5), [START, START + MINUTE])
    assert found is not None
    assert {name: int(n) for name, n in zip(found.names, found.window, strict=True) if n} == {"'a'": 16, "'b'": 24}
    assert panes.bins(verdict(40, START, 5).model_copy(update={"segment": "DE"}), [START]) is None


def test_a_sensitive_subject_is_shown_to_nobody() -> None:
    reference = reference_of(sensitive=True)
    panes = Panes((pane(reference, START, [4, 6]),), {reference.digest: reference})
    assert panes.bins(verdict(10, START, 5), [START]) is None
    assert reference.by_name["plan"].sensitive


def test_a_bucket_of_other_values_is_called_by_the_new_value_that_the_verdict_found_in_it() -> None:
    reference = reference_of(sensitive=False)
    cells = reference.by_name["plan"].cells
    assert isinstance(cells, CategoricalCells)
    bucket = int(cells.lookup(["family"])[0][0])
    counts = [5, 5, *[0] * (cells.count - 2)]
    counts[bucket] = 4
    panes = Panes((pane(reference, START, counts),), {reference.digest: reference})
    found = panes.bins(verdict(14, START, 5).model_copy(update={"evidence": {"values": {"family": 0.28}}}), [START])
    assert found is not None
    assert found.names[bucket] == "'family'"
    assert any(line.split()[0] == "'family'" for line in found.lines())
