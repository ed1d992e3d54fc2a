"""How much traffic each hour of the week brings, learned from live panes where the reference teaches none."""

import numpy as np
from numpy.typing import NDArray

from stationkeeper.contracts.column import Floats
from stationkeeper.contracts.state import State
from stationkeeper.contracts.times import UTC_ZONE, local_ms
from stationkeeper.monitor.core.adoption import DAY_MS, HOUR_MS
from stationkeeper.monitor.core.panes import Pane, stratum_of
from stationkeeper.monitor.core.quality.volume import SMALLEST_SIZE, TOLERANCE
from stationkeeper.monitor.core.reference import HOURS_OF_WEEK, TrafficProfile

Flags = NDArray[np.bool_]

# Traffic has the rhythm of the week.
WEEK_MS = 7 * DAY_MS

MOST = 0.5
"""Largest tolerance that days may teach: beyond half, no drop but an outage could be seen. Chosen: at .25 wild sources
warn on ordinary days; at 1 volume is not judged at all."""

DAY_FACTOR = 1.5
"""The tolerance is this times the 90 % quantile of what days differ by themselves, the factor that the day floor of
features has (STATISTICS.md, section 2.8). At half, one day in ten warns; at double a lost third passes."""

QUIET = 1.0
"""Hours with fewer events a pane are not judged by volume: their silence is usual, and so are a few events. At half,
three events in such an hour are "six times the usual"; at double, hours that a third of all small sources have are left
to freshness alone."""

# The quantile for "days differ by" and "means are unsure by": one ordinary day in ten may lie beyond.
_QUANTILE = 0.9

QUIET_SHARE = 1 / 3
"""Hours with less than this share of the mean traffic spread by a size of their own: what is late in the evening falls
into them, so they are burstier than busy ones, whose size has all the weight in one estimate for all. On the flights of
2013 (`make bench ARGS=traffic`, panes of 1h) one size for all gives 22 warnings in the year. At half, the flanks of the
night count as busy; at double, half of the day as quiet, and a lost afternoon is found later."""

# Two standard errors of the learned means are tolerated too: after two weeks an hour has been seen on two days only.
_STANDARD_ERRORS = 2.0

# The day floor counts up to 20 %, so that a holiday among fourteen days does not blind the next weeks (x 1.5 = 30 %).
_MOST_DAY_FLOOR = 0.2

# Old weeks count half as much with each new one: a change of season is mostly learned in two weeks, and three weeks
# still give six panes' worth of each hour. At no fading, a summer's volume is judged by the winter's.
_FADE = 0.5

# Days whose totals are kept: two of each weekday is the least that shows how far one lies from the other.
_DAYS = 14

# The size of traffic that spreads no more than Poisson: r so large that the negative binomial is one.
_POISSON_SIZE = 1e6

# A week number before every other: no hour was odd yet.
_NEVER = -2.0


class LearnedTrafficState(State, frozen=True):
    """Sums by hour of the week, day totals, and what was last learned of them."""

    begin: int | None
    due: int
    sums: Floats
    days: list[tuple[int, float]]
    odd: Floats
    mean: Floats
    size: float
    tolerance: float
    # Builds before quiet hours had a size of their own lack it.
    quiet_size: float | None = None
    # Builds before time zones counted the hours of UTC.
    timezone: str = UTC_ZONE
    # Builds that fitted the size to panes alone lack these: hours by hour of the week, and the one that is open.
    hours: Floats | None = None
    open_hour: tuple[int, float, int] | None = None


