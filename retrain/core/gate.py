"""The quality gate: champion against challenger on the same held-out rows, with intervals and a total verdict.

Blocks of consecutive rows are resampled (Künsch 1989) and both models are measured on each resample, so that the
interval is of the paired difference and serial dependence within a block does not shrink it.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.messages import GateOutcome
from stationkeeper.retrain.core.measures import Flags, Floats, class_loss_rows, f1_score, log_loss_rows, performance
from stationkeeper.retrain.core.selection import effective_rows

Statistic = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class GateRules:
    """The gate's error rates and minimum rows; ``alpha`` is shared by all ``looks``.

    ``aged`` says that nothing drifted, so that there is no place in which the challenger could have to be better: the
    request is for age or by a calendar (see ``_weigh``).

    Values and reasons stand in ``retrain.settings``, which hands all of them over; here they have no defaults, so that
    no caller gets others by leaving one out.
    """

    alpha: float
    margin: float
    min_gain: float
    looks: int
    replicates: int
    blocks: int
    min_rows: int
    min_positives: int
    seed: int
    aged: bool
    unlabelled_margin: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A paired difference (positive: the challenger is better) and its two one-sided bounds at level ``alpha``."""

    difference: float
    low: float
    high: float
    alpha: float

    def __str__(self) -> str:
        return f"{self.difference:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """The gate's answer with its reason and every number behind it."""

    outcome: GateOutcome
    reason: str
    numbers: dict[str, Any] = field(default_factory=dict)


def paired_interval(cells: Floats, statistic: Statistic, alpha: float, replicates: int, seed: int) -> Interval:
    """Return the bootstrap interval of ``statistic`` over blocks; ``cells`` is float64[blocks, k] of additive sums.

    ``statistic`` maps sums of shape ``(r, k)`` to differences ``(r,)``. Percentile bounds (Efron & Tibshirani 1993,
    ch. 13) at ``alpha`` on each side. O(replicates * blocks * k).
    """
    n = len(cells)
    # Seeded, so that the gate repeated after a crash, or by `stationkeeper gate` in a pipeline, gives the same verdict.
    # Drawing how often each block comes is the bootstrap of blocks in one matrix product.
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=replicates)
    resampled = statistic(draws @ cells)
    low, high = np.quantile(resampled, [alpha, 1.0 - alpha])
    return Interval(float(statistic(cells.sum(axis=0, keepdims=True))[0]), float(low), float(high), alpha)


def sign_test(better: int, worse: int) -> float:
    """Return the one-sided exact p-value that ``better`` of the rows on which two models disagree is chance.

    P(X >= better) for X ~ Binomial(better + worse, 1/2) (McNemar 1947, exact form).

    >>> round(sign_test(8, 2), 6)
    0.054688
    """
    n = better + worse
    # By logarithms: the binomials of a few thousand rows are beyond a float.
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(better, n + 1)]
    return min(1.0, math.fsum(math.exp(value - n * math.log(2.0)) for value in logs))


def blocks_of(columns: Floats, rows: Flags, blocks: int) -> Floats:
    """Sum per-row columns ``(n, k)`` of the chosen rows over at most ``blocks`` runs of consecutive rows."""
    chosen = columns[rows]
    # Never more blocks than rows: an empty block would repeat its neighbour's sum in `reduceat`.
    edges = np.linspace(0, len(chosen), min(blocks, len(chosen)) + 1).astype(np.int64)[:-1]
    return np.add.reduceat(chosen, edges, axis=0)


