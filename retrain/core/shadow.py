"""Shadow by replay: what a challenger would have answered to the logged rows since the change, beside the champion.

It says nothing of which model is better, which is the gate's matter, but whom the change reaches before it reaches
anyone: how many decisions flip, where they lie, and which rows a person should look at first.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.messages import Shadow
from stationkeeper.contracts.times import to_datetime
from stationkeeper.retrain.core.measures import Flags, Floats
from stationkeeper.retrain.core.segments import Texts

MOST_ROWS = 100
"""Disagreements that are kept, chosen: an hour's reading for a person; ten times as many are read by nobody."""

MOST_PLACES = 5
"""Segments that are named, chosen: what one sentence holds."""

FEWEST_FLIPS = 5
"""A segment with fewer changed answers is never named, chosen: two of two rows are two events and no place."""

CHANCE = 0.01
"""A bound on the chance that a replay names a segment where none differs, shared among all segments looked at: a person
acts on what is named, and of two segments each is held to about the usual three standard deviations."""

LONGEST_VALUE = 60
"""Letters of a segment's value that are told, chosen: a line on a screen. A value may be a whole document, and the
sentence travels in every record of a candidate and its rollout."""


class DisagreementKind(StrEnum):
    """How two answers to one row differ."""

    SILENT = "silent"
    """The champion gives a number, the challenger none."""
    FLIP = "flip"
    """The decision, or the class, is another one."""
    SCORE = "score"
    """The score moved, the decision stayed."""


class Right(StrEnum):
    """Whose answer the label confirms; ``unknown`` without a ripe label of a row that neither has learnt from."""

    CHALLENGER = "challenger"
    CHAMPION = "champion"
    ALIKE = "alike"
    NEITHER = "neither"
    UNKNOWN = "unknown"


_RIGHTS = tuple(Right)


