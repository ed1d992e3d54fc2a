"""What the tally sends to the label join: both sides of each event in 28 bytes, by hash partition."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.column import Floats, canonical_key
from stationkeeper.contracts.topics import JOINS_PARTITIONS
from stationkeeper.contracts.wire import JOIN_ROW, OF_CLASSES, OF_NUMBERS, JoinBatch, score_bin
from stationkeeper.events import Assigned, CategoryColumn, Events, NumberColumn, confidences, decide, outcomes
from stationkeeper.monitor.core.reference import Task, class_code
from stationkeeper.monitor.packets import packed, split_join
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally.segments import Places, Segmenter

# ASCII's unit and record separators, which hardly any value holds; those that do are escaped.
_SEPARATOR, _ESCAPE = "\x1f", "\x1e"

_Rows = npt.NDArray[np.void]
_Key = tuple[int, str, str, str]
_Names = tuple[tuple[str, str], ...]
"""Joined segments and action, by the code in a row's ``segment``."""


def codes_of(column: CategoryColumn | NumberColumn | None) -> Floats:
    """Return the code of each value's class (``reference.class_code``), float64[n]; NaN where there is no value."""
    if isinstance(column, NumberColumn):
        values, at = np.unique(column.values, return_inverse=True)
        keys = [canonical_key(value) for value in values.tolist()]
        return np.array([np.nan if key is None else class_code(key) for key in keys])[at.reshape(-1)]
    if column is None:
        return np.empty(0)
    table = np.array([*map(class_code, column.keys)] or [0], np.float64)
    return np.where(column.codes >= 0, table[np.maximum(column.codes, 0)], np.nan)


