"""The tally: batches of events in, pane deltas out, every record counted in exactly one way."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from contracts.codes import DeadLetterCode, Outcome
from contracts.identity import partition_of
from contracts.metrics import Sample
from contracts.topics import PANES_PARTITIONS, Topics
from contracts.wire import ArmDelta, JoinBatch, PaneDelta, Progress, encode
from monitor.accumulate import Accumulator
from monitor.clock import UNSET, too_early
from monitor.columns import Events, Integers, Rejection
from monitor.decode import Decoder, JsonDecoder
from monitor.hashing import mix, salt_of
from monitor.joining import JoinBuffer
from monitor.mapping import Form, forms
from monitor.packets import packed, split_join
from monitor.partition_state import PartitionState, clock_or_none
from monitor.references import References
from monitor.settings import KINDS, ModelSettings
from streams.dead_letters import Limit, dead_letter
from streams.ports import Batch, Outgoing, Partition, Restored
from streams.settings import DeadLetterSettings

PROGRESS_MS = 1_000
IDLE_MS = 30_000
OTHER_VERSION = "(other)"
_ANSWERING_MS = 5_000
_BOUNDS = {"prediction": "lateness", "feature": "lateness", "label": "label_horizon"}
"""How much older than the partition's clock an event may be: labels are in no pane, so only their horizon binds."""

