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
# One that fails may be a notice that the receiver stumbles over; at the third in a row it is likely the receiver, and
# the rest of what waits would each cost a timeout.
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
        self._probed: set[tuple[str, int, int]] = set()
        self._leaving = threading.Event()
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
        in_a_row = 0
        waiting = [one for one in self._waiting if one.address not in self._told]
        while waiting:
            probes = in_a_row == _FAILURES
            error = self._tell(waiting.pop(self._probe(waiting) if probes else 0), now_ms)
            if error is None:
                in_a_row = 0
                continue
            failed.append(error)
            in_a_row += 1
            # One that is to leave asks a receiver that hangs no second time: the next process tells the rest.
            if probes or self._leaving.is_set():
                break
        if failed:
            raise failed[0]
        self._waiting.clear()
        return []

    def _probe(self, waiting: list[_Waiting]) -> int:
        """Return which to try behind those that fail: if it is taken they are at fault, and else the receiver is.

        In order otherwise, so that after an outage a page is told before its recovery. The newest first, as it is what
        somebody waits for, and another one each time: it may be one that the receiver stumbles over as well.
        """
        if all(one.address in self._probed for one in waiting):
            self._probed.clear()
        at = max(row for row, one in enumerate(waiting) if one.address not in self._probed)
        self._probed.add(waiting[at].address)
        return at

    def _tell(self, one: _Waiting, now_ms: int) -> Retryable | None:
        """Tell one, or return why it must be told again."""
        if now_ms - one.written_ms > self._settings.expires:
            self._done(one.address, "expired")
            return None
        try:
            self._notifier.notify(one.notice)
        except Retryable as error:
            self._outcomes["retried"] += 1
            _log.warning(LogEvent.NOTICE_WAITS, notifier=self._who, notice=one.notice.id, reason=str(error))
            return error
        except Exception as error:  # noqa: BLE001 - of an extension, and it must cost this notice alone
            self._done(one.address, "refused")
            reason = masked(f"{type(error).__name__}: {error}")
            _log.error(LogEvent.NOTICE_REFUSED, notifier=self._who, notice=one.notice.id, reason=reason)
        else:
            self._done(one.address, "told")
        return None

    def _done(self, address: tuple[str, int, int], outcome: str) -> None:
        self._told.add(address)
        self._outcomes[outcome] += 1

    def committed(self) -> None:
        """Forget what was told: nobody reads it again."""
        self._told.clear()
        self._probed.clear()

    def leave(self) -> None:
        """Tell what waits only as long as the receiver takes it; called from another thread, when the role ends."""
        self._leaving.set()

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

    def end(self) -> None:
        """Begin to end, beside the role's own loops: tell and commit what was absorbed; who hangs is asked no more."""
        self._stop.set()
        for loop in list(self._loops.values()):
            if isinstance(loop.stage, Notify):
                loop.stage.leave()

    def stop(self, within_s: float) -> None:
        """End; what is not done by then is told by the next process, some of it again under the same id."""
        self.end()
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
