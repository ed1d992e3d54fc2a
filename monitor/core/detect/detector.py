"""The drift detector of one (model, version, segment): all features, one array pass a pane."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.budget import level_of
from stationkeeper.monitor.core.detect.alternatives import Alternative, ReferenceCells
from stationkeeper.monitor.core.detect.conformal import BagGrowth, RankBag, pane_generator
from stationkeeper.monitor.core.detect.evidence import Bets, EDetector, EDetectorState, place_bets, rank_bets
from stationkeeper.monitor.core.detect.fixed_reference import Grouping
from stationkeeper.monitor.core.detect.plan import DetectorPlan
from stationkeeper.monitor.core.finding import PAGE
from stationkeeper.monitor.core.reference import CellRows

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]

# Subjects times strata up to which the bets of each stratum are kept, a few kB a subject and stratum: 300 features by
# hour of the day (7 200) are built anew each hour, 12 features by hour of the week (2 016) just so too. Chosen: twice
# as many costs about twice the memory, half as many rebuilds more often; the scores are the same.
KEPT_TABLES = 2_000

# Steps in one stratum from which its bets are not kept: an hour of one-minute panes pays for building them once, while
# hourly panes change the stratum with each. Chosen; twice or half as many changes time and memory alone.
_FEW_PANES = 4


@dataclass(frozen=True)
class Scores:
    """What a pane did to F subjects, in the order of the plan.

    conformal and fixed (against the fixed reference) are log e-SR scores before any reset, -inf where no such
    e-detector watches the subject.  log_threshold is what either must reach to page; level is 0 none, 1 inform, 2 warn,
    3 page; paged marks pages.  onset is the start of the pane with which the leading evidence began; alternative is the
    one that leads; rows are the events counted.
    """

    conformal: Floats
    fixed: Floats
    log_threshold: Floats
    level: NDArray[np.int8]
    paged: Flags
    onset: Counts
    alternative: tuple[Alternative, ...]
    rows: Counts

    @property
    def leading(self) -> Floats:
        """The larger of the two scores."""
        return np.maximum(self.conformal, self.fixed)


class DetectorState(State, frozen=True, omit_defaults=True, rename=lambda name: name.replace("_", ".", 1)):
    """The evidence of the e-detectors a plan has, and of its bags what they grew by; stored as ``conformal.log_m``.

    ``twin`` is the stored name of the fixed reference's e-detector. ``bag_growth`` is a `BagGrowth`, or int64[S, F, m].
    """

    conformal_log_m: NDArray[np.float64] | None = None
    conformal_log_c: NDArray[np.float64] | None = None
    conformal_restart: NDArray[np.int64] | None = None
    conformal_average: NDArray[np.float64] | None = None
    twin_log_m: NDArray[np.float64] | None = None
    twin_log_c: NDArray[np.float64] | None = None
    twin_restart: NDArray[np.int64] | None = None
    twin_average: NDArray[np.float64] | None = None
    categorical_log_m: NDArray[np.float64] | None = None
    categorical_log_c: NDArray[np.float64] | None = None
    categorical_restart: NDArray[np.int64] | None = None
    categorical_average: NDArray[np.float64] | None = None
    bag_growth: Any = None
    bag_frozen: NDArray[np.bool_] | None = None
    labels_log_m: NDArray[np.float64] | None = None
    labels_log_c: NDArray[np.float64] | None = None
    labels_restart: NDArray[np.int64] | None = None

    def evidence(self, name: str) -> EDetectorState | None:
        """Return what an e-detector left, by its stored name; None where any part of it is lacking."""
        parts = {key: getattr(self, f"{name}_{key}") for key in EDetectorState.__struct_fields__}
        return None if any(part is None for part in parts.values()) else EDetectorState(**parts)


class DriftDetector:
    """Conformal and fixed-reference e-detectors side by side for numeric subjects, the latter alone for categories.

    Pure: no clock, no global random numbers.  The same plan, panes and times give the same scores bit for bit.
    A step costs O(F (m + K L)) for m fine cells, K cells and L alternatives.
    """

    def __init__(self, plan: DetectorPlan) -> None:
        """Place the bets against all strata together; those of a stratum are placed when its first pane comes."""
        self.plan = plan
        self.log_threshold = plan.log_thresholds()
        self._offsets = plan.offsets()
        kinds = np.array([s.kind for s in plan.subjects])
        numeric, categorical = np.flatnonzero(kinds == "numeric"), np.flatnonzero(kinds == "categorical")
        self._numeric = _NumericSubjects(plan, numeric) if numeric.size else None
        self._categorical = _CategoricalSubjects(plan, categorical) if categorical.size else None
        self._bets = _BetsByStratum(plan, self._numeric, self._categorical)

    @property
    def bag(self) -> RankBag:
        """What the numeric subjects are ranked against; raises ``ValueError`` for a plan without any."""
        if self._numeric is None:
            raise ValueError("a plan without numeric subjects has no bag")
        return self._numeric.bag

    def step(self, counts: ArrayLike, start: int, stratum: int, elapsed: float) -> Scores:
        """Take one closed pane and say what it did.

        counts: flat integer cell counts of all subjects, laid out by `plan.offsets()`.  start: the pane's start (epoch
        milliseconds or any ordinal; it also names the random draws).  elapsed: what the pane adds to the budget clock.
        Subjects without events keep their evidence unchanged.  Raises ValueError for a wrong length or stratum.
        """
        flat = np.asarray(counts)
        if flat.shape != (int(self._offsets[-1]),):
            raise ValueError(f"a pane of this plan has {self._offsets[-1]} cell counts, got shape {flat.shape}")
        if not 0 <= stratum < self.plan.strata:
            raise ValueError(f"stratum {stratum} is not one of 0..{self.plan.strata - 1}")
        bets = self._bets.of(stratum)
        f = len(self.plan.subjects)
        flat = flat.astype(np.int64, copy=False)
        conformal, fixed = np.full(f, -np.inf), np.full(f, -np.inf)
        if self._numeric is not None and bets.numeric is not None:
            index = self._numeric.index
            conformal[index], fixed[index] = self._numeric.step(bets.numeric, flat, stratum, start, elapsed)
        if self._categorical is not None and bets.categorical is not None:
            fixed[self._categorical.index] = self._categorical.step(bets.categorical, flat, start, elapsed)
        return self._decide(conformal, fixed, np.add.reduceat(flat, self._offsets[:-1]))

    def freeze(self, names: Iterable[str], *, frozen: bool = True) -> None:
        """Stop (or with frozen=False resume) the growth of the bags of these subjects, while an incident is open."""
        if self._numeric is not None:
            self._numeric.bag.frozen[self._numeric.mask(names)] = frozen

    def retract(self, panes: Iterable[tuple[ArrayLike, int]], names: Iterable[str]) -> None:
        """Take stored panes (flat counts, stratum) out of the bags of these subjects: back to before the onset.

        Give each pane that was stepped since the onset once, and freeze the subjects before the next step.
        """
        if self._numeric is not None:
            self._numeric.retract(panes, self._numeric.mask(names))

    def levels(self) -> NDArray[np.int8]:
        """Return the level of the evidence as it stands, [F]: after a page it begins anew."""
        score = np.full(len(self.plan.subjects), -np.inf)
        for _, detector, index in self._detectors():
            score[index] = np.maximum(score[index], detector.evidence.score())
        return level_of(score, self.log_threshold)

    def growth_without(self, names: Iterable[str]) -> BagGrowth | None:
        """Return what the bags grew by, nothing of these subjects; None without numeric subjects."""
        if self._numeric is None:
            return None
        gone = self._numeric.mask(names)
        return self._numeric.bag.growth().where(~gone)

    def reset(self, names: Iterable[str]) -> None:
        """Drop the evidence of these subjects in every e-detector, for instance on recovery."""
        wanted = set(names)
        mask = np.array([s.name in wanted for s in self.plan.subjects])
        for _, detector, index in self._detectors():
            detector.reset(mask[index])

    def state(self) -> DetectorState:
        """Return all that changes; bags as growth over the reference.

        O(evidence) and, for a stratum that has changed since it was last asked, its cells.
        """
        parts: dict[str, Any] = {}
        for name, detector, _ in self._detectors():
            state = detector.state()
            parts |= {f"{name}_{key}": getattr(state, key) for key in EDetectorState.__struct_fields__}
        if self._numeric is not None:
            parts |= {"bag_growth": self._numeric.bag.growth(), "bag_frozen": self._numeric.bag.frozen.copy()}
        return DetectorState(**parts)

    def restore(self, state: DetectorState) -> None:
        """Take over a `state` of the same plan; the next steps give the same scores bit for bit.

        Raises ValueError where the state belongs to another plan.
        """
        found = {name: state.evidence(name) for name in ("conformal", "twin", "categorical")}
        own = {name: detector for name, detector, _ in self._detectors()}
        for name, evidence in found.items():
            detector = own.get(name)
            if (evidence is None) != (detector is None):
                raise ValueError(
                    f"detector state does not fit the plan: {name!r} is on one side only; start without it"
                )
            if evidence is not None and detector is not None:
                detector.restore(evidence)
        if self._numeric is not None:
            self._numeric.restore_bag(state.bag_growth, state.bag_frozen)

    def _decide(self, conformal: Floats, fixed: Floats, rows: Counts) -> Scores:
        level = level_of(np.maximum(conformal, fixed), self.log_threshold)
        onset = np.zeros(len(rows), np.int64)
        alternative = np.full(len(rows), None, object)
        ahead = conformal > fixed
        for name, detector, index in self._detectors():
            score, leads = (conformal, ahead) if name == "conformal" else (fixed, ~ahead)
            led = leads[index]
            winner = detector.evidence.winner()
            onset[index[led]] = detector.evidence.onset(winner)[led]
            alternative[index[led]] = detector.names[winner[led]]
            # Each is reset by its own page only: that is what makes twice the threshold enough for both.
            crossed = score[index] >= self.log_threshold[index]
            if crossed.any():
                detector.reset(crossed)
        page = level == PAGE
        return Scores(conformal, fixed, self.log_threshold, level, page, onset, tuple(alternative.tolist()), rows)

    def _detectors(self) -> list[tuple[str, EDetector, NDArray[np.intp]]]:
        """Stored name, e-detector and the subjects it watches."""
        found: list[tuple[str, EDetector, NDArray[np.intp]]] = []
        if self._numeric is not None:
            index = self._numeric.index
            found += [("conformal", self._numeric.conformal, index), ("twin", self._numeric.fixed, index)]
        if self._categorical is not None:
            found.append(("categorical", self._categorical.fixed, self._categorical.index))
        return found


class _StratumBets(NamedTuple):
    """What is bet against one stratum of the fixed reference."""

    numeric: tuple[Grouping, Bets] | None
    categorical: Bets | None

    def lean(self) -> "_StratumBets":
        """Without what only the start of an e-detector needs."""
        numeric = None if self.numeric is None else (self.numeric[0], self.numeric[1].lean())
        return _StratumBets(numeric, None if self.categorical is None else self.categorical.lean())


class _NumericSubjects:
    """The numeric subjects of a plan: their bag, and an e-detector on its ranks beside one on the fixed reference."""

    def __init__(self, plan: DetectorPlan, index: NDArray[np.intp]) -> None:
        self._plan, self._key, self.index = plan, plan.key, index
        offsets, chosen = plan.offsets(), [plan.subjects[i] for i in index]
        self._names = [s.name for s in chosen]
        self._missing = offsets[1:][index] - 1
        self._fine = CellRows(offsets, index, left_out=1)
        self._phi = np.stack([s.group_phi() for s in chosen])
        self._delta = np.array([s.delta for s in chosen])
        self.bag = RankBag(_BagReference(plan, self._fine, len(index)))
        self._rank_bets = rank_bets(self._delta)
        self.conformal = EDetector(self._rank_bets, self._delta, self._phi)
        self.fixed: EDetector

    def begin(self, bets: Bets) -> None:
        """Start the fixed-reference e-detector, whose weights come from these bets and stay."""
        self.fixed = EDetector(bets, self._delta, self._phi)

    def bets(self, reference: Counts) -> tuple[Grouping, Bets]:
        """Return groups and bets against the reference's counts, laid out as a pane."""
        grouping = Grouping(self._fine.read(reference), reference[self._missing])
        bets = place_bets(grouping.reference, "numeric", self._delta, self._phi, self._plan.eta_subject)
        grouping.forget()
        return grouping, bets

    def step(
        self, bets: tuple[Grouping, Bets], flat: Counts, stratum: int, start: int, elapsed: float
    ) -> tuple[Floats, Floats]:
        """Take a pane; return the log e-SR of the conformal and of the fixed-reference e-detector, [F] each."""
        fine = self._fine.read(flat)
        opened = elapsed
        for part in self.bag.parts(fine, stratum, pane_generator(self._key, stratum, start)):
            self.conformal.step(self._rank_bets, part.cells, opened, start, part.excess())
            # The clock moves once a pane, with its first part: a start for each would count the same time again.
            opened = 0.0
        grouping, against = bets
        self.fixed.step(against, grouping.counts(fine, flat[self._missing]), elapsed, start)
        return self.conformal.evidence.score(), self.fixed.evidence.score()

    def retract(self, panes: Iterable[tuple[ArrayLike, int]], mask: Flags) -> None:
        """Take stored panes out of the bags of the subjects in mask [F]."""
        if mask.any():
            rows = self._fine.only(mask)
            for counts, stratum in panes:
                self.bag.retract(rows.read(np.asarray(counts, np.int64)), stratum, mask)

    def restore_bag(self, growth: Any, frozen: Flags | None) -> None:
        """Take over growth int64[S, F, m]; raises ValueError where it belongs to another plan."""
        shape = (self._plan.strata, len(self.index), self._fine.width)
        if growth is None or frozen is None or growth.shape != shape:
            found = None if growth is None else growth.shape
            raise ValueError(f"detector state bag.growth has shape {found}, the plan needs {shape}")
        self.bag.restore(growth if isinstance(growth, BagGrowth) else BagGrowth.of(growth))
        self.bag.frozen = frozen.astype(bool)

    def mask(self, names: Iterable[str]) -> Flags:
        """Return which subjects are named, [F]."""
        wanted = set(names)
        return np.array([name in wanted for name in self._names], bool)


