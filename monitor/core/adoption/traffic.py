"""How many rows each hour of the week brings, as a negative binomial law fitted by moments."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stationkeeper.contracts.column import Floats, Integers
from stationkeeper.monitor.core.panes.pane import stratum_of
from stationkeeper.monitor.core.reference import HOURS_OF_WEEK, Counts, TrafficProfile

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_NOTHING = 1e-6


@dataclass(frozen=True)
class VolumeModel:
    """Expected events of a pane by stratum, mean [S], and the size r of the negative binomial (small: bursty)."""

    mean: Floats
    size: float


def fit_volume(counts: ArrayLike, strata: ArrayLike, number: int) -> VolumeModel:
    """Fit means by stratum and one size by moments from past panes: counts [T], strata [T] in 0..number-1.

    r = sum mu^2 / sum((x - mu)^2 - mu), the moment estimate, between .5 and 1e6.  A stratum without panes takes the
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
    excess = float((((x - mu) ** 2) * inflate - mu).sum())
    size = float((mu**2).sum() / excess) if excess > 0 else 1e6
    return VolumeModel(np.maximum(mean, _NOTHING), float(np.clip(size, 0.5, 1e6)))


def traffic_of(starts: Integers, length: int, rows: Counts) -> TrafficProfile | None:
    """Return how many rows each hour of the week brings, from the starts (ms, in order) and rows of panes that had any.

    Two weeks are needed to tell hours apart, else all have one mean. None where nearly all of the span is silent.
    """
    # Silent panes count as zeros: an hour that never has traffic must not look as busy as the rest.
    span = np.arange(starts[0], starts[-1] + length, length)
    if len(span) > 50 * len(rows):
        return None
    every = np.zeros(len(span), np.float64)
    every[(starts - starts[0]) // length] = rows
    of = np.array([stratum_of(int(start), HOURS_OF_WEEK) for start in span])
    week = len(span) * length >= 14 * DAY_MS
    model = fit_volume(every, of if week else np.zeros(len(of), np.int64), HOURS_OF_WEEK if week else 1)
    per_hour: Floats = model.mean * (HOUR_MS / length)
    return TrafficProfile(per_hour, model.size, length)
