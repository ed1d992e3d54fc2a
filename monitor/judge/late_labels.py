"""Labels that are joined after the pane in which they became known has closed: they count until their cohort is mature.

A join that lags behind the tally brings such labels, and so does whoever loads the labels of a day at night. Left out,
they would bias what is judged: the labels that come first are not like those that come late.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, PaneDelta

Delta = PaneDelta | ArmDelta | OutcomeDelta


@dataclass(slots=True)
class LateLabels:
    """One model's rule: ``age`` is the maturity of a cohort and ``pane`` its length, both ms.

    ``closed_by`` is the offset of the record that closed the last pane. What is read again after a restart and came
    before it was counted when that pane closed, so that a label counts once wherever a process dies.
    """

    age: int
    pane: int
    closed_by: int = -1

    def taken(self, delta: Delta, closing: int | None) -> Delta | None:
        """Return a delta for the pane that it belongs to, or for ``closing``, the next to close; None when too late."""
        labels = isinstance(delta, OutcomeDelta)
        stamp = delta.known_at if isinstance(delta, OutcomeDelta) else delta.start
        if closing is None or stamp + self.pane > closing:
            return delta
        grows = labels and delta.start > closing - self.age - self.pane
        return structs.replace(delta, known_at=closing) if grows else None

    def counted(self, delta: Delta, closing: int | None, offset: int) -> bool:
        """Return whether a delta read again at ``offset`` are labels in a pane that has closed."""
        late = isinstance(delta, OutcomeDelta) and closing is not None and delta.known_at < closing
        return late and offset <= self.closed_by

    def restore(self, state: Mapping[str, Any], absorbed: int) -> None:
        """Take up the state; one that does not tell it takes nothing that is late and was ``absorbed`` for new."""
        self.closed_by = state.get("closed_by", absorbed)
