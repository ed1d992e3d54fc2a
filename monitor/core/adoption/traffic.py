"""How many rows each hour of the week brings, as a negative binomial law fitted by moments."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stationkeeper.contracts.column import Floats, Integers
from stationkeeper.contracts.times import UTC_ZONE, local_times
from stationkeeper.monitor.core.panes import stratum_of
from stationkeeper.monitor.core.reference import HOURS_OF_WEEK, Counts, TrafficProfile

# Lengths of an hour and a day in the clock of events, milliseconds of epoch time (UTC: days have no leap hour).
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# The mean of an hour that never brings anything: above 0, so that its log is finite, and far below one event a pane.
_NOTHING = 1e-6
# Bounds of the size of the negative binomial: below .5 one burst in a short past would excuse any surge; 1e6 is Poisson
# for every volume here (variance mu + mu^2 / size).
_BURSTIEST, _POISSON = 0.5, 1e6
# Panes of silence for each pane with rows up to which silence is counted. Chosen: a source awake less than 2 % of the
# time has no volume to speak of, and its empty panes would fill memory.
_SPARSEST = 50
STEADY = 100.0
"""Size from which hours differ by less than 10 % (a standard deviation of a tenth), the tolerance of volume: of less
than two weeks, but a whole one, one rate then stands for all hours, and panes of few events tell volume. At half a
third less at night would page each morning; at double, ordinary days of a steady source leave it unjudged."""
# Traffic has the rhythm of the week.
_WEEK_MS = 7 * DAY_MS


@dataclass(frozen=True)
class VolumeModel:
    """Expected events of a pane by stratum, mean [S], and the size r of the negative binomial (small: bursty)."""

    mean: Floats
    size: float


def fit_volume(counts: ArrayLike, strata: ArrayLike, number: int) -> VolumeModel:
    """Fit means by stratum and one size by moments from past panes: counts [T], strata [T] in 0..number-1.

    r = sum mu^2 / sum((x - mu)^2 - mu), the moment estimate, between .5 and 1e6; mu^2 is that of the mean less its own
    variance.  By hand: 0 and 20 have mean 10, variance 200 and mu^2 = 100 - 200 / 2 = 0: all burst.  Uncorrected, a
    size of .1 looks like .6 from two weeks, which see each hour of the week twice.  A stratum without panes takes the
    overall mean.  Raises ValueError for fewer than two panes.
    """
    x = np.asarray(counts, np.float64)
    s = np.asarray(strata, np.int64)
    if x.size < 2:
        raise ValueError(f"volume needs at least 2 past panes, got {x.size}")
    panes = np.bincount(s, minlength=number)
    total = np.bincount(s, weights=x, minlength=number)
    mean = np.where(panes > 0, total / np.maximum(panes, 1), x.mean())
    mu = mean[s]
    # One degree of freedom a stratum went into its mean.
    inflate = panes[s] / np.maximum(panes[s] - 1, 1)
    spread = ((x - mu) ** 2) * inflate
    excess = float((spread - mu).sum())
    size = float((mu**2 - spread / panes[s]).sum() / excess) if excess > 0 else _POISSON
    return VolumeModel(np.maximum(mean, _NOTHING), float(np.clip(size, _BURSTIEST, _POISSON)))


def traffic_of(starts: Integers, length: int, rows: Counts, timezone: str = UTC_ZONE) -> TrafficProfile | None:
    """Return how many rows each hour of a zone's week brings, from starts (ms, in order) and rows of panes with any.

    Two weeks are needed to tell hours apart. In a week of which no hour stands out each of the 168 has the mean; of a
    shorter past, or one with a rhythm, only that mean is known (one number): nothing says what an hour should bring.
    None where nearly all of the span is silent.
    """
    # Silent panes count as zeros: an hour that never has traffic must not look as busy as the rest.
    span = np.arange(starts[0], starts[-1] + length, length)
    if len(span) > _SPARSEST * len(rows):
        return None
    every = np.zeros(len(span), np.float64)
    every[(starts - starts[0]) // length] = rows
    of = np.array([stratum_of(int(start), HOURS_OF_WEEK) for start in local_times(span, timezone)])
    known = len(span) * length >= 2 * _WEEK_MS
    strata = of if known else np.zeros(len(of), np.int64)
    model = fit_volume(every, strata, HOURS_OF_WEEK if known else 1)
    per_hour: Floats = model.mean * (HOUR_MS / length)
    # A burst fills an hour: its panes are sixty looks at one thing, and as such make a burst of weeks ago look steady.
    panes = max(HOUR_MS // length, 1)
    hours = every[: len(every) // panes * panes].reshape(-1, panes).sum(1)
    size = model.size
    if len(hours) > 1:
        by_hour = fit_volume(hours, strata[: len(hours) * panes : panes], len(model.mean)).size
        size = min(size, by_hour)
        if not known and len(span) * length >= _WEEK_MS and by_hour >= STEADY:
            per_hour = np.repeat(per_hour, HOURS_OF_WEEK)
    return TrafficProfile(per_hour, size, length)