_KIND_SALTS = {kind: salt_of(f"kind {kind}") for kind in KINDS}


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
        self._limit = Limit(self._dead_letters)
        self.forms: dict[str, Form] = forms(list(self._models.values()))
        self.inputs = tuple(sorted(self.forms))
        self.tables = (topics.references.name, topics.rollouts.name)
        self.references = References(self._models)
        salt_value = salt_of(salt)
        self._decoders: dict[str, Decoder] = {
            topic: JsonDecoder(form, salt=salt_value, **self._sizes(form)) for topic, form in self.forms.items()
        }
        self._learned = -1
        self._accumulator = Accumulator(self._models, self.references)
        self._joins = JoinBuffer(self._models, self.references)
        self._partitions: dict[Partition, PartitionState] = {}
        self._versions: set[tuple[str, str]] = set()
        self._refused = 0
        self._letters: list[Outgoing] = []
        self._touched: set[Partition] = set()
        self._progress_at: int | None = None
        self._committed: list[dict[str, Any]] = []
        self._codes: dict[tuple[str, str], int] = {}

    def _sizes(self, form: Form) -> dict[str, int]:
        limits = [self._models[model].limits for model in form.models]
        return {
            "max_bytes": max(limit.message_bytes for limit in limits),
            "max_fields": max(limit.fields for limit in limits),
        }

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
        state.next_offset = batch.next_offset
        if not len(batch):
            state.at_end = True
            return
        state.at_end, state.end_since = False, None
        self._touched.add(batch.partition)
        decoded = self.decoder(batch.partition.topic).decode(batch.values)
        rejected = list(decoded.rejected)
        for events in decoded.events:
            rejected += self._take(state, batch, events)
        state.received += len(batch)
        state.outcomes[Outcome.REJECTED] += len(rejected)
        self._reject(state, batch, rejected)

    def decoder(self, topic: str) -> Decoder:
        """Return the decoder of an input topic, which knows the features of the references seen so far."""
        if self._learned != self.references.epoch:
            for name, form in self.forms.items():
                self._decoders[name].learn(self.references.features(form.models))
            self._learned = self.references.epoch
        return self._decoders[topic]

    def _take(self, state: PartitionState, batch: Batch, events: Events) -> list[Rejection]:
        """Count the events of one kind; returns those whose time lies in the future."""
        events = self._within(events)
        if events.kind != "label":
            state.use(int(batch.offsets[0]), self._digests(events))
        refused: list[Rejection] = []
        n = len(events)
        early = np.zeros(n, np.bool_)
        if self._clock == "wall":
            early = too_early(events.time, batch.timestamps[events.rows], self._by_owner(events, "skew"))
            refused = [Rejection(row, DeadLetterCode.FUTURE_TIME, "time") for row in events.rows[early].tolist()]
        timely = np.flatnonzero(~early)
        offsets = batch.offsets[events.rows[timely]]
        hashes = mix(events.ids[timely] ^ _KIND_SALTS[events.kind])
        duplicate = np.zeros(n, np.bool_)
        duplicate[timely] = state.seen.mark(hashes, offsets)
        state.remember(hashes, offsets)
        state.outcomes[Outcome.DUPLICATE] += int(np.count_nonzero(duplicate))
        left_out = early | duplicate
        if left_out.any():
            # The clock that a left-out event met, so that the pane it is noted in does not depend on the batch.
            met = np.maximum(np.maximum.accumulate(np.where(left_out, UNSET, events.time)), state.clock.now)
            for counter, mask in (("mistimed", early), ("duplicates", duplicate)):
                which = np.flatnonzero(mask & (met != UNSET))
                if len(which):
                    self._accumulator.note(counter, events.keep(which), met[which])
            events = events.keep(np.flatnonzero(~left_out))
        late, clock = state.clock.advance(events.time, self._by_owner(events, _BOUNDS[events.kind]))
        if late.any():
            old = np.flatnonzero(late)
            self._accumulator.note("late", events.keep(old), clock[old])
            events = events.keep(np.flatnonzero(~late))
        state.outcomes[Outcome.LATE] += int(late.sum())
        state.outcomes[Outcome.TALLIED] += len(events)
        if len(events):
            if events.kind != "label":
                self._accumulator.add(events)
            if events.kind != "feature":
                self._joins.add(events)
        return refused

    def _within(self, events: Events) -> Events:
        """Events of more versions than a model may have are counted together as ``(other)``."""
        if events.kind == "label" or all(owner in self._versions for owner in events.owners):
            return events
        owners = []
        for code, (model, version) in enumerate(events.owners):
            known = (model, version) in self._versions or self.references.own(model, version) is not None
            if not known:
                mine = sum(1 for name, _ in self._versions if name == model)
                known = mine < self._models[model].limits.versions
            if known:
                self._versions.add((model, version))
            else:
                self._refused += int(np.count_nonzero(events.owner == code))
            owners.append((model, version if known else OTHER_VERSION))
        return replace(events, owners=tuple(owners))

    def _digests(self, events: Events) -> dict[tuple[str, str], str]:
        found = {owner: self.references.of(*owner) for owner in events.owners}
        return {owner: "" if reference is None else reference.digest for owner, reference in found.items()}

    def _by_owner(self, events: Events, name: str) -> Integers:
        values = np.array([getattr(self._models[model], name) for model, _ in events.owners], np.int64)
        return values[events.owner]

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
        run, expected = 0, len(batch) - 1
        for one in reversed(rejected):
            if one.row != expected:
                break
            run, expected = run + 1, expected - 1
        self._limit.observe(batch.partition, len(batch) - len(rejected), len(rejected), run)

    def flush(self, now_ms: int) -> list[Outgoing]:
        """Return dead letters, deltas, joins, progress and state of everything absorbed since the last flush."""
        out = self._letters
        self._letters = []
        by_model: dict[str, list[PaneDelta | ArmDelta]] = {}
        for delta in self._accumulator.drain():
            by_model.setdefault(delta.model, []).append(delta)
        for model, deltas in by_model.items():
            target = partition_of(model, PANES_PARTITIONS)
            for part in packed(deltas):
                out.append(Outgoing(self._topics.panes.name, part, model.encode(), target))
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
        self._committed, self._codes = [], {}
        for (topic, index), state in sorted(self._partitions.items()):
            entry: dict[str, Any] = {"topic": topic, "partition": index, **state.conservation()}
            entry["clock"] = clock_or_none(state.clock.now)
            if state.next_offset is not None:
                entry["next_offset"] = state.next_offset
            self._committed.append(entry)
            for code, count in state.codes.items():
                self._codes[topic, code] = self._codes.get((topic, code), 0) + count

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
        if self._refused:
            out.append(Sample("stationkeeper_limits_refused_total", ("versions",), self._refused))
        out += [Sample("stationkeeper_dead_letters_total", key, count) for key, count in sorted(self._codes.items())]
        return out

    def status(self) -> dict[str, Any]:
        """Return the conservation equation of each partition and the dead letters by code."""
        letters: dict[str, int] = {}
        for (_, code), count in sorted(self._codes.items()):
            letters[code] = letters.get(code, 0) + count
        return {"role": "tally", "conservation": [dict(entry) for entry in self._committed], "dead_letters": letters}

    def close(self) -> None:
        """Nothing is held."""
