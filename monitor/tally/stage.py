"""The tally: batches of events in, pane deltas out, every record counted in exactly one way."""

from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np

from stationkeeper.contracts.codes import DeadLetterCode, Outcome
from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.topics import JOINS_PARTITIONS, PANES_PARTITIONS, Topics
from stationkeeper.events import (
    EventReader,
    Events,
    Form,
    Reading,
    RefusedModel,
    Rejection,
    forms,
    salt_of,
    with_assignment,
)
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally.accumulator import Accumulator
from stationkeeper.monitor.tally.cardinality import CardinalityLimits
from stationkeeper.monitor.tally.clock import UNSET
from stationkeeper.monitor.tally.join_rows import JoinBuffer
from stationkeeper.monitor.tally.partition import PartitionState
from stationkeeper.monitor.tally.progress import JoinMarks, PanesProgress
from stationkeeper.monitor.tally.stops import Rejected, Stops
from stationkeeper.monitor.tally.timeliness import Classified, classify
from stationkeeper.monitor.tally.totals import CommittedTotals
from stationkeeper.monitor.tally.unknown_fields import UnknownFields
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored
from stationkeeper.streams.settings import DeadLetterSettings

IDLE_MS = 30_000
"""How long (ms, wall) a partition lies at its end before it holds the watermark back no more: chosen. Half would take a
producer that writes twice a minute for idle, and its next events for late; double makes decisions wait a minute for a
partition that no one writes to."""


class EventReaders:
    """One reader an input topic, each of which knows the features of the references seen so far.

    A reader that does not know a feature drops it as an unknown field, and the counts of a new reference would begin
    with gaps; learning costs a pass over all features, so it is done when a reference has come and not with each batch.
    """

    def __init__(
        self, forms: Mapping[str, Form], models: Mapping[str, ModelSettings], references: References, salt: str
    ) -> None:
        self._forms, self._references = forms, references
        # What was done upon an answer is read where a label may tell of it.
        told = {
            topic: with_assignment(form) if any(models[name].labels is not None for name in form.models) else form
            for topic, form in forms.items()
        }
        self._readers = {topic: EventReader(form, salt=salt_of(salt)) for topic, form in told.items()}
        # Before any epoch, so that the first reader that is asked for learns.
        self._learned = -1

    def of(self, topic: str) -> EventReader:
        """Return the reader of an input topic."""
        if self._learned != self._references.epoch:
            for name, form in self._forms.items():
                self._readers[name].learn(self._references.features(form.models))
            self._learned = self._references.epoch
        return self._readers[topic]


