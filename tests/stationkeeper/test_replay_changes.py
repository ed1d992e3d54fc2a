"""A replay finds every one of several changes, from few reference rows, and names settings it cannot use."""

import numpy as np
import pytest

from stationkeeper.backtesting.replay import Replay, ReplaySettings
from stationkeeper.backtesting.table import BadInput, Table
from stationkeeper.contracts.messages import Level, VerdictKind
from stationkeeper.monitor.core.budget import Budget

ROWS = Budget(1.0, 50_000.0, "rows")


def pages(columns: dict[str, np.ndarray], label: str | None = None) -> list[tuple[int, VerdictKind]]:
    table = Table(columns, np.arange(len(next(iter(columns.values())))), label=label)
    replay = Replay(table, ReplaySettings(ROWS, pane=50, window=1_000, reference_rows=500, renew=500))
    found = [verdict for verdict, _ in replay.run() if verdict.level is Level.PAGE]
    return [(verdict.row or 0, verdict.kind) for verdict in found]


def test_five_changes_in_a_row_are_five_pages():
    rng = np.random.default_rng(1)
    segment, changes = 1_500, 5
    columns = {}
    for name in "abcd":
        steps = np.cumsum(rng.choice([-0.8, 0.8], changes + 1))
        columns[name] = rng.normal(size=segment * (changes + 1)) + np.repeat(steps, segment)
    assert [row // segment for row, _ in pages(columns)] == [1, 2, 3, 4, 5]


def test_five_hundred_labels_are_enough_to_see_that_the_concept_changed():
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 10, (2, 8_000))
    limit = np.where(np.arange(8_000) < 4_000, 8.0, 9.5)
    label = ((x + y <= limit) ^ (rng.random(8_000) < 0.1)).astype(np.int64)
    found = pages({"x": x, "y": y, "label": label}, label="label")
    assert found
    row, kind = found[0]
    assert 4_000 <= row < 6_500
    assert kind in {VerdictKind.PERFORMANCE, VerdictKind.CONCEPT_DRIFT}
    order = rng.permutation(8_000)
    assert pages({"x": x[order], "y": y[order], "label": label[order]}, label="label") == []


@pytest.mark.parametrize(("pane", "period", "text"), [(0, 100.0, "--pane 0"), (10, 0.0, "--false-alarms-every 0")])
def test_a_pane_or_a_budget_of_nothing_is_named(pane, period, text):
    with pytest.raises(BadInput, match=text):
        ReplaySettings(Budget(1.0, period, "rows"), pane=pane, window=100)
