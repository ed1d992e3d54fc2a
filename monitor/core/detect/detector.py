"""The drift detector of one (model, version, segment): all features, one array pass a pane."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stationkeeper.monitor.core.budget import level_of
from stationkeeper.monitor.core.detect.alternatives import Alternative, Reference
from stationkeeper.monitor.core.detect.bag_growth import NOTHING, Growth, mark_of
from stationkeeper.monitor.core.detect.conformal import RankBag, pane_generator
from stationkeeper.monitor.core.detect.evidence import Arm, Bets, place_bets, rank_bets
from stationkeeper.monitor.core.detect.fixed_reference import Grouping
from stationkeeper.monitor.core.detect.plan import DetectorPlan, padded
from stationkeeper.monitor.core.reference.cell_rows import CellRows

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]
State = dict[str, Any]

KEPT_TABLES = 2_000
"""Subjects times strata up to which tables are kept where the stratum changes with almost every pane; above, and where
an hour has many panes, they are built anew when the hour changes: a few kB a subject and stratum."""

_FEW_PANES = 4


@dataclass(frozen=True)
class Scores:
    """What a pane did to F subjects, in the order of the plan.

    conformal and twin are log e-SR scores before any reset (-inf where an arm does not watch the subject).
    log_threshold is what either must reach to page; level is 0 none, 1 inform, 2 warn, 3 page; paged marks pages.
    onset is the start of the pane with which the leading arm's evidence began; row is the leading alternative;
    rows are the events counted.
    """

    conformal: Floats
    twin: Floats
    log_threshold: Floats
    level: NDArray[np.int8]
    paged: Flags
    onset: Counts
    row: tuple[Alternative, ...]
    rows: Counts

    @property
    def leading(self) -> Floats:
        """The larger of the two scores."""
        return np.maximum(self.conformal, self.twin)

    @property
    def display(self) -> Floats:
        """log of the mean of the two scores (of the only one where there is one): for charts, not for decisions."""
        both = np.isfinite(self.conformal) & np.isfinite(self.twin)
        return np.logaddexp(self.conformal, self.twin) - np.where(both, np.log(2), 0.0)


class DriftDetector:
    """Conformal rank cells and a fixed-reference twin for numeric subjects, the twin alone for categorical ones.

    Pure: no clock, no global random numbers.  The same plan, panes and times give the same scores bit for bit.
    A step costs O(F (m + K L)) for m fine cells, K cells and L alternatives.
    """

    def __init__(self, plan: DetectorPlan) -> None:
        """Place the bets of stratum 0; tables of other strata are built when their first pane comes."""
        self.plan = plan
        self.log_threshold = plan.log_thresholds()
        self._key = plan.key
        kinds = np.array([s.kind for s in plan.subjects])
        self._numeric = np.flatnonzero(kinds == "numeric")
        self._categorical = np.flatnonzero(kinds == "categorical")
        self._offsets = plan.offsets()
        self._missing = self._offsets[1:][self._numeric] - 1
        self._placed, self._stepped = -1, 0
        self._grouping: Grouping
        self._twin_bets: Bets
        self._cat_bets: Bets
        self._tables: dict[int, tuple[Grouping | None, Bets | None, Bets | None]] = {}
        delta = np.array([s.delta for s in plan.subjects])
        if self._numeric.size:
            chosen = [plan.subjects[i] for i in self._numeric]
            self._fine = CellRows(self._offsets, self._numeric, left_out=1)
            self._phi = np.stack([s.row_phi() for s in chosen])
            self._delta = delta[self._numeric]
            self.bag = RankBag(padded([s.reference[:, :-1] for s in chosen], self._fine.width))
            self._marks = [NOTHING] * plan.strata
            self._rank_bets = rank_bets(self._delta)
            self._conformal = Arm(self._rank_bets, self._delta, self._phi)
        if self._categorical.size:
            chosen = [plan.subjects[i] for i in self._categorical]
            self._cells = CellRows(self._offsets, self._categorical)
            self._cat_phi = np.stack([s.row_phi() for s in chosen])
            self._cat_delta = delta[self._categorical]
        # Rows that can find anything at all are known from all strata together, so weights do not depend on the hour.
        self._place(None)
        if self._numeric.size:
            self._twin = Arm(self._twin_bets, self._delta, self._phi)
            self._twin_bets = self._twin_bets.lean()
        if self._categorical.size:
            self._cat = Arm(self._cat_bets, self._cat_delta, self._cat_phi)
            self._cat_bets = self._cat_bets.lean()

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
        if stratum != self._placed:
            self._place(stratum)
        self._stepped += 1
        f = len(self.plan.subjects)
        flat = flat.astype(np.int64, copy=False)
        conformal, twin = np.full(f, -np.inf), np.full(f, -np.inf)
        if self._numeric.size:
            fine = self._fine.read(flat)
            rng = pane_generator(self._key, stratum, start)
            opened = elapsed
            for part in self.bag.parts(fine, stratum, rng):
                self._conformal.step(self._rank_bets, part.cells, opened, start, part.excess())
                opened = 0.0
            conformal[self._numeric] = self._conformal.evidence.score()
            grouped = self._grouping.counts(fine, flat[self._missing])
            self._twin.step(self._twin_bets, grouped, elapsed, start)
            twin[self._numeric] = self._twin.evidence.score()
        if self._categorical.size:
            self._cat.step(self._cat_bets, self._cells.read(flat).astype(np.float64), elapsed, start)
            twin[self._categorical] = self._cat.evidence.score()
        return self._decide(conformal, twin, np.add.reduceat(flat, self._offsets[:-1]))

    def freeze(self, names: Iterable[str], *, frozen: bool = True) -> None:
        """Stop (or with frozen=False resume) the growth of the bags of these subjects, while an incident is open."""
        self.bag.frozen[self._numeric_mask(names)] = frozen

    def retract(self, panes: Iterable[tuple[ArrayLike, int]], names: Iterable[str]) -> None:
        """Take stored panes (flat counts, stratum) out of the bags of these subjects: back to before the onset.

        Give each pane that was stepped since the onset once, and freeze the subjects before the next step.
        """
        mask = self._numeric_mask(names)
        if not mask.any():
            return
        rows = self._fine.only(mask)
        for counts, stratum in panes:
            self.bag.retract(rows.read(np.asarray(counts, np.int64)), stratum, mask)

    def reset(self, names: Iterable[str]) -> None:
        """Drop the evidence of these subjects in both arms, for instance on recovery."""
        wanted = set(names)
        mask = np.array([s.name in wanted for s in self.plan.subjects])
        for arm, index in self._arms():
            arm.reset(mask[index])

    def state(self) -> State:
        """All that changes, as named arrays (or what numpy reads as one); bags as growth over the reference.

        O(evidence) and, for a stratum that has changed since it was last asked, its cells.
        """
        state: State = {}
        for name, arm in self._named_arms():
            state |= {f"{name}.{key}": value for key, value in arm.state().items()}
        if self._numeric.size:
            for stratum in self.bag.changed:
                self._marks[stratum] = mark_of(
                    self.bag.strata[stratum] - self._reference_bag(stratum).astype(np.uint32)
                )
            self.bag.changed.clear()
            state["bag.growth"] = Growth(tuple(self.bag.strata), self._reference_bag, self._marks)
            state["bag.frozen"] = self.bag.frozen.copy()
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a `state` of the same plan; the next steps give the same scores bit for bit.

        Raises ValueError where the state belongs to another plan.
        """
        expected = set(self.state())
        if set(state) != expected:
            odd = min(set(state) ^ expected)
            raise ValueError(f"detector state does not fit the plan: {odd!r} is on one side only; start without it")
        for name, arm in self._named_arms():
            arm.restore({key.removeprefix(f"{name}."): v for key, v in state.items() if key.startswith(f"{name}.")})
        if self._numeric.size:
            growth, shape = state["bag.growth"], (self.plan.strata, len(self._numeric), self._fine.width)
            if growth.shape != shape:
                raise ValueError(f"detector state bag.growth has shape {growth.shape}, the plan needs {shape}")
            for stratum in range(self.plan.strata):
                self.bag.replace(stratum, self._reference_bag(stratum) + growth[stratum])
            self.bag.frozen = state["bag.frozen"].astype(bool)

    def _decide(self, conformal: Floats, twin: Floats, rows: Counts) -> Scores:
        level = level_of(np.maximum(conformal, twin), self.log_threshold)
        onset = np.zeros(len(rows), np.int64)
        names = np.full(len(rows), None, object)
        ahead = conformal > twin
        for name, arm in self._named_arms():
            index = self._categorical if name == "categorical" else self._numeric
            score = conformal if name == "conformal" else twin
            leads = ahead[index] if name == "conformal" else ~ahead[index]
            winner = arm.evidence.winner()
            onset[index[leads]] = arm.evidence.onset(winner)[leads]
            names[index[leads]] = arm.names[winner[leads]]
            # Each arm is reset by its own page only: that is what makes twice the threshold enough for both.
            crossed = score[index] >= self.log_threshold[index]
            if crossed.any():
                arm.reset(crossed)
        return Scores(conformal, twin, self.log_threshold, level, level == 3, onset, tuple(names.tolist()), rows)

    def _place(self, stratum: int | None) -> None:
        """Bets against one stratum of the reference, or against all strata together for None."""
        kept = None if stratum is None else self._tables.get(stratum)
        grouping, twin, cat = self._bets(stratum) if kept is None else kept
        if stratum is not None:
            # An hour of many panes pays for its tables; they are kept where hours follow each other pane by pane.
            if 0 < self._stepped < _FEW_PANES and len(self.plan.subjects) * self.plan.strata <= KEPT_TABLES:
                self._tables[stratum] = (grouping, twin, cat)
            elif self._stepped >= _FEW_PANES:
                self._tables.clear()
            self._stepped = 0
        if grouping is not None and twin is not None:
            self._grouping, self._twin_bets = grouping, twin
        if cat is not None:
            self._cat_bets = cat
        self._placed = -1 if stratum is None and self.plan.strata > 1 else (stratum or 0)

    def _bets(self, stratum: int | None) -> tuple[Grouping | None, Bets | None, Bets | None]:
        """Groups and bets of the numeric subjects, bets of the categorical ones; None where there are none."""
        eta = self.plan.eta_subject
        pick = slice(None) if stratum is None else slice(stratum, stratum + 1)
        grouping = twin = cat = None
        if self._numeric.size:
            flat = self._reference(pick)
            grouping = Grouping(self._fine.read(flat), flat[self._missing])
            twin = place_bets(grouping.reference, "numeric", self._delta, self._phi, eta)
            twin = twin if stratum is None else twin.lean()
            grouping.forget()
        if self._categorical.size:
            counts = self._cells.read(self._reference(pick)).astype(np.float64)
            real = self._cells.real()
            reference = Reference(counts, counts.sum(axis=1), real, np.zeros_like(real))
            cat = place_bets(reference, "categorical", self._cat_delta, self._cat_phi, eta)
            cat = cat if stratum is None else cat.lean()
        return grouping, twin, cat

    def _reference(self, strata: slice) -> Counts:
        """The reference's counts of these strata together, laid out as a pane."""
        return np.concatenate([s.reference[strata].sum(axis=0) for s in self.plan.subjects])

    def _reference_bag(self, stratum: int) -> Counts:
        """The reference's counts of the fine cells, [F, m]: read from the plan, which holds them anyway."""
        chosen = [self.plan.subjects[i].reference for i in self._numeric]
        found: Counts = padded([counts[stratum : stratum + 1, :-1] for counts in chosen], self._fine.width)[0]
        return found

    def _numeric_mask(self, names: Iterable[str]) -> Flags:
        wanted = set(names)
        return np.array([self.plan.subjects[i].name in wanted for i in self._numeric], bool)

    def _named_arms(self) -> list[tuple[str, Arm]]:
        arms: list[tuple[str, Arm]] = []
        if self._numeric.size:
            arms += [("conformal", self._conformal), ("twin", self._twin)]
        if self._categorical.size:
            arms.append(("categorical", self._cat))
        return arms

    def _arms(self) -> list[tuple[Arm, NDArray[np.intp]]]:
        return [
            (arm, self._categorical if name == "categorical" else self._numeric) for name, arm in self._named_arms()
        ]
