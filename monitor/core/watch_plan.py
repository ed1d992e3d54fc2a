"""What a watch is told, and what it consists of: budgets, detectors and tests by reference, settings and segment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stationkeeper.contracts.messages import SubjectType
from stationkeeper.contracts.times import UTC_ZONE, days_between
from stationkeeper.monitor.core.adoption import AdoptionPeriod, SlowSeason
from stationkeeper.monitor.core.budget import EFFECT_FLOOR, WARNINGS_A_PAGE, Budget, log_thresholds, split_alpha
from stationkeeper.monitor.core.detect import (
    LABEL_SHIFT_FLOOR,
    DetectorPlan,
    Drift,
    LabelShift,
    effect_floor,
    plan_subject,
    tells_label_shift,
)
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.performance import (
    APPROVAL,
    RATES,
    TOLERANCE,
    ErrorSize,
    Fairness,
    FairnessRules,
    Performance,
    judged,
)
from stationkeeper.monitor.core.quality import own_traffic
from stationkeeper.monitor.core.reference import Reference, Task

# The groups of `budget.SHARES` that have a drift detector each.
_GROUPS = {SubjectType.FEATURE: "features", SubjectType.PREDICTION: "prediction", SubjectType.JOINT: "joint"}


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What a watch is told: the model's budget, its segments, the effect floor and the chart window (clock units).

    ``segments`` are all segments of the model, "" (all traffic) first. ``adoption`` is how long
    everything but quality is held back where the reference's dependence is unknown, until live panes taught it; None
    judges at once. ``ignore`` names data-quality checks that must stay silent;
    ``tolerance`` is how far a quality rate may rise, ``stale_after`` the silence after which data are stale; None keeps
    what is learned. ``learn_traffic`` is how long (ms) live panes teach volume and freshness by hour of
    the week where the reference does not; None leaves them unjudged. ``error_tolerance`` is how far the error rate, and
    the share of positives at a score, may rise unremarked. ``timezone`` is the zone whose clock tells the hours that
    live panes teach; a reference with hours of its own keeps the zone that it was made in.
    ``follow_seasons`` lets the reference of drift follow a slow season (`SlowSeason`); not where the clock counts rows.
    ``fairness`` says which dimensions the watch of all traffic compares. ``holidays`` are days after 1970-01-01, by the
    clock of ``timezone``, whose drift and volume are neither judged nor learned from.
    """

    # One page in 30 days of minutes: what somebody on call bears for a model that is well (docs/statistics.md).
    budget: Budget = field(default_factory=lambda: Budget(1.0, 43_200.0, "minutes"))
    segments: tuple[str, ...] = ("",)
    # How many false warnings go with one false page, see `budget`.
    warnings_a_page: float = WARNINGS_A_PAGE
    # How much of the traffic may change cell unremarked.
    delta: float = EFFECT_FLOOR
    # An hour: short enough to show what an incident did, long enough for a few hundred rows of a quiet model.
    window: int = 3_600_000
    adoption: int | None = None
    ignore: tuple[str, ...] = ()
    tolerance: float | None = None
    stale_after: int | None = None
    learn_traffic: int | None = None
    error_tolerance: float = TOLERANCE
    timezone: str = UTC_ZONE
    fairness: FairnessRules | None = None
    holidays: frozenset[int] = frozenset()
    follow_seasons: bool = True


def declared(settings: WatchSettings, pane: Pane) -> bool:
    """Return whether a pane lies in part on a day that was declared to be none like the others."""
    # Panes are aligned to UTC: one of a day holds parts of two days of most zones.
    days = days_between(pane.start, pane.end, settings.timezone) if settings.holidays else ()
    return any(day in settings.holidays for day in days)


def slow_season(reference: Reference, settings: WatchSettings) -> SlowSeason | None:
    """Return what follows slow seasons, or stands still; None where the clock counts rows, which know no week."""
    if settings.budget.clock == "rows" or not reference.watched:
        return None
    return SlowSeason(reference, settings.delta, still=not settings.follow_seasons)


