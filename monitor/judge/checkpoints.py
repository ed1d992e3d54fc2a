"""How the judge's state is kept: a few bytes with each flush, changed pieces with each pane, open panes as checkpoints.

A restart reads the panes topic again from the oldest checkpoint; records below ``absorbed`` then only fill open panes.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import structs

from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.state import State, state_of
from stationkeeper.contracts.topics import PANES_PARTITIONS
from stationkeeper.monitor.judge.model import ModelJudge, ModelPosition, ModelState
from stationkeeper.monitor.judge.pending import PendingState
from stationkeeper.monitor.judge.state import KeptModel, ModelRecords, WatchHead, format_of
from stationkeeper.monitor.judge.watermark import Progresses
from stationkeeper.monitor.state_codec import PLAIN, parts, thaw
from stationkeeper.streams.ports import Outgoing

# How often the open panes of a model are written whole. Half of it doubles what is written of models with many
# segments; twice doubles what a restart reads of the panes topic before it is ready.
CHECKPOINT_MS = 30_000


class PanesPartitionState(State, frozen=True):
    """Where a panes partition is: the flush that wrote it, the progress of inputs, and the next offset to absorb.

    State of format 1 holds every open pane, so that nothing is read again: it has no ``absorbed``.
    """

    generation: int
    progress: list[list[Any]]
    absorbed: int = 0


class OpenState(State, frozen=True):
    """A checkpoint: the open panes of a model, whole."""

    pending: PendingState


class Checkpoints:
    """What of each model and panes partition is written, and since which offset its open panes are in no checkpoint.

    ``absorbed`` is the next offset of each partition: everything before it is in the state or will be read again.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._generation = 0
        self.absorbed: dict[int, int] = {}
        self._since: dict[str, int] = {}
        self._taken_at: dict[str, int] = {}
        self._caught_up: set[int] = set()
        self._records: dict[str, ModelRecords] = {}

    def forget(self) -> None:
        """Forget all partitions; the generation goes on, so that old parts stay older."""
        self.absorbed.clear()
        self._since.clear()
        self._taken_at.clear()
        self._caught_up.clear()
        self._records.clear()

    def restore_partition(self, index: int, found: Mapping[str, bytes], progress: Progresses) -> None:
        """Take over where a panes partition was; ``found`` are frozen states by key."""
        saved = found.get(f"progress/{index}")
        if saved is None:
            return
        kept = state_of(thaw(saved), PanesPartitionState)
        # Over all partitions taken over: parts of a state that is written next must be newer than any that lies there.
        self._generation = max(self._generation, kept.generation)
        progress.restore(kept.progress)
        self.absorbed[index] = kept.absorbed

    def restore_model(self, judge: ModelJudge, kept: Mapping[str, bytes]) -> None:
        """Give a model its open panes; ``kept`` are its frozen states by key."""
        if f"{judge.name}/open" in kept:
            open_ = thaw(kept[f"{judge.name}/open"])
            position = kept.get(f"{judge.name}/at")
            # State of format 1 says beside the open panes where the model was.
            at = state_of(open_ if position is None else thaw(position), ModelPosition)
            pending = state_of(open_, OpenState).pending
            judge.restore_open(pending, at, self.absorbed.get(_partition(judge.name), 0))
            if at.since is not None:
                self._since[judge.name] = at.since
        self._records[judge.name] = ModelRecords(judge.name)

    def taken(self, model: str, kept: Mapping[str, bytes]) -> KeptModel:
        """Return the rest of a model's state, which takes long to read and to build."""
        return self._records[model].taken(kept)

    def first_needed(self, index: int) -> int:
        """Return the first offset of a partition whose record is in no checkpoint."""
        mine = [at for name, at in self._since.items() if _partition(name) == index]
        return min([self.absorbed.get(index, 0), *mine])

    def note_open(self, model: str, offset: int) -> None:
        """Note that a record at ``offset`` added to the open panes of a model."""
        self._since.setdefault(model, offset)

    def lacks(self, model: str, offset: int) -> bool:
        """Return whether the checkpoint of a model lacks a record that is read again."""
        # Without a mark the checkpoint has everything.
        return offset >= self._since.get(model, offset + 1)

    def note_absorbed(self, index: int, next_offset: int) -> None:
        """Note how far a partition was read; beyond what the state held it is caught up."""
        before = self.absorbed.get(index, 0)
        self.absorbed[index] = max(before, next_offset)
        # Only then may an overdue checkpoint be written: before, open panes lack what is still to be read again.
        if next_offset >= before:
            self._caught_up.add(index)

    def overdue(self, now_ms: int) -> set[str]:
        """Return models that fell silent after their checkpoint: a start must not need what retention takes."""
        return {name for name in self._since if _partition(name) in self._caught_up and self._is_due(name, now_ms)}

    def _is_due(self, model: str, now_ms: int) -> bool:
        at = self._taken_at.get(model)
        # A wall clock that was set back must not put a checkpoint off for as long.
        return at is None or not 0 <= now_ms - at < CHECKPOINT_MS

    def next_generation(self) -> None:
        """Begin a flush: parts of one state belong together where their generation is the same."""
        self._generation += 1

    def of_model(self, judge: ModelJudge, now_ms: int, *, closed: bool) -> Iterator[Outgoing]:
        """Yield what a model changed: a checkpoint when due and where it is; the rest only when a pane ``closed``."""
        name, target = judge.name, _partition(judge.name)
        if self._is_due(name, now_ms):
            self._taken_at[name] = now_ms
            # From here on nothing of the log is needed for it, until a record comes.
            self._since.pop(name, None)
            yield from self._written(f"{name}/open", OpenState(pending=judge.pending.state()), target)
        at = structs.replace(judge.where(), since=self._since.get(name))
        yield from self._written(f"{name}/at", at, target)
        format_ = format_of(judge)
        for key, value in self._records[name].changed(judge, closed=closed):
            # Pieces mean nothing without their head, and stay for weeks where heads are written with each pane.
            written = format_ if isinstance(value, WatchHead | ModelState) else PLAIN
            yield from self._written(key, value, target, written)

    def of_partitions(self, indices: Iterable[int], progress: Mapping[int, Progresses]) -> Iterator[Outgoing]:
        """Yield where panes partitions are."""
        for index in sorted(indices):
            kept = PanesPartitionState(
                generation=self._generation,
                progress=progress[index].state(),
                absorbed=self.absorbed.get(index, 0),
            )
            yield from self._written(f"progress/{index}", kept, index)

    def _written(self, key: str, value: Any, target: int, written: int = PLAIN) -> Iterator[Outgoing]:
        for name, data in parts(key, value, self._generation, written):
            yield Outgoing(self._topic, data, name, target)


def _partition(model: str) -> int:
    return partition_of(model, PANES_PARTITIONS)
