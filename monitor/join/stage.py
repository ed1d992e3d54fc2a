"""The join: predictions meet their labels, whatever comes first, and become outcomes of the prediction's pane."""

import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec import structs

from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.topics import PANES_PARTITIONS, Topics
from stationkeeper.contracts.wire import (
    JOIN,
    PROGRESS_MS,
    JoinBatch,
    OutcomeDelta,
    Progress,
    Record,
    WireError,
    decode,
    encode,
    joined_source,
)
from stationkeeper.events import salt_of
from stationkeeper.monitor.join.disk_cache import JoinCache
from stationkeeper.monitor.join.outcomes import corrections_of, merged_outcomes, outcomes_of
from stationkeeper.monitor.join.partition import JoinPartition, JoinState
from stationkeeper.monitor.join.rebuild import SpentNotes
from stationkeeper.monitor.join.totals import JoinTotals
from stationkeeper.monitor.packets import packed
from stationkeeper.monitor.settings import JoinSettings, ModelSettings
from stationkeeper.monitor.state_codec import gather, parts
from stationkeeper.monitor.tally import UNSET
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored

_EXPIRE_EVERY = 64
"""Batches between two sweeps of what is too old. A sweep looks at every row, and what is too old meets nothing anyway:
half sweeps twice as often for nothing, double keeps the memory of old rows twice as long."""

_SAVE_ROWS = 100_000
"""New rows from which the local cache is written again at the earliest: reading fewer again
costs little, so that half would only write more, and double reads a little more at a start."""


