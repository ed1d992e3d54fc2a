"""What a model trained at each period's beginning loses in every later period."""

import hashlib
import pickle
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import sklearn
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


def kept_losses(stream: Stream, folder: Path | None) -> Losses:
    """Return a stream's losses from a folder where equal rows, this file and scikit-learn left them, else leave them.

    A change of a rule for when to retrain changes no loss; the trainings are nearly all of a run.
    """
    if folder is None:
        return losses(stream)
    told = (Path(__file__).read_bytes(), sklearn.__version__.encode(), stream.name.encode(), bytes([stream.linear]))
    digest = hashlib.sha256(b"\0".join(told))
    for rows in (stream.features, stream.labels, stream.period):
        digest.update(np.ascontiguousarray(rows).data)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{digest.hexdigest()}.pickle"
    if path.exists():
        found = pickle.loads(path.read_bytes())
        return Losses(stream=stream, **found)
    made = losses(stream)
    part = path.with_suffix(".part")
    part.write_bytes(pickle.dumps({one.name: getattr(made, one.name) for one in fields(made) if one.name != "stream"}))
    part.replace(path)
    return made


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
