"""``backtest --compare``: other tools' rules see the same panes, and our own lines stay what they were."""

import io
import json
from typing import Any

import numpy as np

from stationkeeper.backtesting.replay import ReplaySettings
from stationkeeper.backtesting.run import run
from stationkeeper.backtesting.table import Table
from stationkeeper.contracts.messages import Level
from stationkeeper.monitor.core.budget import Budget

ROWS, CHANGE = 9_000, 5_000


def replayed(*, compare: bool, renew: int = 0) -> tuple[list[dict[str, Any]], str]:
    rng = np.random.default_rng(0)
    age = rng.normal(40, 10, ROWS) + np.where(np.arange(ROWS) >= CHANGE, 10, 0)
    table = Table({"age": age}, np.arange(ROWS))
    settings = ReplaySettings(Budget(1.0, 100_000.0, "rows"), pane=50, window=1_000, reference_rows=2_000, renew=renew)
    out, err = io.StringIO(), io.StringIO()
    run(table, settings, out=out, err=err, compare=compare)
    return [json.loads(line) for line in out.getvalue().splitlines()], err.getvalue()


def test_peers_are_printed_beside_our_unchanged_lines():
    plain, silent = replayed(compare=False)
    lines, table = replayed(compare=True)
    assert [line for line in lines if "rule" not in line] == plain
    assert "evidently" not in silent
    psi = [line for line in lines if line.get("rule") == "psi"]
    # Windows of 1000 rows from row 2000 on: the one of rows 5000 to 5999 is the first after the change.
    assert [line["row"] for line in psi] == [5_999, 6_999, 7_999, 8_999]
    assert all(line["statistic"] >= line["threshold"] == 0.2 for line in psi)
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines() if line}
    assert rows["psi"] == ["4", "5999"]
    assert rows["stationkeeper"][0] == "1"
    assert CHANGE <= int(rows["stationkeeper"][1]) < 5_300


def test_peers_keep_their_reference_where_ours_is_renewed_after_a_page():
    lines, table = replayed(compare=True, renew=1_000)
    # What no tool of theirs saw yet does not reset them.
    assert lines[-1]["row"] > CHANGE + 1_000
    assert [line["row"] for line in lines if line.get("rule") == "psi"] == [5_999, 6_999, 7_999, 8_999]
    assert [line for line in lines if "rule" in line] == [line for line in replayed(compare=True)[0] if "rule" in line]
    assert " 1 reference(s)" not in table


def test_a_pane_that_the_file_or_the_reference_cuts_is_no_loss_of_traffic():
    rng = np.random.default_rng(4)
    hour = 3_600_000
    # A row a minute; the reference ends at minute 53 of an hour and the file at minute 13 of another.
    times = np.arange(0, 400 * 60 + 13) * 60_000
    data = {"amount": rng.normal(0, 1, len(times))}
    settings = ReplaySettings(
        Budget(1.0, 43_200.0, "minutes"), pane=hour, window=20 * hour, reference_rows=200 * 60 + 53
    )

    def volume(table: Table) -> list[dict[str, Any]]:
        out = io.StringIO()
        run(table, settings, level=Level.INFORM, out=out)
        return [line for line in map(json.loads, out.getvalue().splitlines()) if line["check"] == "volume"]

    assert volume(Table(data, np.arange(len(times)), times)) == []
    kept = (times < 300 * hour) | (times >= 303 * hour) | (np.arange(len(times)) % 12 == 0)
    part = Table({"amount": data["amount"][kept]}, np.arange(kept.sum()), times[kept])
    assert [line["level"] for line in volume(part)][:1] == ["page"]
