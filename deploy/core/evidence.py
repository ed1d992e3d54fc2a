"""Anytime-valid evidence that a canary is worse than its concurrent champion, or no worse than a margin.

Each stratum (a closed minute, or labelled rows pooled within one step) tells how many rows and how much loss either
arm had. Given a loss it asks in which arm it landed: under the null ``canary rate <= r * champion rate`` it is the
canary's with probability at most ``p0 = pi r / (1 - pi + pi r)``, where ``pi`` is the canary's realised share of the
stratum's rows. The bet of one alternative ratio ``theta`` multiplies by ``(q/p0)^x_B ((1-q)/(1-p0))^x_A``,
``q = pi theta / (1 - pi + pi theta)``; the evidence is the weighed mean over alternatives, never restarted at a step.

Why the realised share is exact: with independent rows of mean loss ``a`` (champion) and at most ``r a`` (canary),
each in [0, 1], and ``g = (1 - pi + pi theta) / (1 - pi + pi r)``, the log of the expected factor is at most
``n a [(1 - pi)(1/g - 1) + pi (theta/g - r)] = 0``. So no stratum needs the configured weight, and a minute in which
the weight changed is as good as any other. The ramp form of the conditional binomial of Lindon and Malek (NeurIPS
2022, arXiv 2011.03567).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# From little more than what is tolerated to what nobody misses: harm between two of them costs a delay and no error.
# Twelve lie apart by 1.3: half as many would wait longer between two, twice as many halve the stake of each (`HARM`).
HARM_RATIOS: Final[Floats] = np.geomspace(1.15, 20.0, 12)
"""How many times the tolerated rate the alternatives of harm are."""
# Few on purpose: each further alternative divides all evidence by one more, and at the default margin of 1.5 an equal
# canary lies at .67, between the first two; the last two are for one that is far better.
CALM_RATIOS: Final[Floats] = np.array([0.85, 0.65, 0.45, 0.25])
"""How many times the margin the alternatives of non-inferiority are."""
FLOOR_RATIOS: Final[Floats] = np.array([0.02, 0.4])
"""How many times the floor the alternatives of "rarer than the floor" are: hardly ever, and two fifths."""
# Cubed, as a coin tells of a ratio by its root alone (``sign_bets``): the heaviest alternatives themselves would be
# coins of .59 to .68, which take hundreds of pools to be told from a fair one.
HARM_COIN_RATIOS: Final[Floats] = HARM_RATIOS**3
"""The same for harm: worse in .59 to all of the pools, the heaviest alternatives in .73, .81 and .87 of them."""
COIN_RATIOS: Final[Floats] = np.array([0.64, 0.25, 0.04])
"""The alternatives of "slower in less than half of the minutes": in two fifths, a quarter or a tenth of them."""
# Failures up to which the binomial is summed; beyond, the normal one is the same in the two digits that are shown, and
# a sum of a hundred thousand terms a minute would slow the controller.
EXACT_BELOW: Final = 400
# How much more often a canary falls above a cut than the champion does: symmetric on the log scale, from a small
# shift (1.4 times) to one that nobody could miss (3 times). The mean over all is what is bet, so a missing factor
# costs delay and no error.
TILTS: Final[Floats] = np.array([1 / 3, 1 / 2, 1 / 1.4, 1.4, 2.0, 3.0])
# Rows of both arms without a failure before "hardly ever" is bet with more than its own stake: before, the first
# failure may as well be the canary's, which would cost a canary of ordinary failures that stake. At a base of .8 %
# fewer than one rollout of a thousand gets so far.
QUIET_ROWS: Final = 1_000
# How much of what a ratio has goes with "hardly ever" while nothing fails, minute by minute: a first failure that is
# the canary's leaves it a tenth, log 10 of the log 20 that are asked for, and it has grown since. With all of it such a
# canary would hardly ever show a ratio; with half of it a promotion waits for 570 rows more where nothing fails.
LENT: Final = 0.9


@dataclass(frozen=True, slots=True)
class Stakes:
    """What each alternative of one e-process is given at its start: shares of one, in the order of its bets."""

    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if not math.isclose(sum(self.shares), 1.0):
            raise ValueError(f"stakes must sum to 1: {self.shares}")

    @classmethod
    def even(cls, alternatives: int) -> "Stakes":
        """Return the same for each: where nothing says which is waited for longest."""
        return cls((1.0 / alternatives,) * alternatives)


# An even stake pays log 12 for twelve alternatives, of which nine are of canaries so bad that few minutes tell them
# anyway: most goes to where the wait is longest. Promotions wait for equal failures beside a margin of 1.5 (.65) and
# for none at all (.02), rollbacks for failures of 1.5 to 2.5 times.
HARM: Final = Stakes((0.04, 0.2, 0.26, 0.18, 0.1, 0.06, 0.05, 0.03, 0.02, 0.02, 0.02, 0.02))
"""Of harm told by failures."""
SLOW: Final = Stakes(tuple(one / 3.0 for one in HARM.shares * 3))
"""Of harm told by latency: a third for each of three quantiles."""
CALM: Final = Stakes((0.06, 0.36, 0.12, 0.06, 0.34, 0.06))
"""Of non-inferiority with a floor: four ratios, then two below the floor."""
CALM_RATIO: Final = Stakes.even(CALM_RATIOS.size)
"""Of non-inferiority without a floor."""
COINS: Final = Stakes.even(3)
"""Of "no slower", a coin a minute."""


@dataclass(frozen=True, slots=True)
class Arms:
    """One stratum: rows and summed loss (each row's in [0, 1]; a count for events) of champion A and canary B."""

    rows_a: float
    loss_a: float
    rows_b: float
    loss_b: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.loss_a <= self.rows_a or not 0.0 <= self.loss_b <= self.rows_b:
            raise ValueError(f"loss must lie in [0, rows]: {self}")


def log_bets(arms: Arms, tolerated: float, ratios: Floats) -> Floats:
    """Return the log factor of each alternative ``theta = tolerated * ratio`` on one stratum, shape of ``ratios``.

    Zero where one arm has no rows: what could not be compared is neither success nor failure.
    """
    if not arms.rows_a or not arms.rows_b:
        return np.zeros(ratios.shape)
    share = arms.rows_b / (arms.rows_a + arms.rows_b)
    gain = np.log1p(share * (tolerated * ratios - 1.0)) - math.log1p(share * (tolerated - 1.0))
    bets: Floats = arms.loss_b * np.log(ratios) - (arms.loss_a + arms.loss_b) * gain
    return bets


def quiet(rows: float, loss: float) -> bool:
    """Return whether so far nothing has failed in so many rows that a ratio has nothing to bet on."""
    return not loss and rows >= QUIET_ROWS


def calm_bets(arms: Arms, margin: float, floor: float, *, quiet: bool = False) -> Floats:
    """Return the log factors against "the canary fails ``margin`` times as often or more, and ``floor`` or more".

    ``CALM_RATIOS`` against the margin, then, with a floor, ``FLOOR_RATIOS`` against it: a row of the canary fails
    with probability ``floor`` at least, so one alternative ``s`` multiplies by ``s`` for a failure and by
    ``(1 - floor s) / (1 - floor)`` for any other row, mean at most one. Where neither arm ever fails no ratio can be
    told, and the floor alone decides: ``quiet``, which is told from the strata before, lends ``LENT`` of what each
    ratio has to the first of them. Such a factor is a mean of two that have mean at most one, chosen beforehand, so it
    has too. By hand: 3 000 rows without failure at a floor of .001 and ``s`` = 0 give ``.999 ** -3000 = 20.1``; with
    the stake of .34 alone 4 200 rows do, with what is lent 3 320.
    """
    ratio = log_bets(arms, margin, CALM_RATIOS)
    if floor <= 0.0:
        return ratio
    passed = np.log1p(-floor * FLOOR_RATIOS) - math.log1p(-floor)
    rare: Floats = arms.loss_b * np.log(FLOOR_RATIOS) + (arms.rows_b - arms.loss_b) * passed
    if quiet:
        ratio = np.logaddexp(ratio + math.log1p(-LENT), rare[0] + math.log(LENT))
    return np.concatenate([ratio, rare])


def as_good(rows_a: int, loss_a: float, rows_b: int, loss_b: float, ratio: float) -> float:
    """Return how probable a canary with ``ratio`` times the champion's failures would look this good or better.

    The binomial probability that at most ``loss_b`` of all failures are the canary's, given its share of the rows;
    1 where nothing failed or an arm has no rows. By hand: one failure, equal rows, ratio 2, not the canary's: 1/3.
    """
    total = round(loss_a + loss_b)
    if not rows_a or not rows_b or not total:
        return 1.0
    share = rows_b / (rows_a + rows_b)
    one = share * ratio / (1.0 - share + share * ratio)
    if total > EXACT_BELOW:
        return 0.5 * math.erfc((total * one - loss_b - 0.5) / math.sqrt(2.0 * total * one * (1.0 - one)))
    hits = np.arange(min(round(loss_b), total) + 1)
    logs = [
        math.lgamma(total + 1) - math.lgamma(hit + 1) - math.lgamma(total - hit + 1)
        + hit * math.log(one) + (total - hit) * math.log1p(-one)
        for hit in hits.tolist()
    ]  # fmt: skip
    top = max(logs)
    return min(1.0, math.exp(top) * sum(math.exp(one - top) for one in logs))


@lru_cache(maxsize=16)
def _weights(shares: tuple[float, ...]) -> Floats:
    return np.array(shares)


class Mixture:
    """A running e-process: log wealth by alternative; ``wealth`` is its whole state."""

    def __init__(self, stakes: Stakes, wealth: Sequence[float] = ()) -> None:
        """Begin at E = 1, or take over a state; raises ``ValueError`` when its length is another's."""
        size = len(stakes.shares)
        self._stakes = stakes
        self.wealth: Floats = np.array(wealth, dtype=np.float64) if len(wealth) else np.zeros(size)
        if self.wealth.shape != (size,):
            raise ValueError(f"evidence has {self.wealth.size} alternatives, this version keeps {size}")

    def bet(self, log_factors: Floats) -> None:
        """Multiply in one stratum."""
        self.wealth = self.wealth + log_factors

    def log_e(self, design_effect: float = 1.0) -> float:
        """Return the natural log of the e-value now; with clustered rows the power 1/design_effect of every bet."""
        powered = self.wealth / design_effect
        top = float(powered.max())
        weights = _weights(self._stakes.shares)
        # As `np.average` does it, which makes an array of the shares each time: twice the time of all the rest.
        return top + math.log(float(np.multiply(np.exp(powered - top), weights).sum() / weights.sum()))


def score_bets(scores_a: npt.NDArray[np.int64], scores_b: npt.NDArray[np.int64], cuts: Sequence[int]) -> Floats:
    """Return log factors for a shift of the score distribution: tilts of the odds above each cut.

    ``scores_*`` int64[bins] of one minute; alternatives are cut x ``TILTS``, flattened. Betting on the arm given
    the cell: one step tilt is the conditional bet above with every row as unit loss where its score is above the
    cut. The null is that given the cell the arm is a draw without replacement; such draws are negatively
    associated (Joag-Dev and Proschan 1983), so a tilt in one direction has mean at most 1 under any common drift.
    """
    rows_a, rows_b = int(scores_a.sum()), int(scores_b.sum())
    if not rows_a or not rows_b:
        return np.zeros(len(cuts) * TILTS.size)
    above_a = np.array([scores_a[cut:].sum() for cut in cuts], dtype=np.float64)
    above_b = np.array([scores_b[cut:].sum() for cut in cuts], dtype=np.float64)
    share = rows_b / (rows_a + rows_b)
    gain = np.log1p(share * (TILTS - 1.0))
    bets: Floats = above_b[:, None] * np.log(TILTS) - (above_a + above_b)[:, None] * gain
    return bets.ravel()


def sign_bets(worse: bool, ratios: Floats) -> Floats:  # noqa: FBT001 - one coin, heads or tails
    """Return log factors of one minute's coin under the null that at most half of all minutes are worse.

    An alternative's coin lands on worse with probability ``h = 1 - 1 / (2 sqrt(ratio))``: factor 2h or 2(1 - h).
    """
    heads = 1.0 - 0.5 / np.sqrt(ratios)
    bets: Floats = np.log(2.0 * heads if worse else 2.0 * (1.0 - heads))
    return bets


def slower_chance(counts_a: Sequence[int], counts_b: Sequence[int], moved: Sequence[int]) -> float:
    """Return a bound on how probable B is the slower of one minute, beside A moved to its bins' ``moved``.

    By Mann and Whitney's statistic of counts by bin (what is moved beyond the last bin is in it), as if ties in a bin
    were broken at random: over all minutes the mean is then at least a half if B's rows are as slow as A's moved ones
    or slower, whatever the numbers of rows and bins. For without ties the statistic of exchangeable rows is symmetric
    about its middle, and slower rows of B only raise it. Exact without ties; with them the bound is from above: 1 where
    B is ahead, else at most a half, and Chebyshev's ``variance / (2 distance^2)`` as ``a b (a + b + 1) / 12`` of each
    bin. A tie left out, or a half of it counted, would show a canary of few rows as no slower by how its bins lie: of
    70 % quick and 30 % slow answers, one row a minute is among the quick in 70 % of minutes, however slow it is.

    By hand: A in bin 1, B in bin 3: B is slower, 1; A moved to 3, a half; to 4, 0.
    """
    b = np.array(counts_b, dtype=np.float64)
    a = np.bincount(np.minimum(moved, b.size - 1), weights=counts_a, minlength=b.size)
    ahead = float(b @ (np.cumsum(a) - a / 2.0)) - a.sum() * b.sum() / 2.0
    if ahead > 0.0:
        return 1.0
    # The rank sum's variance under equal arms, n m (n + m + 1) / 12, summed over minutes.
    variance = float((a * b * (a + b + 1.0)).sum()) / 12.0
    return 0.5 if variance >= ahead**2 else variance / (2.0 * ahead**2)


def calm_sign_bets(worse: float, ratios: Floats) -> Floats:
    """Return log factors of one coin under the null that at least half of all are worse.

    An alternative's coin lands on worse with probability ``h = sqrt(ratio) / 2``: factor 2h or 2(1 - h). ``worse`` is 1
    or 0, or how probable worse is where ties leave it open: the mean factor then, so that a half says nothing.
    """
    heads = 0.5 * np.sqrt(ratios)
    bets: Floats = np.log(2.0 * (worse * heads + (1.0 - worse) * (1.0 - heads)))
    return bets


def share_log_e(rows_a: float, rows_b: float, weight: float, tolerance: float) -> float:
    """Return the log e-value against "the canary's share has odds within 1 + tolerance of the weight's odds".

    An even mixture over shares (Beta(1, 1)) against the best share inside the null: at most the e-value against
    whatever share is true, so it is anytime-valid over one step (sample-ratio mismatch, arXiv 2011.03567).
    """
    rows = rows_a + rows_b
    # At all or nothing there is no share to compare.
    if not rows or not 0.0 < weight < 1.0:
        return 0.0
    odds = weight / (1.0 - weight)
    low, high = odds / (1.0 + tolerance), odds * (1.0 + tolerance)
    best = min(max(rows_b / rows, low / (1.0 + low)), high / (1.0 + high))
    mixture = math.lgamma(rows_b + 1) + math.lgamma(rows_a + 1) - math.lgamma(rows + 2)
    return mixture - rows_b * math.log(best) - rows_a * math.log1p(-best)


def changeover(rows_a: int, rows_b: int, before: float, after: float) -> float:
    """Return the log likelihood ratio of one minute's rows for the new weight over the old, possibly infinite."""
    if before == after:
        return 0.0
    # From nothing one row of the canary decides: no chance of the old weight could give it.
    if before <= 0.0:
        return math.inf if rows_b else rows_a * math.log1p(-after)
    return rows_b * math.log(after / before) + rows_a * (math.log1p(-after) - math.log1p(-before))