class Tally:
    """The stage that turns events into panes; see ``streams.ports.Stage`` for who calls what.

    Events of ``refused`` models on topics that other models share are dropped, counted: they are no dead letters, for
    their producer is right, and they move no clock. A topic that nobody else reads waits, uncommitted.
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
        refused: Collection[RefusedModel] = (),
    ) -> None:
        self._models = dict(models)
        self._topics = topics
        self._clock = clock
        self.forms: dict[str, Form] = forms(list(self._models.values()), refused)
        self.inputs = tuple(sorted(self.forms))
        self.tables = (topics.references.name, topics.rollouts.name, topics.input_decisions.name)
        self.references = References(self._models)
        self.readers = EventReaders(self.forms, self._models, self.references, salt)
        self._accumulator = Accumulator(self._models, self.references)
        self._joins = JoinBuffer(self._models, self.references)
        self._cardinality = CardinalityLimits(self._models, self.references)
        self._unknown = UnknownFields(self.forms, self._models, self.references)
        self._partitions: dict[Partition, PartitionState] = {}
        self._stops = Stops()
        self._rejected = Rejected(dead_letters or DeadLetterSettings(), self._stops)
        self._touched: set[Partition] = set()
        self._progress = PanesProgress(self.forms, idle_after)
        self._marks = JoinMarks(self._models, self.forms, idle_after)
        self._committed = CommittedTotals()

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
        self._stops.begin()
        for partition in sorted(partitions):
            horizon = max(self._models[model].dedupe for model in self.forms[partition.topic].models)
            state = PartitionState(partition, horizon)
            state.restore(restored.values)
            self._rejected.limit.restore(partition, state.rejections)
            self._partitions[partition] = state
        self.committed()

    def revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget everything that was not committed; ``assigned`` follows with what is."""
        self._forget()

    def _forget(self) -> None:
        self._partitions.clear()
        self._accumulator.clear()
        self._joins.clear()
        self._rejected.clear()
        self._touched.clear()
        self._committed = CommittedTotals()
        self._progress.forget()
        self._marks.forget()

    def table(self, topic: str, key: bytes, value: bytes | None) -> None:
        """See a reference, a rollout or a decision about an input."""
        if topic == self._topics.input_decisions.name:
            self._stops.decide(key, value)
        elif topic == self._topics.references.name:
            self.references.put_reference(key, value)
        else:
            self.references.put_rollout(key, value)

    def absorb(self, batch: Batch) -> None:
        """Count a batch; raises ``DeadLetterLimit`` when so much is rejected that its topic stops."""
        state = self._partitions[batch.partition]
        state.read(batch)
        if not len(batch):
            state.end.reached()
            return
        state.end.left()
        self._touched.add(batch.partition)
        reading = self.readers.of(batch.partition.topic).read(batch.values, batch.headers)
        state.drop_from(int(batch.offsets[0]), self.forms[batch.partition.topic].refused)
        state.outcomes[Outcome.DROPPED] += len(reading.dropped)
        # Versions get their places from all events, also from those that are left out below.
        kinds = self._cardinality.versions(state, reading.events)
        # Labels are counted by no reference.
        owners = {owner for events in kinds if events.kind != "label" for owner in events.owners}
        # Before anything is counted: which reference counts a batch is noted with its first offset, so that verify and
        # a replay take the same.
        counted_by = {owner: self.references.of(*owner) for owner in owners}
        digests = {owner: "" if found is None else found.digest for owner, found in counted_by.items()}
        state.use(int(batch.offsets[0]), digests)
        rejected = list(reading.rejected)
        counted: list[Events] = []
        for classified in classify(state, batch, kinds, self._models, wall=self._clock == "wall"):
            rejected += self._leave_out(state, classified)
            counted.append(self._cardinality.actions(state, classified.kept))
        # Rejected, late and repeated records move no clock, and must not keep a partition from being idle.
        if any(map(len, counted)):
            state.end.counted()
        self._cardinality.segments(state, counted)
        for events in counted:
            self._count(state, batch, events, reading)
        state.received += len(batch)
        # Last, because it may raise: what was absorbed of the batch is then given up whole.
        self._rejected.take(state, batch, rejected)

    def lost(self, partition: Partition, offset: int, records: int) -> None:
        """Count records before ``offset`` that retention removed unread, with the partition's state."""
        self._partitions[partition].lose(offset, records)
        self._touched.add(partition)

    def stopped(self, ids: Mapping[str, str], ends: Mapping[Partition, int]) -> Collection[str]:
        """Return the topics that are not to be read now, by the broker's ids and what a person decided."""
        self._touched |= self._stops.review(ids, ends, self._partitions)
        return self._stops.by_topic.keys()

    def shorter(self, partition: Partition, end: int) -> None:
        """Learn that a partition ends before where its state ends; ``stopped`` follows."""
        self._stops.shorter(partition, end)

    def _leave_out(self, state: PartitionState, found: Classified) -> list[Rejection]:
        """Count what is not tallied; returns the events whose time lies in the future."""
        events = found.events
        left = {"mistimed": found.early, "duplicates": found.duplicate, "late": found.late}
        for counter, mask in left.items():
            which = np.flatnonzero(mask & (found.met != UNSET))
            if len(which):
                self._accumulator.note(counter, events.keep(which), found.met[which])
        state.outcomes[Outcome.DUPLICATE] += int(np.count_nonzero(found.duplicate))
        state.outcomes[Outcome.LATE] += int(np.count_nonzero(found.late))
        early = events.rows[found.early].tolist()
        return [Rejection(row, DeadLetterCode.FUTURE_TIME, "time") for row in early]

    def _count(self, state: PartitionState, batch: Batch, events: Events, reading: Reading) -> None:
        if not len(events):
            return
        state.outcomes[Outcome.TALLIED] += len(events)
        if events.kind != "label":
            self._accumulator.add(events, state.places)
            names = self.readers.of(batch.partition.topic).features.keys()
            for found in self._unknown.count(batch, events, reading, names):
                self._accumulator.note("unseen_fields", found.events, found.events.time, found.counts)
        if events.kind != "feature":
            self._joins.add(events, state.places)

    def flush(self, now_ms: int) -> list[Outgoing]:
        """Return dead letters, deltas, joins, progress and state of everything absorbed since the last flush."""
        out = self._rejected.drain()
        for model, values in self._accumulator.drain().items():
            target = partition_of(model, PANES_PARTITIONS)
            out += [Outgoing(self._topics.panes.name, value, model.encode(), target) for value in values]
        for target, values in self._joins.drain():
            out += [Outgoing(self._topics.joins.name, value, None, target) for value in values]
        # Behind the panes and joins that it tells of: whoever reads it has read them.
        if told := self._progress.record(self._partitions.values(), now_ms):
            out += [Outgoing(self._topics.panes.name, told, None, target) for target in range(PANES_PARTITIONS)]
        if marks := self._marks.record(self._partitions.values(), now_ms):
            out += [Outgoing(self._topics.joins.name, marks, None, target) for target in range(JOINS_PARTITIONS)]
        for partition in sorted(self._touched):
            for key, value in self._partitions[partition].records():
                out.append(Outgoing(self._topics.tally_state.name, value, key, 0))
        self._touched.clear()
        return out

    def committed(self) -> None:
        """Show the totals that are now durable."""
        self._committed = CommittedTotals.of(self._partitions)

    def samples(self) -> list[Sample]:
        """Return the committed totals of the partitions owned now, and the topics that are not read."""
        return [*self._committed.samples(len(self.references.refused)), *self._stops.samples()]

    def status(self) -> dict[str, Any]:
        """Return ``contracts.status.TallyStatus``."""
        return self._committed.status(self.references.refused, self._unknown.names, self._stops.status())

    def close(self) -> None:
        """Nothing is held."""
