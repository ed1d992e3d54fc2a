"""A sample of an input topic as the monitor would read it: each event in words, each rejection with its code."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stationkeeper.config import Config
from stationkeeper.contracts.codes import DEAD_LETTER_HELP, DeadLetterCode
from stationkeeper.contracts.column import Status
from stationkeeper.contracts.times import to_datetime
from stationkeeper.events import CategoryColumn, EventReader, Events, FeatureColumn, Form, ahead_of_broker
from stationkeeper.streams.ports import Batch, Partition, Reader

_NO_VALUE = {status.value: status.name.lower().replace("_", " ") for status in Status}

_SHOWN = 60
"""Characters shown of a category: a line an event has room for a few; half cuts common keys, double wraps the line."""


@dataclass(slots=True)
class InputSample:
    """What the sampled records of a topic become, and a line for each with the address of the record."""

    events: list[Events] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)

    def counts(self) -> str:
        """Return how many were mapped and, by code, how many were not."""
        failed = ", ".join(f"{count} × {code}" for code, count in self.codes.most_common()) or "none"
        return f"{len(self.lines)} mapped, failed: {failed}"


def sample_input(config: Config, form: Form, reader: Reader, start: Mapping[Partition, int]) -> InputSample:
    """Read a topic from ``start`` to its end and map it; raises ``Retryable`` while no broker answers."""
    events_of = EventReader(form)
    found = InputSample()
    for batch in reader.read(list(start), start):
        reading = events_of.discover(batch.values, batch.headers)
        lines: list[tuple[int, str]] = []
        faults = [(rejection.row, rejection.code, rejection.detail) for rejection in reading.rejected]
        for events in reading.events:
            early = _early(config, events, batch)
            faults += [(row, DeadLetterCode.FUTURE_TIME, "time") for row in events.rows[early].tolist()]
            timely = events.keep(np.flatnonzero(~early))
            found.events.append(timely)
            lines += zip(timely.rows.tolist(), lines_of(timely), strict=True)
        # By row, because the reader gives events by kind: a person compares with the topic.
        found.lines += [f"{_address(batch, row)}  {line}" for row, line in sorted(lines)]
        for row, code, detail in sorted(faults):
            found.codes[code.value] += 1
            named = f"{code.value} ({detail})" if detail else code.value
            found.failures.append(f"{_address(batch, row)}  {named}: {DEAD_LETTER_HELP[code]}")
    return found


def _address(batch: Batch, row: int) -> str:
    return f"{batch.partition.topic}/{batch.partition.index}/{int(batch.offsets[row])}"


def _early(config: Config, events: Events, batch: Batch) -> Any:
    """Return which events the tally would refuse as being of the future, bool[n]."""
    # On the stream clock a moment is early only beside other events, which the tally alone can say.
    if config.clock != "wall":
        return np.zeros(len(events), np.bool_)
    skews = np.array([config.models[model].skew for model, _ in events.owners], np.int64)
    return ahead_of_broker(events.time, batch.timestamps[events.rows], skews[events.owner])


def lines_of(events: Events) -> Iterator[str]:
    """Yield each event in words, as the monitor understands it. O(n features)."""
    for row in range(len(events)):
        time = to_datetime(int(events.time[row])).isoformat(timespec="milliseconds")
        model, version = events.owners[int(events.owner[row])]
        parts = [f"{events.kind} at {time} of {f'{model} {version}'.rstrip()}:"]
        if events.label is not None:
            parts.append(f"label {_value(events.label, row)}")
        if events.prediction is not None:
            parts.append(f"prediction {_value(events.prediction, row)}")
        parts += [f"{name}={_value(column, row)}" for name, column in events.features.items()]
        yield " ".join(parts)


def _value(column: FeatureColumn, row: int) -> str:
    """Return one value as the monitor counts it; one that it cannot use by what is wrong with it, in brackets."""
    if isinstance(column, CategoryColumn):
        code = int(column.codes[row])
        key = column.keys[code] if code >= 0 else f"[{_NO_VALUE[code]}]"
        return key if len(key) <= _SHOWN else f"{key[:_SHOWN]}…"
    status = 0 if column.status is None else int(column.status[row])
    return f"[{_NO_VALUE[status]}]" if status else f"{float(column.values[row]):.6g}"
