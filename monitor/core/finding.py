"""A finding: what one detector or rule says about one subject at one closed pane, before incidents fold it."""

from dataclasses import dataclass, field
from typing import Any

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.reasons import Cause, Check


class Dated(State, frozen=True, array_like=True):
    """An onset with the interval it lies in, clock units; ``row`` is the first row after it where rows are known."""

    time: int
    low: int
    high: int
    row: int | None = None


# Ascending, so that levels compare; `budget.level_of` returns the same numbers.
NONE, INFORM, WARN, PAGE = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Finding:
    """Evidence about one subject.

    ``level`` is 0 none, 1 inform, 2 warn, 3 page. ``score`` and ``threshold`` are natural logs of e-values, or the
    share and its limit for a rule without e-value (``budgeted`` False). ``onset`` is the start of the pane with which
    the evidence began; ``rows`` the rows it rests on. ``effect`` is set where the detector knows it better than the
    cells do (a rate's change).
    """

    subject: str
    type: SubjectType
    kind: VerdictKind
    level: int
    score: float
    threshold: float
    onset: int
    rows: int
    cause: Cause
    reason: str = ""
    check: Check | None = None
    effect: float | None = None
    budgeted: bool = True
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What an incident remembers a subject by."""
        return f"{self.type}:{self.subject}" + (f":{self.check}" if self.check else "")

    @property
    def strength(self) -> float:
        """How far above its threshold, in nats; rules without an e-value count as just above."""
        return self.score - self.threshold if self.budgeted else 0.0