class JoinBuffer:
    """Collects rows for the joins topic between two flushes."""

    def __init__(self, models: Mapping[str, ModelSettings], references: References) -> None:
        self._models = models
        self._references = references
        self._segmenter = Segmenter(models, references)
        self._rows: dict[_Key, list[tuple[_Rows, _Names]]] = {}

    def add(self, events: Events, places: Places) -> None:
        """Take in tallied predictions or labels of models that have labels; ``places`` are the partition's."""
        for code, (model, version) in enumerate(events.owners):
            # Without labels nothing would ever meet them.
            if self._models[model].labels is None:
                continue
            part = events if len(events.owners) == 1 else events.keep(np.flatnonzero(events.owner == code))
            if len(part):
                self._add(model, version if events.kind == "prediction" else "", part, places)

    def _add(self, model: str, version: str, part: Events, places: Places) -> None:
        rows = np.zeros(len(part), JOIN_ROW)
        rows["id"], rows["time"] = part.ids, part.time
        names: _Names = (("", ""),)
        if part.kind == "prediction":
            score, decision, _ = decide(
                part, self._references.threshold(model, version), self._references.positive(model, version)
            )
            rows["score"], rows["label"] = _float32(score), np.nan if part.assigned is None else part.assigned.drawn
            rows["decision"] = decision | self._kind(model, version)
            if self._kind(model, version) == OF_CLASSES:
                rows["score"], score = codes_of(part.prediction), confidences(part)
            rows["bin"] = score_bin(np.nan_to_num(score))
            codes, joined = self._segments(model, version, part, places)
            rows["segment"], names = _with_actions(codes, joined, part.assigned)
        else:
            # A label names no version: it is read by the class that the champion's scores are about.
            champion = self._references.champion(model) or ""
            rows["score"] = np.nan
            rows["label"] = _float32(outcomes(part, self._references.positive(model, champion)))
            if self._kind(model, champion) == OF_CLASSES:
                rows["label"], rows["decision"] = codes_of(part.label), OF_CLASSES
        # By our own hash: producers in other languages place keys differently, and both sides must meet.
        where = (part.ids % np.uint64(JOINS_PARTITIONS)).astype(np.int64)
        for target in np.unique(where).tolist():
            key = (target, part.kind, model, version)
            self._rows.setdefault(key, []).append((rows[where == target], names))

    def _kind(self, model: str, version: str) -> int:
        """Return what scores and labels are, as the reference tells it: one of several classes, numbers, or neither."""
        reference = self._references.of(model, version)
        task = None if reference is None else reference.task
        return {Task.MULTICLASS: OF_CLASSES, Task.REGRESSION: OF_NUMBERS}.get(task, 0) if task is not None else 0

    def _segments(
        self, model: str, version: str, part: Events, places: Places
    ) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
        codes = np.zeros(len(part), np.int64)
        names: list[str] = [""]
        reference = self._references.of(model, version)
        for dimension in self._models[model].segments:
            mine, found = self._segmenter.codes(model, dimension, part, reference, places)
            pairs, codes = np.unique(codes * len(found) + mine, return_inverse=True)
            names = [together(names[pair // len(found)], found[pair % len(found)]) for pair in pairs.tolist()]
            codes = codes.reshape(-1)
        return codes, tuple(names)

    def drain(self) -> Iterator[tuple[int, list[bytes]]]:
        """Yield the records for each joins partition, of everything added since the last drain."""
        # By partition, and within it in the order of the log, which the join takes for the order of arrival.
        joins: dict[int, list[JoinBatch]] = {}
        for target, batch in self._batches():
            joins.setdefault(target, []).extend(split_join(batch))
        self.clear()
        for target, batches in sorted(joins.items()):
            yield target, packed(batches)

    def _batches(self) -> Iterator[tuple[int, JoinBatch]]:
        """Yield (joins partition, batch) of everything since the last drain, in the order it was added per key."""
        for (target, side, model, version), parts in self._rows.items():
            for rows, names in _merged(parts):
                segments, actions = zip(*names, strict=True)
                told = actions if any(actions) else ()
                yield target, JoinBatch(side, model, version, segments, rows.tobytes(), told)

    def clear(self) -> None:
        """Forget everything that was not drained."""
        self._rows.clear()


def together(joined: str, segment: str) -> str:
    """Return the name for an event's segments so far (beside all traffic, "" for none) and one more."""
    # Producers choose the values: one that held a bare separator would count in another segment.
    escaped = segment.replace(_ESCAPE, _ESCAPE + "0").replace(_SEPARATOR, _ESCAPE + "1")
    return _SEPARATOR.join(filter(None, (joined, escaped)))


def apart(joined: str) -> tuple[str, ...]:
    """Return the segments that ``together`` joined."""
    names = filter(None, joined.split(_SEPARATOR))
    return tuple(name.replace(_ESCAPE + "1", _SEPARATOR).replace(_ESCAPE + "0", _ESCAPE) for name in names)


def _with_actions(
    codes: npt.NDArray[np.int64], joined: tuple[str, ...], assigned: Assigned | None
) -> tuple[npt.NDArray[np.int64], _Names]:
    """Return each row's code of its segments and of what was done upon the answer, and what the codes stand for."""
    if assigned is None:
        return codes, tuple((name, "") for name in joined)
    # No action is the first.
    width = len(assigned.names) + 1
    pairs, both = np.unique(codes * width + assigned.code + 1, return_inverse=True)
    actions = ("", *assigned.names)
    return both.reshape(-1), tuple((joined[pair // width], actions[pair % width]) for pair in pairs.tolist())


def _merged(parts: list[tuple[_Rows, _Names]]) -> Iterator[tuple[_Rows, _Names]]:
    """Neighbouring parts with the same names become one."""
    held: list[_Rows] = []
    names: _Names = ()
    for rows, mine in parts:
        if held and mine != names:
            yield np.concatenate(held), names
            held = []
        held.append(rows)
        names = mine
    if held:
        yield np.concatenate(held), names


def _float32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """As a row has them: what is beyond 3e38 is an infinity, which is no news for a warning."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
