"""Segments of the judged rows: where the challenger does harm that the whole hides, and how groups of people fare."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stationkeeper.retrain.core.measures import Flags, Floats

Texts = npt.NDArray[np.str_]
Groups = Mapping[str, Texts]
"""The segment of each of n rows, as text, by dimension."""


@dataclass(frozen=True, slots=True)
class SegmentRules:
    """What a segment may lose, and what groups of a protected dimension may differ by.

    ``margin`` is the share of what the champion knows of a segment, ``gap`` a difference of rates between groups.
    Values and reasons stand in ``retrain.settings``.
    """

    margin: float
    min_rows: int
    protected: tuple[str, ...]
    gap: float


@dataclass(frozen=True, slots=True)
class SegmentHarm:
    """One segment: its rows, the share of the champion's knowledge that the challenger gives up, and Holm's p-value.

    Knowledge is the loss of a model that knows nothing but how often each label comes, less the champion's. ``since``
    is the p-value, of this segment alone, of the challenger being no better on its rows after the change.
    """

    name: str
    rows: int
    lost: float
    p: float
    since: float

    def within(self, level: float) -> bool:
        """Return whether harm is shown at a level, and not that the segment is served better since the change.

        What held before the change and holds no more is the champion's knowledge of a world that is gone: where the
        meaning of a feature turned round, every model of the new world is wrong on the rows from before it.
        """
        return self.p <= level < self.since

    def __str__(self) -> str:
        return f"{self.name} ({self.rows} rows): {self.lost:.0%} of what the champion knows is lost, p {self.p:.2g}"


@dataclass(frozen=True, slots=True)
class Gap:
    """How far the groups of a dimension lie apart in one rate, by model, with bounds of the challenger's excess."""

    name: str
    champion: float
    challenger: float
    low: float
    high: float

    def __str__(self) -> str:
        bounds = f"({self.low:+.3f} to {self.high:+.3f})"
        return f"{self.name}: {self.challenger:.3f}, the champion's {self.champion:.3f} {bounds}"


LEAST_KNOWN = 0.1
"""The least a segment is taken to know, as a share of the loss of knowing nothing of all rows, chosen: where the
champion is as good as blind, or all labels are alike, any little loss would otherwise count as all of what it knows."""


