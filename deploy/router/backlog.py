"""The answers that the log does not have yet: in what order they go, how many there may be, and what became lost."""

from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum

from stationkeeper.streams.errors import Retryable

# Records handed to the producer and not acknowledged: ten full batches keep the line busy, and after an outage no more
# than these are written a second time (the monitor counts an id once).
IN_FLIGHT = 20_000


class Unlogged(StrEnum):
    """Why an answer never came to the log."""

    FULL = "full"
    TOO_LARGE = "too_large"
    CLOSED = "closed"


@dataclass(slots=True)
class LogBatch:
    """Records of one request since a moment (monotonic s); ``left`` of the present attempt are not acknowledged.

    ``lost`` are the places of records that no attempt takes: written again, they would end the next one, too.
    """

    topic: str
    keys: Sequence[bytes]
    values: Sequence[bytes]
    since: float
    future: Future[None] = field(default_factory=Future)
    left: int = 0
    lost: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Backlog:
    """At most ``limit`` records: batches that wait, and batches a producer has, both in the order they came.

    Each producer is one ``attempt``. Every record leaves the count exactly once: when its batch is acknowledged or
    given up, never by a call of a producer that was replaced. Knows no thread and no clock: the caller holds a lock
    around each method, and moments (monotonic seconds) are arguments.
    """

    limit: int
    rows: int = 0
    handed: int = 0
    attempt: int = 0
    lost_at: float = float("-inf")
    unlogged: Counter[tuple[str, str]] = field(default_factory=Counter)
    _waiting: deque[LogBatch] = field(default_factory=deque)
    _flying: dict[int, LogBatch] = field(default_factory=dict)

    def fits(self, rows: int) -> bool:
        """Return whether so many more records may wait."""
        return self.rows + rows <= self.limit

    def add(self, batch: LogBatch) -> None:
        """Let a batch wait behind the others."""
        self.rows += len(batch.keys)
        self._waiting.append(batch)

    def next(self) -> LogBatch | None:
        """Return the batch whose turn it is, None while none waits or the producer has enough."""
        return self._waiting[0] if self._waiting and self.handed < IN_FLIGHT else None

    def put_off(self) -> None:
        """Move the first waiting batch behind the others: a topic that is not there must not hold up the rest."""
        self._waiting.rotate(-1)

    def hand_over(self) -> int:
        """Move the first waiting batch to the producer; returns the attempt under which its records end."""
        batch = self._waiting.popleft()
        # By identity: two requests may hold the same ids and values, and each has its own future.
        self._flying[id(batch)] = batch
        batch.left = len(batch.keys) - len(batch.lost)
        self.handed += batch.left
        return self.attempt

    def ended(self, batch: LogBatch, attempt: int) -> bool:
        """Count one record of a batch as done; returns whether its batch is. A replaced producer's word is ignored."""
        if attempt != self.attempt:
            return False
        batch.left -= 1
        self.handed -= 1
        if batch.left:
            return False
        del self._flying[id(batch)]
        self.rows -= len(batch.keys)
        batch.future.set_result(None)
        return True

    def begin_again(self) -> None:
        """Let all that the producer has wait again, before what came later: the order of the answers stays."""
        self.attempt += 1
        self.handed = 0
        self._waiting.extendleft(reversed(self._flying.values()))
        self._flying.clear()

    def give_up(self, now: float) -> None:
        """Fail the future of everything that is left, and count it; an acknowledgement that comes later is ignored."""
        self.attempt += 1
        self.handed = 0
        for batch in (*self._flying.values(), *self._waiting):
            self.rows -= len(batch.keys)
            self.lose(batch.topic, len(batch.keys), Unlogged.CLOSED, now)
            batch.future.set_exception(Retryable("the prediction was not logged: the server stopped"))
        self._flying.clear()
        self._waiting.clear()

    def lose(self, topic: str, rows: int, reason: Unlogged, now: float) -> None:
        """Count records that never come to the log."""
        self.unlogged[topic, reason] += rows
        self.lost_at = now

    def oldest(self) -> LogBatch | None:
        """Return the batch that waits longest; what the producer has came before what it has not."""
        return next(iter(self._flying.values()), self._waiting[0] if self._waiting else None)

    def losses(self) -> str:
        """Say how many records of which topic were lost, and why."""
        return "; ".join(f"{topic}: {count} {why}" for (topic, why), count in sorted(self.unlogged.items()))
