"""The one loop that drives every role: restore, poll, absorb, flush, and commit records with offsets together."""

import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.metrics import Sample
from stationkeeper.streams.dead_letters.letters import DeadLetterRefused, is_dead_letter
from stationkeeper.streams.errors import Denied, Displaced, Fatal, Fenced, Retryable, StreamError, TopicReplaced
from stationkeeper.streams.inputs import Inputs, LogEnds
from stationkeeper.streams.kafka.topic_config import refuse_reshaped
from stationkeeper.streams.offsets import Losses, Positions
from stationkeeper.streams.own_topics import OwnTopics
from stationkeeper.streams.ports import Batch, Hindered, Outgoing, Partition, Reader, Restored, Sink, Source, Stage
from stationkeeper.streams.settings import KafkaSettings
from stationkeeper.streams.vitals import Vitals

log = structlog.get_logger()

# What of a library's message is kept in a dead letter: its first sentence; the rest is a dump of the value.
_CUT = 300


class Tables:
    """Shows a stage its tables; a record that the stage cannot use is logged and skipped: the value before it stays."""

    def __init__(self, stage: Stage, reader: Reader, vitals: Vitals) -> None:
        self._stage, self._reader, self._vitals = stage, reader, vitals
        self._positions: dict[Partition, int] = {}

    def read(self) -> None:
        """Show every table from its first record to its end; raises ``Retryable`` where one does not exist."""
        names = [topic for topic in self._stage.tables if topic not in self._stage.inputs]
        partitions = [partition for topic in names for partition in self._reader.partitions(topic)]
        missing = [topic for topic in names if not any(p.topic == topic for p in partitions)]
        if missing:
            raise Retryable(f"topics {', '.join(missing)} do not exist yet; stationkeeper check creates and lists them")
        for batch in self._reader.read(partitions):
            self._show(batch)
            self._positions[batch.partition] = batch.next_offset
        for partition in partitions:
            self._positions.setdefault(partition, self._reader.bounds([partition])[partition][0])

    def follow(self) -> None:
        """Show what came since."""
        if self._positions:
            for batch in self._reader.follow(tuple(self._positions), self._positions, 0.0):
                self._show(batch)

    def _show(self, batch: Batch) -> None:
        for row, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            if key is None:
                continue
            try:
                self._stage.table(batch.partition.topic, key, value)
            except (ValueError, ArithmeticError) as error:
                # A table belongs to everyone who may write to it; what one of them got wrong must not end a process
                # that would meet the same record at its next start.
                self._vitals.table_refused()
                log.error(
                    LogEvent.TABLE_RECORD_REFUSED,
                    role=self._stage.name,
                    topic=batch.partition.topic,
                    partition=batch.partition.index,
                    offset=int(batch.offsets[row]),
                    key=key.decode(errors="backslashreplace"),
                    reason=f"{type(error).__name__}: {' '.join(str(error).split())[:_CUT]}",
                )


# Most failures are an election of a leader and over in a moment, so the first try comes soon.
_FIRST_BACKOFF_S = 0.2
# A broker that is away is asked every 5 s: soon enough for the bar of 30 s to the first closed minute.
_LONGEST_BACKOFF_S = 5.0
# Doublings after which the wait has long been the longest; a power of two without a bound overflows in a long outage.
_MOST_DOUBLINGS = 10
# Shares of `max_poll_interval`, at which the group takes a member for dead: a turn beyond the first takes half as many
# records next, so that two slow turns in a row still leave half of the time; one below the second takes twice as many.
# Apart by four, as a size that was doubled must not be halved at once.
_SLOW_TURN, _QUICK_TURN = 1 / 4, 1 / 16
# For how many times as long as a transaction may last the group's offsets may fail to come until an end is put to what
# may hide them: beyond the first, brokers end by themselves what is open. In time, as an election fails at once.
_MOST_UNREAD = 2
_FORGOTTEN = "docs/operations.md, offsets that cannot be read"
# Of the session: a little more than the tenth of it that lies between two heartbeats.
_ONE_HEARTBEAT = 1 / 8


