"""The drift detector of one (model, version, segment): all features, one array pass a pane."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitor.core.arm import Arm, Bets, place_bets
from monitor.core.budget import level_of
from monitor.core.conformal import RANK_CELLS, RankBag, pane_generator
from monitor.core.dictionary import Alternative
from monitor.core.plan import DetectorPlan, padded
from monitor.core.rowtable import Reference
from monitor.core.twin import Grouping

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]
State = dict[str, NDArray[np.generic]]

KEPT_TABLES = 2_000
"""Subjects times strata up to which the tables of all strata are kept (about 20 kB each); above, they are built anew
when the hour changes."""


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
        sizes = np.diff(self._offsets)
        self._missing = self._offsets[1:] - 1
        self._placed = -1
        self._tables: dict[int, tuple[Grouping | None, Bets | None, Bets | None]] = {}
        delta = np.array([s.delta for s in plan.subjects])
        if self._numeric.size:
            chosen = [plan.subjects[i] for i in self._numeric]
            width = int(sizes[self._numeric].max()) - 1
            self._gather = self._gather_index(self._numeric, sizes[self._numeric] - 1, width)
            self._fine = padded([s.reference[:, :-1] for s in chosen], width)
            self._absent = np.stack([s.reference[:, -1] for s in chosen], axis=1)
            self._phi = np.stack([s.row_phi() for s in chosen])
            self._delta = delta[self._numeric]
            self.bag = RankBag(self._fine)
            uniform = np.full((len(chosen), RANK_CELLS), 1 / RANK_CELLS)
            everything = np.ones(uniform.shape, bool)
            exact = Reference(uniform, np.full(len(chosen), np.inf), everything, everything)
            self._rank_bets = place_bets(exact, "numeric", self._delta, self._phi, plan.eta_subject)
            self._conformal = Arm(self._rank_bets, self._delta, self._phi)
        if self._categorical.size:
            chosen = [plan.subjects[i] for i in self._categorical]
            width = int(sizes[self._categorical].max())
            self._spread = self._gather_index(self._categorical, sizes[self._categorical], width)
            self._cells = padded([s.reference for s in chosen], width)
            self._real = np.arange(width)[None, :] < sizes[self._categorical][:, None]
            self._cat_phi = np.stack([s.row_phi() for s in chosen])
            self._cat_delta = delta[self._categorical]
        # Rows that can find anything at all are known from all strata together, so weights do not depend on the hour.
        self._place(None)
        if self._numeric.size:
            self._twin = Arm(self._twin_bets, self._delta, self._phi)
        if self._categorical.size:
            self._cat = Arm(self._cat_bets, self._cat_delta, self._cat_phi)

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
        f = len(self.plan.subjects)
        flat = np.append(flat.astype(np.int64), 0)
        conformal, twin = np.full(f, -np.inf), np.full(f, -np.inf)
        if self._numeric.size:
            fine = flat[self._gather]
            rng = pane_generator(self._key, stratum, start)
            opened = elapsed
            for part in self.bag.parts(fine, stratum, rng):
                self._conformal.step(self._rank_bets, part.cells, opened, start, part.excess())
                opened = 0.0
            conformal[self._numeric] = self._conformal.evidence.score()
            grouped = self._grouping.counts(fine, flat[self._missing[self._numeric]])
            self._twin.step(self._twin_bets, grouped, elapsed, start)
            twin[self._numeric] = self._twin.evidence.score()
        if self._categorical.size:
            self._cat.step(self._cat_bets, flat[self._spread].astype(np.float64), elapsed, start)
            twin[self._categorical] = self._cat.evidence.score()
        return self._decide(conformal, twin, np.add.reduceat(flat[:-1], self._offsets[:-1]))

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
        for counts, stratum in panes:
            flat = np.append(np.asarray(counts).astype(np.int64), 0)
            self.bag.retract(flat[self._gather], stratum, mask)

    def reset(self, names: Iterable[str]) -> None:
        """Drop the evidence of these subjects in both arms, for instance on recovery."""
        wanted = set(names)
        mask = np.array([s.name in wanted for s in self.plan.subjects])
        for arm, index in self._arms():
            arm.reset(mask[index])

    def state(self) -> State:
        """All that changes, as named arrays; bags as growth over the reference, which compresses well."""
        state: State = {}
        for name, arm in self._named_arms():
            state |= {f"{name}.{key}": value for key, value in arm.state().items()}
        if self._numeric.size:
            state["bag.growth"] = self.bag.counts.astype(np.int64) - self._fine.astype(np.int64)
            state["bag.frozen"] = self.bag.frozen.copy()
        return state

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
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
            growth = state["bag.growth"]
            if growth.shape != self._fine.shape:
                raise ValueError(
                    f"detector state bag.growth has shape {growth.shape}, the plan needs {self._fine.shape}"
                )
            self.bag.counts = (self._fine + growth.astype(np.int64)).astype(np.uint32)
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
            onset[index[leads]] = arm.evidence.onset()[leads]
            names[index[leads]] = arm.names[arm.evidence.winner()[leads]]
            # Each arm is reset by its own page only: that is what makes twice the threshold enough for both.
            crossed = score[index] >= self.log_threshold[index]
            if crossed.any():
                arm.reset(crossed)
        return Scores(conformal, twin, self.log_threshold, level, level == 3, onset, tuple(names.tolist()), rows)

    def _place(self, stratum: int | None) -> None:
        """Bets against one stratum of the reference, or against all strata together for None."""
        kept = None if stratum is None else self._tables.get(stratum)
        grouping, twin, cat = self._bets(stratum) if kept is None else kept
        if stratum is not None and len(self.plan.subjects) * self.plan.strata <= KEPT_TABLES:
            self._tables[stratum] = (grouping, twin, cat)
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
            grouping = Grouping(self._fine[pick].sum(axis=0, dtype=np.int64), self._absent[pick].sum(axis=0))
            twin = place_bets(grouping.reference, "numeric", self._delta, self._phi, eta)
        if self._categorical.size:
            counts = self._cells[pick].sum(axis=0).astype(np.float64)
            reference = Reference(counts, counts.sum(axis=1), self._real, np.zeros_like(self._real))
            cat = place_bets(reference, "categorical", self._cat_delta, self._cat_phi, eta)
        return grouping, twin, cat

    def _gather_index(self, subjects: NDArray[np.intp], cells: Counts, width: int) -> Counts:
        """Positions of the subjects' cells in a flat pane with a zero appended, [F, width]; padding reads the zero."""
        column = np.arange(width)
        inside = column[None, :] < cells[:, None]
        return np.where(inside, self._offsets[subjects][:, None] + column[None, :], self._offsets[-1])

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
