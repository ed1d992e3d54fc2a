"""A file of the contract's own events, one JSON object a line, as rows of predictions with labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stationkeeper.contracts.codes import DEAD_LETTER_HELP
from stationkeeper.events import Assigned, EventReader, own_form, with_assignment
from stationkeeper.tables.columns import BROKEN, Array, TableRefused

PREDICTION: Final = "prediction"
LABEL: Final = "label"
NEVER: Final = np.iinfo(np.int64).max
"""The time of a label that never came."""


@dataclass(frozen=True, slots=True)
class EventRows:
    """Rows of events in order of time: cells by column, their lines and times (ms), and when labels became known.

    ``confidence`` float64[n] is the probability that came with a class as answer, None where none did; ``assigned``
    what was done upon each answer, None where no event says it.
    """

    columns: dict[str, list[Any]]
    index: Array
    times: Array
    label_times: Array | None
    model: str
    version: str
    notes: tuple[str, ...] = ()
    confidence: Array | None = None
    assigned: Assigned | None = None


def left_out(source: str, broken: int, lines: int, first: str) -> str:
    """Return the note on lines that are left out, with the first of them; raises ``TableRefused`` for too many."""
    if broken > BROKEN * lines:
        share = f" ({broken:,} of {lines:,} lines are broken)" if broken > 1 else ""
        raise TableRefused(f"{source}, {first}{share}")
    return f"left out: {broken:,} of {lines:,} lines; the first is {first}"


def read_events(lines: Sequence[bytes], source: str = "events", model: str | None = None) -> EventRows:
    """Read events of the contract: features and predictions joined by event_id with labels.

    They are read as the tally reads them; of several of one kind and id the first counts, of labels the last, and a
    feature of the prediction goes before one of a feature event. Of several models ``model`` says which. A line that is
    no event is left out, counted and shown. Raises ``TableRefused`` where more than ``BROKEN`` of them are none, or
    with the models there are. O(events), by columns.
    """
    numbers = np.array([number for number, line in enumerate(lines) if line.strip()], np.int64)
    reading = EventReader(with_assignment(own_form(source=source))).discover(
        [lines[number] for number in numbers.tolist()]
    )
    notes = []
    for fault in reading.rejected[:1]:
        named = f"{fault.code.value} ({fault.detail})" if fault.detail else fault.code.value
        text = f"line {numbers[fault.row] + 1}: {named}: {DEAD_LETTER_HELP[fault.code]}"
        notes = [left_out(source, len(reading.rejected), len(numbers), text)]
    found = sorted({owner for events in reading.events for owner, _ in events.owners})
    if model is None and len(found) > 1:
        raise TableRefused(f"{source} holds events of the models {', '.join(found)}: say which with --model")
    if model is not None and model not in found:
        raise TableRefused(f"{source} holds no event of model {model!r}; it has {', '.join(found) or 'none'}")
    by_kind = {}
    for events in reading.events:
        mine = np.array([owner == (model or found[0]) for owner, _ in events.owners])
        by_kind[events.kind] = events.keep(np.flatnonzero(mine[events.owner]))
    kinds = [by_kind[kind] for kind in ("feature", "prediction") if kind in by_kind and len(by_kind[kind])]
    if not kinds:
        raise TableRefused(f"{source}: no prediction or feature event; labels alone cannot be replayed")
    ids, place = np.unique(np.concatenate([events.ids for events in kinds]), return_inverse=True)
    index, times = np.full(len(ids), NEVER), np.full(len(ids), NEVER)
    np.minimum.at(index, place, numbers[np.concatenate([events.rows for events in kinds])])
    columns: dict[str, Array] = {}
    confidence: Array | None = None
    done: Assigned | None = None
    counts: Counter[tuple[str, str]] = Counter()
    for events in kinds:
        mine = np.searchsorted(ids, events.ids)
        first = numbers[events.rows] == index[mine]
        times[mine[first]] = events.time[first]
        given = dict(events.features) | ({} if events.prediction is None else {PREDICTION: events.prediction})
        for name, column in given.items():
            have = np.flatnonzero(column.present())[::-1]
            values = np.array([*column.plain(), None], object)[have]
            columns.setdefault(name, np.full(len(ids), None, object))[mine[have]] = values
        # From behind, as above: of several of one id the first counts.
        if events.assigned is not None:
            done = Assigned(events.assigned.names, np.full(len(ids), -1), np.full(len(ids), np.nan))
            done.code[mine[::-1]], done.drawn[mine[::-1]] = events.assigned.code[::-1], events.assigned.drawn[::-1]
        if events.confidence is not None:
            confidence = np.full(len(ids), np.nan)
            confidence[mine[::-1]] = events.confidence[::-1]
        counts.update({events.owners[owner]: n for owner, n in enumerate(np.bincount(events.owner).tolist()) if n})
    order = np.lexsort((index, times))
    labels, label_times = by_kind.get("label"), None
    if labels is not None and labels.label is not None:
        known = np.flatnonzero(np.isin(labels.ids, ids))
        at = np.searchsorted(ids, labels.ids[known])
        label_times = np.full(len(ids), NEVER)
        label_times[at] = labels.time[known]
        columns[LABEL] = np.full(len(ids), None, object)
        columns[LABEL][at] = np.array([*labels.label.plain(), None], object)[known]
        label_times = label_times[order]
    (owner, version), _ = counts.most_common(1)[0]
    sure, acted = None if confidence is None else confidence[order], None if done is None else done.at(order)
    made = {name: values[order].tolist() for name, values in sorted(columns.items())}
    if not any(value is not None for value in made.get(PREDICTION, ())):
        made.pop(PREDICTION, None)
    return EventRows(made, index[order], times[order], label_times, owner, version or "1", tuple(notes), sure, acted)