def wall_ms() -> int:
    """Return the wall clock in UTC milliseconds."""
    return time.time_ns() // 1_000_000


def _names(partitions: Collection[Partition]) -> list[str]:
    return [f"{partition.topic}/{partition.index}" for partition in sorted(partitions)]


def _fatal_event(error: Fatal) -> LogEvent:
    if isinstance(error, Fenced):
        return LogEvent.PRODUCER_FENCED
    if isinstance(error, TopicReplaced):
        return LogEvent.TOPIC_REPLACED
    if isinstance(error, Denied):
        return error.event
    return LogEvent.DEAD_LETTER_UNWRITABLE if isinstance(error, DeadLetterRefused) else LogEvent.FATAL


class _Transactions:
    """Commits records with the offsets and the note that belong to them; keeps what a failed commit was to write."""

    def __init__(self, source: Source, sink: Sink, own: OwnTopics, longest_s: float) -> None:
        self._source, self._sink, self._own = source, sink, own
        self._longest_s = longest_s
        self._letters: set[str] = set()
        self._unread_since: float | None = None

    def write(self, records: Sequence[Outgoing], positions: Positions) -> None:
        """Commit all of it or nothing; raises ``Retryable`` and ``Fatal``."""
        self._letters = {record.topic for record in records if is_dead_letter(record)}
        self._sink.begin()
        self._sink.send(records)
        self._sink.commit(self._own.carried(positions.carried), self._source.group(), self._own.note)
        self._own.settled()
        positions.settled()
        self._letters = set()

    def offsets(self, assigned: Collection[Partition]) -> dict[Partition, int]:
        """Read the group's offsets, which a broker withholds while a transaction that carries offsets is open.

        So they come before the state is read: what such a transaction wrote to it is there by then. The other way round
        a commit between the two would give offsets that are newer than the state.
        """
        asked = time.monotonic()
        try:
            found = dict(self._source.committed(sorted(assigned)))
        except Retryable as error:
            if self._unread_since is None:
                self._unread_since = asked
            if time.monotonic() - self._unread_since < _MOST_UNREAD * self._longest_s:
                raise
            # A broker that was killed over the end of a transaction of ours may hold it open for ever, and what would
            # end it is our next one, which waits for these offsets. Aborted, as our own state knows what was done.
            self._sink.abandon(min(assigned), self._source.group())
            raise Retryable(f"{error}; ended what a broker may have forgotten to end ({_FORGOTTEN})") from error
        self._unread_since = None
        return found

    def waiting(self) -> None:
        """Count the time without offsets anew: while the group gives no partitions nobody asks for any."""
        self._unread_since = None

    def refuse_successor(self, error: Displaced, assigned: Collection[Partition]) -> None:
        """Raise ``Fenced`` where another process has this slot, or where that cannot be told.

        A successor starts its producer before it joins, which fences ours: while no other has begun, or ours may still
        write, there is none. One that began only now would fence the successor.
        """
        if error.writing or self._sink.latest():
            return
        unanswered = "no producer is left to ask by"
        if self._sink.alive:
            try:
                self._sink.ask(min(assigned), self._source.group())
                return
            except Displaced as refused:
                if refused.writing:
                    return
                raise Fenced(
                    f"{error}; another process runs with the same instance: give each replica its own kafka.instance"
                ) from refused
            except Retryable as failed:
                unanswered = str(failed)
        raise Fenced(
            f"{error}; whether another process has its place cannot be told ({unanswered}), so it ends and may be "
            "started again; if that comes back, give each replica its own kafka.instance"
        )

    def missing(self, reader: Reader) -> list[str]:
        """Return, once, the dead-letter topics that a failed commit wrote to and that are gone: no error names them."""
        letters, self._letters = self._letters, set()
        try:
            return [topic for topic in sorted(letters) if not reader.partitions(topic)]
        except Retryable:
            return []


