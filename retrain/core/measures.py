"""Measures of a model on labelled rows: precision, recall, F1, log loss."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

CLIP = 1e-4
"""Probabilities are kept this far from 0 and 1 in the log loss, so that one sure mistake does not decide alone: it then
costs 9.2 nats, as much as thirteen coin tosses. Nearer to 0 one row of a thousand outweighs all others."""


@dataclass(frozen=True, slots=True)
class ClassifierPerformance:
    """A binary classifier on n rows at its threshold; a ratio without a denominator is 0."""

    rows: int
    positives: int
    alerts: int
    precision: float
    recall: float
    f1: float
    log_loss: float

    def numbers(self) -> dict[str, float | int]:
        """Return the numbers as JSON takes them."""
        # Six digits: as much as a run's page and a record need, and the same text on every machine.
        return {name: round(value, 6) for name, value in asdict(self).items()}


def log_loss_rows(labels: Flags, scores: Floats) -> Floats:
    """Return the logarithmic loss of each row in nats, shape ``(n,)``: -log of the probability given to the truth."""
    p = np.clip(scores, CLIP, 1.0 - CLIP)
    return -np.log(np.where(labels, p, 1.0 - p))


def class_loss_rows(labels: npt.NDArray[np.int64], scores: Floats) -> Floats:
    """Return -log of the probability given to the true class, shape ``(n,)``; ``scores`` is float64[n, k]."""
    return -np.log(np.clip(scores[np.arange(len(labels)), labels], CLIP, 1.0))


BINS = 10
"""Bins of the calibration error, by convention (Guo et al. 2017): of 900 held-out rows each then holds 90."""


def calibration_error(labels: Flags, scores: Floats, weights: Floats | None = None) -> float:
    """Return the expected calibration error: |mean score - share of positives| over bins of equally many rows.

    With ``weights`` float64[n] each row counts as many.

    Guo et al. 2017, with quantile bins (Nixon et al. 2019), as scores of rare positives all fall into one of equal
    width. Scores .1 and .9 of two rows that are negative and positive, by hand: (|.1 - 0| + |.9 - 1|) / 2 = .1.

    >>> round(calibration_error(np.array([False, True]), np.array([0.1, 0.9])), 6)
    0.1
    """
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    each = np.ones(len(scores)) if weights is None else weights
    apart = each * (scores - labels)
    return float(sum(abs(apart[part].sum()) for part in parts) / max(each.sum(), np.finfo(np.float64).tiny))


def f1_score(tp: Floats, fp: Floats, fn: Floats) -> Floats:
    """Return F1 = 2 tp / (2 tp + fp + fn) elementwise; 0 where nothing is positive (van Rijsbergen 1979)."""
    denominator = 2.0 * tp + fp + fn
    return np.divide(2.0 * tp, denominator, out=np.zeros_like(denominator), where=denominator > 0)


def performance(
    labels: Flags, scores: Floats, threshold: float, weights: Floats | None = None
) -> ClassifierPerformance:
    """Return the measures of scores in [0, 1] at a threshold: an alert is ``score >= threshold``. O(n).

    With ``weights`` float64[n] each row counts as many in the ratios; rows, positives and alerts are always counts.
    """
    alerts = scores >= threshold
    each = np.ones(len(labels)) if weights is None else weights
    tp, positives, raised = (float(each[rows].sum()) for rows in (alerts & labels, labels, alerts))
    return ClassifierPerformance(
        rows=len(labels),
        positives=int(labels.sum()),
        alerts=int(alerts.sum()),
        precision=tp / raised if raised else 0.0,
        recall=tp / positives if positives else 0.0,
        f1=2 * tp / (raised + positives) if raised + positives else 0.0,
        log_loss=float(np.average(log_loss_rows(labels, scores), weights=each)) if len(labels) else 0.0,
    )
