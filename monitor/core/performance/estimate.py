"""Performance without labels: what the scores say of it, as long as a score stands for what it did on the reference."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.contracts.messages import VerdictKind
from stationkeeper.contracts.wire import SCORE_BINS, SCORE_EDGES, score_bin
from stationkeeper.monitor.core.performance.measures import Measure
from stationkeeper.monitor.core.reference import Counts, Labels, isotonic

NOVEL = 0.02
"""Share of rows in score bins of which the reference has no labelled row, from which an estimate is withdrawn: two in
a hundred move a measure by two points at most, which is what people tell apart. At half, a reference of 500 rows hardly
ever estimates its thin ends; at double, four points may be made up."""

# Labelled rows of the reference below which a score bin says nothing of its own: the pool below it speaks for it, of
# which no variance knows. And the share of rows that may lie in such bins: one in twenty moves the error rate by less
# than the interval of some hundred labels. Without a bound one concept, scores moved by four in log-odds, was called
# another in half of the cases (10 000 rows of reference), in nine of ten by 500; at two fifths of it a reference of 500
# rows says next to never what the mix explains, also of its own scores.
FEW_ROWS = 10
MOST_THIN = 0.05

# The normal quantile of a 95 % interval, as labels have it beside.
_SIGMAS = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is expected: ``measures`` by name, and the share of rows whose score the reference does not know."""

    measures: dict[str, Measure]
    novel: float


def estimate(scores: Counts, labels: Labels, threshold: float) -> Estimate:
    """Return precision, recall, accuracy and F1 expected of score counts int64[32], with 95 % intervals.

    With c the calibrated share of positives of a bin and g what a positive row of it adds to the measure, the variance
    is ``sum n g^2 c (1 - c)``, which the rows' own chance gives, and for each pool of m reference rows
    ``phi (sum n g)^2 c (1 - c) / m``, which the reference's does (STATISTICS.md, section 2.10). O(32). By hand: 10 rows
    in one bin at or above the threshold, half of 100 positive there: precision .5, variance .025 + .0025.

    Of several classes a score is the answer's own probability, c the share of right answers, and accuracy alone is
    told; answers without a probability count as unknown. By hand: 6 answers of .9 and 4 of .4, right in 80 of 100 and
    40 of 100 on the reference: accuracy .64, variance (6 x .16 + 4 x .24) / 100 + (.36 x .16 + .16 x .24) / 100.
    """
    scored = with_scores(labels.scored, labels)
    pool, positives, rows = isotonic(scored)
    # Jeffreys' share for the variance: a pool without positives is not sure to have none.
    likely = (positives + 0.5) / (rows + 1.0)
    share = (positives / np.maximum(rows, 1))[pool]
    called = np.arange(SCORE_BINS) >= np.searchsorted(SCORE_EDGES, threshold, side="right")
    # Each answer says that it is right.
    called |= labels.several
    n, said = float(scores.sum()), float(scores[called].sum())
    hits, missed = float((scores * share)[called].sum()), float((scores * share)[~called].sum())
    both = hits + missed

    def with_interval(name: str, value: float, gain: Floats, of: float) -> Measure:
        if of <= 0:
            return Measure(name, np.nan, 0.0, 1.0, 0)
        chance = float((scores * gain**2) @ (likely * (1 - likely))[pool])
        summed = np.bincount(pool, weights=scores * gain, minlength=len(rows))
        learned = float((labels.phi * summed**2) @ (likely * (1 - likely) / np.maximum(rows, 1)))
        half = _SIGMAS * float(np.sqrt(chance + learned))
        return Measure(name, value, max(value - half, 0.0), min(value + half, 1.0), int(of))

    def per(top: float, bottom: float) -> float:
        return top / bottom if bottom > 0 else 0.0

    right = hits + float((scores * (1 - share))[~called].sum())
    found = [
        with_interval("precision", per(hits, said), np.where(called, per(1, said), 0.0), said),
        with_interval("recall", per(hits, both), np.where(called, per(missed, both**2), -per(hits, both**2)), both),
        with_interval("accuracy", per(right, n), np.where(called, per(1, n), -per(1, n)), n),
        with_interval(
            "f1",
            per(2 * hits, said + both),
            np.where(called, per(2 * (said + both - hits), (said + both) ** 2), -per(2 * hits, (said + both) ** 2)),
            n,
        ),
    ]
    unknown = float(scores[scored.sum(1) == 0].sum())
    told = {one.name: one for one in found if one.name == "accuracy" or not labels.several}
    return Estimate(told, per(unknown, n))