def adoption_period(reference: Reference, settings: WatchSettings) -> AdoptionPeriod | None:
    """Return the period that teaches a reference without order of time, None where it needs none or nobody wants it."""
    if settings.adoption is None or reference.adopted:
        return None
    return AdoptionPeriod(reference, settings.adoption, settings.timezone)


def split_budget(reference: Reference, settings: WatchSettings, segment: str) -> Mapping[str, float]:
    """Return the false pages per unit of the clock of each group of subjects that a watch judges in a segment."""
    groups = [name for type_, name in _GROUPS.items() if any(s.type is type_ for s in reference.watched)]
    if tells_label_shift(reference.prediction, reference.labels):
        groups.append("label_shift")
    if judged(reference) is not None:
        groups.append("performance")
    if compares(reference, settings, segment):
        groups.append("fairness")
    groups.append("quality")
    # What live panes teach of traffic warns and spends nothing; only a reference's own may page.
    if own_traffic(reference) is not None:
        groups.append("volume")
    split = split_alpha(settings.budget.alpha, groups, settings.segments)
    return {group: split[group, segment] for group in groups}


def watched_performance(
    reference: Reference, segment: str, alphas: Mapping[str, float], settings: WatchSettings
) -> Performance | ErrorSize | None:
    """Return what judges the labels of a reference: of answers, of numbers, or None where it has none."""
    labels = judged(reference)
    if labels is None:
        return None
    if labels.numeric:
        return ErrorSize(labels, alphas["performance"], len(settings.segments))
    key = b"\0".join(part.encode() for part in (reference.model, reference.version, segment))
    return Performance(labels, alphas["performance"], len(settings.segments), settings.error_tolerance, key)


def compares(reference: Reference, settings: WatchSettings, segment: str) -> bool:
    """Return whether a watch compares segments: that of all traffic, of a model that decides between two answers."""
    return settings.fairness is not None and not segment and reference.task in {None, Task.BINARY}


def watched_fairness(
    reference: Reference, settings: WatchSettings, segment: str, alphas: Mapping[str, float]
) -> Fairness | None:
    """Return what compares the segments of a watch, None where nothing is declared or it decides nothing."""
    if settings.fairness is None or not compares(reference, settings, segment):
        return None
    # Decisions and errors lean on each other as the scores and the labelled rows of the reference do.
    labelled = 1.0 if reference.labels is None else reference.labels.phi
    decided = 1.0 if reference.prediction is None else reference.prediction.inflation
    phi = {name: decided if k == APPROVAL else labelled for k, name in enumerate(RATES)}
    return Fairness(settings.fairness, alphas["fairness"], phi)


def plan_drifts(
    reference: Reference, settings: WatchSettings, segment: str, alphas: Mapping[str, float]
) -> tuple[Drift, ...]:
    """Return the drift detectors of a reference: for its features, prediction and pairs, where it has them."""
    drifts = []
    for type_, group in _GROUPS.items():
        chosen = [subject for subject in reference.watched if subject.type is type_]
        if chosen:
            planned = tuple(plan_subject(subject, settings.delta) for subject in chosen)
            plan = DetectorPlan(
                reference.model,
                reference.version,
                segment,
                planned,
                alphas[group],
                segments=len(settings.segments),
            )
            shift = _label_shift(reference, settings, alphas) if type_ is SubjectType.PREDICTION else None
            drifts.append(Drift(reference, type_, plan, shift))
    return tuple(drifts)


def _label_shift(reference: Reference, settings: WatchSettings, alphas: Mapping[str, float]) -> LabelShift | None:
    """The detector of more or fewer positives, where the reference knows the scores of both classes."""
    subject, labels = reference.prediction, reference.labels
    if "label_shift" not in alphas or subject is None or labels is None:
        return None
    floor = effect_floor(LABEL_SHIFT_FLOOR * settings.delta, subject.day_floor or 0.0)
    limit = float(log_thresholds(alphas["label_shift"], [1.0])[0])
    return LabelShift(subject, labels, floor, limit, len(settings.segments))
