"""Rules of others for when to retrain, in our words from their papers and documents, told what ours is told or more."""

from collections.abc import Callable

import numpy as np
from scipy import stats

from benchmarks.policies.matrix import Losses
from benchmarks.policies.streams import Array

Decide = Callable[[int, list[int]], bool]

# Evidently 0.7: at least half of the columns; of up to a thousand reference rows tests at .05, beyond it distances from
# .1 on; numbers of at most five values are compared as categories.
_COLUMNS, _LEVEL, _DISTANCE, _FEW_ROWS, _FEW_VALUES = 0.5, 0.05, 0.1, 1_000, 5
# Quantiles from which a Wasserstein distance is read: its error is below the tenth of a standard deviation that counts.
_GRID = (np.arange(500) + 0.5) / 500


def evidently(found: Losses) -> Decide:
    """Train when the last period has drifted from all rows that the version in force was trained on."""
    known: dict[tuple[int, int], bool] = {}

    def decide(period: int, versions: list[int]) -> bool:
        key = versions[-1], period - 1
        if key not in known:
            features, starts = found.stream.features, found.starts
            known[key] = drifted(
                features[: starts[key[0]]], features[starts[key[1]] : starts[key[1] + 1]], found.stream.categories
            )
        return known[key]

    return decide


def drifted(reference: Array, current: Array, categories: int = 0) -> bool:
    """Return Evidently's default answer on rows float64[n, columns], of which the last ``categories`` are classes."""
    columns = reference.shape[1]
    moved = [
        _moved(reference[:, at], current[:, at], classes=at >= columns - categories or _few(reference[:, at]))
        for at in range(columns)
    ]
    return float(np.mean(moved)) >= _COLUMNS


def _few(values: Array) -> bool:
    return len(np.unique(values)) <= _FEW_VALUES


def _moved(reference: Array, current: Array, *, classes: bool) -> bool:
    small = len(reference) <= _FEW_ROWS
    if not classes:
        if small:
            return bool(stats.ks_2samp(reference, current).pvalue < _LEVEL)
        gap = np.abs(np.quantile(reference, _GRID) - np.quantile(current, _GRID)).mean()
        return bool(gap / max(float(np.std(reference)), 1e-3) >= _DISTANCE)
    values = np.unique(np.concatenate([reference, current]))
    before, now = (np.array([(rows == value).sum() for value in values], float) for rows in (reference, current))
    if small:
        return bool(stats.chi2_contingency(np.stack([before, now]) + 1e-9).pvalue < _LEVEL)
    p, q = before / before.sum(), now / now.sum()
    middle = (p + q) / 2
    divergence = (stats.entropy(p, middle) + stats.entropy(q, middle)) / 2
    return bool(np.sqrt(divergence) >= _DISTANCE)


def own(found: Losses, versions: list[int], period: int) -> tuple[Array, Array, Array]:
    """Return what a policy can know online: (version, period, wrong a row) of the versions that it has trained.

    Those that serve no more are scored on, which costs no training; what a version not trained would have lost, nobody
    knows.
    """
    pairs = [(version, at) for version in versions for at in range(version, period)]
    first, at = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    return first, at, found.wrong[first, at] / found.rows[at]


def cara(found: Losses, price: float) -> Decide:
    """CARA's cumulative threshold (Mahadevan and Mathioudakis, 2310.04216): train when what was wrong reaches it.

    The threshold is that of the least total cost over the periods so far, replayed. The paper replays an offline phase
    in which every version is trained; online, a version that was not trained is taken to lose what its own ones lost
    at that age (the nearest age seen).
    """
    # From half of the first period's wrong answers, which are known at every decision, to the whole of a long stream's.
    thresholds = float(found.wrong[1, 1]) * 2.0 ** np.arange(-1.0, 7.0, 0.5)

    def costs(threshold: float, wrong: Array) -> float:
        version, summed, cost = 1, 0.0, 0.0
        for period in range(1, len(wrong)):
            if summed >= threshold:
                version, summed, cost = period, 0.0, cost + price
            cost += wrong[version, period]
            summed += wrong[version, period]
        return cost

    def decide(period: int, versions: list[int]) -> bool:
        first, at, rates = own(found, versions, period)
        ages = at - first
        usual = np.bincount(ages, rates) / np.maximum(np.bincount(ages), 1)
        told = usual[np.clip(np.subtract.outer(np.arange(period), np.arange(period)).T, 0, len(usual) - 1)]
        told[first, at] = rates
        wrong = told * found.rows[:period]
        chosen: float = min(thresholds.tolist(), key=lambda one: costs(one, wrong))
        return float(found.wrong[versions[-1], versions[-1] : period].sum()) >= chosen

    return decide


def upf(found: Losses, price: float) -> Decide:
    """UPF's rule (Regol and others, 2505.14903): forecast every version's loss, train now if the best plan does.

    The forecast is a ridge regression of the loss on when a version was trained and its age, from all pairs of its own
    versions; the plan is the cheapest to the end of the stream, which it is told. The mean of the forecast decides:
    their quantile of it adds the same to all plans where the spread is one for all.
    """
    last = len(found.rows)

    def forecast(period: int, versions: list[int]) -> Array:
        first, at, rates = own(found, versions, period)
        table = _features(first, at, last)
        weights = np.linalg.solve(table.T @ table + 1e-3 * np.eye(table.shape[1]), table.T @ rates)
        each, when = np.meshgrid(np.arange(last), np.arange(last), indexing="ij")
        told = np.clip(_features(each.ravel(), when.ravel(), last) @ weights, 0.0, 1.0).reshape(last, last)
        return np.asarray(told * found.rows[:period].mean(), np.float64)

    def decide(period: int, versions: list[int]) -> bool:
        # Three periods of one version are the least from which its age shows.
        if period <= 3:
            return False
        cost = forecast(period, versions)
        least = np.zeros(last + 1)
        # What a version trained at n costs to the end, with the best trainings after it.
        for n in range(last - 1, period - 1, -1):
            kept = np.cumsum(cost[n, n:last])
            least[n] = min(kept[-1], float((kept[:-1] + price + least[n + 1 : last]).min(initial=np.inf)))
        kept = np.concatenate([[0.0], np.cumsum(cost[versions[-1], period:last])])
        plans = np.append(kept[:-1] + price + least[period:last], kept[-1])
        return int(np.argmin(plans)) == 0

    return decide


def _features(first: Array, at: Array, last: int) -> Array:
    trained, age = first / last, (at - first) / last
    return np.column_stack([np.ones(len(trained)), trained, age, np.sqrt(np.maximum(age, 0.0))])