class JoinProgress:
    """Tells the judge once a second how far the joins partitions are, and how far the tallies were that filled them."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._at: int | None = None

    def forget(self) -> None:
        """Tell anew at the next call."""
        self._at = None

    def record(self, partitions: Mapping[int, JoinPartition], now_ms: int) -> bytes | None:
        """Return the record for every panes partition; None without news or where the last is younger than it may."""
        # A clock that was set back must not silence it until it is later again.
        if self._at is not None and 0 <= now_ms - self._at < PROGRESS_MS:
            return None
        self._at = now_ms
        records: list[Record] = [
            Progress(
                self._topic,
                index,
                JOIN,
                # A rebuild says where it will be, so that the judge takes it for news.
                max(partition.next_offset, partition.emitted),
                partition.clock,
                idle=partition.rebuilding,
            )
            for index, partition in sorted(partitions.items())
            if partition.rebuilding or partition.clock != UNSET
        ]
        for index, partition in sorted(partitions.items()):
            records += [structs.replace(p, source=joined_source(p.source, index)) for p in partition.tallied.values()]
            partition.tallied.clear()
        return encode(records) if records else None


class Join:
    """The stage that pairs both sides of the joins topic; the order of a joins partition defines the result.

    Its store is memory. The state topic holds only where it was; at a start the store comes from the local cache, if
    there is one, and from the topic. The cache is written after commits only, each time as many rows came as a quarter
    of those that wait, so that a row is written a few times and a start reads a fifth of the store again.
    """

    name = "join"

    def __init__(
        self, models: Mapping[str, ModelSettings], topics: Topics, settings: JoinSettings | None = None
    ) -> None:
        self._models = dict(models)
        self._topics = topics
        self._settings = settings or JoinSettings(cache=None)
        self._cache = JoinCache(self._settings.cache, topics.prefix, self._settings.cache_bytes)
        self._durable = False
        self.inputs = (topics.joins.name,)
        self.tables: tuple[str, ...] = ()
        self._partitions: dict[int, JoinPartition] = {}
        self._outcomes: list[OutcomeDelta] = []
        self._moved: set[int] = set()
        self._progress = JoinProgress(topics.joins.name)
        self._generation = 0
        self._totals: JoinTotals | None = None
        # Models may use the same ids; by its own salt no prediction of one meets a label of another.
        self._salts = {name: salt_of(f"model {name}") for name in models}
        self._horizon = max((m.label_horizon for m in self._models.values()), default=0)

    def changelog(self, assigned: frozenset[Partition]) -> tuple[Partition, ...]:
        """Return the state partitions of the same numbers."""
        return tuple(Partition(self._topics.join_state.name, partition.index) for partition in sorted(assigned))

    def start_offsets(self, assigned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return where the cache ends, without one the oldest offsets whose rows may still meet their other side."""
        return {p: self._partitions[p.index].next_offset for p in assigned if self._partitions[p.index].emitted}

    def _partition(self) -> JoinPartition:
        return JoinPartition(self._settings.rows, self._horizon, uuid.uuid4().hex, self._settings.corrections)

    def assigned(self, partitions: frozenset[Partition], restored: Restored) -> None:
        """Start with what is cached, or with nothing; the records before ``emitted`` do the rest."""
        self._forget()
        self._cache.settle()
        found = gather(restored.values)
        for index in sorted(partition.index for partition in partitions):
            mine = self._partitions[index] = self._partition()
            plain = found.get(f"join/{index}")
            if plain is None:
                continue
            saved = state_of(plain, JoinState)
            self._generation = max(self._generation, saved.generation)
            prefix = f"join/{index}/spent/"
            notes = {name[len(prefix) :]: value for name, value in found.items() if name.startswith(prefix)}
            mine.restore(saved, {int(place): v and state_of(v, SpentNotes) for place, v in notes.items()})
            # A cache ahead of the commit would have paired records that come again; one before ``base`` lacks rows.
            cached = self._cache.load(index, mine.store, mine.emitted)
            if cached is not None and cached.offset >= mine.base:
                mine.load(cached)
        self._show()

    def revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget everything; ``assigned`` rebuilds it."""
        self._forget()

    def _forget(self) -> None:
        self._partitions.clear()
        self._outcomes.clear()
        self._moved.clear()
        self._progress.forget()
        self._durable = False

    def table(self, topic: str, key: bytes, value: bytes | None) -> None:
        """No tables are read."""

    def absorb(self, batch: Batch) -> None:
        """Pair rows in the order of the log; raises ``Fatal`` for a record it cannot read."""
        partition = self._partitions[batch.partition.index]
        # An empty batch changes nothing, so the store is still what was committed.
        self._durable = self._durable and not len(batch)
        for offset, value in zip(batch.offsets.tolist(), batch.values, strict=True):
            if value is None:
                continue
            try:
                records = decode(value)
            except WireError as error:
                raise Fatal(f"{batch.partition.topic}/{batch.partition.index} offset {offset}: {error}") from error
            batches = [record for record in records if isinstance(record, JoinBatch)]
            # Before the pairs: a rebuild that begins at this mark has to read this record.
            partition.marks.put(offset, partition.clock, max([partition.clock, *map(self._latest, batches)]))
            for number, record in enumerate(batches):
                self._pair(partition, record, offset, number)
            partition.evict(offset)
            # Of a rebuild nothing is passed on: the judge has had it.
            told = [record for record in records if isinstance(record, Progress) and offset >= partition.emitted]
            # The latest of each input alone: a rebuild of hours would else hold every second of them.
            partition.tallied |= {(one.topic, one.partition, one.source): one for one in told}
        partition.next_offset = batch.next_offset
        partition.batches += 1
        if len(batch):
            self._moved.add(batch.partition.index)
        if partition.batches % _EXPIRE_EVERY == 0:
            partition.expire()

    def _latest(self, record: JoinBatch) -> int:
        times = record.table()["time"] if record.model in self._models else ()
        return int(np.max(times)) if len(times) else UNSET

    def _pair(self, partition: JoinPartition, record: JoinBatch, offset: int, number: int) -> None:
        settings = self._models.get(record.model)
        if settings is None or not len(record.table()):
            return
        pairs = partition.pair(record, offset, number, self._salts[record.model])
        if offset >= partition.emitted:
            self._outcomes += outcomes_of(partition.owners, pairs.predictions, pairs.labels, settings.pane)
            if len(pairs.corrections.predictions):
                self._outcomes += corrections_of(partition.owners, pairs.corrections, settings.pane)

    def flush(self, now_ms: int) -> list[Outgoing]:
        """Return the outcomes since the last flush, progress once a second, and how far the join is."""
        out: list[Outgoing] = []
        by_model: dict[str, list[OutcomeDelta]] = {}
        for outcome in self._outcomes:
            by_model.setdefault(outcome.model, []).append(outcome)
        self._outcomes = []
        for model, outcomes in sorted(by_model.items()):
            target, values = partition_of(model, PANES_PARTITIONS), packed(merged_outcomes(outcomes))
            out += [Outgoing(self._topics.panes.name, value, model.encode(), target) for value in values]
        # Behind the outcomes of this flush: who reads how far the join is has them all.
        if told := self._progress.record(self._partitions, now_ms):
            out += [Outgoing(self._topics.panes.name, told, None, target) for target in range(PANES_PARTITIONS)]
        self._generation += bool(self._moved)
        for index in sorted(self._moved):
            partition = self._partitions[index]
            # In a rebuild the position runs behind what was sent, which must not be sent again.
            partition.emitted = max(partition.emitted, partition.next_offset)
            states: dict[str, Any] = {f"join/{index}": partition.state(self._generation)}
            states |= {f"join/{index}/spent/{place}": value for place, value in partition.spent.changed(partition.base)}
            out += [
                Outgoing(self._topics.join_state.name, data, key, index)
                for name, value in states.items()
                for key, data in parts(name, value, self._generation)
            ]
        self._moved.clear()
        return out

    def committed(self) -> None:
        """Show what is now durable, and keep it on disk where enough of it is new."""
        self._durable = True
        for index, partition in sorted(self._partitions.items()):
            if partition.unsaved >= max(_SAVE_ROWS, (len(partition.predictions) + len(partition.labels)) // 4):
                # One file at a time: a second writer would only share the disk, and the next commit asks again.
                if self._cache.busy:
                    break
                self._save(index, partition)
        self._show()

    def _save(self, index: int, partition: JoinPartition) -> None:
        partition.unsaved = 0
        self._cache.save(index, partition.snapshot())

    def _show(self) -> None:
        partitions = self._partitions.values()
        waiting = {
            "prediction": sum(len(one.predictions) for one in partitions),
            "label": sum(len(one.labels) for one in partitions),
        }
        rebuilding = any(one.rebuilding for one in partitions)
        self._totals = JoinTotals.of([one.counts for one in partitions], waiting, rebuilding=rebuilding)

    def samples(self) -> list[Sample]:
        """Return what became of the rows, what waits, and what limits refused; the judge shows the outcomes."""
        return [] if self._totals is None else self._totals.samples()

    def status(self) -> dict[str, Any]:
        """Return ``contracts.status.JoinStatus``."""
        return {"role": "join", "detail": {} if self._totals is None else self._totals.detail()}

    def close(self) -> None:
        """Keep the store on disk for the next start, if nothing in it is uncommitted."""
        for index, partition in sorted(self._partitions.items()):
            # What is not committed must not be in a cache: it comes again.
            if self._durable and partition.unsaved:
                self._save(index, partition)
        self._cache.settle()
