"""What the order of labelled rows teaches: by how much errors come in clusters."""

from dataclasses import replace

import numpy as np

from stationkeeper.contracts.column import Floats, Integers, numbers
from stationkeeper.contracts.wire import SCORE_BINS, score_bin
from stationkeeper.monitor.core.adoption import BLOCKS, MIN_BLOCKS, MIN_PANES, Timeline, error_phi, pane_phi
from stationkeeper.monitor.core.performance.error_size import capped_loss
from stationkeeper.monitor.core.performance.performance import REGIONS
from stationkeeper.monitor.core.reference import Array, Labels, Reference, Task, error_cell, outcomes, rank_grid

# Standard errors (sqrt(2 / blocks), as of a chi-square) above 1 from which an inflation counts: five block lengths are
# tried, of which chance lifts one beyond 2.5 in three references of a hundred. At half most references of independent
# rows would be slowed; at five a true inflation of two needs 50 blocks to be seen.
_STANDARD_ERRORS = 2.5


def labels_in_order(
    labels: Labels,
    reference: Reference,
    prediction: Array,
    label: Array,
    timeline: Timeline,
    *,
    task: Task | None = None,
    positive: str | None = None,
    confidence: Floats | None = None,
) -> Labels:
    """Return the labels with phi learned from the reference's rows in order of time: prediction and label [n].

    phi is the larger of two variance inflations: of the errors, and of the positives about the share their score region
    has. A day of bad weather makes many errors at once; taken for independent rows, a few such days would page. With
    fewer than ``MIN_PANES`` panes nothing is learned. Of numbers it is that of the loss that is judged; of several
    classes with a ``confidence`` each, float64[n], the second is of right answers by that. O(n).
    """
    known = task or reference.task
    if timeline.panes < MIN_PANES or known is None:
        return labels
    if known is Task.REGRESSION:
        error = numbers(prediction).values - numbers(label).values
        both = np.isfinite(error)
        loss = capped_loss(labels.scored)[error_cell(error[both])]
        return replace(labels, phi=max(loss_phi(loss, timeline.group[both], timeline.panes), labels.phi))
    right, *_, score, truth, usable = outcomes(
        prediction, label, known, reference.threshold, reference.positive if positive is None else positive
    )
    if known is Task.MULTICLASS and confidence is not None:
        score, truth = confidence, right
    group = timeline.group[usable]
    if not len(group):
        return labels
    wrong = np.where(right[usable], 0.0, 1.0)
    bins = score_bin(np.nan_to_num(score[usable]))
    region = rank_grid(np.bincount(bins, minlength=SCORE_BINS), REGIONS)[bins]
    phi = max(
        error_phi(wrong, group, timeline.panes), region_phi(truth[usable].astype(float), region, group, timeline.panes)
    )
    return replace(labels, phi=max(phi, labels.phi))


def loss_phi(loss: Floats, group: Integers, panes: int) -> float:
    """Return the variance inflation of a loss [n], over blocks of 1 to 16 panes; at least 1. ``group`` [n] are panes.

    Standardised to the mean and variance of a fair coin, block sums compare with those of independent rows.
    """
    spread = float(loss.std()) if len(loss) else 0.0
    if not spread:
        return 1.0
    rows = np.bincount(group, minlength=panes).astype(np.float64)
    moved = np.bincount(group, weights=(loss - loss.mean()) * (0.5 / spread), minlength=panes)
    return pane_phi(np.asarray(rows / 2 + moved, np.float64), rows)


def region_phi(truth: Floats, region: Integers, group: Integers, panes: int) -> float:
    """Return the variance inflation of positives about their region's share, over blocks of 1 to 16 panes; at least 1.

    truth [n] is 0 or 1, region [n] its score region, group [n] its pane. Squares of block sums are added over regions
    before they are divided by the binomial variance, so that a region of few rows does not decide; the ratio counts
    from 2.5 standard errors above 1. By hand: one region whose panes are all positive or all negative, 50 rows each
    and half of them positive, gives 50.
    """
    regions = int(region.max(initial=0)) + 1
    at = region * panes + group
    rows = np.bincount(at, minlength=regions * panes).reshape(regions, panes).astype(np.float64)
    hits = np.bincount(at, weights=truth, minlength=regions * panes).reshape(regions, panes)
    rate = hits.sum(1, keepdims=True) / np.maximum(rows.sum(1, keepdims=True), 1.0)
    excess, expected = hits - rows * rate, rows * rate * (1 - rate)
    inflation = 1.0
    for block in BLOCKS:
        count = panes // block
        if count < MIN_BLOCKS:
            break
        sums = excess[:, : count * block].reshape(regions, count, block).sum(2)
        usual = float(expected[:, : count * block].sum())
        if usual <= 0:
            break
        ratio = float((sums**2).sum() / usual)
        if ratio > 1 + _STANDARD_ERRORS * np.sqrt(2 / count):
            inflation = max(inflation, ratio)
    return inflation
