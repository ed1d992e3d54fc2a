"""A reference from a model's own past: the panes of a period in the history topic, as the new normal state."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.messages import Rollout
from stationkeeper.contracts.times import UTC_ZONE, to_datetime
from stationkeeper.contracts.topics import Topics
from stationkeeper.contracts.wire import SCORE_BINS, OutcomeDelta, PaneDelta, WireError, decode
from stationkeeper.explain.lineage import read_messages
from stationkeeper.monitor.core.adoption import PaneLabels, rebase
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.performance import judged_counts
from stationkeeper.monitor.core.reference import Counts, InvalidReference, OutcomeSums, Reference, load
from stationkeeper.streams.ports import Partition, Reader


def history_reference(
    reader: Reader,
    topics: Topics,
    model: str,
    version: str | None = None,
    start: int | None = None,
    end: int | None = None,
    timezone: str = UTC_ZONE,
) -> Reference:
    """Return the reference of a version (default: the champion) rebuilt from its panes in [start, end) ms.

    Its hours are those of ``timezone``.

    Raises ``ValueError`` where the version, its reference or enough of its panes are not in the log.
    """
    references, by_digest = _references(reader, topics, model)
    if version is None:
        rollouts = {r.model: r.champion for r in read_messages(reader, topics.rollouts.name, Rollout)}
        # Before anything is deployed there is no champion: the reference written last is the one in use.
        version = rollouts.get(model, next(reversed(references), None))
    if version not in references:
        known = ", ".join(references) or "none"
        raise ValueError(f"model {model!r} has no reference of version {version!r} in the log; versions: {known}")
    counted: dict[str, _Counted] = {}
    labels: dict[int, PaneLabels] = {}
    for record in _records(reader, topics, model):
        inside = (start is None or record.start >= start) and (end is None or record.start < end)
        if not inside or record.segment or record.version != version:
            continue
        if isinstance(record, OutcomeDelta):
            _add_labels(labels, record)
        elif record.digest in by_digest:
            counted.setdefault(record.digest, _Counted()).add(record)
    # Cells of two references do not add: the one that counted most of the period is taken.
    digest = max(counted, key=lambda name: counted[name].rows(), default=None)
    if digest is None:
        raise ValueError(
            f"history holds no pane of {model}/{version} with a reference of the log in this period; "
            f"stationkeeper report --model {model} shows what it holds"
        )
    panes = counted[digest].panes()
    made = rebase(by_digest[digest], panes, [labels[at] for at in sorted(labels)], timezone)
    period = f"{to_datetime(panes[0].start):%Y-%m-%d %H:%M} to {to_datetime(panes[-1].end):%Y-%m-%d %H:%M} UTC"
    notes = (*made.notes, period, f"in the cells of {digest}")
    return replace(made, model=model, version=version, notes=notes)


class _Counted:
    """What one reference counted, by pane."""

    def __init__(self) -> None:
        self._lengths: dict[int, int] = {}
        self._rows: dict[int, dict[str, int]] = {}
        self._vectors: dict[int, Counts] = {}

    def add(self, record: PaneDelta) -> None:
        block = record.vector()
        vector = self._vectors.setdefault(record.start, np.zeros(record.width, np.int64))
        vector[record.first : record.first + len(block)] += block
        self._lengths[record.start] = record.length
        rows = self._rows.setdefault(record.start, {})
        # A pane's vector comes in parts, each with the number of rows: only the first part counts them.
        rows[record.source] = rows.get(record.source, 0) + (record.rows if record.first == 0 else 0)

    def panes(self) -> list[Pane]:
        """Where two topics carry a model, both count the same events: the rows are those of the fuller one."""
        return [
            Pane(at, self._lengths[at], max(self._rows[at].values()), self._vectors[at]) for at in sorted(self._vectors)
        ]

    def rows(self) -> int:
        return sum(max(rows.values()) for rows in self._rows.values())


def _add_labels(labels: dict[int, PaneLabels], record: OutcomeDelta) -> None:
    sums = OutcomeSums.unpack(record.sums)
    confusion, scored = judged_counts(_counts(record.confusion), _counts(record.scored), sums)
    scored = scored.reshape(SCORE_BINS, 2)
    known = labels.get(record.start)
    if known is not None:
        scored, confusion, sums = scored + known.scored, confusion + known.confusion, sums + known.sums
    labels[record.start] = PaneLabels(record.start, scored, confusion, sums)


def _counts(part: bytes) -> Counts:
    return np.frombuffer(part, "<i8").astype(np.int64)


def _records(reader: Reader, topics: Topics, model: str) -> Iterator[PaneDelta | OutcomeDelta]:
    partition = Partition(topics.history.name, partition_of(model, topics.history.partitions))
    if partition not in reader.partitions(topics.history.name):
        raise ValueError(f"there is no topic {topics.history.name}; has `stationkeeper monitor` run with this prefix?")
    for batch in reader.read([partition]):
        for value in batch.values:
            try:
                found = decode(value) if value is not None else []
            except WireError as error:
                raise ValueError(f"{partition.topic}: {error}") from error
            for record in found:
                if isinstance(record, PaneDelta | OutcomeDelta) and record.model == model:
                    yield record


def _references(reader: Reader, topics: Topics, model: str) -> tuple[dict[str, Reference], dict[str, Reference]]:
    """The references of a model by version, the one written last at the end, and all that are still there by digest."""
    found: dict[str, Reference] = {}
    by_digest: dict[str, Reference] = {}
    for batch in reader.read(list(reader.partitions(topics.references.name))):
        for key, value in zip(batch.keys, batch.values, strict=True):
            name, _, version = (key or b"").decode(errors="backslashreplace").partition("/")
            if name != model:
                continue
            # Popped and set again, so that the one written last stands at the end; a tombstone takes it out.
            found.pop(version, None)
            if value is not None:
                try:
                    made = found[version] = load(value)
                except InvalidReference as error:
                    raise ValueError(f"the reference {name}/{version} cannot be read: {error}") from error
                by_digest[made.digest] = made
    return found, by_digest
