"""How much traffic each hour of the week brings, learned from live panes where the reference teaches none."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.monitor.core.adoption import DAY_MS, HOUR_MS
from stationkeeper.monitor.core.panes import Pane, stratum_of
from stationkeeper.monitor.core.reference import HOURS_OF_WEEK, TrafficProfile

WEEK_MS = 7 * DAY_MS
TOLERANCE = 0.10
MOST = 0.5
DAY_FACTOR = 1.5
QUIET = 1.0
"""Hours with fewer events a pane are not judged by volume: their silence is usual, and so are a few events."""

_QUANTILE = 0.9
_NEVER = -2.0


class LearnedTraffic:
    """Sums of pane volumes by hour of the week; ``learned`` after ``length`` ms, then anew each week, old weeks fading.

    Empty panes count: an hour that never brings anything is not expected to. What is odd is not learned as usual,
    unless the same hour was odd the week before too: a new season or a change of the clock is learned in two weeks.
    State is 6 x 168 numbers and two weeks of day totals.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.begin: int | None = None
        self.due = 0
        self.sums: Floats = np.zeros((3, HOURS_OF_WEEK))
        self.days: dict[int, float] = {}
        self.odd: Floats = np.full((2, HOURS_OF_WEEK), _NEVER)
        self.mean: Floats = np.empty(0)
        self.size = 0.5
        self.tolerance = TOLERANCE

    def add(self, pane: Pane, *, odd: bool = False) -> bool:
        """Take a closed pane, empty ones too; returns whether the lesson changed with it. ``odd`` was not usual."""
        if self.begin is None:
            if not pane.volume:
                return False
            self.begin, self.due = pane.start, pane.start + self.length
        hour, volume = stratum_of(pane.start, HOURS_OF_WEEK), float(pane.volume)
        if odd and not self._again(hour, pane.start // WEEK_MS):
            return False
        self.sums[:, hour] += (1.0, volume, volume * volume)
        day = pane.start // DAY_MS
        self.days[day] = self.days.get(day, 0.0) + volume
        if pane.end < self.due:
            return False
        self._fit()
        self.due += WEEK_MS
        self.sums *= 0.5
        self.days = {d: total for d, total in self.days.items() if d > day - 14}
        return True

    def _again(self, hour: int, week: int) -> bool:
        """Note that an hour was odd in a week; returns whether it was so in the week before."""
        if week != self.odd[0, hour]:
            self.odd[:, hour] = week, self.odd[0, hour]
        return bool(self.odd[1, hour] == week - 1)

    def traffic(self, pane: int) -> TrafficProfile | None:
        """Return what was learned for panes of this length in ms, None before it was."""
        return TrafficProfile(self.mean * (HOUR_MS / pane), self.size, pane) if len(self.mean) else None

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs."""
        return {
            "begin": self.begin,
            "due": self.due,
            "sums": self.sums.copy(),
            "days": [[day, total] for day, total in self.days.items()],
            "odd": self.odd.copy(),
            "mean": self.mean.copy(),
            "size": self.size,
            "tolerance": self.tolerance,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the lesson whose ``state`` this was."""
        self.begin, self.due = state["begin"], int(state["due"])
        self.sums = np.asarray(state["sums"], np.float64).reshape(3, HOURS_OF_WEEK).copy()
        self.days = {int(day): float(total) for day, total in state["days"]}
        self.odd = np.asarray(state["odd"], np.float64).reshape(2, HOURS_OF_WEEK).copy()
        self.mean = np.asarray(state["mean"], np.float64).copy()
        self.size, self.tolerance = float(state["size"]), float(state["tolerance"])

    def _fit(self) -> None:
        """Means by hour, the size r = sum n mu^2 / sum((x - mu)^2 - mu) by moments, and what days differ by themselves.

        By hand: an hour with panes of 8 and 12 has mean 10, and 2 degrees less one give a variance of 8 < 10: no more
        than Poisson, r = 1e6. The tolerance also covers two standard errors of the means themselves.
        """
        panes, total, square = self.sums
        seen = panes > 0
        overall = float(total.sum() / max(panes.sum(), 1.0))
        mean = np.where(seen, total / np.maximum(panes, 1.0), overall)
        inflate = panes / np.maximum(panes - 1, 1.0)
        excess = float((np.maximum(square - panes * mean**2, 0.0) * inflate - total)[seen].sum())
        size = float((panes * mean**2)[seen].sum() / excess) if excess > 0 else 1e6
        self.mean, self.size = mean, float(np.clip(size, 0.5, 1e6))
        judged = self.mean >= QUIET
        unsure = np.sqrt((1.0 / self.mean[judged] + 1.0 / self.size) / np.maximum(panes[judged], 1.0))
        doubt = 2.0 * float(np.quantile(unsure, _QUANTILE)) if judged.any() else 0.0
        self.tolerance = min(max(TOLERANCE, DAY_FACTOR * self._day_floor(), doubt), MOST)

    def _day_floor(self) -> float:
        """90 % quantile of how far whole days lie from their weekday's mean; two weeks show a root of 2 too little."""
        whole = sorted(self.days)[1:-1]
        off = []
        for day in whole:
            same = [self.days[other] for other in whole if (other - day) % 7 == 0]
            usual = float(np.mean(same))
            if len(same) > 1 and usual > 0:
                off.append(abs(self.days[day] / usual - 1) * np.sqrt(len(same) / (len(same) - 1)))
        return min(float(np.quantile(off, _QUANTILE)), 0.2) if off else 0.0
