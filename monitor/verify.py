"""``verify``: counts the input topics again in the plain way, up to what is committed, and compares every number."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from contracts.codes import Outcome
from contracts.topics import Topics
from contracts.wire import PaneDelta, decode
from monitor.core.cells import Counts
from monitor.core.reference import Reference
from monitor.mapping import forms
from monitor.partition_state import PartitionState
from monitor.recount import Key, Recount
from monitor.references import References
from monitor.settings import ModelSettings
from streams.ports import Partition, Reader

_SHOWN = 20
_TRIES = 5


@dataclass(slots=True)
class Verification:
    """What was compared and where it differed; ``differences`` are sentences with the numbers of both sides."""

    records: int = 0
    panes: int = 0
    counts: int = 0
    differences: list[str] = field(default_factory=list)
    unverifiable: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether every number that could be compared is equal."""
        return not self.differences

    def summary(self) -> str:
        """Return the result in words, the first differences with it."""
        lines = [f"{self.records} records counted again: {self.panes} panes, {self.counts} numbers compared"]
        lines += [f"not comparable: {line}" for line in self.unverifiable]
        lines += [f"differs: {line}" for line in self.differences[:_SHOWN]]
        if len(self.differences) > _SHOWN:
            lines.append(f"and {len(self.differences) - _SHOWN} more")
        return "\n".join([*lines, "equal" if self.equal else f"{len(self.differences)} differences"])

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {"equal": self.equal, **asdict(self)}


def verify(
    reader: Reader, models: Mapping[str, ModelSettings], topics: Topics, *, clock: Literal["wall", "stream"] = "wall"
) -> Verification:
    """Recompute outcomes and panes from the input topics up to the committed offsets and compare every count.

    Needs the inputs and panes from their first record on: partitions whose beginning retention has removed are named
    in ``unverifiable``. Segments are sums of the same rows and are not recomputed. Slow on purpose: about 20 000
    events a second.
    """
    found = Verification()
    for _ in range(_TRIES):
        before = _latest(reader, topics.tally_state.name)
        found = _verify(reader, models, topics, before, wall=clock == "wall")
        if found.equal or _latest(reader, topics.tally_state.name) == before:
            return found
    found.unverifiable.append("the tally was writing all the time; stop it, or verify when it has caught up")
    return found


def _verify(
    reader: Reader, models: Mapping[str, ModelSettings], topics: Topics, states: Mapping[bytes, bytes], *, wall: bool
) -> Verification:
    found = Verification()
    references = _references(reader, models, topics)
    rows: dict[Key, int] = {}
    cells: dict[Key, Mapping[int, int]] = {}
    for topic, form in sorted(forms(list(models.values())).items()):
        for partition in reader.partitions(topic):
            state = PartitionState(partition, max(models[name].dedupe for name in form.models))
            state.restore(states)
            first = reader.bounds([partition])[partition][0]
            if state.next_offset is None:
                continue
            if first > 0:
                found.unverifiable.append(f"{topic}/{partition.index}: records before {first} are gone")
                continue
            recount = Recount(form, models, wall=wall, left_out=references.left_out)
            found.records += _read(reader, partition, state, recount, references)
            _compare_outcomes(found, state, recount)
            for key, count in recount.rows.items():
                rows[key] = rows.get(key, 0) + count
            for key, mine in recount.cells.items():
                cells[key] = dict(mine) if key not in cells else _sum(cells[key], mine)
    _compare_panes(found, reader, topics, rows, cells)
    return found


def _references(reader: Reader, models: Mapping[str, ModelSettings], topics: Topics) -> References:
    references = References(models)
    for key, value in _latest(reader, topics.references.name).items():
        references.put_reference(key, value)
    return references


def _latest(reader: Reader, topic: str) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for batch in reader.read(reader.partitions(topic)):
        for key, value in zip(batch.keys, batch.values, strict=True):
            if key is not None and value is not None:
                found |= {key: value}
    return found


def _read(reader: Reader, partition: Partition, state: PartitionState, recount: Recount, references: References) -> int:
    known: dict[str, Reference | None] = {}
    changes = list(state.digests)
    records = 0
    for batch in reader.read([partition]):
        for row, offset in enumerate(batch.offsets.tolist()):
            if offset >= (state.next_offset or 0):
                return records
            while changes and changes[0][0] <= offset:
                for name, digest in changes.pop(0)[1].items():
                    known[name] = references.by_digest(digest)
            recount.take(offset, int(batch.timestamps[row]), batch.values[row], known)
            records += 1
    return records


def _compare_outcomes(found: Verification, state: PartitionState, recount: Recount) -> None:
    where = f"{state.partition.topic}/{state.partition.index}"
    total = sum(recount.outcomes.values())
    found.counts += 1 + len(Outcome)
    if state.received != total:
        found.differences.append(f"{where}: {state.received} records received, the log holds {total}")
    for outcome in Outcome:
        mine, plain = state.outcomes[outcome], recount.outcomes[outcome]
        if mine != plain:
            found.differences.append(f"{where}: {mine} {outcome.value}, counted again {plain}")


def _compare_panes(
    found: Verification,
    reader: Reader,
    topics: Topics,
    rows: Mapping[Key, int],
    cells: Mapping[Key, Mapping[int, int]],
) -> None:
    partitions = reader.partitions(topics.panes.name)
    trimmed = [p.index for p, (first, _) in reader.bounds(partitions).items() if first > 0]
    if trimmed:
        found.unverifiable.append(f"{topics.panes.name}: partitions {trimmed} have lost their first records")
        return
    told_rows: dict[Key, int] = {}
    told: dict[Key, Counts] = {}
    for batch in reader.read(partitions):
        for value in batch.values:
            for record in decode(value) if value is not None else ():
                if not isinstance(record, PaneDelta) or record.segment:
                    continue
                key = Key(record.model, record.version, record.digest, record.source, "", record.start)
                counts = told.setdefault(key, np.zeros(record.width, np.int64))
                part = record.vector()
                counts[record.first : record.first + len(part)] += part
                if record.first == 0:
                    told_rows[key] = told_rows.get(key, 0) + record.rows
    for key in sorted({*told, *cells}):
        found.panes += 1
        counts = told.get(key, np.zeros(0, np.int64))
        plain = np.zeros(max(len(counts), 1 + max(cells.get(key, {}), default=-1)), np.int64)
        for position, count in cells.get(key, {}).items():
            plain[position] = count
        found.counts += 1 + len(counts)
        if told_rows.get(key, 0) != rows.get(key, 0):
            found.differences.append(f"{key}: {told_rows.get(key, 0)} rows, counted again {rows.get(key, 0)}")
        if len(plain) != len(counts) or (plain != counts).any():
            wrong = np.flatnonzero(plain[: len(counts)] != counts)[:_SHOWN].tolist()
            pairs = ", ".join(f"{at}: {counts[at]} for {plain[at]}" for at in wrong)
            found.differences.append(f"{key}: counts differ ({pairs or f'{len(counts)} for {len(plain)} positions'})")


def _sum(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    out = dict(one)
    for position, count in other.items():
        out[position] = out.get(position, 0) + count
    return out
