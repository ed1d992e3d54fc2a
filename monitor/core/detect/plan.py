"""What a detector watches, as plain arrays: subjects with their reference counts, floors and thresholds."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stationkeeper.monitor.core.budget import EFFECT_FLOOR, log_thresholds
from stationkeeper.monitor.core.detect.alternatives import SCALES, SHIFTS

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Kind = Literal["numeric", "categorical"]

ETA = 0.01
"""Chance that the counts of the reference mislead a bet anywhere in the model (STATISTICS.md, section 2.3): one per
cent, shared by all subjects, strata and segments; and as much again for the bounds of all quality rates. At half the
bets must allow for slightly more, at double the false-alarm promise fails for one model in fifty."""

# In what counts by hour are summed over the 168 hours of a week, each of which holds less than 2^8 or 2^16: a third of
# the time of eight bytes.
_SUMS = {"|u1": "<u2", "<u2": "<u4"}

DENSE_ALTERNATIVES = 2 * len(SHIFTS) + len(SCALES)
"""Shifts and scales of a numeric subject; its phi has one value for each, then for one-cell and adaptive ones."""


@dataclass(frozen=True)
class PlannedSubject:
    """One watched quantity of one (model, version, segment).

    reference [S, C] holds the reference's counts per stratum over C cells.  numeric: fine cells in the order of the
    axis, the missing cell last.  categorical: any cells, the missing cell last.  delta is the share of traffic
    that may change cell without being drift.  phi >= 1 is the variance inflation of dependent panes: one number, or
    one per group (`DENSE_ALTERNATIVES` + 2 numbers for numeric, 2 for categorical: one-cell and adaptive ones).
    importance weighs its part of the budget.
    """

    name: str
    kind: Kind
    reference: Counts
    delta: float = EFFECT_FLOOR
    phi: float | Floats = 1.0
    importance: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no detector could be built from, naming the subject and the value."""
        if self.kind not in ("numeric", "categorical"):
            raise ValueError(f"subject {self.name!r}: kind {self.kind!r} is not one of numeric, categorical")
        if self.reference.ndim != 2 or self.reference.shape[1] < 2:
            raise ValueError(
                f"subject {self.name!r}: reference must have shape [strata, cells] with at least one cell and the "
                f"missing cell, got {self.reference.shape}"
            )
        # As unsigned numbers negative ones are beyond every bound, and one look at a week of hours finds both.
        kind, signed = self.reference.dtype, self.reference.dtype.kind == "i"
        largest = (self.reference.view(kind.str.replace("i", "u")) if signed else self.reference).max(axis=1)
        if not largest.all() or (signed and largest.max(initial=0) > np.iinfo(kind).max):
            raise ValueError(f"subject {self.name!r}: every stratum needs reference rows, with counts of 0 or more")
        if not 0 <= self.delta < 1:
            raise ValueError(f"subject {self.name!r}: delta must be at least 0 and below 1, got {self.delta}")
        groups = DENSE_ALTERNATIVES + 2 if self.kind == "numeric" else 2
        if np.ndim(self.phi) and np.shape(self.phi) != (groups,):
            raise ValueError(f"subject {self.name!r}: phi must be one number or {groups}, got {np.shape(self.phi)}")
        if not (self.phi >= 1 if isinstance(self.phi, float) else (np.asarray(self.phi) >= 1).all()):
            raise ValueError(f"subject {self.name!r}: phi must be at least 1, got {self.phi}")

    def group_phi(self) -> Floats:
        """phi of each group of alternatives."""
        return np.full(DENSE_ALTERNATIVES + 2 if self.kind == "numeric" else 2, self.phi, np.float64)


@dataclass(frozen=True)
class DetectorPlan:
    """Everything that fixes a detector of one (model, version, segment).

    alpha is the false pages allowed per unit of the budget clock for these subjects together (`split_alpha`); segments
    is the number of segments that share the reference's error chance eta.
    """

    model: str
    version: str
    segment: str
    subjects: tuple[PlannedSubject, ...]
    alpha: float
    segments: int = 1
    eta: float = ETA

    def __post_init__(self) -> None:
        """Refuse empty plans, mixed strata and repeated names."""
        if not self.subjects:
            raise ValueError("a detector plan needs at least one subject")
        strata = sorted({s.reference.shape[0] for s in self.subjects})
        if len(strata) > 1:
            raise ValueError(f"all subjects of a plan must have the same number of strata, got {strata}")
        names = [s.name for s in self.subjects]
        if len(set(names)) < len(names):
            double = next(n for n in names if names.count(n) > 1)
            raise ValueError(f"subject {double!r} appears more than once in the detector plan")
        if not self.alpha > 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")

    @property
    def strata(self) -> int:
        """Number of strata, for instance 168 hours of the week."""
        return int(self.subjects[0].reference.shape[0])

    @property
    def key(self) -> bytes:
        """What names the random draws of this plan: model, version, segment and subjects."""
        parts = (self.model, self.version, self.segment, *(s.name for s in self.subjects))
        return b"\0".join(part.encode() for part in parts)

    @property
    def eta_subject(self) -> float:
        """Chance that the reference misleads one stratum of one subject; together eta for the model."""
        return self.eta / (len(self.subjects) * self.segments * self.strata)

    def reference(self, stratum: int | None = None) -> Counts:
        """Return the reference's counts of one stratum, or of all together, laid out as a pane."""
        if stratum is None and self.strata > 1:
            rows = [s.reference.sum(axis=0, dtype=_SUMS.get(s.reference.dtype.str, "<i8")) for s in self.subjects]
        else:
            rows = [s.reference[stratum or 0] for s in self.subjects]
        # Hours are kept in as few bytes as hold them, which what is added to a pane's counts would overflow.
        return np.concatenate(rows, dtype=np.int64)

    def offsets(self) -> Counts:
        """Where each subject's cells begin in the flat counts of a pane; the last entry is the total."""
        sizes = [s.reference.shape[1] for s in self.subjects]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def log_thresholds(self) -> Floats:
        """log of the page threshold of every subject, twice as high where two e-detectors run side by side."""
        detectors = [2 if s.kind == "numeric" else 1 for s in self.subjects]
        return log_thresholds(self.alpha, [s.importance for s in self.subjects], detectors)