class LearnedTraffic:
    """Sums of pane volumes by hour of the week; ``learned`` after ``length`` ms, then anew each week, old weeks fading.

    Empty panes count: an hour that never brings anything is not expected to. What is odd is not learned as usual,
    unless the same hour was odd the week before too: a new season is learned in two weeks. Hours and days are those of
    ``timezone``, so that traffic which follows a clock on a wall is not odd for two weeks after each change of it.
    The size is that of panes or of whole hours, the burstier one: a burst fills an hour, and its panes are many looks
    at one thing. State is 9 x 168 numbers and two weeks of day totals.
    """

    def __init__(self, length: int, timezone: str = UTC_ZONE) -> None:
        self.length, self.timezone = length, timezone
        self.begin: int | None = None
        self.due = 0
        self.sums: Floats = np.zeros((3, HOURS_OF_WEEK))
        self.hours: Floats = np.zeros((3, HOURS_OF_WEEK))
        self.open_hour: tuple[int, float, int] | None = None
        self.days: dict[int, float] = {}
        self.odd: Floats = np.full((2, HOURS_OF_WEEK), _NEVER)
        self.mean: Floats = np.empty(0)
        self.size = self.quiet_size = SMALLEST_SIZE
        self.tolerance = TOLERANCE

    def add(self, pane: Pane, *, odd: bool = False) -> bool:
        """Take a closed pane, empty ones too; returns whether anything was learned with it. ``odd`` was not usual."""
        if self.begin is None:
            if not pane.volume:
                return False
            self.begin, self.due = pane.start, pane.start + self.length
        local, volume = local_ms(pane.start, self.timezone), float(pane.volume)
        hour = stratum_of(local, HOURS_OF_WEEK)
        if odd and not self._again(hour, local // WEEK_MS):
            return False
        self.sums[:, hour] += (1.0, volume, volume * volume)
        self._hour(local // HOUR_MS, volume, pane.length)
        day = local // DAY_MS
        self.days[day] = self.days.get(day, 0.0) + volume
        if pane.end < self.due:
            return False
        self._fit()
        self.due += WEEK_MS
        self.sums *= _FADE
        self.hours *= _FADE
        self.days = {d: total for d, total in self.days.items() if d > day - _DAYS}
        return True

    def _hour(self, hour: int, volume: float, length: int) -> None:
        """Add a pane to its hour; one of which each pane was learned counts as soon as it is whole."""
        before = self.open_hour if self.open_hour is not None and self.open_hour[0] == hour else (hour, 0.0, 0)
        total, panes = before[1] + volume, before[2] + 1
        self.open_hour = (hour, total, panes)
        if panes * length == HOUR_MS:
            self.hours[:, stratum_of(hour * HOUR_MS, HOURS_OF_WEEK)] += (1.0, total, total * total)

    def _again(self, hour: int, week: int) -> bool:
        """Note that an hour was odd in a week; returns whether it was so in the week before."""
        if week != self.odd[0, hour]:
            self.odd[:, hour] = week, self.odd[0, hour]
        return bool(self.odd[1, hour] == week - 1)

    def traffic(self, pane: int) -> TrafficProfile | None:
        """Return what was learned for panes of this length in ms, None before it was."""
        return TrafficProfile(self.mean * (HOUR_MS / pane), self.size, pane) if len(self.mean) else None

    def sizes(self) -> Floats:
        """Return the size r of each hour of the week, [168]."""
        return np.where(self._quiet(), self.quiet_size, self.size)

    def _quiet(self) -> Flags:
        return np.asarray(self.mean < QUIET_SHARE * self.mean.mean(), np.bool_)

    def state(self) -> LearnedTrafficState:
        """Return what ``restore`` needs."""
        return LearnedTrafficState(
            begin=self.begin,
            due=self.due,
            sums=self.sums.copy(),
            days=list(self.days.items()),
            odd=self.odd.copy(),
            mean=self.mean.copy(),
            size=self.size,
            tolerance=self.tolerance,
            quiet_size=self.quiet_size,
            timezone=self.timezone,
            hours=self.hours.copy(),
            open_hour=self.open_hour,
        )

    def restore(self, state: LearnedTrafficState) -> None:
        """Take over what ``state`` gave; what was learned by the clock of another zone moves to this one's hours.

        By the hours that they lie apart when it is next due: a week across a change of either clock is learned anew.
        """
        self.begin, self.due, self.days = state.begin, state.due, dict(state.days)
        hours = round((local_ms(state.due, self.timezone) - local_ms(state.due, state.timezone)) / HOUR_MS)
        self.sums, self.odd = np.roll(state.sums, hours, axis=1), np.roll(state.odd, hours, axis=1)
        self.mean = np.roll(state.mean, hours)
        self.hours = np.zeros_like(self.sums) if state.hours is None else np.roll(state.hours, hours, axis=1)
        # Of the hour that is open under another clock some panes may be counted twice: it is left out.
        self.open_hour = state.open_hour if state.timezone == self.timezone else None
        self.size, self.tolerance = state.size, state.tolerance
        self.quiet_size = self.size if state.quiet_size is None else state.quiet_size

    def _fit(self) -> None:
        """Means by hour, sizes r = sum n mu^2 / sum((x - mu)^2 - mu) by moments, and what days differ by themselves.

        By hand: an hour with panes of 8 and 12 has mean 10, and 2 degrees less one give a variance of 8 < 10: no more
        than Poisson, r = 1e6. The tolerance also covers two standard errors of the means themselves.
        """
        panes, total, _ = self.sums
        seen = panes > 0
        overall = float(total.sum() / max(panes.sum(), 1.0))
        mean = np.where(seen, total / np.maximum(panes, 1.0), overall)
        self.mean = mean
        quiet = self._quiet()
        self.size = min(_size(sums[:, ~quiet]) for sums in (self.sums, self.hours))
        # Quiet hours are at least as bursty: a few panes that happen to agree prove nothing.
        self.quiet_size = min(self.size, *(_size(sums[:, quiet]) for sums in (self.sums, self.hours)))
        judged = self.mean >= QUIET
        unsure = np.sqrt((1.0 / self.mean[judged] + 1.0 / self.sizes()[judged]) / np.maximum(panes[judged], 1.0))
        doubt = _STANDARD_ERRORS * float(np.quantile(unsure, _QUANTILE)) if judged.any() else 0.0
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
        return min(float(np.quantile(off, _QUANTILE)), _MOST_DAY_FLOOR) if off else 0.0


def _size(sums: Floats) -> float:
    """The size by moments of units, totals and squares [3, n], Poisson's where nothing lies beyond it or none is there.

    The square of a mean of few units is too large by the mean's own variance, as in `fit_volume`.
    """
    units, total, square = sums[:, sums[0] > 0]
    mean = total / units
    spread = np.maximum(square - units * mean**2, 0.0) * (units / np.maximum(units - 1, 1.0))
    beyond = float((spread - total).sum())
    size = float((units * mean**2 - spread / units).sum()) / beyond if beyond > 0 else _POISSON_SIZE
    return float(np.clip(size, SMALLEST_SIZE, _POISSON_SIZE))
