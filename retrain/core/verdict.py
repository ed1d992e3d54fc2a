"""The whole verdict on a challenger: the paired comparison, and everything that may forbid what it allows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from stationkeeper.contracts.messages import GateOutcome
from stationkeeper.retrain.core.gate import (
    GateRules,
    GateVerdict,
    blocks_of,
    judge_binary,
    judge_classes,
    judge_regression,
    paired_interval,
)
from stationkeeper.retrain.core.measures import Flags, Floats, calibration_error, class_loss_rows, log_loss_rows
from stationkeeper.retrain.core.segments import Groups, SegmentRules, numbers, protected_gaps, segment_harm
from stationkeeper.retrain.core.selection import Selection
from stationkeeper.retrain.core.value import Worth, value_columns, value_gain

CALIBRATION = "calibration_error"
"""The measured thing that comes from the rows themselves; the others are told by whoever loaded the model."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Champion and challenger on the same n held-out rows in time order, and what is known of the challenger besides.

    ``labels`` is float64[n]: 1.0 for the positive class, the index of the class, or the value. Scores are float64[n],
    of several classes float64[n, k]. ``thresholds`` are the champion's and the challenger's. ``schema`` says in words
    which inputs mean another thing than the champion's; ``measured`` holds what limits may be set on. ``worth`` is what
    decisions of two classes are worth, by ``amounts`` float64[n] (NaN where unknown) where it names some. ``weights``
    float64[n] say for how many rows each stands, None where each stands for itself; ``selection`` says of whom no label
    tells.
    """

    task: Literal["binary", "multiclass", "regression"]
    labels: Floats
    champion: Floats
    challenger: Floats
    after: Flags
    thresholds: tuple[float, float] = (0.5, 0.5)
    groups: Groups = field(default_factory=dict)
    schema: tuple[str, ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict)
    worth: Worth | None = None
    amounts: Floats | None = None
    weights: Floats | None = None
    selection: Selection | None = None

    @property
    def each(self) -> Floats:
        """For how many rows each stands."""
        return np.ones(len(self.labels)) if self.weights is None else self.weights


def judge(compared: Compared, rules: GateRules, segments: SegmentRules, limits: Mapping[str, float]) -> GateVerdict:
    """Judge a challenger by everything that is asked of one; absence of an answer never passes.

    The comparison overall, what forbids it whatever that says (no numbers, changed inputs, limits), and harm in a
    segment and between protected groups. FAIL goes before NO_EVIDENCE, that before PASS.
    """
    silent = _silent(compared)
    if silent is not None:
        return silent
    base = _compare(compared, rules)
    found: list[tuple[GateOutcome, str]] = [(GateOutcome.FAIL, text) for text in compared.schema]
    details = dict(base.numbers)
    measured = dict(compared.measured)
    if compared.task == "binary":
        measured[CALIBRATION] = calibration_error(compared.labels == 1.0, compared.challenger, compared.weights)
    details["measured"] = {name: round(value, 6) for name, value in measured.items()}
    found += _against(limits, measured)
    if compared.selection is not None:
        details["selection"] = asdict(compared.selection)
        found += _unseen(compared.selection, rules)
    details |= _value(compared, rules, found)
    level = rules.alpha / rules.looks
    harm = segment_harm(
        compared.groups,
        _losses(compared),
        compared.after,
        lambda rows: _ignorance(compared, rows),
        segments,
        rules.blocks,
        compared.weights,
    )
    details["segments"] = numbers(harm)
    found += [(GateOutcome.FAIL, f"worse in segment {one}") for one in harm if one.within(level)]
    gaps, words = _fairness(compared, rules, segments, level)
    if gaps:
        details["protected"] = gaps
    found += words
    # Whatever the verdict: it is one of the labelled rows, and who reads it must know whom they do not tell of.
    whom = f"; {compared.selection.words()}" if compared.selection is not None else ""
    for outcome in (GateOutcome.FAIL, GateOutcome.NO_EVIDENCE):
        # The comparison first: of several reasons the last are cut, and it is what the gate is for.
        reasons = [base.reason] if base.outcome is outcome else []
        reasons += [text for kind, text in found if kind is outcome]
        if reasons:
            # A few: a reason is a line of a log; all of them are in the numbers.
            return GateVerdict(outcome, "; ".join(reasons[:MOST]) + whom, details)
    judged = f"; none of {len(harm)} segments worse" if harm else ""
    gone = [f"{one.name} (lost {one.lost:.0%}, p of no gain since {one.since:.2g})" for one in harm if one.p <= level]
    judged += f" since the change; before it {', '.join(gone[:MOST])}" if gone else ""
    judged += _left_out(details.get("value", {}).get("without_amount", 0), compared)
    return GateVerdict(base.outcome, base.reason + judged + whom, details)


MOST = 4
"""Reasons that one verdict tells, chosen: what a person reads in one line of a list."""


def _unseen(selection: Selection, rules: GateRules) -> list[tuple[GateOutcome, str]]:
    """Return why rows without a label forbid a verdict: where the new model decides too many of them otherwise.

    What nobody stands for may all be as bad as it can (Manski 1990, "Nonparametric bounds on treatment effects"): the
    share of all rows that are decided otherwise there is the most by which the challenger can be worse than it seems.
    """
    if selection.flipped is None or selection.flipped <= rules.unlabelled_margin * selection.rows:
        return []
    share = f"{selection.flipped} of {selection.rows} matured rows get another decision and never a label"
    text = f"{share}, at most {rules.unlabelled_margin:.0%} may (gate.unlabelled_margin)"
    return [(GateOutcome.NO_EVIDENCE, text)]


def _silent(compared: Compared) -> GateVerdict | None:
    """Return the verdict where a model gives no number: comparisons with NaN are false, and would let anything pass."""
    if not len(compared.labels):
        return GateVerdict(GateOutcome.NO_EVIDENCE, "no held-out row is left to judge on", {})
    for name, scores, outcome in (
        ("challenger", compared.challenger, GateOutcome.FAIL),
        ("champion", compared.champion, GateOutcome.NO_EVIDENCE),
    ):
        missing = int((~np.isfinite(scores)).reshape(len(scores), -1).any(axis=1).sum())
        if missing:
            return GateVerdict(outcome, f"the {name} answers no number on {missing} of {len(scores)} held-out rows")
    return None


def _compare(compared: Compared, rules: GateRules) -> GateVerdict:
    old, new = compared.champion, compared.challenger
    if compared.task == "regression":
        return judge_regression(compared.labels, old, new, compared.after, rules, compared.weights)
    if compared.task == "multiclass":
        return judge_classes(compared.labels.astype(np.int64), old, new, compared.after, rules, compared.weights)
    pair = ((old, compared.thresholds[0]), (new, compared.thresholds[1]))
    return judge_binary(compared.labels == 1.0, *pair, compared.after, rules, compared.weights)


def _value(compared: Compared, rules: GateRules, found: list[tuple[GateOutcome, str]]) -> dict[str, Any]:
    """Return the interval of the value gained, and add to ``found`` what it forbids: no worse than ``margin`` overall.

    In shares of what the decisions on these rows could win, so that the margin means the same in every currency.
    """
    if compared.worth is None or compared.task != "binary":
        return {}
    truth = compared.labels == 1.0
    old, new = (
        scores >= cut for scores, cut in zip((compared.champion, compared.challenger), compared.thresholds, strict=True)
    )
    columns = value_columns(truth, (old, new), compared.worth, compared.amounts)
    if isinstance(columns, str):
        found.append((GateOutcome.NO_EVIDENCE, f"value: {columns}"))
        return {}
    missing = 0 if compared.amounts is None else int((~np.isfinite(compared.amounts)).sum())
    but = _left_out(missing, compared)
    columns = columns * compared.each[:, None]
    cells = blocks_of(columns, np.ones(len(columns), bool), rules.blocks)
    interval = paired_interval(cells, value_gain, rules.alpha / rules.looks, rules.replicates, rules.seed)
    if interval.high < -rules.margin:
        found.append((GateOutcome.FAIL, f"worth less overall: {interval} of what could be won{but}"))
    elif interval.low < -rules.margin:
        found.append((GateOutcome.NO_EVIDENCE, f"may be worth less overall: {interval} of what could be won{but}"))
    won = dict(zip(("champion", "challenger", "possible"), columns.sum(axis=0).round(6).tolist(), strict=True))
    return {"value": asdict(interval) | won | {"without_amount": missing}}


def _left_out(missing: int, compared: Compared) -> str:
    """Return how many rows are no part of the value, "" where all are: said beside what was judged without them."""
    name = compared.worth.amount if compared.worth is not None else ""
    return f"; {missing} of {len(compared.labels)} rows have no {name} and no part in the value" if missing else ""


def _losses(compared: Compared) -> Floats:
    """Return the loss of each row under champion and challenger, float64[n, 2]."""
    pair = (compared.champion, compared.challenger)
    if compared.task == "regression":
        found = [np.abs(scores - compared.labels) for scores in pair]
    elif compared.task == "multiclass":
        found = [class_loss_rows(compared.labels.astype(np.int64), scores) for scores in pair]
    else:
        found = [log_loss_rows(compared.labels == 1.0, scores) for scores in pair]
    return np.stack(found, axis=1)


def _ignorance(compared: Compared, rows: Flags) -> float:
    """Return the mean loss of the best answer that is the same for all rows: entropy, or deviation from the median."""
    labels, each = compared.labels[rows], compared.each[rows]
    if not len(labels):
        return 0.0
    if compared.task == "regression":
        return float(np.average(np.abs(labels - _weighted_median(labels, each)), weights=each))
    shares = np.bincount(np.unique(labels, return_inverse=True)[1], each) / each.sum()
    return float(-(shares * np.log(shares)).sum())


def _weighted_median(values: Floats, weights: Floats) -> float:
    """Return a value with at most half of the weight on either side; O(n log n).

    By hand: of 1, 2 and 10 with weights 1, 1 and 3 it is 10; of equal weights 2.
    """
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(mass, mass[-1] / 2.0)]])


def _against(limits: Mapping[str, float], measured: Mapping[str, float]) -> list[tuple[GateOutcome, str]]:
    found = []
    for name, limit in sorted(limits.items()):
        value = measured.get(name)
        if value is None:
            found.append((GateOutcome.NO_EVIDENCE, f"{name} was not measured, its limit is {limit:g}"))
        # Written so that NaN fails.
        elif not value <= limit:
            found.append((GateOutcome.FAIL, f"{name} is {value:.4g}, the limit is {limit:g}"))
    return found


def _fairness(
    compared: Compared, rules: GateRules, segments: SegmentRules, level: float
) -> tuple[dict[str, Any], list[tuple[GateOutcome, str]]]:
    """Return the gaps of each protected dimension, and where one is wider than the champion's or cannot be told."""
    details: dict[str, Any] = {}
    found: list[tuple[GateOutcome, str]] = []
    if not segments.protected:
        return details, found
    blocks = min(rules.blocks, len(compared.labels))
    draws = np.random.default_rng(rules.seed).multinomial(blocks, np.full(blocks, 1.0 / blocks), size=rules.replicates)
    pair = zip((compared.champion, compared.challenger), compared.thresholds, strict=True)
    old, new = (scores >= threshold for scores, threshold in pair)
    for name in segments.protected:
        if compared.task != "binary" or name not in compared.groups:
            why = "no held-out row carries it" if compared.task == "binary" else f"a {compared.task} has no such rates"
            found.append((GateOutcome.NO_EVIDENCE, f"protected {name}: {why}"))
            continue
        # Three rates a dimension, each may be the one that fails (Bonferroni).
        alpha = level / (3 * len(segments.protected))
        gaps = protected_gaps(compared.groups[name], compared.labels == 1.0, (old, new), draws, alpha, compared.weights)
        if isinstance(gaps, str):
            found.append((GateOutcome.NO_EVIDENCE, f"protected {name}={gaps}"))
            continue
        details[name] = [asdict(gap) for gap in gaps]
        for gap in gaps:
            if gap.low > segments.gap:
                found.append((GateOutcome.FAIL, f"protected {name}: wider gap of the {gap}"))
            elif gap.high > segments.gap:
                found.append((GateOutcome.NO_EVIDENCE, f"protected {name}: maybe a wider gap of the {gap}"))
    return details, found
