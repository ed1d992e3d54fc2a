"""The ageing curve: how much less often a model trained now would be wrong, from the weeks of versions seen so far."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.contracts.state import State

# The prior, as four real streams gave it (`python -m benchmarks policies`): a model's loss grows by about a fiftieth a
# week, and half of what it rose by goes with a new one, the other half being the season's. At half or double of either
# the mean cost over these streams changes by less than one per cent; what is learned soon outweighs both.
GROWTH = 0.02
CURE = 0.5

# What the prior counts, in retrainings seen four weeks after the last, whose loss had risen by a fifth: three of them.
# At one a single lucky retraining decides; at ten a stream that never ages is retrained for half a year.
PRIOR_PAIRS = 3.0
_PRIOR_WEEKS, _PRIOR_RISE = 4.0, 0.2

# By how much of a fresh loss such a retraining may gain more or less than the curve says, before any was seen: half of
# the .18 that it expects. At half of it the first forecasts would claim to be sure, at double nothing is ever told.
_PRIOR_SPREAD = 0.1

# The standard error of the cure that goes with it, whatever the fresh loss.
_PRIOR_CURE_SPREAD = _PRIOR_SPREAD / (_PRIOR_RISE * PRIOR_PAIRS**0.5)

# Standard errors on either side of a forecast that is told: nine of ten lie between.
_NINE_OF_TEN = 1.645

# Weeks that tell how a version does when it is new and how it does of late: one alone is noise of few labels.
FRESH_WEEKS = 3

# A sudden change: a week whose loss lies so many standard errors, and at least a point, above all weeks of its version
# before. At three one of a thousand weeks is taken for a change, at five
# a small stream sees none (the same costs on eleven streams, `python -m benchmarks policies`); of less than a point a
# retraining is not worth the look.
_SIGMAS, _POINT = 4.0, 0.01

# Times the loss of the version before, from which a version's first week tells of a change: versions of two seasons
# differ by less. At one and a half flights of two neighbouring weeks do (two per cent dearer on them), and a change
# that less than doubles the loss is seen as age.
_PROMOTED = 2.0

# Weeks for which what a change costs counts against the price. By the benchmark the costs over all streams are least at
# two; at one an abrupt change is followed too slowly, at four a price of a tenth of a week's errors is paid twice as
# often as it pays, at eight thrice.
HORIZON_WEEKS = 2.0

# Weeks of rows that the first version is taken to have learned from; nobody counted them. Between none and ten the mean
# costs over the benchmark's streams differ by less than two in a thousand.
_UNSEEN_WEEKS = 6.0

# Weeks on either side of a promotion that tell what it gained: near enough to share one season.
PAIR_WEEKS = 2


# What the prior counts of retrainings that helped: with none seen each is taken to help, as the curve's own prior says.
# At one, a single failure halves what the next is expected to spare; at ten, a model that no retraining helps goes on
# asking for a year.
PRIOR_CURES = 3.0


def help_share(cured: int, not_cured: int) -> float:
    """Return the share of what a retraining may spare that it is expected to, by what became of those before.

    By hand: none seen gives 1, two that did not help 3 / 5, and two more that did 5 / 7.
    """
    return (PRIOR_CURES + cured) / (PRIOR_CURES + cured + not_cured)


class Week(State, frozen=True, array_like=True):
    """Labelled rows of one version in a week, and how many answers were wrong; ``number`` counts weeks of the clock."""

    number: int
    rows: int
    wrong: int


class ServedVersion(State, frozen=True):
    """A version with its weeks, oldest first, and those (``asked``) in which a retraining was asked for meanwhile.

    All but the last of them gave no version in its place; neither did the last where the version serves still.
    ``spared`` is how much less often than the version before it was wrong on the rows that the gate compared both on,
    None where nobody told.
    """

    version: str
    weeks: tuple[Week, ...] = ()
    asked: tuple[int, ...] = ()
    spared: float | None = None


@dataclass(frozen=True, slots=True)
class AgeingForecast:
    """Wrong answers that a retraining would spare, between ``low`` and ``high`` nine times of ten."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AgeingCurve:
    """What a row's loss would be less under a model trained now: growth x fresh loss x age + cure x rise.

    ``growth`` is the share of its fresh loss that a version loses a week, ``cure`` the share of a rise above it that a
    new version takes away. Linear regression of what each promotion gained on the two, with a normal prior (ridge).
    What one gained is seen twice: in the weeks on either side of it, season and all, and by the gate on the very same
    rows, but of a short time (``ServedVersion.spared``); both count alike. A retraining that gave no version gained
    nothing: what the gate or the canary refuses costs its price all the same.
    By hand: a version wrong in 10 % when fresh and 12 % of late, 8.5 weeks old, at .02 and .5: .02 x .10 x 8.5 + .5 x
    .02 = .027, so 27 of a thousand answers.
    """

    growth: float
    cure: float
    spread: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Variance of ``growth``, covariance of both, variance of ``cure``."""
    rise: float = 0.0
    """The largest rise of which one promotion, or `PRIOR_PAIRS` retrainings without a version, showed what goes."""

    @classmethod
    def fit(cls, history: Sequence[ServedVersion]) -> "AgeingCurve":
        """Learn from every promotion among versions in order; O(weeks)."""
        served = [version for version in history if version.weeks]
        if not served:
            return cls(GROWTH, CURE)
        fresh = served[0].weeks[:FRESH_WEEKS]
        # Without a wrong answer at first, one stands for the least that so many rows tell apart: of nought the prior
        # would be sure, and every forecast's interval empty.
        base = max(_loss(fresh), 1 / max(sum(week.rows for week in fresh), 1))
        precision = PRIOR_PAIRS * np.array([(base * _PRIOR_WEEKS) ** 2, (base * _PRIOR_RISE) ** 2])
        promoted, barren_ones = list(_gains(served)), list(_barren_gains(served))
        seen = [*barren_ones, *promoted]
        features = np.array([one for one, _ in seen]).reshape(-1, 2)
        gains = np.array([gain for _, gain in seen])
        normal = np.diag(precision) + features.T @ features
        prior = np.array([GROWTH, CURE])
        found = np.linalg.solve(normal, precision * prior + features.T @ gains)
        # How far gains lie from the curve, with the prior's as many as it counts (normal-inverse-gamma).
        off = float(np.sum((gains - features @ found) ** 2) + precision @ (found - prior) ** 2)
        variance = (PRIOR_PAIRS * (_PRIOR_SPREAD * base) ** 2 + off) / (PRIOR_PAIRS + len(gains))
        spread = variance * np.linalg.inv(normal)
        # A loss that falls with age would say never to retrain again on the strength of one lucky week.
        growth, cure = np.maximum(found, 0.0).tolist()
        # One that gave no version may have failed for want of a disk; as many as the prior counts have shown a season.
        shown = sorted((float(one[1]) for one, _ in barren_ones), reverse=True)[int(PRIOR_PAIRS) - 1 :]
        rise = max([*shown, *(float(one[1]) for one, _ in promoted)], default=0.0)
        return cls(growth, cure, (float(spread[0, 0]), float(spread[0, 1]), float(spread[1, 1])), rise)

    def cured(self, lost: float) -> AgeingForecast:
        """Return how much of a row's loss above the usual one a new version takes away.

        Up to the largest rise that was shown (`rise`) it is the share that was learned: seasons rise so far,
        and a new version has them too. What lies above no season has shown, so what seasons taught does not damp it: it
        goes by the prior, or by what was learned where that is more. By hand: seasons of 3 points taught .1, then 28
        points are lost: .1 x 3 + .5 x 25 = 12.8 go. No model takes away more than what rose.
        """
        season = min(lost, self.rise)
        above = lost - season
        mean = self.cure * season + max(self.cure, CURE) * above
        half = _NINE_OF_TEN * (self.spread[2] ** 0.5 * abs(season) + _PRIOR_CURE_SPREAD * above)
        return AgeingForecast(min(mean, lost), max(mean - half, 0.0), min(mean + half, lost))

    def forecast(self, features: Floats) -> AgeingForecast:
        """Return what ``features`` (of `ageing_features`, or a sum of such) come to, with its interval."""
        mean = float(features @ np.array([self.growth, self.cure]))
        first, both, second = self.spread
        half = _NINE_OF_TEN * float(features @ np.array([[first, both], [both, second]]) @ features) ** 0.5
        return AgeingForecast(mean, max(mean - half, 0.0), mean + half)


Gain = tuple[Floats, float]
"""The features of a version's weeks, and how much less often its successor was wrong."""