@dataclass(frozen=True, slots=True)
class PairedAnswers:
    """Two models' answers to the same n logged rows since the change, in time order.

    Scores are float64[n], of several classes float64[n, k]; ``classes`` names what a decision answers (of a binary
    model the negative first). ``labels`` is NaN where none is ripe; ``fresh`` marks rows that neither has learnt from.
    """

    task: Literal["binary", "multiclass", "regression"]
    times: npt.NDArray[np.int64]
    champion: Floats
    challenger: Floats
    thresholds: tuple[float, float]
    labels: Floats
    fresh: Flags
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One row on which the models differ: its position, how far (as ``distances``), and the reason in words."""

    row: int
    kind: DisagreementKind
    distance: float
    champion: str
    challenger: str
    right: Right
    reason: str


def replay(answers: PairedAnswers, groups: Iterable[tuple[str, Texts]]) -> tuple[Shadow, list[Disagreement]]:
    """Return the numbers of a shadow and its first ``MOST_ROWS`` disagreements; there must be a row. O(n log n).

    First comes where the challenger is silent, then flips that the labels hold against it, then other flips, then
    scores that moved; within each the furthest apart. ``groups`` are the rows' segments, a dimension at a time.
    """
    found = _Compared.of(answers)
    # By what a person must see: an answer lost, then a harm that is known, then what may be one.
    harmed = found.flipped & (found.right == _place(Right.CHAMPION))
    tier = np.select([found.silent, harmed, found.flipped], [0, 1, 2], 3)
    differ = np.flatnonzero(found.changed | (found.distance > 0.0))
    # Stable, so that equal rows come in time order and a replay lists them alike.
    order = differ[np.lexsort((-found.distance[differ], tier[differ]))][:MOST_ROWS]
    return found.summary(groups), [found.disagreement(int(row)) for row in order]


@dataclass(frozen=True, slots=True)
class _Compared:
    answers: PairedAnswers
    decided: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    ranks: tuple[Floats, Floats]
    silent: Flags
    flipped: Flags
    distance: Floats
    right: npt.NDArray[np.int64]

    @classmethod
    def of(cls, answers: PairedAnswers) -> "_Compared":
        numbers = (_numbers(answers.champion), _numbers(answers.challenger))
        # Where the champion itself is silent there is nothing to differ from.
        silent, both = numbers[0] & ~numbers[1], numbers[0] & numbers[1]
        old, new = (_decisions(answers, which) for which in (0, 1))
        ranks = (above(answers.champion, both), above(answers.challenger, both))
        flipped = both & (old != new) & (answers.task != "regression")
        distance = np.where(both, distances(answers, ranks), 0.0)
        return cls(answers, (old, new), ranks, silent, flipped, distance, _rights(answers, (old, new), numbers))

    @property
    def changed(self) -> Flags:
        return self.flipped | self.silent

    def summary(self, groups: Iterable[tuple[str, Texts]]) -> Shadow:
        answers, changed, regression = self.answers, self.changed, self.answers.task == "regression"
        # A regression flips nothing: there every row with a label says who was nearer.
        rights = np.bincount(self.right if regression else self.right[changed], minlength=len(_RIGHTS))
        both = ~self.silent & _numbers(answers.champion)
        return Shadow(
            rows=len(changed),
            since=to_datetime(int(answers.times[0])),
            until=to_datetime(int(answers.times[-1])),
            flipped=None if regression else int(changed.sum()),
            risen=int((self.flipped & (self.decided[1] == 1)).sum()) if answers.task == "binary" else None,
            silent=int(self.silent.sum()),
            moved=float(self.distance[both].mean()) if both.any() else 0.0,
            labelled=int(rights.sum() - rights[_place(Right.UNKNOWN)]),
            challenger_right=int(rights[_place(Right.CHALLENGER)]),
            champion_right=int(rights[_place(Right.CHAMPION)]),
            places=() if regression else places(changed, groups),
        )

    def disagreement(self, row: int) -> Disagreement:
        kind = DisagreementKind.SILENT if self.silent[row] else DisagreementKind.SCORE
        kind = DisagreementKind.FLIP if self.flipped[row] else kind
        old, new = (self._answer(which, row) for which in (0, 1))
        right = _RIGHTS[self.right[row]]
        said = "" if right is Right.UNKNOWN else f"; the label says {self._label(row)}: {_WORDS[right]}"
        return Disagreement(row, kind, float(self.distance[row]), old, new, right, f"{old} becomes {new}{said}")

    def _answer(self, which: int, row: int) -> str:
        answers = self.answers
        scores = (answers.champion, answers.challenger)[which][row]
        if not np.isfinite(scores).all():
            return "no number"
        if answers.task == "regression":
            return f"{scores:.6g}"
        name = answers.classes[self.decided[which][row]]
        if answers.task == "multiclass":
            return f"{name} ({scores.max():.3g})"
        # A lost answer has no rank among rows that both answered.
        rank = f", above {self.ranks[which][row]:.1%} of the rows" if not self.silent[row] else ""
        return f"{name} ({scores:.3g}{rank})"

    def _label(self, row: int) -> str:
        label = self.answers.labels[row]
        return self.answers.classes[int(label)] if self.answers.task != "regression" else f"{label:.6g}"


_WORDS: Mapping[Right, str] = {
    Right.CHALLENGER: "the challenger was right",
    Right.CHAMPION: "the champion was right",
    Right.ALIKE: "both were as right",
    Right.NEITHER: "neither was right",
}


def above(scores: Floats, usable: Flags) -> Floats:
    """Return the share of the usable rows that each score is above, ties counted half; NaN of several classes.

    Scores of two models have two scales (one is calibrated to the old world); their order among the same rows has one.

    >>> above(np.array([0.1, 0.3, 0.3, 0.9]), np.ones(4, bool)).tolist()
    [0.125, 0.5, 0.5, 0.875]
    """
    if scores.ndim > 1 or not usable.any():
        return np.full(len(scores), np.nan)
    known = np.sort(scores[usable])
    below, upto = np.searchsorted(known, scores, "left"), np.searchsorted(known, scores, "right")
    return (below + upto) / (2.0 * len(known))


def distances(answers: PairedAnswers, ranks: tuple[Floats, Floats]) -> Floats:
    """Return how far apart two answers are.

    Of a binary model by the share of rows between them, of several classes by total variation, else in its unit.

    By hand: probabilities (.7, .2, .1) and (.1, .8, .1) are (.6 + .6 + 0) / 2 = .6 apart.
    """
    if answers.task == "binary":
        return np.abs(ranks[1] - ranks[0])
    found = np.abs(answers.challenger - answers.champion)
    return 0.5 * found.sum(axis=1) if answers.task == "multiclass" else found


def places(changed: Flags, groups: Iterable[tuple[str, Texts]]) -> tuple[str, ...]:
    """Return in words the segments in which more answers change than their share of the rows lets expect.

    A segment of n rows is named where ``tail(k, n, share)`` of its k changes is at most ``CHANCE`` over the number of
    segments large enough to be named (Bonferroni). By hand: of 1 000 rows 100 change; of 200 of them 60 do, where 20
    were to be expected with a deviation of sqrt(200 * .1 * .9) = 4.2.
    """
    share, looked, found = float(changed.mean()), 0, []
    for name, texts in groups:
        values, where = np.unique(texts, return_inverse=True)
        rows, flips = np.bincount(where), np.bincount(where, weights=changed)
        # By their rows, which know nothing of the flips: counting those with enough flips would let chance choose.
        looked += int((rows >= FEWEST_FLIPS).sum())
        for at in np.flatnonzero((flips >= FEWEST_FLIPS) & (flips > rows * share)):
            n, k = int(rows[at]), int(flips[at])
            found.append((tail(k, n, share), k - n * share, f"{name}={told(str(values[at]))} ({k} of {n} rows)"))
    clear = [(more, words) for chance, more, words in found if chance * looked <= CHANCE]
    # By the excess and then by name: equal ones in one order.
    return tuple(words for _, words in sorted(clear, key=lambda one: (-one[0], one[1]))[:MOST_PLACES])


def told(value: str) -> str:
    """Return a segment's value as ``places`` tells it: its first ``LONGEST_VALUE`` letters."""
    return value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 1] + "…"


