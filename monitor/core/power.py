"""The power card: what a reference, a budget and a traffic can see, in closed form, before anything runs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.contracts.masking import printable
from stationkeeper.contracts.messages import SubjectType
from stationkeeper.contracts.model_status import PowerLine
from stationkeeper.monitor.core.adoption import FEW_DAYS
from stationkeeper.monitor.core.budget import EFFECT_FLOOR, Budget, log_thresholds
from stationkeeper.monitor.core.detect import (
    ADAPTIVE_WEIGHT,
    ETA,
    PART_SHARE,
    RANK_CELLS,
    AlternativeTable,
    Grouping,
    PlannedSubject,
    RateDetector,
    ReferenceCells,
    normal_cdf,
    normal_ppf,
    place_bets,
    plan_subject,
)
from stationkeeper.monitor.core.quality import TOLERANCE, TRACE_SHARE, UNSEEN_TOLERANCE, rate_count
from stationkeeper.monitor.core.reference import QUALITY, CategoricalCells, Kind, Reference, ReferenceSubject
from stationkeeper.monitor.core.watch_plan import WatchSettings, split_budget

# What people ask: is it found while somebody is awake, is it found today.
HORIZONS = {"1 hour": 1.0, "1 day": 24.0}
# Beyond these a change is no longer sought: what needs more than 4 sd, six times the spread or 90 % of the rows is not
# found at this traffic, and the card says "none".
LARGEST_SHIFT = 4.0
LARGEST_SCALE = 6.0
LARGEST_SHARE = 0.9
# Halvings of the bisection: 4 sd / 2^14 is far below the two digits that are printed.
_STEPS = 14
# Steps of the growing bag's integral, quadratic in time because a bag absorbs fastest at first; the benchmark `power`
# compares the result with simulation. Chosen: twice as many take twice as long.
_GRID = 12
# One minute, the default pane of a model: a card is asked for before there is a configuration.
_PANE_MS = 60_000
# Thirty days: the card tells false pages a month.
_MONTH_HOURS = 720.0
# The normal scores on which ranks are integrated: beyond 9 sd there is no mass (1e-19); steps of .025 sd.
_AXIS: Floats = np.linspace(-9.0, 9.0, 721)

Law = Callable[[Floats], Floats]
"""The distribution function of a changed feature on the normal-score scale of the reference."""


@dataclass(frozen=True, slots=True)
class SubjectPower:
    """What is found of one subject within each horizon, in half of the cases; None where not even the largest is.

    ``shift`` in reference standard deviations, ``scale`` as a factor above 1, ``new_category`` and ``missing`` as
    shares of the traffic; ``false_pages`` a month is this subject's part of the budget for drift.
    """

    subject: str
    false_pages: float
    shift: dict[str, float | None]
    scale: dict[str, float | None]
    new_category: dict[str, float | None]
    missing: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class PowerCard:
    """The power of every subject at one traffic and budget; ``notes`` say what the reference knows badly."""

    subjects: tuple[SubjectPower, ...]
    rows_per_hour: float
    budget: str
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the card as lines for a terminal."""
        lines = [
            f"power card at {self.rows_per_hour:.0f} rows an hour, false pages at most {self.budget}",
            f"{'subject':24} {'false/month':>11}  smallest found within 1 hour / 1 day",
        ]
        # 24 characters of a name leave the rest of a terminal's line for the numbers.
        for power in self.subjects:
            parts = []
            if power.shift:
                parts.append(f"shift {_pair(power.shift, '{:.2f} sd')}")
                parts.append(f"scale {_pair(power.scale, 'x{:.2f}')}")
            if power.new_category:
                parts.append(f"new category {_pair(power.new_category, '{:.1%}')}")
            parts.append(f"missing {_pair(power.missing, '{:.1%}')}")
            lines.append(f"{printable(power.subject)[:24]:24} {power.false_pages:11.4f}  {', '.join(parts)}")
        return "\n".join([*lines, *self.notes])

    def lines(self) -> list[PowerLine]:
        """Return the shifts and new-category shares as the status page shows them."""
        out: list[PowerLine] = []
        for power in self.subjects:
            kinds = ((power.shift, "standard deviations"), (power.new_category, "share of a new category"))
            for found, unit in kinds:
                for within, smallest in found.items():
                    if smallest is not None:
                        out.append(PowerLine(subject=power.subject, within=within, shift=smallest, unit=unit))
        return out


