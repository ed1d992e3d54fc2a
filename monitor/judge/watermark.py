"""The watermark: the event time up to which every input partition of a model has been tallied."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.topics import JOINS_PARTITIONS
from stationkeeper.contracts.wire import JOIN, Progress, joined_source
from stationkeeper.monitor.tally import UNSET

# Partitions are added to a topic by a person, now and then; asking the broker for their number costs a round trip, and
# an unknown new partition is only missing from the watermark until its first progress record.
_COUNT_EVERY_MS: Final = 60_000

# Seconds; the default buckets of Prometheus' Go client, so that dashboards for other histograms fit.
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


class PartitionCounts(Mapping[str, int]):
    """How many partitions each input topic has: asked at an assignment and once a minute.

    ``ask`` returns the number of a topic's partitions; without it those count that spoke.
    """

    def __init__(self, topics: Iterable[str], ask: Callable[[str], int] | None) -> None:
        self._topics = sorted(set(topics))
        self._ask = ask
        self._counts: dict[str, int] = {}
        self._asked_at: int | None = None

    def refresh(self) -> None:
        """Ask now."""
        if self._ask is not None:
            self._counts.update({topic: self._ask(topic) for topic in self._topics})

    def keep_fresh(self, now_ms: int) -> None:
        """Ask if the last time is a minute ago; the first call only begins to count, for an assignment has asked."""
        if self._asked_at is None:
            self._asked_at = now_ms
        elif not 0 <= now_ms - self._asked_at < _COUNT_EVERY_MS:  # set back, a clock says nothing of how long ago
            self.refresh()
            self._asked_at = now_ms

    def __getitem__(self, topic: str) -> int:
        return self._counts[topic]

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)


class Progresses:
    """The latest progress of every input partition, as one panes partition holds it.

    ``partitions`` is how many each input topic has, so that no pane closes before all of them have spoken. The mapping
    is read at each call: whoever owns it adds partitions to it while the process runs.
    """

    def __init__(self, partitions: Mapping[str, int] | None = None) -> None:
        self._partitions: Mapping[str, int] = {} if partitions is None else partitions
        self._known: dict[tuple[str, int, str], Progress] = {}

    def put(self, progress: Progress) -> None:
        """See a progress record; an older one (a zombie's, or of a topic that was replaced) changes nothing."""
        key = (progress.topic, progress.partition, progress.source)
        known = self._known.get(key)
        if known is None or (progress.epoch, progress.next_offset) >= (known.epoch, known.next_offset):
            self._known[key] = progress

    def watermark(self, inputs: Collection[tuple[str, str]], lateness: int) -> int | None:
        """Return the minimum clock of the partitions that are not idle, less ``lateness``; None while one is silent.

        ``inputs`` are (topic, source). When all are idle the furthest clock counts: nothing is on its way.
        """
        mine = [p for (topic, _, source), p in self._known.items() if (topic, source) in inputs]
        spoken = Counter((p.topic, p.source) for p in mine)
        if any(spoken[one] < self._partitions.get(one[0], 1) for one in inputs):
            return None
        awake = [p.clock for p in mine if not p.idle]
        clocks = [p.clock for p in mine if p.clock != UNSET]
        if not clocks:
            return None
        clock = min(awake) if awake else max(clocks)
        return None if clock == UNSET else clock - lateness

    def joined(self, inputs: Collection[tuple[str, str]]) -> int | None:
        """Return the time up to which labels are read and joined; None while a partition or its join is silent.

        ``inputs`` are (topic, kind) of predictions and labels. A labels partition that is read to its end holds nothing
        back; where one is behind, as in a catch-up, what is older than its clock is all there.
        """
        sources = [(topic, joined_source(kind, at)) for topic, kind in inputs for at in range(JOINS_PARTITIONS)]
        return self.watermark(sources, 0)

    def rebuilding(self) -> bool:
        """Return whether the label join reads one of its partitions again, so that labels are missing."""
        return any(p.idle for p in self._known.values() if p.source == JOIN)

    def stopped(self, topics: Collection[str]) -> str:
        """Return why one of these topics is not read, empty while all are."""
        return next((p.stopped for p in self._known.values() if p.stopped and p.topic in topics), "")

    def clock(self, inputs: Collection[tuple[str, str]]) -> int | None:
        """Return the highest event time seen on these inputs."""
        clocks = [p.clock for (topic, _, source), p in self._known.items() if (topic, source) in inputs]
        highest = max(clocks, default=UNSET)
        return None if highest == UNSET else highest

    def state(self) -> list[list[Any]]:
        """Return what ``restore`` needs: the fields of each record in order."""
        return [list(msgspec.structs.astuple(p)) for p in self._known.values()]

    def restore(self, state: list[list[Any]]) -> None:
        """Go on from what ``state`` gave; raises ``msgspec.ValidationError`` for fields that no progress has."""
        self._known.clear()
        for fields in state:
            self.put(msgspec.convert(["progress", *fields], Progress))
