"""Other tools' fixed rules beside the judge, over the same panes: what each would have raised, and when first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stationkeeper.backtesting.table import Table
from stationkeeper.contracts.times import to_datetime
from stationkeeper.monitor.core.charts import positions_of
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import NumericCells, Reference, ReferenceSubject
from stationkeeper.monitor.plugins.port import Watched
from stationkeeper.monitor.plugins.rules import RULES, FixedRule


@dataclass(slots=True)
class Count:
    """The alarms of one rule and the row at which the first was raised."""

    alarms: int = 0
    first: int | None = None

    def add(self, row: int | None) -> None:
        """Count an alarm."""
        self.alarms += 1
        self.first = row if self.first is None else self.first


class Peers:
    """Every fixed rule on every subject it can watch, with the tool's own threshold and windows of 1000 rows.

    A rule alarms at each window that breaks it, as the tools do; it knows no incident, and keeps the first reference
    when ours is renewed after a page: that page was none of its own.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self.counts = {name: Count() for name in RULES}
        self._reference: Reference | None = None
        self._rules: list[tuple[ReferenceSubject, FixedRule]] = []
        self._own: Iterator[Pane] | None = None

    def judge(self, reference: Reference, panes: Iterator[Pane]) -> None:
        """Compare with the first reference; from a later one on ``panes`` are the same rows in its cells."""
        if self._reference is not None:
            # Of several renewals the first: its panes go on to the end of the table.
            self._own = self._own or panes
            return
        self._reference = reference
        self._rules = [
            (subject, FixedRule(name, Watched(subject.name, subject.counts, _values(subject)), {}))
            for name, rule in RULES.items()
            for subject in reference.subjects
            # A subject of nothing but missing values has no histogram to compare with.
            if subject.counts[:-1].any() and (rule.numeric if _values(subject) is not None else rule.categorical)
        ]

    def step(self, pane: Pane) -> Iterator[dict[str, Any]]:
        """Take a closed pane with rows; yields a line for each alarm, marked with its rule."""
        if self._reference is None:
            return
        # Cut at the same bounds, so that each closed pane has one.
        pane = pane if self._own is None else next(self._own)
        row = None if pane.last_row is None else int(self._table.index[pane.last_row])
        for subject, rule in self._rules:
            alarm = rule.step(pane.counts[self._reference.layout[subject.name].histogram], pane.start)
            if alarm is None:
                continue
            self.counts[alarm.rule].add(row)
            yield {
                "rule": alarm.rule,
                "subject": subject.name,
                "row": row,
                "time": row if self._table.times is None else to_datetime(pane.end).isoformat(),
                # JSON has no Infinity, which a ratio against an empty cell is.
                "statistic": alarm.statistic if np.isfinite(alarm.statistic) else None,
                "threshold": alarm.threshold,
                "rows": alarm.rows,
                "reason": alarm.reason,
            }

    def lines(self, ours: Count) -> Iterator[str]:
        """Yield the table of rules: alarms, and the row of the first."""
        width = max(len(name) for name in self.counts)
        yield f"{'rule':{width}} {'alarms':>7} {'first row':>10}"
        for name, count in {"stationkeeper": ours, **self.counts}.items():
            yield f"{name:{width}} {count.alarms:7d} {'-' if count.first is None else count.first:>10}"


def _values(subject: ReferenceSubject) -> Any:
    cells = subject.cells
    if not isinstance(cells, NumericCells):
        return None
    return np.asarray(positions_of(cells.edges, cells.low, cells.high), np.float64)