def power_card(
    reference: Reference,
    budget: Budget,
    *,
    rows_per_hour: float,
) -> PowerCard:
    """Return the card of a reference at a constant traffic; raises ``ValueError`` unless ``rows_per_hour`` > 0.

    The expected log e-value of a row of the clipped tables under the changed law is its growth g; evidence after n
    rows is about log(w e (1 + 1/B sum exp(-g t))) + n g / phi for weight w, e budget units and B rows a pane; found
    where it reaches the threshold. The conformal bag absorbs what it ranks: its growth is integrated along the way.
    ``benchmarks/rules/power.py`` compares with simulation. O(subjects steps rows cells).
    """
    if not rows_per_hour > 0:
        raise ValueError(f"rows_per_hour must be above 0, got {rows_per_hour}")
    rows = rows_per_hour * _PANE_MS / 3_600_000
    clock = _BudgetClock(rows, budget.elapsed(max(round(rows), 1), _PANE_MS))
    hours = _MONTH_HOURS * (rows_per_hour if budget.clock == "rows" else 60.0)
    alphas = split_budget(reference, WatchSettings(budget=budget), "")
    out = []
    for group, type_ in (("features", SubjectType.FEATURE), ("prediction", SubjectType.PREDICTION)):
        subjects = [subject for subject in reference.subjects if subject.type is type_]
        if not subjects:
            continue
        planned = [plan_subject(subject, EFFECT_FLOOR) for subject in subjects]
        importance = np.array([p.importance for p in planned])
        limits = log_thresholds(alphas[group], importance, [2 if p.kind == "numeric" else 1 for p in planned])
        quality = float(log_thresholds(alphas["quality"] * (1 - TRACE_SHARE), np.ones(rate_count(reference)))[0])
        eta = ETA / (len(subjects) * max(len(planned[0].reference), 1))
        for subject, plan, limit in zip(subjects, planned, limits, strict=True):
            share = plan.importance / importance.sum()
            out.append(
                SubjectPower(
                    subject=subject.name,
                    false_pages=alphas[group] * share * hours,
                    **_drift_power(subject, plan, float(limit), eta, clock, rows_per_hour),
                    **_rate_power(subject, quality, ETA / rate_count(reference), clock, rows_per_hour),
                )
            )
    notes = tuple(note for note in reference.notes if note.startswith(FEW_DAYS))
    return PowerCard(tuple(out), rows_per_hour, str(budget), notes)


@dataclass(frozen=True, slots=True)
class _BudgetClock:
    """Rows a pane, and what a pane adds to the budget clock."""

    rows: float
    elapsed: float

    def evidence(self, growth: Floats, weight: Floats, times: Floats) -> float:
        """log e-SR after ``times[-1]`` rows, for growth [J, L] a row at ``times`` [J] and weights [L]."""
        steps = np.diff(times, prepend=0.0)[:, None]
        total = np.cumsum(growth * steps, axis=0)
        middle = total - growth * steps / 2
        # Evidence that started later grew for less time. The clip keeps exp and its sum over a day of rows finite:
        # beyond e^50 evidence shrinks, and nothing is found anyway. Rows a pane are above 0, a quiet model's far below
        # 1.
        starts = 1.0 + (np.exp(np.clip(-middle, -700, 50)) * steps).sum(0) / max(self.rows, 1e-9)
        with np.errstate(divide="ignore"):
            score = total[-1] + np.log(starts * self.elapsed) + np.log(weight)
        top = float(score.max())
        if top == -np.inf:
            return top  # no alternative has any weight on this subject
        return top + float(np.log(np.exp(score - top).sum()))


def _drift_power(
    subject: ReferenceSubject, plan: PlannedSubject, limit: float, eta: float, clock: _BudgetClock, per_hour: float
) -> dict[str, dict[str, float | None]]:
    if subject.kind is not Kind.NUMERIC:
        return {"shift": {}, "scale": {}}
    tables = _Tables(plan, eta, clock)

    shift: dict[str, float | None] = {}
    scale: dict[str, float | None] = {}
    for name, hours in HORIZONS.items():
        found = partial(_found_law, tables, limit, hours * per_hour)
        shift[name] = _smallest(lambda d, found=found: found(_shifted(d)), 0.0, LARGEST_SHIFT)  # type: ignore[misc]
        wider = _smallest(lambda s, found=found: found(_scaled(1 + s)), 0.0, LARGEST_SCALE - 1)  # type: ignore[misc]
        scale[name] = None if wider is None else 1 + wider
    return {"shift": shift, "scale": scale}


def _shifted(d: float) -> Law:
    return lambda x: normal_cdf(x - d)


def _scaled(factor: float) -> Law:
    return lambda x: normal_cdf(x / factor)


def _found_law(tables: "_Tables", limit: float, rows: float, law: Law) -> bool:
    return tables.score(law, rows) >= limit