@dataclass(frozen=True, slots=True)
class ErrorSplit:
    """A change of the error rate in two parts: ``mix`` by other scores, ``concept`` by what a score stands for.

    ``low`` to ``high`` is the 95 % interval of the second: with 0 inside, the mix explains the change.
    """

    mix: float
    concept: float
    low: float
    high: float


def thin_share(scored: Counts, labels: Labels) -> float:
    """Return the share of rows scored int64[32, 2] in score bins with fewer than ``FEW_ROWS`` of the reference's."""
    scored, thin = with_scores(scored, labels), labels.scored.sum(1) < FEW_ROWS
    return float(scored[thin].sum() / max(scored.sum(), 1))


def with_scores(scored: Counts, labels: Labels) -> Counts:
    """Return the rows int64[32, 2] of which a score says something: of several classes none of bin 0, without one."""
    return np.where((np.arange(len(scored)) > 0)[:, None], scored, 0) if labels.several else scored


def split_errors(scored: Counts, labels: Labels, error_rate: float, threshold: float) -> ErrorSplit | None:
    """Split the rise to ``error_rate``, seen on labelled rows scored int64[32, 2], against the labelled reference.

    Reweighting: the reference's error by score bin, at the scores of today, is what the same concept lets expect; what
    is above it no mix explains (Shimodaira 2000). A threshold inside a score bin makes the estimate wrong by the rows
    of that bin on its other side: by how much, the reference's own errors tell; it grows with the rows in that bin.
    None for numbers and for several classes without probabilities, whose rows have no such score, and where more than
    ``MOST_THIN`` of the rows have scores that the reference hardly has. Of several classes the answers with a
    probability are compared with those that had one: of the others nothing is expected.
    By hand: bins wrong in 10 % and 30 % of rows, half each before and one in four to three now: .20 to .25 by the mix;
    of .27 seen, .02 are the concept's.
    """
    known, scored = with_scores(labels.scored, labels), with_scores(scored, labels)
    if labels.numeric or not known[:, 1].any() or not scored.any() or thin_share(scored, labels) > MOST_THIN:
        return None
    before, expected = (estimate(one.sum(1), labels, threshold) for one in (known, scored))
    usual, now = before.measures["accuracy"], expected.measures["accuracy"]
    at = int(score_bin(np.array([threshold]))[0])
    cut, cut_now = (float(one[at].sum() / max(one.sum(), 1)) for one in (known, scored))
    bias = usual.value - (1 - labels.error_rate)
    right = 1 - error_rate + (bias * cut_now / cut if cut else bias)
    if labels.several:
        right = float(scored[:, 1].sum() / scored.sum())
    return ErrorSplit(usual.value - now.value, now.value - right, now.low - right, now.high - right)


def refuted(novel: float, drifting: Iterable[tuple[VerdictKind, str]], incidents: Iterable[str]) -> str:
    """Return why an estimate says nothing; "" where it may be believed.

    ``drifting`` are (kind, incident) of what drifts now, ``incidents`` the open ones that are about new values.
    """
    for kind, incident in drifting:
        if kind is VerdictKind.CONCEPT_DRIFT:
            return f"withdrawn: a score does not stand for what it did (incident {incident})"
    for incident in incidents:
        return f"withdrawn: values that the reference never saw come (incident {incident})"
    if novel > NOVEL:
        return f"withdrawn: {novel:.0%} of the scores lie where the reference has no labelled row"
    return ""
