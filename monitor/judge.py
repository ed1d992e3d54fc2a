"""The judge: merges pane deltas, closes minutes at the watermark, and says what it decided."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from contracts.identity import partition_of
from contracts.metrics import Sample
from contracts.topics import PANES_PARTITIONS, Topics
from contracts.wire import ArmDelta, JoinBatch, OutcomeDelta, PaneDelta, Progress, WireError, decode
from monitor.model_judge import ModelJudge, Said
from monitor.model_view import ModelView
from monitor.packets import packed
from monitor.packing import gather, parts
from monitor.pending import WatchKey
from monitor.references import References
from monitor.settings import ModelSettings
from monitor.watermark import Progresses
from streams.errors import Fatal
from streams.ports import Batch, Outgoing, Partition, Restored

_NONE = "-"
_COUNT_EVERY_MS = 60_000


class Judge:
    """The stage that decides; one panes partition holds whole models, so judges share models and never meet.

    What it says is a function of the panes log: batches, flushes and restarts change nothing. ``partitions`` tells how
    many partitions an input topic has (asked at an assignment and once a minute); without it those count that spoke.
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
        self._moved: set[int] = set()
        self._generation = 0
        self._count = partitions
        self._counted: dict[str, int] = {}
        self._counted_at: int | None = None
        self._status: list[dict[str, Any]] = []
        self._samples: list[Sample] = []
        self._refused: dict[str, int] = {}

    def changelog(self, assigned: frozenset[Partition]) -> tuple[Partition, ...]:
        """Return the state partitions of the same numbers."""
        return tuple(Partition(self._topics.judge_state.name, partition.index) for partition in sorted(assigned))

    def start_offsets(self, assigned: frozenset[Partition]) -> Mapping[Partition, int]:
        """The committed offsets are right: state and offsets share a transaction."""
        return {}

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
            for name, settings in self._models.items():
                if partition_of(name, PANES_PARTITIONS) == partition.index:
                    judge = self.judges[name] = ModelJudge(settings, self.references)
                    self._views[name] = ModelView(judge, self.references, self._clock)
                    if (open_ := found.get(f"{name}/open")) is not None:
                        judge.restore_open(open_)
                    if (head := found.get(f"{name}/head")) is not None:
                        judge.restore(head, self._watches(name, found))
        self._refresh(self.judges)
        self.committed()

    @staticmethod
    def _watches(model: str, found: Mapping[str, Any]) -> dict[WatchKey, Mapping[str, Any]]:
        out: dict[WatchKey, Mapping[str, Any]] = {}
        for name, state in found.items():
            if name.startswith(f"{model}/watch/") and state is not None:
                out[WatchKey(*state["key"])] = state["watch"]
        return out

    def revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget everything that was not committed; ``assigned`` follows with what is."""
        self._forget()

    def _forget(self) -> None:
        self.judges.clear()
        self._views.clear()
        self._progress.clear()
        self._said.clear()
        self._touched.clear()
        self._moved.clear()
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
                    case Progress():
                        self._progress[index].put(record)
                        moved = True
                    case PaneDelta() | ArmDelta() | OutcomeDelta():
                        self._add(record)
                    case JoinBatch():
                        raise Fatal(f"{batch.partition.topic}/{index} offset {offset}: join rows in the panes topic")
            if moved:
                self._moved.add(index)
                self._advance(index)

    def _add(self, record: PaneDelta | ArmDelta | OutcomeDelta) -> None:
        judge = self.judges.get(record.model)
        if judge is None:
            return
        self._touched.add(record.model)
        self._said.setdefault(record.model, Said()).history += judge.add(record)

    def _advance(self, index: int) -> None:
        for name, judge in self.judges.items():
            if partition_of(name, PANES_PARTITIONS) != index:
                continue
            before = judge.watermark
            said = judge.advance(self._progress[index])
            if said.closed or judge.watermark != before:
                self._touched.add(name)
            if said.closed:
                held = self._said.setdefault(name, Said())
                held.history += said.history
                held.verdicts += said.verdicts
                held.requests += said.requests
                held.closed += said.closed

    def flush(self, now_ms: int) -> list[Outgoing]:
        """Return history, verdicts, requests and state of everything decided since the last flush."""
        out: list[Outgoing] = []
        if self._counted_at is None or now_ms - self._counted_at >= _COUNT_EVERY_MS:
            if self._counted_at is not None:
                self._count_partitions()
            self._counted_at = now_ms
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
            out += self._state_of(self.judges[name], closed=name in self._said and self._said[name].closed > 0)
        for index in sorted(self._moved):
            value = {"generation": self._generation, "progress": self._progress[index].state()}
            out += self._records(f"progress/{index}", value, index)
        closed = {name for name, said in self._said.items() if said.closed}
        self._refresh(closed)
        for name in self._touched - closed:
            self._views[name].advance()
        self._said.clear()
        self._touched.clear()
        self._moved.clear()
        return out

    def _state_of(self, judge: ModelJudge, *, closed: bool) -> list[Outgoing]:
        """What a delta changes is small and written with each flush; the rest changes when a pane closes."""
        target = partition_of(judge.name, PANES_PARTITIONS)
        out = self._records(f"{judge.name}/open", judge.open_state(), target)
        if closed:
            out += self._records(f"{judge.name}/head", judge.state(), target)
        for key in sorted(judge.dirty):
            watch = judge.watches.get(key)
            name = f"{judge.name}/watch/{key.version or _NONE}/{key.digest}/{key.segment or _NONE}"
            value = None if watch is None else {"key": list(key), "watch": watch.state()}
            out += self._records(name, value, target)
        judge.dirty.clear()
        return out

    def _records(self, key: str, value: Any, target: int) -> list[Outgoing]:
        return [
            Outgoing(self._topics.judge_state.name, data, name, target)
            for name, data in parts(key, value, self._generation)
        ]

    def _refresh(self, models: Any) -> None:
        for name in models:
            self._views[name].refresh()

    def committed(self) -> None:
        """Show what is now durable."""
        self._status = [view.status for _, view in sorted(self._views.items())]
        self._samples = [sample for _, view in sorted(self._views.items()) for sample in view.samples]
        self._refused = {name: judge.refused for name, judge in sorted(self.judges.items()) if judge.refused}
        if self._refused:
            total = sum(self._refused.values())
            self._samples.append(Sample("stationkeeper_limits_refused_total", ("watches",), total))

    def samples(self) -> list[Sample]:
        """Return the committed metrics of the models owned now."""
        return list(self._samples)

    def status(self) -> dict[str, Any]:
        """Return ``contracts.status.JudgeStatus``."""
        found: dict[str, Any] = {"role": "judge", "models": self._status}
        if self._refused:
            found["detail"] = {f"panes of {name} without a watch": count for name, count in self._refused.items()}
        return found

    def close(self) -> None:
        """Nothing is held."""