def _barren_gains(served: Sequence[ServedVersion]) -> Iterator[Gain]:
    for version in served:
        for asked in barren(version, latest=version is served[-1]):
            if before := [week for week in version.weeks if week.number < asked]:
                yield ageing_features(before), 0.0


def _gains(served: Sequence[ServedVersion]) -> Iterator[Gain]:
    for old, new in pairwise(served):
        # The weeks before the new version's first; a week that both served is in neither.
        before = [week for week in old.weeks if week.number < new.weeks[0].number]
        after = [week for week in new.weeks if week.number > old.weeks[-1].number]
        jump = _jump(old, new)
        # What the world did in the very week of a promotion, the promotion has not done.
        if before and after and (jump is None or jump[0] > 0):
            yield ageing_features(before), _loss(before[-PAIR_WEEKS:]) - _loss(after[:PAIR_WEEKS])
        # The gate's rows end with the request: what came between it and the promotion it has not seen.
        judged = [week for week in before if not old.asked or week.number < old.asked[-1]]
        if new.spared is not None and judged:
            yield ageing_features(judged), new.spared


def barren(version: ServedVersion, *, latest: bool) -> tuple[int, ...]:
    """Return the weeks of retrainings that gave no version: of one that was replaced all but the last."""
    return version.asked if latest else version.asked[:-1]


