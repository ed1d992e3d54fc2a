"""A finding: what one detector or rule says about one subject at one closed pane, before incidents fold it."""

import math
from dataclasses import dataclass, field, replace
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


_CHECKS = frozenset(check.value for check in Check)

# Ascending, so that levels compare; `budget.level_of` returns the same numbers.
NONE, INFORM, WARN, PAGE = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Finding:
    """Evidence about one subject.

    ``level`` is 0 none, 1 inform, 2 warn, 3 page. ``score`` and ``threshold`` are natural logs of e-values, or the
    share and its limit for a rule without e-value (``budgeted`` False). ``onset`` is the start of the pane with which
    the evidence began; ``rows`` the rows it rests on. ``effect`` is set where the detector knows it better than the
    cells do (a rate's change). ``parts`` are the features that a joint subject is of: it moves when one of them does.
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
    parts: tuple[str, ...] = ()

    def levelled(self, warnings_a_page: float) -> "Finding":
        """Return the finding with a warning only where the budget of warnings carries its evidence, else to inform.

        Evidence pages at its threshold and warns log(warnings a page) nats below it. By hand: at 30 / 7 a threshold of
        16.4 nats warns at 14.9. Rules without an e-value keep their level.
        """
        if not self.budgeted or self.level not in (WARN, INFORM):
            return self
        warns = self.score >= self.threshold - math.log(warnings_a_page)
        return replace(self, level=WARN if warns else INFORM)

    @property
    def key(self) -> str:
        """What an incident remembers a subject by."""
        return f"{self.type}:{self.subject}" + (f":{self.check}" if self.check else "")

    @property
    def strength(self) -> float:
        """How far above its threshold, in nats; rules without an e-value count as just above."""
        return self.score - self.threshold if self.budgeted else 0.0


def subject_of_key(key: str) -> str:
    """Return the name of the subject in a finding's key, which may hold colons: that of ``feature:geo:lat`` is geo:lat.

    What stands behind the last colon is a check only if there is one of that name.
    """
    rest = key.partition(":")[2]
    name, _, check = rest.rpartition(":")
    return name if name and check in _CHECKS else rest
