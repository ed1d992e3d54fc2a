"""The decision threshold that travels with a model, chosen on rows the scored model has not seen."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from stationkeeper.retrain.core.measures import Flags, Floats

LEAST_RECALL = 0.5
"""A precision target must keep at least this share of the recall of ``f1``, chosen: a champion that alerted rarely and
surely before the change would otherwise force a challenger to stay silent. Near 1 the target is never kept; near 0 a
model that finds almost nothing passes for a careful one."""

FALLBACK_RECALL = 0.75
"""The share of the recall of ``f1`` that is kept where the target costs too much, chosen between the two: the highest
precision at half the recall would alert on lucky rows, at all of it there would be no precision to gain."""


class ThresholdRule(StrEnum):
    """How a threshold is chosen."""

    KEEP_PRECISION = "keep-precision"
    F1 = "f1"
    ALERT_RATE = "alert-rate"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A chosen threshold, the rule that chose it in the end and what it does on the rows it was chosen on."""

    value: float
    rule: ThresholdRule
    precision: float
    recall: float
    detail: str


@dataclass(frozen=True, slots=True)
class _Cuts:
    """The distinct places to cut n sorted scores: alerts, hits and the threshold of each, shape ``(k,)``."""

    alerts: Floats
    hits: Floats
    values: Floats
    positives: float

    def at(self, cut: int, rule: ThresholdRule, detail: str) -> Threshold:
        alerts, hits = float(self.alerts[cut]), float(self.hits[cut])
        recall = hits / self.positives if self.positives else 0.0
        return Threshold(float(self.values[cut]), rule, hits / alerts, recall, detail)


def choose_threshold(
    labels: Flags,
    scores: Floats,
    rule: ThresholdRule,
    *,
    precision: float | None = None,
    alert_rate: float = 0.01,
    weights: Floats | None = None,
) -> Threshold:
    """Return the threshold by ``rule`` for scores in [0, 1]; shapes ``(n,)``, O(n log n).

    With ``weights`` float64[n] (``core.selection``) each row counts as many; they are of mean 1.

    ``keep-precision`` takes the most alerts whose precision is at least ``precision``, where the precision of a cut
    is read from the best monotone fit of the labels on the scores, so that a lucky run of labels does not set it. It
    takes no more alerts than ``f1`` does: past that cut both precision and F1 fall, and a model that is better than
    its target would spend the difference on alerts that are mostly wrong.
    Without a target it is ``f1``; where the target leaves less than ``LEAST_RECALL`` of the recall of ``f1`` it is the
    highest precision that leaves ``FALLBACK_RECALL``. Raises ``ValueError`` without rows or without positives.
    """
    if len(labels) == 0 or not labels.any():
        raise ValueError(f"a threshold needs positive labels, got {int(labels.sum())} in {len(labels)} rows")
    cuts = _cut(labels, scores, np.ones(len(labels)) if weights is None else weights)
    if rule is ThresholdRule.ALERT_RATE:
        # At least one alert: with none there is no threshold to name.
        wanted = max(1, round(alert_rate * len(labels)))
        cut = max(0, int(np.searchsorted(cuts.alerts, wanted, side="right")) - 1)
        return cuts.at(cut, rule, f"{cuts.alerts[cut]:.0f} of {len(labels)} rows, asked {alert_rate:.4g}")
    f1 = 2.0 * cuts.hits / (cuts.alerts + cuts.positives)
    best = int(np.argmax(f1))
    if rule is ThresholdRule.F1 or precision is None:
        return cuts.at(best, ThresholdRule.F1, f"largest F1 {f1[best]:.4f}")
    # Precision of the fit, not of the counts: the counted precision of the first few alerts is 1.0 or 0.0 by luck.
    smooth = np.cumsum(_monotone_rates(cuts)) / cuts.alerts
    # 1e-12 is rounding: a champion measured against itself must reach its own precision.
    reached = np.flatnonzero(smooth >= precision - 1e-12)
    if len(reached) and reached[-1] >= best:
        return cuts.at(best, rule, f"largest F1 {f1[best]:.4f}, precision not below the champion's {precision:.4f}")
    if len(reached) and cuts.hits[reached[-1]] >= LEAST_RECALL * cuts.hits[best]:
        return cuts.at(int(reached[-1]), rule, f"precision of the champion before the change {precision:.4f}")
    kept = np.flatnonzero(cuts.hits >= FALLBACK_RECALL * cuts.hits[best])
    # Shares of small counts that are equal may differ in their last digit.
    highest = kept[np.flatnonzero(smooth[kept] >= smooth[kept].max() - 1e-12)[-1]]
    text = (
        f"precision {precision:.4f} is out of reach; the highest that keeps {FALLBACK_RECALL:.0%} of the recall of f1"
    )
    return cuts.at(int(highest), rule, text)


def _cut(labels: Flags, scores: Floats, weights: Floats) -> _Cuts:
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    # Half way to the next lower score: rounding to float32 in a server cannot move a row across.
    # Under the lowest score there is no next one: a millionth below lets every row pass.
    below = np.append(ranked[last[:-1] + 1], np.maximum(ranked[-1] - 1e-6, 0.0))
    values = np.clip((ranked[last] + below) / 2.0, 0.0, 1.0)
    alerts, hits = np.cumsum(weights[order])[last], np.cumsum((weights * labels)[order])[last]
    return _Cuts(alerts, hits, values, float(hits[-1]))


def _monotone_rates(cuts: _Cuts) -> Floats:
    """Return the expected hits of each cut's own rows under the monotone fit (pool adjacent violators), ``(k,)``.

    Barlow et al. 1972: the fit is the slope of the least concave majorant of cumulated hits over cumulated rows.
    """
    rows = np.diff(cuts.alerts, prepend=0)
    hits = np.diff(cuts.hits, prepend=0).astype(float)
    weight: list[float] = []
    level: list[float] = []
    size: list[int] = []
    for n, h in zip(rows.tolist(), hits.tolist(), strict=True):
        weight.append(float(n))
        level.append(h / n)
        size.append(1)
        while len(level) > 1 and level[-2] < level[-1]:
            total = weight[-2] + weight[-1]
            level[-2] = (level[-2] * weight[-2] + level[-1] * weight[-1]) / total
            weight[-2] = total
            size[-2] += size[-1]
            del weight[-1], level[-1], size[-1]
    return np.repeat(level, size) * rows