def _retryable_event(missing: Sequence[str], *, connected: bool) -> LogEvent:
    if missing:
        return LogEvent.DEAD_LETTER_UNWRITABLE
    return LogEvent.TRANSACTION_ABORTED if connected else LogEvent.BROKER_UNREACHABLE


class _Pace:
    """How many records a turn may take, and how long a failed one waits."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.records = settings.max_poll_records
        self.failures = 0

    def turned(self, seconds: float) -> None:
        """Take fewer records at once while a turn lasts so long that the group could take the member for dead."""
        longest = self._settings.max_poll_interval / 1_000
        if seconds > longest * _SLOW_TURN:
            self.records = max(self.records // 2, 1)
        elif seconds < longest * _QUICK_TURN and self.records < self._settings.max_poll_records:
            self.records = min(self.records * 2, self._settings.max_poll_records)

    def backoff_s(self, *, connected: bool) -> float:
        """Return how long to wait after a failure, longer with each in a row."""
        longest = min(_FIRST_BACKOFF_S * 2.0 ** min(self.failures, _MOST_DOUBLINGS), _LONGEST_BACKOFF_S)
        # Between half and all of it, so that replicas which failed together do not come back together.
        spread = longest * (0.5 + random.random() / 2)  # noqa: S311 - spreads retries, keeps no secret
        # A process that was stopped must hear from a heartbeat that it was replaced before it starts a new producer,
        # which would fence its successor.
        return max(spread, self._settings.session_timeout / 1_000 * _ONE_HEARTBEAT) if connected else spread


def _read_back(reader: Reader, partitions: Sequence[Partition]) -> Restored:
    """Return the latest value of each key of changelog partitions, read to their end."""
    values: dict[bytes, bytes] = {}
    homes: dict[bytes, int] = {}
    for batch in reader.read(partitions):
        for key, value in zip(batch.keys, batch.values, strict=True):
            if key is None:
                continue
            if value is None:
                values.pop(key, None)
            else:
                values[key], homes[key] = value, batch.partition.index
    return Restored(values, homes)


class LoopView:
    """A loop as the HTTP side sees it, read from other threads: what was last handed over, never a half step."""

    def __init__(self, stage: Stage, now_ms: Callable[[], int], longest_turn_ms: int) -> None:
        self.stage = stage
        self.vitals = Vitals(stage.name)
        self._now_ms = now_ms
        # Past it the group takes the member for dead, and so does whoever asks for liveness.
        self._longest_turn_s = longest_turn_ms / 1_000

    def _publish(self) -> None:
        """Hand over the stage's numbers, from the loop's own thread after a commit."""
        self.vitals.publish(self.stage.samples(), self.stage.status())

    @property
    def role(self) -> str:
        """Return the stage's name."""
        return self.stage.name

    def live(self) -> bool:
        """Return whether the loop has turned lately; says nothing about Kafka."""
        return self.vitals.live(time.monotonic(), self._longest_turn_s)

    def ready(self) -> bool:
        """Return whether the stage is assigned, restored and its broker answers."""
        return self.vitals.ready()

    def reasons(self) -> Sequence[str]:
        """Return why the loop is not ready, in words."""
        return self.vitals.reasons()

    def samples(self) -> Sequence[Sample]:
        """Return the metric values as of the last commit."""
        return self.vitals.samples()

    def status(self) -> Mapping[str, Any]:
        """Return the status JSON as of the last commit."""
        return self.vitals.status()


