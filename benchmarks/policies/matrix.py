"""What a model trained at each period's beginning loses in every later period."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from benchmarks.policies.streams import Array, Stream


@dataclass(frozen=True)
class Losses:
    """What versions i >= 1, trained on all rows before period i, lose in periods j >= i.

    ``wrong`` [K, K] answers and the mean ``log_loss`` [K, K]; ``rows`` [K] of each period, which begins at row
    ``starts`` [K + 1]; ``errors[i]`` is whether each answer of version i was wrong, from row ``starts[i]`` on.
    ``broken`` [K] says that a feature which used to vary has one value in all rows of a period (`Check.CONSTANT`).
    """

    name: str
    wrong: Array
    log_loss: Array
    rows: Array
    errors: dict[int, Array]
    starts: Array
    stream: Stream
    broken: Array

    @property
    def unit(self) -> float:
        """Wrong answers of a period under a model trained at its beginning, in the mean."""
        return float(np.mean(np.diag(self.wrong)[1:]))


def losses(stream: Stream) -> Losses:
    """Train a version for every period (gradient boosting as the demo's, logistic regression for made worlds)."""
    periods = int(stream.period.max()) + 1
    starts = np.searchsorted(stream.period, np.arange(periods + 1))
    wrong, log_loss = (np.full((periods, periods), np.nan) for _ in range(2))
    errors = {}
    for i in range(1, periods):
        past, future = slice(0, starts[i]), slice(starts[i], None)
        made = (
            LogisticRegression()
            if stream.linear
            else HistGradientBoostingClassifier(random_state=0, early_stopping=False)
        )
        made.fit(stream.features[past], stream.labels[past])
        scores = np.clip(made.predict_proba(stream.features[future])[:, 1], 1e-6, 1 - 1e-6)
        labels = stream.labels[future]
        errors[i] = (scores >= 0.5) != labels
        surprise = -np.log(np.where(labels == 1, scores, 1 - scores))
        edges = starts[i:periods] - starts[i]
        wrong[i, i:] = np.add.reduceat(errors[i].astype(float), edges)
        log_loss[i, i:] = np.add.reduceat(surprise, edges) / np.diff(starts[i:])
    return Losses(stream.name, wrong, log_loss, np.diff(starts), errors, starts, stream, broken(stream, starts))


def broken(stream: Stream, starts: Array) -> Array:
    """Return for each period whether a feature that varied in the first one has a single value in all of its rows."""
    parts = [stream.features[begin:end] for begin, end in pairwise(starts)]
    varied = np.ptp(parts[0], axis=0) > 0
    return np.array([bool((varied & (np.ptp(part, axis=0) == 0)).any()) for part in parts])