def holm(p: Floats) -> Floats:
    """Return the p-values adjusted for their number, so that any at most alpha errs with chance alpha (Holm 1979).

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    adjusted = np.empty_like(stepped)
    adjusted[order] = stepped
    return adjusted


def segment_harm(
    groups: Groups,
    losses: Floats,
    after: Flags,
    ignorance: Callable[[Flags], float],
    rules: SegmentRules,
    blocks: int,
    weights: Floats | None = None,
) -> list[SegmentHarm]:
    """Test in each segment whether the challenger gives up more than the margin of what the champion knows there.

    ``losses`` is float64[n, 2], champion and challenger, in time order; ``ignorance`` returns the mean loss of knowing
    nothing on some rows; ``weights`` float64[n] say for how many rows each stands. The statistic is the mean over runs
    of rows of ``challenger - champion - margin * known`` over
    its standard error, normal by the central limit theorem: exact enough for a Holm step of a thousandth, which a
    bootstrap of some thousand draws is not. Not the share of the champion's loss: where that is next to nothing, twice
    of it is nothing as well. Segments of fewer than ``min_rows`` are not judged. Worst first; O(n * dimensions).
    """
    each = np.ones(len(losses)) if weights is None else weights
    found: list[tuple[str, int, float, float, float]] = []
    least = LEAST_KNOWN * ignorance(np.ones(len(losses), bool))
    for dimension, values in sorted(groups.items()):
        names, codes = np.unique(values, return_inverse=True)
        for code, name in enumerate(names):
            rows = codes == code
            mine = losses[rows]
            if len(mine) < rules.min_rows:
                continue
            of_each = each[rows]
            known = max(ignorance(rows) - float(np.average(mine[:, 0], weights=of_each)), least)
            excess = mine[:, 1] - mine[:, 0]
            p = _more_than_nothing(of_each * (excess - rules.margin * known), blocks)
            new = losses[rows & after]
            # As few rows as tell of no harm tell of nothing better either.
            better = each[rows & after] * (new[:, 0] - new[:, 1])
            since = _more_than_nothing(better, blocks) if len(new) >= rules.min_rows else 1.0
            lost = float(np.average(excess, weights=of_each)) / known if known > 0.0 else 0.0
            found.append((f"{dimension}={name}", len(mine), lost, p, since))
    adjusted = holm(np.array([one[3] for one in found]))
    tested = [SegmentHarm(*one[:3], float(p), one[4]) for one, p in zip(found, adjusted, strict=True)]
    return sorted(tested, key=lambda one: one.p)


def _more_than_nothing(excess: Floats, blocks: int) -> float:
    """Return the one-sided p-value of a mean at most 0, from the means of runs of rows; 0 or 1 where none differ."""
    runs = np.array([part.mean() for part in np.array_split(excess, min(blocks, len(excess)))])
    spread, mean = float(runs.std(ddof=1)) / math.sqrt(len(runs)), float(runs.mean())
    return 0.5 * math.erfc(mean / spread / math.sqrt(2.0)) if spread > 0.0 else float(mean <= 0.0)


def protected_gaps(
    values: Texts,
    labels: Flags,
    alerts: tuple[Flags, Flags],
    draws: npt.NDArray[np.int64],
    alpha: float,
    weights: Floats | None = None,
) -> list[Gap] | str:
    """Compare how far the groups of one protected dimension lie apart under both models.

    Three rates (Hardt, Price and Srebro 2016; the third is demographic parity): of alerts among positives, among
    negatives, and among all. A gap is the largest group's rate less the smallest's. ``draws`` is int64[replicates,
    blocks], how often each run of rows comes; bounds are percentiles at ``alpha`` a side. Returns in words why there
    is no answer where a group is too small: a group that nobody has measured is not treated alike by default.
    """
    each = np.ones(len(labels)) if weights is None else weights
    names, codes = np.unique(values, return_inverse=True)
    if len(names) < 2:
        return f"{names[0] if len(names) else 'none'}: the only group among the held-out rows: no gap to tell"
    blocks = draws.shape[1]
    edges = np.linspace(0, len(labels), blocks + 1).astype(np.int64)[:-1]
    # By run of rows, group, and what is counted: positives, negatives, and each model's alerts among them.
    counts = np.zeros((blocks, len(names), 6))
    for code, name in enumerate(names):
        mine = codes == code
        for one, wanted in ((0, labels), (1, ~labels)):
            if int((mine & wanted).sum()) < MIN_GROUP:
                which = "negative" if one else "positive"
                return f"{name}: {int((mine & wanted).sum())} {which} held-out rows, {MIN_GROUP} are needed"
            columns = np.stack([mine & wanted, mine & wanted & alerts[0], mine & wanted & alerts[1]], axis=1)
            counts[:, code, 3 * one : 3 * one + 3] = np.add.reduceat(columns * each[:, None], edges, axis=0)
    resampled = (draws @ counts.reshape(blocks, -1)).reshape(len(draws), len(names), 6)
    whole = counts.sum(axis=0)[None]
    found = []
    for rate, parts in (("true positive rate", (0,)), ("false positive rate", (3,)), ("approval rate", (0, 3))):
        gaps = [[_gap(sums, parts, model) for model in (1, 2)] for sums in (whole, resampled)]
        excess = gaps[1][1] - gaps[1][0]
        # What a resample cannot tell may be anything, so it counts at both ends: a bound that rests on such is none.
        low = float(np.quantile(np.where(np.isnan(excess), -np.inf, excess), alpha, method="lower"))
        high = float(np.quantile(np.where(np.isnan(excess), np.inf, excess), 1.0 - alpha, method="higher"))
        found.append(Gap(rate, float(gaps[0][0][0]), float(gaps[0][1][0]), low, high))
    return found


MIN_GROUP = 30
"""Positives and negatives of a group below which its rates say nothing: at 30 rows a rate of .5 has a standard error of
9 points, and half as many would let chance decide between people."""


def _gap(sums: Floats, parts: tuple[int, ...], model: int) -> Floats:
    rows = sum((sums[:, :, part] for part in parts), np.zeros(sums.shape[:2]))
    alerts = sum((sums[:, :, part + model] for part in parts), np.zeros(sums.shape[:2]))
    # A resample that holds no row of a group knows no gap (NaN): the other groups alone would make it look narrow.
    rates = np.divide(alerts, rows, out=np.full(rows.shape, np.nan), where=rows > 0)
    return np.asarray(np.max(rates, axis=1) - np.min(rates, axis=1))


def numbers(harm: list[SegmentHarm]) -> list[dict[str, Any]]:
    """Return the worst segments as JSON takes them."""
    return [asdict(one) for one in harm[:SHOWN]]


SHOWN = 10
"""Segments in a verdict's numbers, worst first: the record of a request must stay small, and ten are looked at."""
