"""The tally: batches of events in, pane deltas out, every record counted in exactly one way."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from stationkeeper.contracts.codes import DeadLetterCode, Outcome
from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.topics import PANES_PARTITIONS, Topics
from stationkeeper.contracts.wire import PROGRESS_MS, JoinBatch, Progress, encode
from stationkeeper.events.columns import Events, Rejection
from stationkeeper.events.ids import salt_of
from stationkeeper.events.json_reader import Reading
from stationkeeper.events.mapping import Form, forms
from stationkeeper.events.reader import EventReader
from stationkeeper.monitor.packets import packed, split_join
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally.accept import Sifted, sift
from stationkeeper.monitor.tally.accumulator import Accumulator
from stationkeeper.monitor.tally.clock import UNSET
from stationkeeper.monitor.tally.join_rows import JoinBuffer
from stationkeeper.monitor.tally.limits import Admission
from stationkeeper.monitor.tally.partition import PartitionState, clock_or_none
from stationkeeper.monitor.tally.unknown_fields import MOST_NAMES, SAMPLE, UnseenFields, sampled
from stationkeeper.streams.dead_letters.letters import dead_letter
from stationkeeper.streams.dead_letters.limit import RejectionLimit
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored
from stationkeeper.streams.settings import DeadLetterSettings

IDLE_MS = 30_000
_ANSWERING_MS = 5_000
LIMITS = {DeadLetterCode.TOO_LARGE.value: "message_bytes", DeadLetterCode.TOO_MANY_FIELDS.value: "fields"}
"""Dead-letter codes that are the refusal of a limit."""


class Tally:
    """The stage that turns events into panes; see ``streams.ports.Stage`` for who calls what.

    ``clock`` ``stream`` takes event times as they are; ``wall`` refuses those ahead of the broker's timestamp.
    ``idle_after`` is how long (ms, wall) a partition must lie at its end before it stops holding the watermark back.
    """

    name = "tally"

    def __init__(
        self,
        models: Mapping[str, ModelSettings],
        topics: Topics,
        *,
        clock: Literal["wall", "stream"] = "wall",
        dead_letters: DeadLetterSettings | None = None,
        salt: str = "stationkeeper",
        idle_after: int = IDLE_MS,
    ) -> None:
        self._models = dict(models)
        self._topics = topics
        self._clock = clock
        self._idle_after = idle_after
        self._dead_letters = dead_letters or DeadLetterSettings()
        self._limit = RejectionLimit(self._dead_letters)
        self.forms: dict[str, Form] = forms(list(self._models.values()))
        self.inputs = tuple(sorted(self.forms))
        self.tables = (topics.references.name, topics.rollouts.name)
        self.references = References(self._models)
        salt_value = salt_of(salt)
        self._readers = {topic: EventReader(form, salt=salt_value) for topic, form in self.forms.items()}
        self._learned = -1
        self._names: dict[str, frozenset[str]] = {}
        self._accumulator = Accumulator(self._models, self.references)
        self._joins = JoinBuffer(self._models, self.references)
        self._admission = Admission(self._models, self.references)
        self._unseen = {topic: UnseenFields(form) for topic, form in self.forms.items()}
        self._partitions: dict[Partition, PartitionState] = {}
        self._letters: list[Outgoing] = []
        self._touched: set[Partition] = set()
        self._progress_at: int | None = None
        self._committed: list[dict[str, Any]] = []
        self._codes: dict[tuple[str, str], int] = {}
        self._refused: dict[str, int] = {}

    def changelog(self, assigned: frozenset[Partition]) -> tuple[Partition, ...]:
        """Return the state topic's one partition."""
        return (Partition(self._topics.tally_state.name, 0),) if assigned else ()

    def start_offsets(self, assigned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return where the restored state ends."""
        return {
            partition: state.next_offset
            for partition, state in self._partitions.items()
            if partition in assigned and state.next_offset is not None
        }

    def assigned(self, partitions: frozenset[Partition], restored: Restored) -> None:
        """Take over partitions with their state; whatever was not committed is forgotten."""
        self._forget()
        for partition in sorted(partitions):
            form = self.forms[partition.topic]
            horizon = max(self._models[model].dedupe for model in form.models)
            state = PartitionState(partition, horizon)
            state.restore(restored.values)
            self._limit.restore(partition, state.rejections)
            self._partitions[partition] = state
        self._publish()

    def revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget everything that was not committed; ``assigned`` follows with what is."""
        self._forget()

    def _forget(self) -> None:
        self._partitions.clear()
        self._accumulator.clear()
        self._joins.clear()
        self._letters.clear()
        self._touched.clear()
        self._limit.forget()
        self._committed, self._codes = [], {}
        self._progress_at = None

    def table(self, topic: str, key: bytes, value: bytes | None) -> None:
        """See a reference or a rollout."""
        if topic == self._topics.references.name:
            self.references.put_reference(key, value)
        else:
            self.references.put_rollout(key, value)

    def absorb(self, batch: Batch) -> None:
        """Count a batch; raises ``DeadLetterLimit`` (``Fatal``) when too much of a partition is rejected."""
        state = self._partitions[batch.partition]
        if state.next_offset is None:
            state.began = int(batch.offsets[0]) if len(batch) else batch.next_offset
        state.next_offset = batch.next_offset
        if not len(batch):
            state.at_end = True
            return
        state.at_end, state.end_seen = False, None
        self._touched.add(batch.partition)
        reading = self.reader(batch.partition.topic).read(batch.values, batch.headers)
        kinds = self._admission.versions(state, reading.events)
        owners = {owner for events in kinds if events.kind != "label" for owner in events.owners}
        state.use(int(batch.offsets[0]), {owner: self._digest(*owner) for owner in owners})
        rejected = list(reading.rejected)
        counted: list[Events] = []
        for sifted in sift(state, batch, kinds, self._models, wall=self._clock == "wall"):
            rejected += self._sort_out(state, sifted)
            counted.append(sifted.kept)
        if any(map(len, counted)):
            # Only these move the clock: a partition of nothing but rejected, late or repeated records holds the
            # watermark back for nothing, and is idle again as soon as its end is seen.
            state.end_since = None
        self._admission.segments(state, counted)
        for events in counted:
            self._count(state, batch, events, reading)
        state.received += len(batch)
        state.outcomes[Outcome.REJECTED] += len(rejected)
        self._reject(state, batch, rejected)

    def lost(self, partition: Partition, offset: int, records: int) -> None:
        """Count records before ``offset`` that retention removed unread, with the partition's state.

        The state passes them: with nothing to read behind them, they would be lost again at every start.
        """
        state = self._partitions[partition]
        state.expired += records
        state.next_offset = max(state.next_offset or 0, offset)
        self._touched.add(partition)

    def reader(self, topic: str) -> EventReader:
        """Return the reader of an input topic, which knows the features of the references seen so far."""
        if self._learned != self.references.epoch:
            for name, form in self.forms.items():
                features = self.references.features(form.models)
                self._readers[name].learn(features)
                self._names[name] = frozenset(features)
            self._learned = self.references.epoch
        return self._readers[topic]

    def _sort_out(self, state: PartitionState, sifted: Sifted) -> list[Rejection]:
        """Count what is not tallied; returns the events whose time lies in the future."""
        events = sifted.events
        left = {"mistimed": sifted.early, "duplicates": sifted.duplicate, "late": sifted.late}
        for counter, mask in left.items():
            which = np.flatnonzero(mask & (sifted.met != UNSET))
            if len(which):
                self._accumulator.note(counter, events.keep(which), sifted.met[which])
        state.outcomes[Outcome.DUPLICATE] += int(np.count_nonzero(sifted.duplicate))
        state.outcomes[Outcome.LATE] += int(np.count_nonzero(sifted.late))
        early = events.rows[sifted.early].tolist()
        return [Rejection(row, DeadLetterCode.FUTURE_TIME, "time") for row in early]

    def _count(self, state: PartitionState, batch: Batch, events: Events, reading: Reading) -> None:
        if not len(events):
            return
        state.outcomes[Outcome.TALLIED] += len(events)
        if events.kind != "label":
            self._accumulator.add(events, state.places)
            self._look_for_unseen(batch, events, reading)
        if events.kind != "feature":
            self._joins.add(events, state.places)

    def _look_for_unseen(self, batch: Batch, events: Events, reading: Reading) -> None:
        """Count unseen fields; where the reading knows all features of the batch, no record is looked at again."""
        only = self._names.get(batch.partition.topic) if reading.known else None
        index = np.flatnonzero(sampled(batch.offsets[events.rows]))
        if not len(index):
            return
        owner = events.owner[index]
        for code, (model, version) in enumerate(events.owners):
            reference = self.references.of(model, version)
            if reference is None or self._models[model].source != events.kind:
                continue
            known = reference.by_name.keys() | self.references.left_out(reference.digest)
            if only is not None and only <= known:
                continue
            which = index[owner == code]
            values = [reading.values[row] for row in events.rows[which].tolist()]
            counts = self._unseen[batch.partition.topic].count(values, known)
            if counts.any():
                mine = events.keep(which)
                self._accumulator.note("unseen_fields", mine, mine.time, counts * SAMPLE)

    def _digest(self, model: str, version: str) -> str:
        reference = self.references.of(model, version)
        return "" if reference is None else reference.digest

    def _reject(self, state: PartitionState, batch: Batch, rejected: list[Rejection]) -> None:
        rejected.sort(key=lambda one: one.row)
        for one in rejected:
            state.codes[one.code.value] = state.codes.get(one.code.value, 0) + 1
            self._letters.append(
                dead_letter(
                    batch,
                    one.row,
                    one.code,
                    self.name,
                    detail=one.detail,
                    connect_headers=self._dead_letters.connect_headers,
                )
            )
        self._limit.observe(batch.partition, len(batch), [one.row for one in rejected])

    def flush(self, now_ms: int) -> list[Outgoing]:
        """Return dead letters, deltas, joins, progress and state of everything absorbed since the last flush."""
        out = self._letters
        self._letters = []
        for model, values in self._accumulator.drain().items():
            target = partition_of(model, PANES_PARTITIONS)
            out += [Outgoing(self._topics.panes.name, value, model.encode(), target) for value in values]
        joins: dict[int, list[JoinBatch]] = {}
        for target, batch in self._joins.drain():
            joins.setdefault(target, []).extend(split_join(batch))
        for target, batches in sorted(joins.items()):
            out += [Outgoing(self._topics.joins.name, part, None, target) for part in packed(batches)]
        out += self._progress(now_ms)
        for partition in sorted(self._touched):
            for key, value in self._partitions[partition].records():
                out.append(Outgoing(self._topics.tally_state.name, value, key, 0))
        self._touched.clear()
        return out

    def _progress(self, now_ms: int) -> list[Outgoing]:
        for state in self._partitions.values():
            if state.at_end:
                state.end_since = now_ms if state.end_since is None else state.end_since
                state.end_seen, state.at_end = now_ms, False
        if self._progress_at is not None and now_ms - self._progress_at < PROGRESS_MS:
            return []
        self._progress_at = now_ms
        records: list[Progress] = []
        for partition, state in sorted(self._partitions.items()):
            if state.next_offset is None:
                continue
            for kind in self.forms[partition.topic].kinds:
                records.append(
                    Progress(*partition, kind, state.next_offset, state.clock.now, self._idle(state, now_ms))
                )
        if not records:
            return []
        value = encode(list(records))
        return [Outgoing(self._topics.panes.name, value, None, target) for target in range(PANES_PARTITIONS)]

    def _idle(self, state: PartitionState, now_ms: int) -> bool:
        """At the log's end for long enough, and the broker lately said so."""
        if state.end_since is None or state.end_seen is None or now_ms - state.end_seen > _ANSWERING_MS:
            return False
        return now_ms - state.end_since >= self._idle_after

    def committed(self) -> None:
        """Show the totals that are now durable."""
        self._publish()

    def _publish(self) -> None:
        self._committed, self._codes, self._refused = [], {}, dict.fromkeys(("message_bytes", "fields"), 0)
        for (topic, index), state in sorted(self._partitions.items()):
            entry: dict[str, Any] = {"topic": topic, "partition": index, **state.conservation()}
            entry["expired"], entry["clock"] = state.expired, clock_or_none(state.clock.now)
            if state.next_offset is not None:
                entry["next_offset"] = state.next_offset
            self._committed.append(entry)
            for code, count in state.codes.items():
                self._codes[topic, code] = self._codes.get((topic, code), 0) + count
            refused = state.refused | {LIMITS[code]: n for code, n in state.codes.items() if code in LIMITS}
            for limit, count in refused.items():
                self._refused[limit] = self._refused.get(limit, 0) + count

    def samples(self) -> list[Sample]:
        """Return the committed totals of the partitions owned now."""
        out = []
        for entry in self._committed:
            where = (str(entry["topic"]), str(entry["partition"]))
            out.append(Sample("stationkeeper_records_received_total", where, entry["received"]))
            out += [
                Sample("stationkeeper_records_total", (*where, outcome.value), entry[outcome.value])
                for outcome in Outcome
            ]
            if entry["expired"]:
                out.append(Sample("stationkeeper_records_expired_total", where, entry["expired"]))
        refused = self._refused | {"features": len(self.references.refused)}
        out += [Sample("stationkeeper_limits_refused_total", (name,), n) for name, n in sorted(refused.items()) if n]
        out += [Sample("stationkeeper_dead_letters_total", key, count) for key, count in sorted(self._codes.items())]
        return out

    def status(self) -> dict[str, Any]:
        """Return ``contracts.status.TallyStatus``: conservation, dead letters by code and what limits refused."""
        letters: dict[str, int] = {}
        for (_, code), count in sorted(self._codes.items()):
            letters[code] = letters.get(code, 0) + count
        detail: dict[str, Any] = {f"refused by limits.{name}": n for name, n in sorted(self._refused.items()) if n}
        if self.references.refused:
            detail["features beyond limits.features"] = ", ".join(sorted(self.references.refused)[:MOST_NAMES])
        names = sorted({name for unseen in self._unseen.values() for name in unseen.names})
        if names:
            detail["fields no reference knows"] = ", ".join(names[:MOST_NAMES])
        conservation = [dict(entry) for entry in self._committed]
        found = {"role": "tally", "conservation": conservation, "dead_letters": letters}
        return found | {"detail": detail} if detail else found

    def close(self) -> None:
        """Nothing is held."""