class _BagReference:
    """The reference's counts of the fine cells, [S, F, m]: read from the plan, which holds them anyway."""

    def __init__(self, plan: DetectorPlan, fine: CellRows, features: int) -> None:
        self._plan, self._fine = plan, fine
        self.shape = (plan.strata, features, fine.width)

    def __getitem__(self, stratum: int) -> Counts:
        return self._fine.read(self._plan.reference(stratum))


class _CategoricalSubjects:
    """The categorical subjects of a plan with the e-detector on their fixed reference.

    They have no bag: a conformal one absorbs a new category of 1 % before it is found (docs/statistics.md).
    """

    def __init__(self, plan: DetectorPlan, index: NDArray[np.intp]) -> None:
        self._plan, self.index = plan, index
        chosen = [plan.subjects[i] for i in index]
        self._cells = CellRows(plan.offsets(), index)
        self._phi = np.stack([s.group_phi() for s in chosen])
        self._delta = np.array([s.delta for s in chosen])
        self.fixed: EDetector

    def begin(self, bets: Bets) -> None:
        """Start the e-detector, whose weights come from these bets and stay."""
        self.fixed = EDetector(bets, self._delta, self._phi)

    def bets(self, reference: Counts) -> Bets:
        """Return the bets against the reference's counts, laid out as a pane."""
        counts = self._cells.read(reference).astype(np.float64)
        real = self._cells.real()
        cells = ReferenceCells(counts, counts.sum(axis=1), real, np.zeros_like(real))
        return place_bets(cells, "categorical", self._delta, self._phi, self._plan.eta_subject)

    def step(self, bets: Bets, flat: Counts, start: int, elapsed: float) -> Floats:
        """Take a pane; return the log e-SR, [F]."""
        self.fixed.step(bets, self._cells.read(flat).astype(np.float64), elapsed, start)
        return self.fixed.evidence.score()