@dataclass(frozen=True, slots=True)
class SuddenChange:
    """A sudden rise of the loss that lasts: the week it began in, and how many more answers of a row are wrong since.

    A version learns from rows of before and after it. As long as its rows are mixed so, the share of those from before
    is the part of the rise that it keeps. By hand: 10 weeks before the change, a version trained 2 weeks after it keeps
    10 / 12 of the rise, one trained 5 weeks later 10 / 17: retraining then takes a quarter of the rise away.
    """

    week: int
    lost: float

    def spared(self, history: Sequence[ServedVersion], trained: int, week: int) -> float:
        """Return wrong answers a row that a model of the beginning of ``week`` spares one of that of ``trained``."""
        weeks = [one for version in history for one in version.weeks if one.number < week]
        # What the first version learned from nobody counted.
        unseen = _UNSEEN_WEEKS * sum(one.rows for one in weeks[:FRESH_WEEKS]) / max(len(weeks[:FRESH_WEEKS]), 1)
        before = unseen + sum(one.rows for one in weeks if one.number < self.week)

        def kept(at: int) -> float:
            rows = unseen + sum(one.rows for one in weeks if one.number < at)
            return min(before / rows, 1.0) if rows else 1.0

        return max(self.lost * (kept(trained) - kept(week)), 0.0)


def sudden_change(history: Sequence[ServedVersion]) -> SuddenChange | None:
    """Return the latest sudden rise that the weeks of any version show, None without one. O(weeks)."""
    for old, version in reversed([*zip([None, *history], history, strict=False)]):
        jump = _jump(old, version)
        if jump is not None:
            place, lost = jump
            return SuddenChange(version.weeks[place].number, lost)
    return None


def _jump(old: ServedVersion | None, version: ServedVersion) -> tuple[int, float] | None:
    """Return the place of the first week that lies far above those before, and by how much.

    The first week of a version is compared with the worst of late of the version before it, and must be ``_PROMOTED``
    times as bad: a change in the very week of a promotion would otherwise be the new version's usual loss, and never be
    learned.
    """
    late = [week for week in old.weeks[-FRESH_WEEKS:] if week.rows] if old is not None else []
    # The worst alone: a change that the old version has seen already is not found again in the new one.
    earlier: Sequence[Week] = sorted(late, key=lambda week: week.wrong / week.rows)[-1:]
    for place, week in enumerate(version.weeks):
        rows, wrong = sum(one.rows for one in earlier), sum(one.wrong for one in earlier)
        if rows and week.rows:
            usual, now = wrong / rows, week.wrong / week.rows
            # A loss of nought has no spread: a pseudo-row keeps its error above it.
            spread = (max(usual * (1 - usual), 1 / rows) * (1 / rows + 1 / week.rows)) ** 0.5
            least = max(_SIGMAS * spread, _POINT) if place else max(_SIGMAS * spread, (_PROMOTED - 1) * usual)
            if now - usual > least:
                return place, now - usual
        earlier = version.weeks[: place + 1]
    return None


def _loss(weeks: Sequence[Week]) -> float:
    return sum(week.wrong for week in weeks) / max(sum(week.rows for week in weeks), 1)


def ageing_features(weeks: Sequence[Week]) -> Floats:
    """Fresh loss times age in weeks (to the middle of the last), and the rise of late above the fresh loss."""
    fresh = _loss(weeks[:FRESH_WEEKS])
    age = weeks[-1].number - weeks[0].number + 0.5
    return np.array([fresh * age, max(_loss(weeks[-FRESH_WEEKS:]) - fresh, 0.0)])