def tail(k: int, n: int, share: float) -> float:
    """Return the chance of k or more of n rows where each changes with probability ``share`` in (0, 1), k > n * share.

    Exact and not by a normal curve, which makes small counts far too rare. By hand: two or more of three at .5 are
    3/8 + 1/8 = .5.
    """
    logs = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    term = math.exp(logs + k * math.log(share) + (n - k) * math.log1p(-share))
    total = 0.0
    # Above the mean each term is smaller than the last: once one adds nothing, none does.
    while k <= n and total + term > total:
        total += term
        term *= (n - k) / (k + 1) * share / (1.0 - share)
        k += 1
    return total


def _numbers(scores: Floats) -> Flags:
    return np.asarray(np.isfinite(scores).reshape(len(scores), -1).all(axis=1))


def _decisions(answers: PairedAnswers, which: int) -> npt.NDArray[np.int64]:
    return _decided(answers.task, (answers.champion, answers.challenger)[which], answers.thresholds[which])


def _decided(task: str, scores: Floats, threshold: float) -> npt.NDArray[np.int64]:
    if task == "multiclass":
        return np.asarray(scores.argmax(axis=1), dtype=np.int64)
    return (scores >= threshold).astype(np.int64)


def flips(task: str, scores: tuple[Floats, Floats], thresholds: tuple[float, float]) -> Flags:
    """Return which of n rows champion and challenger decide differently; bool[n], of two classes or several."""
    old, new = (_decided(task, one, cut) for one, cut in zip(scores, thresholds, strict=True))
    return np.asarray(old != new)


def _rights(
    answers: PairedAnswers, decided: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]], numbers: tuple[Flags, Flags]
) -> npt.NDArray[np.int64]:
    """Return the place in ``_RIGHTS`` of whom each row's label confirms."""
    labels, pair = answers.labels, (answers.champion, answers.challenger)
    wrong = [
        # No number is no right answer, whatever a comparison with NaN gives.
        np.where(known, np.abs(scores - labels) if answers.task == "regression" else choice != labels, np.inf)
        for scores, choice, known in zip(pair, decided, numbers, strict=True)
    ]
    better, worse = wrong[1] < wrong[0], wrong[0] < wrong[1]
    which = np.select([better, worse], [_place(Right.CHALLENGER), _place(Right.CHAMPION)], _place(Right.ALIKE))
    # Of a regression the nearer is right; of classes one that hits beside one that misses.
    if answers.task != "regression":
        which[np.minimum(*wrong) > 0.0] = _place(Right.NEITHER)
    return np.where(numbers[0] & answers.fresh & np.isfinite(labels), which, _place(Right.UNKNOWN))


def _place(right: Right) -> int:
    return _RIGHTS.index(right)
