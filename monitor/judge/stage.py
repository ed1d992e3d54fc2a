"""The judge: merges pane deltas, closes minutes at the watermark, and says what it decided."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal

from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.topics import PANES_PARTITIONS, Topics
from stationkeeper.contracts.wire import ArmDelta, JoinBatch, OutcomeDelta, PaneDelta, Progress, WireError, decode
from stationkeeper.monitor.judge.model import ModelJudge, Said
from stationkeeper.monitor.judge.pending import WatchKey
from stationkeeper.monitor.judge.state import ModelRecords
from stationkeeper.monitor.judge.watermark import DecisionDelay, Progresses
from stationkeeper.monitor.packets import packed
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.state_codec import gather, parts
from stationkeeper.monitor.status.model import ModelView
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored

_COUNT_EVERY_MS = 60_000
CHECKPOINT_MS = 30_000
"""How often the open panes of a model are written whole; what came since is read again from the panes topic."""


class Judge:
    """The stage that decides; one panes partition holds whole models, so judges share models and never meet.

    What it says is a function of the panes log: batches, flushes and restarts change nothing. ``partitions`` tells how
    many partitions an input topic has (asked at an assignment and once a minute); without it those count that spoke.

    Its state is written in proportion to what changes: a few bytes with each flush, the pieces of a watch that a closed
    pane changed, and the open panes as a checkpoint. A restart reads the panes topic again from the oldest checkpoint;
    records below ``absorbed`` then only fill the open panes. The tables of a model's detectors follow from its
    reference; they are built when its first pane closes, or one model a flush before that.
    """

    name = "judge"

    def __init__(
        self,
        models: Mapping[str, ModelSettings],
        topics: Topics,
        *,
        clock: Literal["wall", "stream"] = "wall",
        partitions: Callable[[str], int] | None = None,
    ) -> None:
        self._models = dict(models)
        self._topics = topics
        self._clock = clock
        self.inputs = (topics.panes.name,)
        self.tables = (topics.references.name, topics.rollouts.name)
        self.references = References(self._models)
        self.judges: dict[str, ModelJudge] = {}
        self._views: dict[str, ModelView] = {}
        self._progress: dict[int, Progresses] = {}
        self._said: dict[str, Said] = {}
        self._touched: set[str] = set()
        self._records: dict[str, ModelRecords] = {}
        self._cold: dict[str, tuple[Mapping[str, Any], dict[WatchKey, Mapping[str, Any]]]] = {}
        self._absorbed: dict[int, int] = {}
        self._since: dict[str, int] = {}
        self._caught_up: set[int] = set()
        self._checkpoint_at: dict[str, int] = {}
        self._moved: set[int] = set()
        self._generation = 0
        self._count = partitions
        self._counted: dict[str, int] = {}
        self._counted_at: int | None = None
        self._status: list[dict[str, Any]] = []
        self._samples: list[Sample] = []
        self._delay = DecisionDelay()
        self._refused: dict[str, int] = {}

    def changelog(self, assigned: frozenset[Partition]) -> tuple[Partition, ...]:
        """Return the state partitions of the same numbers."""
        return tuple(Partition(self._topics.judge_state.name, partition.index) for partition in sorted(assigned))

    def start_offsets(self, assigned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return where the oldest checkpoint was taken; without one the committed offsets are right."""
        return {p: self._base(p.index) for p in assigned if self._absorbed.get(p.index)}

    def _base(self, index: int) -> int:
        """The first offset whose record is in no checkpoint."""
        mine = [at for name, at in self._since.items() if partition_of(name, PANES_PARTITIONS) == index]
        return min([self._absorbed.get(index, 0), *mine])

    def assigned(self, partitions: frozenset[Partition], restored: Restored) -> None:
        """Take over models with their state; whatever was not committed is forgotten."""
        self._forget()
        self._count_partitions()
        found = gather(restored.values)
        for partition in sorted(partitions):
            progress = self._progress[partition.index] = Progresses()
            progress.partitions = self._counted
            saved = found.get(f"progress/{partition.index}")
            if saved is not None:
                self._generation = max(self._generation, saved["generation"])
                progress.restore(saved["progress"])
                # State of format 1 holds every open pane, so that nothing is read again.
                self._absorbed[partition.index] = saved.get("absorbed", 0)
            for name, settings in self._models.items():
                if partition_of(name, PANES_PARTITIONS) == partition.index:
                    judge = self.judges[name] = ModelJudge(settings, self.references)
                    self._views[name] = ModelView(judge, self.references, self._clock)
                    self._restore_open(judge, found)
                    self._records[name] = ModelRecords(name)
                    if (taken := self._records[name].taken(found)) is not None:
                        self._cold[name] = taken
        self._refresh(self.judges.keys() - self._cold.keys())
        self.committed()

    def _warm(self, name: str) -> None:
        """Build what a model's restored state runs on: the tables of its detectors, a fraction of a second a model."""
        head, watches = self._cold.pop(name)
        self.judges[name].restore(head, watches)
        self._refresh([name])

    def _restore_open(self, judge: ModelJudge, found: Mapping[str, Any]) -> None:
        open_ = found.get(f"{judge.name}/open")
        if open_ is None:
            return
        at = found.get(f"{judge.name}/at") or open_
        absorbed = self._absorbed.get(partition_of(judge.name, PANES_PARTITIONS), 0)
        judge.restore_open(open_["pending"], at, absorbed)
        if at.get("since") is not None:
            self._since[judge.name] = at["since"]

    def revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget everything that was not committed; ``assigned`` follows with what is."""
        self._forget()

    def _forget(self) -> None:
        self.judges.clear()
        self._views.clear()
        self._progress.clear()
        self._said.clear()
        self._touched.clear()
        self._records.clear()
        self._cold.clear()
        self._absorbed.clear()
        self._since.clear()
        self._caught_up.clear()
        self._checkpoint_at.clear()
        self._moved.clear()
        self._delay.forget()
        self._status, self._samples, self._refused = [], [], {}

    def _count_partitions(self) -> None:
        if self._count is None:
            return
        topics = {mapping.topic for model in self._models.values() for mapping in model.topics().values()}
        self._counted.update({topic: self._count(topic) for topic in sorted(topics)})

    def table(self, topic: str, key: bytes, value: bytes | None) -> None:
        """See a reference or a rollout."""
        if topic == self._topics.references.name:
            self.references.put_reference(key, value)
        else:
            self.references.put_rollout(key, value)

    def absorb(self, batch: Batch) -> None:
        """Merge deltas and close what the watermark passed; raises ``Fatal`` for a record it cannot read."""
        index = batch.partition.index
        absorbed = self._absorbed.get(index, 0)
        for offset, value in zip(batch.offsets.tolist(), batch.values, strict=True):
            if value is None:
                continue
            try:
                records = decode(value)
            except WireError as error:
                raise Fatal(f"{batch.partition.topic}/{index} offset {offset}: {error}") from error
            moved = False
            for record in records:
                match record:
                    case Progress() if offset < absorbed:
                        continue
                    case Progress():
                        self._progress[index].put(record)
                        moved = True
                    case PaneDelta() | ArmDelta() | OutcomeDelta():
                        self._add(record, offset, new=offset >= absorbed)
                    case JoinBatch():
                        raise Fatal(f"{batch.partition.topic}/{index} offset {offset}: join rows in the panes topic")
            if moved:
                self._moved.add(index)
                self._advance(index, offset)
        self._absorbed[index] = max(absorbed, batch.next_offset)
        if batch.next_offset >= absorbed:
            self._caught_up.add(index)

    def _add(self, record: PaneDelta | ArmDelta | OutcomeDelta, offset: int, *, new: bool) -> None:
        judge = self.judges.get(record.model)
        if judge is None:
            return
        if not new:
            # Read again after a restart: what the checkpoint lacks, but for late labels that a closed pane has.
            lacks = offset >= self._since.get(record.model, offset + 1)
            if lacks and not judge.late.counted(record, judge.next, offset):
                deque(judge.add(record), maxlen=0)
            return
        self._touched.add(record.model)
        self._since.setdefault(record.model, offset)
        self._said.setdefault(record.model, Said()).history += judge.add(record)

    def _advance(self, index: int, offset: int) -> None:
        for name, judge in self.judges.items():
            if partition_of(name, PANES_PARTITIONS) != index:
                continue
            if name in self._cold and self._closes(judge, index):
                self._warm(name)
            before = judge.watermark
            said = judge.advance(self._progress[index], offset)
            if said.closed or judge.watermark != before:
                self._touched.add(name)
            if said.closed:
                self._delay.closed(said.closed)
                held = self._said.setdefault(name, Said())
                held.history += said.history
                held.verdicts += said.verdicts
                held.requests += said.requests
                held.closed += said.closed

    def _closes(self, judge: ModelJudge, index: int) -> bool:
        watermark = self._progress[index].watermark(judge.inputs, judge.settings.lateness)
        return watermark is not None and (judge.next is None or watermark >= judge.next + judge.settings.pane)

    def flush(self, now_ms: int) -> list[Outgoing]:
        """Return history, verdicts, requests and state of everything decided since the last flush."""
        out: list[Outgoing] = []
        if self._counted_at is None or now_ms - self._counted_at >= _COUNT_EVERY_MS:
            if self._counted_at is not None:
                self._count_partitions()
            self._counted_at = now_ms
        if self._cold:
            self._warm(min(self._cold))
        self._touched |= self._lagging(now_ms)
        if not self._touched and not self._moved:
            return out
        self._generation += 1
        topics = self._topics
        for name, said in self._said.items():
            key, target = name.encode(), partition_of(name, PANES_PARTITIONS)
            out += [Outgoing(topics.history.name, value, key, target) for value in packed(said.history)]
            out += [Outgoing(topics.verdicts.name, verdict.encode(), key) for verdict in said.verdicts]
            out += [Outgoing(topics.requests.name, request.encode(), key) for request in said.requests]
        for name in sorted(self._touched):
            closed = name in self._said and self._said[name].closed > 0
            out += self._state_of(self.judges[name], now_ms, closed=closed)
        for index in sorted(self._moved | {partition_of(name, PANES_PARTITIONS) for name in self._touched}):
            progress = self._progress[index].state()
            value = {"generation": self._generation, "progress": progress, "absorbed": self._absorbed.get(index, 0)}
            out += self._written(f"progress/{index}", value, index)
        refreshed = {name for name, said in self._said.items() if said.closed}
        self._refresh(refreshed)
        for name in self._touched - refreshed - self._cold.keys():
            self._views[name].advance()
        self._said.clear()
        self._touched.clear()
        self._moved.clear()
        return out

    def _lagging(self, now_ms: int) -> set[str]:
        """Models that fell silent after their last checkpoint: a start must not need records that retention takes."""
        return {
            name
            for name in self._since
            if partition_of(name, PANES_PARTITIONS) in self._caught_up
            and not 0 <= now_ms - self._checkpoint_at.get(name, now_ms - CHECKPOINT_MS) < CHECKPOINT_MS
        }

    def _state_of(self, judge: ModelJudge, now_ms: int, *, closed: bool) -> list[Outgoing]:
        """What a delta changes is a checkpoint and an offset; the rest changes when a pane closes, piece by piece."""
        name, target = judge.name, partition_of(judge.name, PANES_PARTITIONS)
        out: list[Outgoing] = []
        at = self._checkpoint_at.get(name)
        if at is None or not 0 <= now_ms - at < CHECKPOINT_MS:
            self._checkpoint_at[name] = now_ms
            self._since.pop(name, None)
            out += self._written(f"{name}/open", {"pending": judge.pending.state()}, target)
        where = {**judge.where(), "since": self._since.get(name)}
        out += self._written(f"{name}/at", where, target)
        for key, value in self._records[name].changed(judge, closed=closed):
            out += self._written(key, value, target)
        return out

    def _written(self, key: str, value: Any, target: int) -> list[Outgoing]:
        return [
            Outgoing(self._topics.judge_state.name, data, name, target)
            for name, data in parts(key, value, self._generation)
        ]

    def _refresh(self, models: Any) -> None:
        for name in models:
            self._views[name].refresh()

    def committed(self) -> None:
        """Show what is now durable."""
        self._delay.committed()
        self._status = [view.status for _, view in sorted(self._views.items()) if view.status]
        self._samples = [sample for _, view in sorted(self._views.items()) for sample in view.samples]
        self._refused = {name: judge.refused for name, judge in sorted(self.judges.items()) if judge.refused}
        if self._refused:
            total = sum(self._refused.values())
            self._samples.append(Sample("stationkeeper_limits_refused_total", ("watches",), total))

    def samples(self) -> list[Sample]:
        """Return the committed metrics of the models owned now."""
        return [*self._samples, self._delay.sample(self.name)]

    def status(self) -> dict[str, Any]:
        """Return ``contracts.status.JudgeStatus``."""
        found: dict[str, Any] = {"role": "judge", "models": self._status}
        if self._refused:
            found["detail"] = {f"panes of {name} without a watch": count for name, count in self._refused.items()}
        return found

    def close(self) -> None:
        """Nothing is held."""
