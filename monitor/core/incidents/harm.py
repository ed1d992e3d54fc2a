"""What an incident costs: points of the model's measure since its onset, by labels, else by what the scores say."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stationkeeper.contracts.messages import VerdictKind
from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.incidents.incident import Incident
from stationkeeper.monitor.core.performance import MIN_LABELS, VALUE, Measure, estimate
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import Counts, Labels

ACCURACY, ERROR = "accuracy", "mae"
"""The measures that harm is told in: of answers the one that `requests.cost` counts, of numbers the mean error."""

# Causes by which inputs hold what the reference never saw: what a score stands for in such rows is not known.
NEW_VALUES = frozenset({Cause.NEW_CATEGORY, Cause.OUT_OF_RANGE})

# Kinds that are harm by themselves: labels have shown it, at the budget of pages.
_SHOWN = frozenset({VerdictKind.PERFORMANCE, VerdictKind.CONCEPT_DRIFT})


class Harm(State, frozen=True):
    """What an incident costs a row: ``lost`` of ``measure`` (95 %: ``low`` to ``high``; above 0 is worse).

    ``usual`` is the measure on the reference, ``value`` what a row brings less, in the unit of the model's ``value``.
    ``void`` is the share of rows of which no estimate can be made. With source ``unknown`` only ``reason`` and
    ``void`` say something.
    """

    source: Literal["measured", "estimated", "unknown"]
    reason: str
    measure: str = ""
    lost: float = 0.0
    low: float = 0.0
    high: float = 0.0
    usual: float = 0.0
    rows: int = 0
    value: float | None = None
    void: float = 0.0


@dataclass(frozen=True, slots=True)
class HarmRules:
    """From where on an incident does harm: a loss above ``tolerance``, or an estimate void on more than ``void``.

    ``tolerance`` is in points of 1, and of a mean error relative to the usual one; ``void`` is a share of the rows.
    """

    # A point, as for the detectors (`performance.TOLERANCE`): at half the reference's own wear counts as harm, at
    # double two points of accuracy are lost without a word.
    tolerance: float = 0.01
    # One row in twenty: if half of those go wrong, 2.5 points are lost. At half of it any new shop or route that comes
    # up counts as harm; at double five points may be lost on rows that nobody can judge.
    void: float = 0.05


def harm_by_labels(now: Mapping[str, Measure], usual: Mapping[str, Measure]) -> Harm | None:
    """Return the loss that mature labels since an onset show, None where they are too few or no reference has any.

    ``now`` and ``usual`` are measures by name. Both intervals count, so that it is wider than 95 %. By hand: 90 of 100
    right on the reference and 80 of 100 now lose ten points.
    """
    name = ERROR if ERROR in usual else ACCURACY
    found, before = now.get(name), usual.get(name)
    if found is None or before is None or found.rows < MIN_LABELS or not math.isfinite(found.value - before.value):
        return None
    sign = 1.0 if name == ERROR else -1.0
    ends = sorted((sign * (found.low - before.high), sign * (found.high - before.low)))
    worth = None
    if VALUE in now and VALUE in usual and math.isfinite(now[VALUE].value - usual[VALUE].value):
        worth = usual[VALUE].value - now[VALUE].value
    lost = sign * (found.value - before.value)
    told = f"measured on {found.rows} labelled rows since the onset"
    return Harm("measured", told, name, lost, ends[0], ends[1], before.value, found.rows, worth)


def harm_by_scores(scores: Counts, labels: Labels, threshold: float, calibrated: Labels | None = None) -> Harm | None:
    """Return the loss that scores int64[32] since an onset let expect, None without any; see `estimate`.

    It is told from the estimate of the reference's own scores, so that what both share of its error falls away.
    ``calibrated`` are the ``labels`` of the reference as mature ones have refreshed them.
    """
    stands = labels if calibrated is None else calibrated
    found = estimate(scores, stands, threshold)
    now, usual = found.measures[ACCURACY], estimate(labels.scored.sum(1), stands, threshold).measures[ACCURACY]
    if not now.rows or not usual.rows:
        return None
    told = f"estimated from the scores of {now.rows} rows since the onset, without labels"
    lost, low, high = (usual.value - one for one in (now.value, now.high, now.low))
    return Harm("estimated", told, ACCURACY, lost, low, high, usual.value, now.rows, void=found.novel)


def void_share(incident: Incident) -> float:
    """Return the share of rows in which a subject of an incident moved to values that the reference never saw."""
    # Of the leader alone the cause is kept; what joined with it is no larger in most incidents.
    if incident.cause not in NEW_VALUES or incident.member(incident.leader) is None:
        return 0.0
    return min(max(incident.leading.effect, 0.0), 1.0)


def does_harm(incident: Incident, harm: Harm, rules: HarmRules) -> bool:
    """Return whether an incident has shown harm, or is about rows of which nobody can tell.

    A loss counts once its interval excludes none at all: noise is above a tolerance half of the time. Errors that rose
    or a concept that changed are harm that has shown, also where they joined an incident that drift had opened.
    """
    if incident.kind in _SHOWN or not _SHOWN.isdisjoint(incident.kinds):
        return True
    scale = harm.usual if harm.measure == ERROR else 1.0
    if harm.source != "unknown" and harm.low > 0 and harm.lost > rules.tolerance * scale:
        return True
    return harm.source != "measured" and harm.void > rules.void


def harm_words(harm: Harm) -> str:
    """Return what an incident costs in one sentence without its stop."""
    if harm.source == "unknown":
        return f"what it costs is unknown: {harm.reason}"
    if harm.measure == ERROR:
        amount = f"{harm.lost:.3g} of mean error ({harm.low:.3g} to {harm.high:.3g}; usually {harm.usual:.3g})"
    else:
        points = [f"{100 * one:.1f}" for one in (harm.lost, harm.low, harm.high)]
        amount = f"{points[0]} points of {harm.measure} ({points[1]} to {points[2]})"
    worth = "" if harm.value is None else f" and {harm.value:.3g} of value a row"
    unsure = f"; it says nothing of {harm.void:.0%} of the rows" if harm.void and harm.source == "estimated" else ""
    return f"costs {amount}{worth}, {harm.reason}{unsure}"
