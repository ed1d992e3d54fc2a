"""A notifier as a stage of its own: committed records in, calls of the notifier out, then the offsets."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import structlog
from pydantic import ValidationError

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.masking import masked
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.topics import Topics
from stationkeeper.notify.notices import readings
from stationkeeper.notify.notifier import Notice, Notifier, NotifierSettings
from stationkeeper.streams.errors import Retryable, StreamError
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored

_log = structlog.get_logger()
# One that fails may be a notice that the receiver stumbles over; at the third it is the receiver, and the rest of what
# waits would each cost a timeout.
_FAILURES = 3
# Chosen: what ends a loop for good is mended by a person, in the broker; half fills the log, double delays the notice.
_AGAIN_S = 60.0


class _Waiting(NamedTuple):
    address: tuple[str, int, int]
    written_ms: int
    notice: Notice


class Notify:
    """The stage of one notifier. Its offsets commit once all that it absorbed was told, given up or too old.

    Until then the loop reads again after each failure: what was told meanwhile is remembered and not told twice, except
    by a process that starts anew. Age is by the broker's time of the record, as the declared clock may be a replay's.
    """

    tables = ()

    def __init__(self, name: str, settings: NotifierSettings, notifier: Notifier, topics: Topics) -> None:
        self.name = f"notify-{name}"
        self._who, self._settings, self._notifier = name, settings, notifier
        wanted = frozenset(settings.tell)
        self._readings = {topic: read for topic, (told, read) in readings(topics).items() if told & wanted}
        self.inputs = tuple(self._readings)
        self._page = (settings.page or "").rstrip("/")
        self._waiting: list[_Waiting] = []
        self._told: set[tuple[str, int, int]] = set()
        self._outcomes: Counter[str] = Counter()

    def changelog(self, assigned: frozenset[Partition]) -> tuple[Partition, ...]:
        """Return nothing: there is no state but the offsets."""
        return ()

    def start_offsets(self, assigned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return nothing: committed offsets are where it goes on."""
        return {}

    def assigned(self, partitions: frozenset[Partition], restored: Restored) -> None:
        """Begin with nothing that waits."""
        self._waiting.clear()

    def revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget what waits: it is read again, here or by another replica."""
        self._waiting.clear()

    def table(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Follow no table."""

    def absorb(self, batch: Batch) -> None:
        """Take in a batch; an unreadable record is logged and passed over."""
        topic, index = batch.partition
        for offset, written_ms, value in zip(
            batch.offsets.tolist(), batch.timestamps.tolist(), batch.values, strict=True
        ):
            try:
                notice = None if value is None else self._readings[topic](value, self._page)
            except ValidationError as error:
                where = f"{topic}/{index}@{offset}"
                _log.error(LogEvent.RECORD_LEFT_OUT, role=self.name, record=where, error=str(error))
                continue
            if notice is not None and self._asked_for(notice):
                self._waiting.append(_Waiting((topic, index, offset), written_ms, notice))

    def _asked_for(self, notice: Notice) -> bool:
        return notice.told in self._settings.tell and notice.model in (self._settings.models or (notice.model,))

    def flush(self, now_ms: int) -> list[Outgoing]:
        """Tell what waits; raises ``Retryable`` where some of it must be told again, which leaves all uncommitted."""
        failed: list[Retryable] = []
        for address, written_ms, notice in self._waiting:
            if address in self._told:
                continue
            if now_ms - written_ms > self._settings.expires:
                self._done(address, "expired")
                continue
            try:
                self._notifier.notify(notice)
            except Retryable as error:
                failed.append(error)
                self._outcomes["retried"] += 1
                _log.warning(LogEvent.NOTICE_WAITS, notifier=self._who, notice=notice.id, reason=str(error))
                if len(failed) == _FAILURES:
                    break
            except Exception as error:  # noqa: BLE001 - of an extension, and it must cost this notice alone
                self._done(address, "refused")
                reason = masked(f"{type(error).__name__}: {error}")
                _log.error(LogEvent.NOTICE_REFUSED, notifier=self._who, notice=notice.id, reason=reason)
            else:
                self._done(address, "told")
        if failed:
            raise failed[0]
        self._waiting.clear()
        return []

    def _done(self, address: tuple[str, int, int], outcome: str) -> None:
        self._told.add(address)
        self._outcomes[outcome] += 1

    def committed(self) -> None:
        """Forget what was told: nobody reads it again."""
        self._told.clear()

    def samples(self) -> list[Sample]:
        """Return what became of the notices since the start."""
        outcomes = ("told", "refused", "expired", "retried")
        return [Sample("stationkeeper_notices_total", (self._who, one), self._outcomes[one]) for one in outcomes]

    def status(self) -> Mapping[str, Any]:
        """Return what became of the notices since the start."""
        return {"role": self.name, **self._outcomes}

    def close(self) -> None:
        """Let go of nothing."""


class Telling:
    """One loop a notifier, each in a thread beside the role's own: whatever ends one of them ends nothing else."""

    def __init__(self, loops: Mapping[str, Callable[[], Loop]]) -> None:
        self._stop = threading.Event()
        self._loops: dict[str, Loop] = {}
        # Daemons: a receiver that hangs must not keep a role from its end.
        self._threads = [
            threading.Thread(target=self._run, args=(name, make), name=f"notify-{name}", daemon=True)
            for name, make in loops.items()
        ]

    def start(self) -> None:
        """Begin to tell."""
        for thread in self._threads:
            thread.start()

    def stop(self, within_s: float) -> None:
        """Tell and commit what was absorbed; what is not done by then is told by the next process."""
        self._stop.set()
        deadline = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def samples(self) -> list[Sample]:
        """Return the samples of all these loops; lag and heartbeat show one that tells nothing any more."""
        return [sample for loop in list(self._loops.values()) for sample in loop.samples()]

    def _run(self, name: str, make: Callable[[], Loop]) -> None:
        while not self._stop.is_set():
            try:
                loop = self._loops[name] = make()
                loop.run(self._stop)
            except StreamError:
                # The loop has said why.
                self._stop.wait(_AGAIN_S)
            except Exception as error:  # noqa: BLE001 - whatever it is, the role goes on
                _log.error(LogEvent.FATAL, role=f"notify-{name}", reason=masked(repr(error)))
                self._stop.wait(_AGAIN_S)
