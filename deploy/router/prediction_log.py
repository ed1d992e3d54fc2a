"""Where every answer is logged: a bounded queue that one thread writes to Kafka, each batch acknowledged as one."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol

import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.deploy.router.backlog import IN_FLIGHT, Backlog, LogBatch, Unlogged
from stationkeeper.deploy.settings import ServeSettings
from stationkeeper.streams.connect import appender_for, beside_requests
from stationkeeper.streams.errors import RecordTooLarge, Retryable
from stationkeeper.streams.ports import Appender
from stationkeeper.streams.settings import KafkaSettings

_log = structlog.get_logger()
# Seconds before a broker that failed is tried again: half doubles the warnings of an outage, double its length.
_RETRY_S = 1.0
# The same while the server stops and five seconds are all there is.
_CLOSING_RETRY_S = 0.2
# Seconds that the answers which wait may take to be written at the end, and again for the thread to end, chosen: half
# of what most supervisors give a process that stops. What is left is counted as lost.
_CLOSE_S = 5.0
# Seconds: a lost answer keeps the server unready this long, so that a probe every ten seconds does not miss it.
_LOSS_SHOWN_S = 15.0


class PredictionLog(Protocol):
    """Takes encoded prediction events; the future resolves once all of a batch are durable."""

    def send(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> Future[None]:
        """Hand over a batch without waiting; raises ``Retryable`` when no room is left for it, or it is stuck."""

    def pending(self) -> int:
        """Return how many records wait for their acknowledgement."""

    def unlogged(self) -> Mapping[tuple[str, str], int]:
        """Return how many records never came to the log, by topic and ``Unlogged``."""

    def problem(self) -> str | None:
        """Return why answers are not logged now, None while they are."""

    def close(self) -> None:
        """Write what waits and let go."""


def _let_go(producer: Appender | None) -> None:
    """Close a producer without waiting; whatever it says of it, the writer goes on with the next."""
    if producer is None:
        return
    try:
        producer.close()
    except Exception as error:  # noqa: BLE001 - its records are written again by the next one
        _log.warning(LogEvent.BROKER_UNREACHABLE, role="serve", doing="closing a producer", error=str(error))


class KafkaPredictionLog:
    """A queue of at most ``max_pending_rows`` records and the thread that hands them to an idempotent producer.

    ``send`` never waits for the broker, and wakes the thread once for all answers of ``linger``. What a producer did
    not get acknowledged is written again by the next one, in order and as often as it takes, so an outage costs memory
    up to the bound and, beyond it, answers that are counted (``ack: queued``) or refused (``ack: produced``). One lock
    guards the backlog and the fields beside it; the producer is called outside it, because its callbacks, which take
    it, may come at once.
    """

    def __init__(self, kafka: KafkaSettings, serve: ServeSettings) -> None:
        compression = None if serve.compression == "none" else serve.compression
        name = f"{kafka.prefix}.serve"
        by = beside_requests(kafka, serve.client)
        self._connect: Callable[[], Appender] = partial(appender_for, by, name, compression, serve.produce_timeout)
        self._linger_s = serve.linger_ms / 1_000
        self._bootstrap = kafka.bootstrap
        self._backlog = Backlog(serve.max_pending_rows)
        self._stuck_s = serve.produce_timeout / 1_000
        self._refuses = serve.ack == "produced"
        self._producer: Appender | None = None
        self._failed: str | None = None
        self._why = ""
        self._closing = self._out_of_time = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def send(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> Future[None]:
        """Queue a batch; a key keeps its partition, CRC-32 modulo their number like librdkafka's.

        Where answers wait for the log a stuck log takes no more, so that the next caller is told at once.
        """
        batch = LogBatch(topic, keys, values, time.monotonic())
        if not keys:
            batch.future.set_result(None)
            return batch.future
        with self._wake:
            stuck = self._problem() if self._refuses else None
            if stuck or self._closing:
                raise Retryable(stuck or "the server is stopping")
            if not self._backlog.fits(len(keys)):
                if self._refuses:
                    raise Retryable(f"{self._backlog.rows} answers wait for the log, at most {self._backlog.limit}")
                self._backlog.lose(topic, len(keys), Unlogged.FULL, time.monotonic())
                raise Retryable("the answer was not logged: too many wait")
            # The thread waits for the first, or for its time to pass; the others it finds then.
            first = self._backlog.next() is None
            self._backlog.add(batch)
            if first:
                self._wake.notify_all()
        return batch.future

    def pending(self) -> int:
        """Return how many records wait for their acknowledgement."""
        return self._backlog.rows

    def unlogged(self) -> Mapping[tuple[str, str], int]:
        """Return how many records never came to the log, by topic and reason."""
        with self._wake:
            return dict(self._backlog.unlogged)

    def problem(self) -> str | None:
        """Return why answers are not logged now: one waits longer than ``produce_timeout``, or was lost just now."""
        with self._wake:
            if time.monotonic() - self._backlog.lost_at < _LOSS_SHOWN_S:
                return f"predictions are lost ({self._backlog.losses()}) on the way to {self._bootstrap}"
            return self._problem()

    def close(self) -> None:
        """Write what waits, at most five seconds, and let go; what is left is counted."""
        until = time.monotonic() + _CLOSE_S
        with self._wake:
            self._closing = True
            self._wake.notify_all()
            while self._backlog.rows and time.monotonic() < until:
                self._wake.wait(until - time.monotonic())
            self._out_of_time = True
            self._wake.notify_all()
        self._thread.join(timeout=_CLOSE_S)
        with self._wake:
            self._backlog.give_up(time.monotonic())
        _let_go(self._producer)

    def _problem(self) -> str | None:
        oldest = self._backlog.oldest()
        if oldest is None or time.monotonic() - oldest.since <= self._stuck_s:
            return None
        waited = time.monotonic() - oldest.since
        why = f": {self._why}" if self._why else ""
        return f"predictions cannot be logged to {oldest.topic} at {self._bootstrap} for {waited:.0f} s{why}"

    def _run(self) -> None:
        due = False
        while True:
            with self._wake:
                # All that waits goes when the first is due, also what came a moment ago.
                due = due and self._backlog.next() is not None
                while not (self._stopped() or self._failed is not None or due):
                    first = self._backlog.next()
                    left = None if first is None else first.since + self._linger_s - time.monotonic()
                    due = left is not None and (left <= 0 or self._closing)
                    if not due:
                        self._wake.wait(left)
                if self._stopped():
                    return
                failed, batch = self._failed, self._backlog.next()
            if failed is not None:
                self._begin_again(failed)
            elif batch is not None:
                self._hand_over(batch)

    def _stopped(self) -> bool:
        return self._closing and (self._out_of_time or not self._backlog.rows)

    def _hand_over(self, batch: LogBatch) -> None:
        """Give the first waiting batch to the producer; what it cannot take goes behind the others."""
        try:
            producer = self._producer = self._producer or self._connect()
            producer.know(batch.topic)
        except Exception as error:  # noqa: BLE001 - whatever the client raises, answers wait and the thread goes on
            why = f"{error}; is the broker up, and does the topic {batch.topic} exist?"
            _log.warning(LogEvent.BROKER_UNREACHABLE, role="serve", doing="logging predictions", error=why)
            with self._wake:
                self._backlog.put_off()
                self._why = why
                # A producer that failed meanwhile is replaced at once: its records are older than what waits. At the
                # end it is tried more often: a topic may come back within it.
                pause = _CLOSING_RETRY_S if self._closing else _RETRY_S
                self._wake.wait_for(lambda: self._out_of_time or self._failed is not None, pause)
            return
        with self._wake:
            attempt = self._backlog.hand_over()
        for at, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            if at in batch.lost:
                continue
            ended = partial(self._ended, batch, at, attempt)
            try:
                producer.append(batch.topic, key, value, ended)
            except Exception as error:  # noqa: BLE001 - as above: written again by the next producer
                ended(error)
                if not isinstance(error, RecordTooLarge):
                    return

    def _ended(self, batch: LogBatch, at: int, attempt: int, error: Exception | None) -> None:
        if error is not None and not isinstance(error, RecordTooLarge):
            self._fail(attempt, error)
            return
        with self._wake:
            if error is not None and attempt == self._backlog.attempt:
                # One record that no broker takes: asking again would hold up all others for ever.
                batch.lost.add(at)
                self._backlog.lose(batch.topic, 1, Unlogged.TOO_LARGE, time.monotonic())
            self._one_ended(batch, attempt)

    def _one_ended(self, batch: LogBatch, attempt: int) -> None:
        full = self._backlog.handed >= IN_FLIGHT
        if self._backlog.ended(batch, attempt):
            self._why = ""
        # The thread waits for room, the end for the last; woken at each it would only find that nothing is due.
        if full or self._closing:
            self._wake.notify_all()

    def _fail(self, attempt: int, error: BaseException) -> None:
        with self._wake:
            if attempt == self._backlog.attempt:
                self._failed = str(error) or type(error).__name__
                self._wake.notify_all()

    def _begin_again(self, why: str) -> None:
        """Let go of a producer that failed, as it would fail every later send, and queue what it held again."""
        _log.warning(LogEvent.BROKER_UNREACHABLE, role="serve", doing="writing predictions again", error=why)
        with self._wake:
            old, self._producer = self._producer, None
            self._why = why
            self._backlog.begin_again()
        _let_go(old)
        with self._wake:
            if not self._closing:
                self._wake.wait_for(lambda: self._closing, _RETRY_S)
            self._failed = None
