"""Small streams with one planted change, and the panes a watch reads of them."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from stationkeeper.contracts.column import Column, categories, numbers
from stationkeeper.contracts.messages import Level, Verdict
from stationkeeper.contracts.state import replaced
from stationkeeper.monitor.core.budget import Budget
from stationkeeper.monitor.core.panes.pane import Pane
from stationkeeper.monitor.core.panes.recent import RecentState
from stationkeeper.monitor.core.reference import Kind, Reference
from stationkeeper.monitor.core.watch import Watch, WatchSettings, WatchState
from stationkeeper.monitor.profiling import profile

Columns = dict[str, np.ndarray[Any, Any]]
SETTINGS = WatchSettings(budget=Budget(1.0, 50_000.0, "rows"), window=1_000)


def bank(rows: int, seed: int = 0) -> Columns:
    """Two numbers and a category, independent rows."""
    rng = np.random.default_rng(seed)
    method = rng.choice(["card", "cash", "wire"], rows, p=[0.6, 0.3, 0.1]).astype(object)
    return {"amount": rng.lognormal(3, 1, rows), "age": rng.normal(40, 10, rows), "method": method}


def reference_of(columns: Columns, **options: Any) -> Reference:
    return profile(columns, ordered=True, **options)


def state_with(recent: RecentState, **parts: Any) -> WatchState:
    """The state of a new watch, with some of its parts replaced."""
    state = _new_state()
    return replaced(state, **{"drifts": {}, "desk": replaced(state.desk, recent=recent), **parts})


@cache
def _new_state() -> WatchState:
    return Watch(reference_of({"age": bank(200)["age"]}), settings=SETTINGS).state()


def columns_for(reference: Reference, data: Mapping[str, Any]) -> dict[str, Column]:
    out: dict[str, Column] = {}
    for subject in reference.subjects:
        if subject.name in data:
            values = data[subject.name]
            out[subject.name] = (
                numbers(values) if subject.kind is Kind.NUMERIC else categories(values, subject.json_type)
            )
    return out


def panes(reference: Reference, data: Columns, *, start: int = 0, rows: int = 50) -> Iterator[Pane]:
    total = len(next(iter(data.values())))
    group = np.arange(total) // rows
    size = np.bincount(group)
    vectors = reference.layout.tally(columns_for(reference, data), group, size)
    for i, vector in enumerate(vectors):
        first = start + i * rows
        yield Pane(first, rows, int(size[i]), vector, first + int(size[i]) - 1, first)


def judge(watch: Watch, data: Columns, *, start: int = 0) -> list[Verdict]:
    said: list[Verdict] = []
    for pane in panes(watch.reference, data, start=start):
        said += watch.step(pane).verdicts
    return said


def pages(verdicts: list[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.level is Level.PAGE]
