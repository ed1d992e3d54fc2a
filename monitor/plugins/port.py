"""The port a foreign detector implements, for one subject; its alarms warn, they spend no false-page budget."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Watched:
    """The subject of a plug-in: its reference counts [C] in the pane's cells, missing last.

    values [C - 1] holds one representative value of each cell of a number, in order; None for a category.
    """

    name: str
    reference: Counts
    values: Floats | None = None

    def __post_init__(self) -> None:
        """Refuse a reference without rows and values that do not match its cells."""
        if self.reference.ndim != 1 or self.reference.sum() <= 0:
            raise ValueError(f"plug-in subject {self.name!r} needs reference counts of one row or more")
        if self.values is not None and self.values.shape != (self.reference.size - 1,):
            raise ValueError(
                f"plug-in subject {self.name!r}: {self.reference.size - 1} cells beside missing need as many values, "
                f"got {self.values.shape}"
            )

    @property
    def numeric(self) -> bool:
        """Whether the subject is a number."""
        return self.values is not None


@dataclass(frozen=True)
class Alarm:
    """What a plug-in found: the statistic, the threshold it crossed, the rows it looked at, and a sentence."""

    rule: str
    statistic: float
    threshold: float
    rows: int
    reason: str


@runtime_checkable
class Detector(Protocol):
    """One detector of one subject, fed closed panes in order; the same panes give the same alarms."""

    @property
    def rule(self) -> str:
        """Its name in configuration and messages."""

    def step(self, counts: Counts, start: int) -> Alarm | None:
        """Take one pane's cell counts [C]; start is the pane's start and may seed what is random."""

    def state(self) -> dict[str, Any]:
        """All that changes, as JSON values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state."""


Factory = Callable[[Watched, Mapping[str, Any]], Detector]
"""What an entry point of ``stationkeeper.detectors`` or an import path names: builds a detector from a subject and its
options; raises ValueError for bad options."""