class _Tables:
    """Both e-detectors of one numeric subject: growth of every fixed row under a changed law."""

    def __init__(self, plan: PlannedSubject, eta: float, clock: _BudgetClock) -> None:
        self.clock = clock
        phi, delta = plan.group_phi()[None, :], np.array([plan.delta])
        pooled = plan.reference.sum(0)
        self.rows = float(pooled[:-1].sum()) / len(plan.reference)
        uniform = np.full((1, RANK_CELLS), 1 / RANK_CELLS)
        every = np.ones(uniform.shape, bool)
        exact = place_bets(ReferenceCells(uniform, np.array([np.inf]), every, every), "numeric", delta, phi, eta).table
        grouping = Grouping(pooled[None, :-1], pooled[None, -1:].reshape(1))
        against = place_bets(grouping.reference, "numeric", delta, phi, eta)
        self._exact, self._fixed = _FixedBets(exact, phi), _FixedBets(against.table, phi)
        used = grouping.reference.used[0]
        p = against.null.p[0]
        self._missing = float(p[-1])
        # As in `ordered_alternatives`: what rounding leaves below 1 is 1, and a subject all of whose rows are missing
        # has no mass to divide by.
        edges = np.clip(np.cumsum(p[:-1]) / max(1 - self._missing, 1e-12), 0, 1)
        self._scores = normal_ppf(np.append(0.0, np.where(edges > 1 - 1e-12, 1.0, edges)))
        self._used = used

    def score(self, law: Law, rows: float) -> float:
        """The larger log e-SR of the two e-detectors after ``rows`` rows under the law."""
        cells = np.diff(law(self._scores)) * (1 - self._missing)
        growth = self._fixed.growth(np.append(cells, self._missing))[None, :]
        fixed = self.clock.evidence(growth, self._fixed.weight, np.array([rows]))
        # The bag absorbs fastest while it is small beside what comes, so steps are short at first.
        times = rows * (np.arange(1, _GRID + 1) / _GRID) ** 2
        middles = np.append(0.0, times[:-1]) / 2 + times / 2
        part = min(self.clock.rows, max(self.rows * PART_SHARE, 1.0))
        ranked = []
        for seen in middles:
            q = self._ranks(law, seen / (self.rows + seen))
            excess = max(part - 1, 0.0) / (2 * (self.rows + seen))
            ranked.append(self._exact.growth(q, excess))
        return max(fixed, self.clock.evidence(np.array(ranked), self._exact.weight, times))

    @staticmethod
    def _ranks(law: Law, absorbed: float) -> Floats:
        """Rank-cell probabilities when a share of the bag already follows the changed law."""
        changed = law(_AXIS)
        bag = (1 - absorbed) * normal_cdf(_AXIS) + absorbed * changed
        cuts = np.interp(np.arange(1, RANK_CELLS) / RANK_CELLS, bag, _AXIS)
        return np.diff(np.concatenate([[0.0], law(cuts), [1.0]]))


class _FixedBets:
    """Log e-values of the fixed rows of one subject as one matrix [L, K], tempered, with their weights."""

    def __init__(self, table: AlternativeTable, phi: Floats) -> None:
        self._log_e = table.matrix()
        dense = table.dense.shape[1]
        self._phi = np.append(phi[0, :dense], np.repeat(phi[0, -2], len(self._log_e) - dense))
        # Known of exact probabilities alone, to which alone a correction applies.
        self._spread = table.spread[0] if len(table.spread) else np.zeros(1)
        self.weight = np.where(table.live[0], table.weight[0], 0.0) * (1 - ADAPTIVE_WEIGHT)

    def growth(self, q: Floats, excess: float = 0.0) -> Floats:
        """Expected log e of each row under cell probabilities q [K], less the conformal correction, over phi: [L]."""
        return np.asarray((self._log_e @ q - excess * self._spread) / self._phi, np.float64)


def _rate_power(
    subject: ReferenceSubject, limit: float, eta: float, clock: _BudgetClock, per_hour: float
) -> dict[str, dict[str, float | None]]:
    rows = max(subject.rows, 1)
    bad = int(subject.quality[QUALITY.index("null")])
    missing = RateDetector([min(bad, rows)], [rows], [TOLERANCE], eta, [limit])
    out: dict[str, dict[str, float | None]] = {"missing": {}, "new_category": {}}
    unseen = None
    if isinstance(subject.cells, CategoricalCells) and not subject.cells.boolean:
        half = max(rows // 2, 1)
        once = min(int(subject.quality[QUALITY.index("unseen")]), half)
        unseen = RateDetector([once], [half], [UNSEEN_TOLERANCE], eta, [limit])
    for name, hours in HORIZONS.items():
        for key, detector in (("missing", missing), ("new_category", unseen)):
            if detector is not None:
                found = _found_rate(detector, limit, clock, hours * per_hour)
                out[key][name] = _smallest(found, float(detector.null_rate[0]), LARGEST_SHARE)
    return out


def _found_rate(detector: RateDetector, limit: float, clock: _BudgetClock, rows: float) -> Callable[[float], bool]:
    weight = detector.live[0] / max(int(detector.live[0].sum()), 1)

    def found(rate: float) -> bool:
        growth = rate * detector.log_hit[0] + (1 - rate) * detector.log_miss[0]
        return clock.evidence(growth[None, :], weight, np.array([rows])) >= limit

    return found


def _smallest(found: Callable[[float], bool], low: float, high: float) -> float | None:
    """Smallest size that is found, by bisection; None where the largest is not."""
    if not found(high):
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def _pair(found: dict[str, float | None], form: str) -> str:
    return " / ".join("none" if value is None else form.format(value) for value in found.values())