def judge_binary(
    labels: Flags,
    champion: tuple[Floats, float],
    challenger: tuple[Floats, float],
    after: Flags,
    rules: GateRules,
    weights: Floats | None = None,
) -> GateVerdict:
    """Judge two classifiers (scores, threshold) on n rows in time order; ``after`` marks rows since the change.

    ``weights`` float64[n] say for how many rows each stands (``core.selection``); without them each stands for itself.

    PASS needs both: decisions (F1 at each model's own threshold) not worse than ``margin`` on all rows, and better
    after the change, in F1 or by ``min_gain`` of the champion's log loss (two tests, so half the level each): any
    model that has seen more rows is a little better, which is no reason to change it. FAIL needs evidence of harm.
    All else is NO_EVIDENCE.
    """
    each = np.ones(len(labels)) if weights is None else weights
    numbers: dict[str, Any] = {
        f"{name}_{slice_name}": performance(labels[rows], scores[rows], threshold, each[rows]).numbers()
        for name, (scores, threshold) in (("champion", champion), ("challenger", challenger))
        for slice_name, rows in (("overall", np.ones(len(labels), bool)), ("after", after))
    }
    short = _too_few(each[after], labels[after], rules)
    if short is not None:
        return GateVerdict(GateOutcome.NO_EVIDENCE, short, numbers)
    columns = _binary_columns(labels, champion, challenger) * each[:, None]
    # Bonferroni over the looks: the gate that asks again with more labels would otherwise pass one equal model in four
    # looks at four times alpha.
    level = rules.alpha / rules.looks
    everywhere = np.ones(len(labels), bool)

    def interval(rows: Flags, statistic: Statistic, alpha: float) -> Interval:
        return paired_interval(blocks_of(columns, rows, rules.blocks), statistic, alpha, rules.replicates, rules.seed)

    overall = interval(everywhere, _f1_difference, level)
    # Better in either of two ways is enough, so each gets half (Bonferroni); worse overall is one test and keeps the
    # whole.
    f1_after = interval(after, _f1_difference, level / 2)
    loss_after = interval(after, _log_loss_gain, level / 2)
    # For people only: how the rows on which the two disagree fall. It does not decide, because it knows no margin and
    # takes rows as independent.
    right = [(scores >= threshold) == labels for scores, threshold in (champion, challenger)]
    won, lost = after & right[1] & ~right[0], after & right[0] & ~right[1]
    better, worse = int(won.sum()), int(lost.sum())
    numbers |= {
        "f1_overall": asdict(overall),
        "f1_after": asdict(f1_after),
        "log_loss_gain_after": asdict(loss_after),
        "disagreements": {"better": better, "worse": worse, "p": sign_test(better, worse)},
        **_spared(won, lost, after, each),
        "margin": rules.margin,
        "min_gain": rules.min_gain,
    }
    tests = (_Test("F1", f1_after, 0.0), _Test("log loss saved", loss_after, rules.min_gain))
    outcome, reason = _weigh(overall, tests, rules)
    return GateVerdict(outcome, reason, numbers)


def judge_classes(
    labels: npt.NDArray[np.int64],
    champion: Floats,
    challenger: Floats,
    after: Flags,
    rules: GateRules,
    weights: Floats | None = None,
) -> GateVerdict:
    """Judge two models of several classes by the share they get right and by log loss; see ``judge_binary``.

    ``labels`` are indices of classes, scores float64[n, k] in the same order. The rarer class of ``min_positives`` is
    every class that is not the most frequent, taken together: of a class alone there may be no row.
    """
    pair = (champion, challenger)
    right = [scores.argmax(axis=1) == labels for scores in pair]
    losses = [class_loss_rows(labels, scores) for scores in pair]
    each = np.ones(len(labels)) if weights is None else weights
    columns = np.stack([right[0], right[1], *losses, np.ones(len(labels))], axis=1).astype(np.float64) * each[:, None]
    everywhere = np.ones(len(labels), bool)
    numbers: dict[str, Any] = {
        f"{name}_{slice_name}": {
            "rows": int(rows.sum()),
            "accuracy": float(np.average(right[place][rows], weights=each[rows])),
            "log_loss": float(np.average(losses[place][rows], weights=each[rows])),
        }
        for place, name in enumerate(("champion", "challenger"))
        for slice_name, rows in (("overall", everywhere), ("after", after))
        if rows.any()
    }
    short = _too_few(each[after], labels[after] != np.bincount(labels[after], minlength=1).argmax(), rules)
    if short is not None:
        return GateVerdict(GateOutcome.NO_EVIDENCE, short, numbers)
    level = rules.alpha / rules.looks

    def interval(rows: Flags, statistic: Statistic, alpha: float) -> Interval:
        return paired_interval(blocks_of(columns, rows, rules.blocks), statistic, alpha, rules.replicates, rules.seed)

    overall = interval(everywhere, _accuracy_difference, level)
    # Better in either way is enough, so each gets half, as for two classes.
    right_after, loss_after = (interval(after, one, level / 2) for one in (_accuracy_difference, _log_loss_saved))
    numbers |= {
        "accuracy_overall": asdict(overall),
        **_spared(after & right[1] & ~right[0], after & right[0] & ~right[1], after, each),
        "accuracy_after": asdict(right_after),
        "log_loss_gain_after": asdict(loss_after),
        "margin": rules.margin,
        "min_gain": rules.min_gain,
    }
    tests = (_Test("accuracy", right_after, 0.0), _Test("log loss saved", loss_after, rules.min_gain))
    outcome, reason = _weigh(overall, tests, rules)
    return GateVerdict(outcome, reason, numbers)


