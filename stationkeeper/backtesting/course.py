"""The course of a backtest as plots' data: distances and evidence over the file, and what each fixed rule raised."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stationkeeper.backtesting.peers import Peers
from stationkeeper.backtesting.table import Table
from stationkeeper.contracts.model_status import PerformanceStatus
from stationkeeper.contracts.times import to_ms
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import Counts, Reference
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.plugins.rules import RULES

# Points of a plot: a step of a report 780 px wide is then about four pixels; twice as many double the memory and hardly
# show, half as many hide a change of a few panes.
STEPS = 160


@dataclass(frozen=True, slots=True)
class RuleCourse:
    """What one rule raised: ``marks`` are rows (or ms), ``statistic`` and ``threshold`` its own words and number."""

    name: str
    marks: tuple[int, ...]
    threshold: float | None = None

    @property
    def below(self) -> bool:
        """Whether it alarms below its threshold, as p-values do."""
        return self.name in RULES and RULES[self.name].p_value


@dataclass(frozen=True, slots=True)
class Change:
    """A change that is known to be there: where (row, or ms) and what."""

    at: int
    name: str = "change"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rules beside ours on one axis from ``start`` to ``end``: rows where ``by_row``, else epoch ms."""

    start: int
    end: int
    by_row: bool
    rules: tuple[RuleCourse, ...] = ()
    changes: tuple[Change, ...] = ()
    # Rows that each rule looks at, the tools' own habit (monitor.plugins.rules).
    window: int = 1_000


@dataclass(slots=True)
class Epoch:
    """One reference in force: what was counted, and the highest evidence over its threshold, by step."""

    reference: Reference
    counts: dict[int, Counts] = field(default_factory=dict)
    ratios: dict[int, dict[str, float]] = field(default_factory=dict)


class Course(Peers):
    """Listens to every pane of a replay; with ``compare`` the fixed rules judge them too.

    ``watch`` returns the watch in force. Counts are kept in ``STEPS`` steps, so memory is that of a few hundred panes.
    """

    def __init__(self, table: Table, pane: int, watch: Callable[[], Watch], *, compare: bool) -> None:
        super().__init__(table)
        self.model = table.model
        self._compare = compare
        self._watch = watch
        self._timed = table.times is not None
        clock = table.times if table.times is not None else np.arange(len(table))
        self.start, self.end = int(clock[0]), int(clock[-1]) + 1
        # Rounded up to whole panes: a step that cuts a pane would need rows where there are counts.
        panes = max(1, -(-(self.end - self.start) // (STEPS * pane)))
        self.step_length = panes * pane
        self.epochs: list[Epoch] = []
        self._marks: dict[str, list[int]] = {}
        self._thresholds: dict[str, float] = {}
        self.performance: tuple[PerformanceStatus, ...] = ()

    def judge(self, reference: Reference, panes: Iterator[Pane]) -> None:
        """Draw with this reference from the next pane on."""
        self.epochs.append(Epoch(reference))
        if self._compare:
            super().judge(reference, panes)
            # Kept through a renewal: the axis is the file, and alarms before it still happened.
            self._marks = {name: self._marks.get(name, []) for name in RULES}

    def step(self, pane: Pane) -> Iterator[dict[str, Any]]:
        """Take a closed pane that was judged; yields the lines of the rules that alarm."""
        epoch, at = self.epochs[-1], pane.start - pane.start % self.step_length
        epoch.counts[at] = epoch.counts.get(at, 0) + pane.counts
        ratios = epoch.ratios.setdefault(at, {})
        for drift in self._watch().drifts:
            for subject in drift.subjects:
                evidence, threshold = drift.evidence(subject.name)
                # Minus infinity is the evidence of a subject that no row of its own has come for yet.
                ratio = evidence / threshold if math.isfinite(evidence) else 0.0
                ratios[subject.name] = max(ratios.get(subject.name, 0.0), ratio)
        if not self._compare:
            return
        for line in super().step(pane):
            self._marks[line["rule"]].append(pane.end if self._timed else int(line["row"]))
            self._thresholds.setdefault(line["rule"], line["threshold"])
            yield line

    def note(self, subject: str, at: int, statistic: float, threshold: float) -> None:
        """See a page of a subject: its evidence starts anew with it, so its height is kept here."""
        if threshold > 0:
            ratios = self.epochs[-1].ratios.setdefault(at - at % self.step_length, {})
            ratios[subject] = max(ratios.get(subject, 0.0), statistic / threshold)

    def comparison(self, changes: Sequence[Change]) -> Comparison:
        """Return the rules' alarms on the axis of the file."""
        rules = tuple(RuleCourse(name, tuple(marks), self._threshold(name)) for name, marks in self._marks.items())
        return Comparison(self.start, self.end, not self._timed, rules, tuple(changes))

    def _threshold(self, name: str) -> float | None:
        """The tool's own number; where it learns one for each subject, the first that alarmed."""
        return self._thresholds.get(name) if RULES[name].learned else RULES[name].threshold


def change_of(text: str) -> Change:
    """Read ``5000``, ``5000=new method`` or ``2026-01-31T12:00:00Z=…``; raises ``ValueError``."""
    from datetime import datetime

    where, sign, name = text.partition("=")
    try:
        at = int(where) if where.strip().isdigit() else to_ms(datetime.fromisoformat(where.strip()))
    except ValueError as error:
        raise ValueError(f"--change {text!r}: write ROW=WORDS or 2026-01-31T12:00:00Z=WORDS ({error})") from None
    return Change(at, name.strip() if sign and name.strip() else "change")