class Loop(LoopView):
    """Drives one stage over one source, sink and reader; see ``streams.ports.Stage`` for what it promises.

    ``run`` goes on until told to stop and then drains; ``turn`` is one step, for deterministic driving. A
    ``Retryable`` failure aborts the transaction and goes back to what is committed, waiting a little longer each time;
    ``Fatal`` (a fenced producer, a topic that takes no records) ends ``run`` with nothing of the open work committed.
    ``prepare`` is called before anything is read, and makes what must exist: topics first.
    """

    def __init__(
        self,
        stage: Stage,
        source: Source,
        sink: Sink,
        reader: Reader,
        settings: KafkaSettings,
        *,
        now_ms: Callable[[], int] = wall_ms,
        internal: Mapping[str, int] | None = None,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(stage, now_ms, settings.max_poll_interval)
        self._source = source
        self._sink = sink
        self._reader = reader
        self._settings = settings
        self._internal = dict(internal or {})
        self._prepare = prepare
        self._losses = Losses(stage, self.vitals)
        self._own = OwnTopics(source, now_ms)
        self._inputs = Inputs(stage, source, self._own, self._internal)
        self._tables = Tables(stage, reader, self.vitals)
        self._connected = False
        self._stale = True
        self._assigned: frozenset[Partition] = frozenset()
        self._positions = Positions()
        self._ends = LogEnds(source, self._inputs, self.vitals)
        self._pace = _Pace(settings)
        self._transactions = _Transactions(source, sink, self._own, settings.transaction_timeout / 1_000)
        self._flushed_ms, self._stopping = 0, False

    def run(self, stop: threading.Event) -> None:
        """Turn until ``stop``, then write what is absorbed; raises ``Fatal`` uncommitted."""
        log.info(LogEvent.STARTED, role=self.stage.name)
        try:
            while not stop.is_set():
                if not self._attempt(self.turn):
                    stop.wait(self._pace.backoff_s(connected=self._connected))
            log.info(LogEvent.STOPPING, role=self.stage.name)
            self._stopping = True
            self.vitals.waiting("stopping")
            if self._connected and not self._stale:
                self._attempt(self._flush)
        except Fatal as error:
            self.vitals.failed(str(error))
            log.error(_fatal_event(error), role=self.stage.name, reason=str(error))
            raise
        finally:
            self.close()
            log.info(LogEvent.STOPPED, role=self.stage.name)

    def _attempt(self, step: Callable[[], None]) -> bool:
        """Run a step; after a retryable failure everything uncommitted is given up and read again."""
        try:
            step()
        except Retryable as error:
            return self._failed(error)
        except Displaced as error:
            # After an election librdkafka may ask twice to join, and the second answer fences the first, which is ours.
            self._transactions.refuse_successor(error, self._assigned or {Partition(self.stage.inputs[0], 0)})
            self._failed(error)
            self._connected = False
            with suppress(StreamError):
                self._source.close()
            return False
        except Fatal as error:
            self._sink.abort()
            if isinstance(error, TopicReplaced):
                self._own.accept(self._sink)
            raise
        self._pace.failures = 0
        return True

    def _failed(self, error: StreamError) -> bool:
        """Give up everything uncommitted, and say why; returns that the step was not done."""
        self._pace.failures += 1
        self._stale = True
        missing = self._transactions.missing(self._reader)
        event = _retryable_event(missing, connected=self._connected)
        gone = f"{', '.join(missing)} does not exist; create it (stationkeeper check does) and this goes on"
        reason = gone if missing else str(error)
        self.vitals.aborted(reason)
        log.warning(event, role=self.stage.name, reason=reason, attempt=self._pace.failures)
        self._sink.abort()
        return False

    def turn(self) -> None:
        """Take one step: tables, records, and a transaction when the flush interval has passed."""
        self.vitals.beat(self._now_ms(), time.monotonic())
        if not self._connected:
            self._connect()
        self._tables.follow()
        batches = self._inputs.poll(self._settings.poll_timeout / 1_000, self._pace.records)
        changed = self._source.take_rebalance()
        if changed or self._stale:
            if changed and self._assigned:
                log.info(LogEvent.PARTITIONS_REVOKED, role=self.stage.name, partitions=_names(self._assigned))
            self._reset()
            return
        began = time.monotonic()
        for batch in batches:
            self.stage.absorb(batch)
            self._positions.read(batch.partition, batch.next_offset)
            self._flush_if_due()
        self._pace.turned(time.monotonic() - began)
        for partition, records in self._losses.new(self._source.expired()):
            self._pass_lost(partition, self._positions.at[partition] + records, records)
        for quiet in self._ends.reached(self._positions):
            self.stage.absorb(quiet)
        self._flush_if_due()

    def _flush_if_due(self) -> None:
        # A wall clock that was set back must not stop the commits, so a negative time is due as well.
        if not 0 <= self._now_ms() - self._flushed_ms < self._settings.flush_interval:
            self._flush()

    def _connect(self) -> None:
        # Whoever comes first makes what all need, so that roles may start in any order and on any machine.
        self._prepare()
        refuse_reshaped(self._reader, self._internal)
        self._tables.read()
        self._sink.recover()
        self._source.subscribe(self.stage.inputs)
        self._connected = True

    def _reset(self) -> None:
        """Go back to what is committed: the offsets first, then the state, read to its end."""
        self._sink.abort()
        self._sink.recover()
        self.stage.revoked(self._assigned)
        self._losses.begin_anew(self._source.expired())
        self._positions.forget()
        self._assigned = self._source.assignment()
        joined = self._source.joined()
        self._stale = True
        if not joined:
            self.vitals.waiting("waiting for the group to give this member its partitions")
            self._publish()  # what is no longer ours is its new owner's to show
            self._transactions.waiting()
            return
        began = time.monotonic()
        committed = self._transactions.offsets(self._assigned)
        self._inputs.recognise(self._assigned)
        restored = _read_back(self._reader, self.stage.changelog(self._assigned))
        self.stage.assigned(self._assigned, restored)
        partitions = self._inputs.begin(self._assigned)
        for partition, offset, lost in self._inputs.starts(partitions, committed, self._reader, self._settings):
            self._source.seek(partition, offset)
            self._positions.begin(partition, offset, committed=partition in committed)
            if lost:
                self._pass_lost(partition, offset, lost, committed.get(partition, 0))
        self._stale = False
        seconds = time.monotonic() - began
        self.vitals.restored(seconds)
        self._publish()
        log.info(LogEvent.PARTITIONS_ASSIGNED, role=self.stage.name, partitions=_names(self._assigned))
        log.info(LogEvent.STATE_RESTORED, role=self.stage.name, keys=len(restored.values), seconds=round(seconds, 3))
        # Readiness waits for a flush, and a start should not wait for the interval.
        self._flush()

    def _pass_lost(self, partition: Partition, offset: int, records: int, committed: int = 0) -> None:
        """Tell of the records before ``offset`` that are gone, and commit with the next transaction that they are."""
        self._losses.tell(partition, offset, records)
        self._positions.passed(partition, offset, committed)

    def _flush(self) -> None:
        now = self._now_ms()
        self._flushed_ms = now
        self._inputs.check()
        records: list[Outgoing] = self.stage.flush(now)
        if records or self._positions.uncommitted:
            began = time.monotonic()
            self._transactions.write(records, self._positions)
            self.vitals.flushed(time.monotonic() - began)
            self._losses.settled()
            self.stage.committed()
        hindered = self.stage.hindered() if isinstance(self.stage, Hindered) else None
        if hindered is not None:
            self.vitals.waiting(hindered)
        elif not self._stopping and self.vitals.ready_now():
            log.info(LogEvent.READY, role=self.stage.name)
        self._publish()

    def close(self) -> None:
        """Let go of the stage's children and every connection."""
        for close in (self.stage.close, self._sink.close, self._source.close, self._reader.close):
            try:
                close()
            except StreamError as error:
                log.warning(LogEvent.BROKER_UNREACHABLE, role=self.stage.name, reason=str(error))