class _BetsByStratum:
    """The bets of the stratum in use; others are placed, or found again, when their hour comes."""

    def __init__(
        self, plan: DetectorPlan, numeric: _NumericSubjects | None, categorical: _CategoricalSubjects | None
    ) -> None:
        self._plan, self._numeric, self._categorical = plan, numeric, categorical
        self._keeps = len(plan.subjects) * plan.strata <= KEPT_TABLES
        self._kept: dict[int, _StratumBets] = {}
        self._steps = 0
        # Alternatives that can find anything are known from all strata together, so weights do not depend on the hour.
        pooled = self._place(None)
        if numeric is not None and pooled.numeric is not None:
            numeric.begin(pooled.numeric[1])
        if categorical is not None and pooled.categorical is not None:
            categorical.begin(pooled.categorical)
        self._stratum = 0 if plan.strata == 1 else -1
        self._bets = pooled.lean() if plan.strata == 1 else _StratumBets(None, None)

    def of(self, stratum: int) -> _StratumBets:
        """Return the bets of a stratum; O(cells alternatives) when it is not the last one."""
        if stratum != self._stratum:
            # An hour of many panes pays for its bets; they are kept where hours follow each other pane by pane.
            if self._steps >= _FEW_PANES:
                self._kept.clear()
            elif self._keeps and self._stratum >= 0:
                self._kept[self._stratum] = self._bets
            self._stratum, self._steps = stratum, 0
            self._bets = self._kept.get(stratum) or self._place(stratum).lean()
        self._steps += 1
        return self._bets

    def _place(self, stratum: int | None) -> _StratumBets:
        reference = self._plan.reference(stratum)
        numeric = None if self._numeric is None else self._numeric.bets(reference)
        return _StratumBets(numeric, None if self._categorical is None else self._categorical.bets(reference))
