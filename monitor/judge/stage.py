"""The judge: merges pane deltas, closes minutes at the watermark, and writes what it decided."""

from collections.abc import Callable, Mapping
from functools import partial

from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.status import JudgeStatus
from stationkeeper.contracts.topics import PANES_PARTITIONS, Topics
from stationkeeper.contracts.wire import ArmDelta, JoinBatch, OutcomeDelta, PaneDelta, Progress, WireError, decode
from stationkeeper.monitor.judge.checkpoints import Checkpoints
from stationkeeper.monitor.judge.decisions import Decisions, Outbox
from stationkeeper.monitor.judge.model import ModelJudge
from stationkeeper.monitor.judge.views import Clock, View, Views
from stationkeeper.monitor.judge.watermark import DecisionDelay, PartitionCounts, Progresses
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.state_codec import whole
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored


class Judge:
    """The stage that decides; one panes partition holds whole models, so judges share models and never meet.

    What it decides is a function of the panes log: batches, flushes and restarts change nothing. ``view`` makes what
    people see of a model. ``partitions`` returns how many partitions an input topic has (asked at an assignment and
    once a minute); without it those count that spoke. Building the tables of a model's detectors takes a fraction of a
    second: that waits until its first pane closes, or is done for one model a flush before.
    """

    name = "judge"

    def __init__(
        self,
        models: Mapping[str, ModelSettings],
        topics: Topics,
        *,
        view: Callable[[ModelJudge, References, Clock], View],
        clock: Clock = "wall",
        partitions: Callable[[str], int] | None = None,
    ) -> None:
        self._models = dict(models)
        self._topics = topics
        self.inputs = (topics.panes.name,)
        self.tables = (topics.references.name, topics.rollouts.name)
        self.references = References(self._models)
        self._views = Views(lambda judge: view(judge, self.references, clock))
        inputs = (mapping.topic for model in self._models.values() for mapping in model.topics().values())
        self._counts = PartitionCounts(inputs, partitions)
        self._checkpoints = Checkpoints(topics.judge_state.name)
        self.judges: dict[str, ModelJudge] = {}
        self._progress: dict[int, Progresses] = {}
        self._cold: dict[str, Mapping[str, bytes]] = {}
        self._outbox = Outbox()
        self._delay = DecisionDelay()

    def changelog(self, assigned: frozenset[Partition]) -> tuple[Partition, ...]:
        """Return the state partitions of the same numbers."""
        return tuple(Partition(self._topics.judge_state.name, partition.index) for partition in sorted(assigned))

    def start_offsets(self, assigned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return where the oldest checkpoint was taken; without one the committed offsets are right."""
        kept = self._checkpoints
        return {p: kept.first_needed(p.index) for p in assigned if kept.absorbed.get(p.index)}

    def assigned(self, partitions: frozenset[Partition], restored: Restored) -> None:
        """Take over models with their state; whatever was not committed is forgotten."""
        self._forget()
        self._counts.refresh()
        found = whole(restored.values)
        kept: dict[str, dict[str, bytes]] = {}
        # By model once: a model that looked through the states of all would make a start quadratic.
        for key, data in found.items():
            kept.setdefault(key.partition("/")[0], {})[key] = data
        for partition in sorted(partitions):
            progress = self._progress[partition.index] = Progresses(self._counts)
            self._checkpoints.restore_partition(partition.index, found, progress)
            for name, settings in self._models.items():
                if partition_of(name, PANES_PARTITIONS) == partition.index:
                    judge = self.judges[name] = ModelJudge(settings, self.references)
                    self._views.add(judge)
                    mine = kept.get(name, {})
                    self._checkpoints.restore_model(judge, mine)
                    if f"{name}/head" in mine:
                        self._cold[name] = mine
        self._views.refresh(self.judges.keys() - self._cold.keys())
        self.committed()

    def _build(self, name: str) -> None:
        """Read the rest of a model's state, and build what it runs on: the tables of its detectors."""
        kept = self._checkpoints.taken(name, self._cold.pop(name))
        self.judges[name].restore(kept.state, kept.slots, kept.watches)
        self._views.refresh([name])

    def revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget everything that was not committed; ``assigned`` follows with what is."""
        self._forget()

    def _forget(self) -> None:
        self._checkpoints.forget()
        self.judges.clear()
        self._views.forget()
        self._progress.clear()
        self._cold.clear()
        self._outbox.clear()
        self._delay.forget()

    def table(self, topic: str, key: bytes, value: bytes | None) -> None:
        """See a reference or a rollout."""
        if topic == self._topics.references.name:
            self.references.put_reference(key, value)
        else:
            self.references.put_rollout(key, value)

    def absorb(self, batch: Batch) -> None:
        """Merge deltas and close what the watermark passed; raises ``Fatal`` for a record it cannot read."""
        index = batch.partition.index
        absorbed = self._checkpoints.absorbed.get(index, 0)
        for offset, value in zip(batch.offsets.tolist(), batch.values, strict=True):
            # A tombstone says nothing here: panes are deltas and never taken back.
            if value is None:
                continue
            try:
                records = decode(value)
            except WireError as error:
                raise Fatal(f"{batch.partition.topic}/{index} offset {offset}: {error}") from error
            moved = False
            for record in records:
                match record:
                    # Read again after a restart: the state holds this progress, or a later one.
                    case Progress() if offset < absorbed:
                        continue
                    case Progress():
                        self._progress[index].put(record)
                        moved = True
                    case PaneDelta() | ArmDelta() | OutcomeDelta():
                        self._add(record, offset, new=offset >= absorbed)
                    case JoinBatch():
                        raise Fatal(f"{batch.partition.topic}/{index} offset {offset}: join rows in the panes topic")
            # Once a record and not once a progress in it: a tally tells of all its partitions together.
            if moved:
                self._outbox.moved.add(index)
                self._advance(index, offset)
        self._checkpoints.note_absorbed(index, batch.next_offset)

    def _add(self, record: PaneDelta | ArmDelta | OutcomeDelta, offset: int, *, new: bool) -> None:
        judge = self.judges.get(record.model)
        if judge is None:
            return
        if new:
            self._outbox.touched.add(record.model)
            self._checkpoints.note_open(record.model, offset)
            if late := judge.add(record):
                self._outbox.put(record.model, Decisions(history=late))
        elif self._checkpoints.lacks(record.model, offset) and not judge.late.counted(record, judge.next, offset):
            # Read again after a restart: what the checkpoint lacks, but for late labels that a closed pane has. What is
            # late was written to history before.
            judge.add(record)

    def _advance(self, index: int, offset: int) -> None:
        for name, judge in self.judges.items():
            if partition_of(name, PANES_PARTITIONS) != index:
                continue
            # Only now, when a pane is about to close: tables of detectors for models that are silent would hold a start
            # up.
            if name in self._cold and judge.decides(self._progress[index]):
                self._build(name)
            # What a page shows may move though no pane closes.
            before, stopped = judge.watermark, judge.stopped
            decided = judge.advance(self._progress[index], offset, partial(self._views.glance, name))
            if decided.closed or (judge.watermark, judge.stopped) != (before, stopped):
                self._outbox.touched.add(name)
            if decided.closed or decided.judged:
                self._delay.closed(decided.closed)
                self._outbox.put(name, decided)

    def flush(self, now_ms: int) -> list[Outgoing]:
        """Return history, verdicts, requests and state of everything decided since the last flush."""
        self._counts.keep_fresh(now_ms)
        # One model a flush: all at once would hold back the first verdicts of a restart for minutes.
        if self._cold:
            self._build(min(self._cold))
        waiting = self._outbox
        waiting.touched |= self._checkpoints.overdue(now_ms)
        if not waiting:
            return []
        closed = waiting.closed
        out = list(waiting.records(self._topics))
        self._checkpoints.next_generation()
        for name in sorted(waiting.touched):
            out += self._checkpoints.of_model(self.judges[name], now_ms, closed=name in closed)
        # With a model's state goes how far its partition was absorbed: one without the other would count twice.
        moved = waiting.moved | {partition_of(name, PANES_PARTITIONS) for name in waiting.touched}
        out += self._checkpoints.of_partitions(moved, self._progress)
        self._views.refresh(closed)
        # A view of a model that is not built yet would build it.
        for name in waiting.touched - closed - self._cold.keys():
            self._views.of(name).advance()
        waiting.clear()
        return out

    def committed(self) -> None:
        """Show what is now durable."""
        self._delay.committed()
        self._views.committed()

    def samples(self) -> list[Sample]:
        """Return the committed metrics of the models owned now."""
        return [*self._views.samples, self._delay.sample(self.name)]

    def status(self) -> JudgeStatus:
        """Return the status of the models owned now, as of the last commit."""
        return self._views.status

    def close(self) -> None:
        """Nothing is held."""
