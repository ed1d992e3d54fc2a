"""The join: predictions meet their labels, whatever comes first, and become outcomes of the prediction's pane."""

import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.topics import PANES_PARTITIONS, Topics
from stationkeeper.contracts.wire import JOIN, PROGRESS_MS, JoinBatch, OutcomeDelta, Progress, WireError, decode, encode
from stationkeeper.events.ids import mix, salt_of
from stationkeeper.monitor.join.disk_cache import JoinCache
from stationkeeper.monitor.join.outcomes import outcomes_of
from stationkeeper.monitor.join.partition import COUNTS, Side
from stationkeeper.monitor.join.store import WAITING_ROW, Owner, distinct
from stationkeeper.monitor.judge.pending import merged_outcomes
from stationkeeper.monitor.packets import packed
from stationkeeper.monitor.settings import JoinSettings, ModelSettings
from stationkeeper.monitor.state_codec import gather, parts
from stationkeeper.monitor.tally.clock import UNSET
from stationkeeper.monitor.tally.join_rows import apart
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored

_EXPIRE_EVERY = 64
_SAVE_ROWS = 100_000


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
        self._sides: dict[int, Side] = {}
        self._outcomes: list[OutcomeDelta] = []
        self._moved: set[int] = set()
        self._progress_at: int | None = None
        self._generation = 0
        self._shown: dict[str, Any] = {}
        self._salts = {name: salt_of(f"model {name}") for name in models}
        self._horizon = max((m.label_horizon for m in self._models.values()), default=0)

    def changelog(self, assigned: frozenset[Partition]) -> tuple[Partition, ...]:
        """Return the state partitions of the same numbers."""
        return tuple(Partition(self._topics.join_state.name, partition.index) for partition in sorted(assigned))

    def start_offsets(self, assigned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return where the cache ends, without one the oldest offsets whose rows may still meet their other side."""
        return {p: self._sides[p.index].next_offset for p in assigned if self._sides[p.index].emitted}

    def assigned(self, partitions: frozenset[Partition], restored: Restored) -> None:
        """Start with what is cached, or with nothing; the records before ``emitted`` do the rest."""
        self._forget()
        self._cache.settle()
        found = gather(restored.values)
        for partition in partitions:
            side = self._sides[partition.index] = Side(self._settings.rows, self._horizon)
            side.store = uuid.uuid4().hex
            saved = found.get(f"join/{partition.index}")
            if saved is not None:
                self._generation = max(self._generation, saved["generation"])
                prefix = f"join/{partition.index}/spent/"
                side.begin(saved, {int(name[len(prefix) :]): v for name, v in found.items() if name.startswith(prefix)})
                cached = self._cache.load(partition.index, side.store, side.emitted)
                if cached is not None and cached.offset >= side.base:
                    side.become(cached)
        self._show()

    def revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget everything; ``assigned`` rebuilds it."""
        self._forget()

    def _forget(self) -> None:
        self._sides.clear()
        self._outcomes.clear()
        self._moved.clear()
        self._progress_at, self._durable = None, False

    def table(self, topic: str, key: bytes, value: bytes | None) -> None:
        """No tables are read."""

    def absorb(self, batch: Batch) -> None:
        """Pair rows in the order of the log; raises ``Fatal`` for a record it cannot read."""
        side = self._sides[batch.partition.index]
        self._durable = self._durable and not len(batch)
        for offset, value in zip(batch.offsets.tolist(), batch.values, strict=True):
            if value is None:
                continue
            try:
                records = decode(value)
            except WireError as error:
                raise Fatal(f"{batch.partition.topic}/{batch.partition.index} offset {offset}: {error}") from error
            batches = [record for record in records if isinstance(record, JoinBatch)]
            side.marks.put(offset, side.clock, max([side.clock, *map(self._latest, batches)]))
            for number, record in enumerate(batches):
                self._pair(side, record, offset, number)
            side.make_way(offset, side.clock - self._horizon)
        side.next_offset = batch.next_offset
        side.batches += 1
        if len(batch):
            self._moved.add(batch.partition.index)
        if side.batches % _EXPIRE_EVERY == 0:
            self._expire(side)

    def _latest(self, record: JoinBatch) -> int:
        times = record.table()["time"] if record.model in self._models else ()
        return int(np.max(times)) if len(times) else UNSET

    def _pair(self, side: Side, record: JoinBatch, offset: int, number: int) -> None:
        new = offset >= side.emitted
        settings = self._models.get(record.model)
        table = record.table()
        if settings is None or not len(table):
            return
        rows = np.zeros(len(table), WAITING_ROW)
        rows["offset"] = offset
        rows["key"] = mix(table["id"] ^ self._salts[record.model])
        for name in ("time", "score", "label", "decision", "bin"):
            rows[name] = table[name]
        side.clock = max(side.clock, int(table["time"].max()))
        side.unsaved += len(table)
        before = side.clock - self._horizon
        rows, repeated = distinct(rows)
        if record.side == "prediction":
            _, first = np.unique(table["id"], return_index=True)
            segments = table["segment"] if not repeated else table["segment"][np.sort(first)]
            owners = [Owner(record.model, record.version, apart(name)) for name in record.segments]
            rows["owner"] = side.owners.codes(owners)[segments]
            mine, others = side.predictions, side.labels
        else:
            usable = ~np.isnan(rows["label"])
            if new:
                side.counts["unusable"] += int(np.count_nonzero(~usable))
            rows = rows[usable]
            mine, others = side.labels, side.predictions
        if not new and side.replay is not None:
            rows = side.replay.waiting(rows, offset, number)
        hit, met = others.take(rows["key"], before)
        known, there = mine.put(rows[~hit], before)
        side.took(offset, number, rows[hit], met)
        side.took(offset, number, rows[~hit][known], there)
        repeated += len(there)
        predictions, labels = (rows[hit], met) if record.side == "prediction" else (met, rows[hit])
        if new:
            side.counts["repeated"] += repeated
            side.counts["paired"] += len(labels)
            self._outcomes += outcomes_of(side.owners, predictions, labels, settings.pane)

    def _expire(self, side: Side) -> None:
        if side.clock == UNSET:
            return
        before = side.clock - self._horizon
        gone = side.expire(before)
        if side.next_offset > side.emitted:
            side.counts["expired"] += gone

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
        out += self._progress(now_ms)
        self._generation += bool(self._moved)
        for index in sorted(self._moved):
            side = self._sides[index]
            side.emitted = max(side.emitted, side.next_offset)
            states: dict[str, Any] = {f"join/{index}": {"generation": self._generation, **side.state()}}
            states |= {f"join/{index}/spent/{place}": value for place, value in side.spent.changed(side.base)}
            out += [
                Outgoing(self._topics.join_state.name, data, key, index)
                for name, value in states.items()
                for key, data in parts(name, value, self._generation)
            ]
        self._moved.clear()
        return out

    def _progress(self, now_ms: int) -> list[Outgoing]:
        if self._progress_at is not None and now_ms - self._progress_at < PROGRESS_MS:
            return []
        self._progress_at = now_ms
        topic = self._topics.joins.name
        records = [
            # A rebuild says where it will be, so that the judge takes it for news.
            Progress(topic, index, JOIN, max(side.next_offset, side.emitted), side.clock, idle=side.rebuilding)
            for index, side in sorted(self._sides.items())
            if side.rebuilding or side.clock != UNSET
        ]
        if not records:
            return []
        value = encode(list(records))
        return [Outgoing(self._topics.panes.name, value, None, target) for target in range(PANES_PARTITIONS)]

    def committed(self) -> None:
        """Show what is now durable, and keep it on disk where enough of it is new."""
        self._durable = True
        for index, side in sorted(self._sides.items()):
            if side.unsaved >= max(_SAVE_ROWS, (len(side.predictions) + len(side.labels)) // 4):
                if self._cache.busy:
                    break
                self._save(index, side)
        self._show()

    def _save(self, index: int, side: Side) -> None:
        side.unsaved = 0
        self._cache.save(index, side.snapshot())

    def _show(self) -> None:
        detail: dict[str, Any] = dict.fromkeys(COUNTS, 0)
        for side in self._sides.values():
            for name, count in side.counts.items():
                detail[name] += count
        detail["waiting predictions"] = sum(len(side.predictions) for side in self._sides.values())
        detail["waiting labels"] = sum(len(side.labels) for side in self._sides.values())
        if not detail["crowded out"]:
            del detail["crowded out"]
        detail["rebuilding"] = any(side.rebuilding for side in self._sides.values())
        self._shown = detail

    def samples(self) -> list[Sample]:
        """Return what limits refused; all else is told by the judge, about the outcomes."""
        crowded = self._shown.get("crowded out", 0)
        return [Sample("stationkeeper_limits_refused_total", ("waiting",), crowded)] if crowded else []

    def status(self) -> dict[str, Any]:
        """Return ``contracts.status.JoinStatus``."""
        return {"role": "join", "detail": dict(self._shown)}

    def close(self) -> None:
        """Keep the store on disk for the next start, if nothing in it is uncommitted."""
        for index, side in sorted(self._sides.items()):
            if self._durable and side.unsaved:
                self._save(index, side)
        self._cache.settle()