def judge_regression(
    labels: Floats,
    champion: Floats,
    challenger: Floats,
    after: Flags,
    rules: GateRules,
    weights: Floats | None = None,
) -> GateVerdict:
    """Judge two regressions by mean absolute error, as a share of the champion's; see ``judge_binary``."""
    losses = np.stack([np.abs(champion - labels), np.abs(challenger - labels)], axis=1)
    each = np.ones(len(labels)) if weights is None else weights
    numbers: dict[str, Any] = {
        f"{name}_{slice_name}": {
            "rows": int(rows.sum()),
            "mean_absolute_error": float(np.average(losses[rows, column], weights=each[rows])),
        }
        for column, name in enumerate(("champion", "challenger"))
        for slice_name, rows in (("overall", np.ones(len(labels), bool)), ("after", after))
        if rows.any()
    }
    short = _too_few(each[after], None, rules)
    if short is not None:
        return GateVerdict(GateOutcome.NO_EVIDENCE, short, numbers)
    level = rules.alpha / rules.looks
    intervals = [
        paired_interval(
            blocks_of(losses * each[:, None], rows, rules.blocks), _error_gain, level, rules.replicates, rules.seed
        )
        for rows in (np.ones(len(labels), bool), after)
    ]
    numbers |= {"gain_overall": asdict(intervals[0]), "gain_after": asdict(intervals[1])}
    numbers |= {"margin": rules.margin, "min_gain": rules.min_gain}
    tests = (_Test("absolute error saved", intervals[1], rules.min_gain),)
    outcome, reason = _weigh(intervals[0], tests, rules)
    return GateVerdict(outcome, reason, numbers)


def _spared(better: Flags, worse: Flags, rows: Flags, weights: Floats) -> dict[str, float]:
    """Return by how much less often the challenger is wrong, and the standard error of that (rows as independent).

    By hand: 25 of 500 rows better and none worse are .05, with an error of sqrt((.05 - .05^2) / 500) = .009747.
    """
    won, lost = (float(weights[one].sum() / weights[rows].sum()) for one in (better, worse))
    error = math.sqrt(max(won + lost - (won - lost) ** 2, 0.0) / effective_rows(weights[rows]))
    return {"spared": round(won - lost, 6), "spared_error": round(error, 6)}


def _too_few(weights: Floats, positive: Flags | None, rules: GateRules) -> str | None:
    """Return why rows since the change are too few; weighted ones count as the equal ones they are worth."""
    rows = round(effective_rows(weights))
    held = f"{rows} held-out rows" if rows == len(weights) else f"{len(weights)} held-out rows worth {rows} equal ones"
    if rows < rules.min_rows:
        return f"{held} after the change, the gate needs {rules.min_rows}"
    if positive is None:
        return None
    fewer = min(round(effective_rows(weights[one])) for one in (positive, ~positive))
    if fewer < rules.min_positives:
        return f"{fewer} held-out rows of the rarer class after the change, the gate needs {rules.min_positives}"
    return None


