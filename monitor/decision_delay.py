"""How long a closed minute waits until what was decided on it is durable, as a histogram for people."""

import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

from contracts.metrics import Sample

_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class DecisionDelay:
    """Seconds from closing a pane to the commit of its verdicts, counted once a pane.

    It is measured beside the decisions, which know no clock; panes whose transaction was given up are forgotten and
    count when they are closed again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: list[tuple[float, int]] = []
        self._counts = [0] * (len(_BUCKETS) + 1)
        self._sum = 0.0

    def closed(self, panes: int) -> None:
        """Note panes that were closed now."""
        self._open.append((self._clock(), panes))

    def committed(self) -> None:
        """Note that what was decided on them is durable."""
        now = self._clock()
        for since, panes in self._open:
            self._counts[bisect_left(_BUCKETS, now - since)] += panes
            self._sum += (now - since) * panes
        self._open.clear()

    def forget(self) -> None:
        """Forget panes whose decisions were not committed."""
        self._open.clear()

    def sample(self, role: str) -> Sample:
        """Return the histogram."""
        total, buckets = 0, []
        for bound, count in zip((*_BUCKETS, float("inf")), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        return Sample("stationkeeper_decision_delay_seconds", (role,), 0, buckets=tuple(buckets), sum=self._sum)