@dataclass(frozen=True, slots=True)
class _Test:
    """One way to be better after the change: an interval that must lie above ``least``."""

    name: str
    interval: Interval
    least: float

    def __str__(self) -> str:
        return f"{self.name} {self.interval}" + (f", asked {self.least:+g}" if self.least else "")


def _weigh(overall: Interval, tests: tuple[_Test, ...], rules: GateRules) -> tuple[GateOutcome, str]:
    """Return what the intervals say; the last of ``tests`` is of the loss.

    After a change a gain must be shown, as the old model is known to fail there and the new one may be fitted to noise.
    Of a challenger for age a gain is expected from what it knows besides, and its training is paid for: to hold it back
    until the gain is beyond chance keeps the older model in the meantime, which on average is the worse one. So it goes
    out where its decisions are shown to be no worse than by the margin, and its loss is estimated better; ``min_gain``
    does not hold for it. Each look may say so: of two equal models two in three pass over five looks, not one in two.
    """
    margin = rules.margin
    estimated = rules.aged and tests[-1].interval.difference > 0.0
    better = [str(test) for test in tests if test.interval.low > test.least]
    every = "; ".join(str(test) for test in tests)
    # Harm first: the order decides which reason is told where several hold, and evidence of harm must not hide behind a
    # gain.
    if overall.high < -margin:
        return GateOutcome.FAIL, f"worse overall: {overall}, margin {margin:g}"
    # The second half: better by its scores and worse by the decisions that people feel is harm, not a draw.
    if all(test.interval.high < 0.0 for test in tests) or ((better or estimated) and tests[0].interval.high < 0.0):
        return GateOutcome.FAIL, f"worse after the change: {every}"
    if overall.low < -margin:
        return GateOutcome.NO_EVIDENCE, f"may be worse overall: {overall}, margin {margin:g}; after the change {every}"
    if estimated:
        gain = f"{tests[-1].name} {tests[-1].interval}"
        return GateOutcome.PASS, f"nothing drifted; estimated better: {gain}; overall {overall}, margin {margin:g}"
    if not better:
        return GateOutcome.NO_EVIDENCE, f"not worse overall: {overall}, but not shown better after the change: {every}"
    return GateOutcome.PASS, f"better after the change: {'; '.join(better)}; overall {overall}, margin {margin:g}"


def _binary_columns(labels: Flags, champion: tuple[Floats, float], challenger: tuple[Floats, float]) -> Floats:
    columns: list[npt.NDArray[Any]] = []
    for scores, threshold in (champion, challenger):
        alerts = scores >= threshold
        # Sums per block are all that both statistics need, so each row is reduced to eight numbers once.
        columns += [alerts & labels, alerts & ~labels, ~alerts & labels, log_loss_rows(labels, scores)]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def _f1_difference(sums: Floats) -> Floats:
    # Columns 0-3 are the champion's hits, false alerts, misses and loss; 4-7 the challenger's.
    return f1_score(sums[:, 4], sums[:, 5], sums[:, 6]) - f1_score(sums[:, 0], sums[:, 1], sums[:, 2])


def _accuracy_difference(sums: Floats) -> Floats:
    # Columns of several classes: right answers of both, losses of both, rows.
    return np.asarray((sums[:, 1] - sums[:, 0]) / np.maximum(sums[:, 4], 1.0))


def _log_loss_saved(sums: Floats) -> Floats:
    return _saved(sums[:, 2], sums[:, 3])


def _log_loss_gain(sums: Floats) -> Floats:
    return _saved(sums[:, 3], sums[:, 7])


def _error_gain(sums: Floats) -> Floats:
    return _saved(sums[:, 0], sums[:, 1])


def _saved(champion: Floats, challenger: Floats) -> Floats:
    """Return the share of the champion's loss that the challenger saves; 0 where there is none to save."""
    return np.divide(champion - challenger, champion, out=np.zeros(len(champion)), where=champion > 0)
