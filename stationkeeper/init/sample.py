"""A sample of an input topic as the monitor would read it: each event in words, each rejection with its code."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stationkeeper.config import Config
from stationkeeper.contracts.codes import DEAD_LETTER_HELP, DeadLetterCode
from stationkeeper.contracts.column import Status
from stationkeeper.contracts.times import to_datetime
from stationkeeper.events.columns import CategoryColumn, Events, FeatureColumn
from stationkeeper.events.decode import JsonDecoder
from stationkeeper.events.mapping import Form
from stationkeeper.mapped_events import value_at
from stationkeeper.monitor.tally.clock import too_early
from stationkeeper.streams.ports import Batch, Partition, Reader

_NO_VALUE = {status.value: status.name.lower().replace("_", " ") for status in Status}

_SHOWN = 60


@dataclass(slots=True)
class InputSample:
    """What the sampled records of a topic become, a line each, with the address of each record."""

    events: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)

    def counts(self) -> str:
        """Return how many were mapped and, by code, how many were not."""
        failed = ", ".join(f"{count} × {code}" for code, count in self.codes.most_common()) or "none"
        return f"{len(self.events)} mapped, failed: {failed}"


def sample_input(config: Config, form: Form, reader: Reader, start: Mapping[Partition, int]) -> InputSample:
    """Read a topic from ``start`` to its end and map it; raises ``Retryable`` while no broker answers."""
    limits = [config.models[model].limits for model in form.models]
    decoder = JsonDecoder(
        form,
        salt=np.uint64(0),
        max_bytes=max(limit.message_bytes for limit in limits),
        max_fields=max(limit.fields for limit in limits),
    )
    found = InputSample()
    for batch in reader.read(list(start), start):
        decoder.learn(_guessed(form, batch))
        decoded = decoder.decode(batch.values)
        lines: list[tuple[int, str]] = []
        faults = [(rejection.row, rejection.code, rejection.detail) for rejection in decoded.rejected]
        for events in decoded.events:
            early = _early(config, events, batch)
            faults += [(row, DeadLetterCode.FUTURE_TIME, "time") for row in events.rows[early].tolist()]
            timely = events.keep(np.flatnonzero(~early))
            lines += zip(timely.rows.tolist(), _lines(timely), strict=True)
        found.events += [f"{_address(batch, row)}  {line}" for row, line in sorted(lines)]
        for row, code, detail in sorted(faults):
            found.codes[code.value] += 1
            named = f"{code.value} ({detail})" if detail else code.value
            found.failures.append(f"{_address(batch, row)}  {named}: {DEAD_LETTER_HELP[code]}")
    return found


def _address(batch: Batch, row: int) -> str:
    return f"{batch.partition.topic}/{batch.partition.index}/{int(batch.offsets[row])}"


def _early(config: Config, events: Events, batch: Batch) -> Any:
    """Return which events the tally would refuse as being of the future, bool[n]."""
    if config.clock != "wall":
        return np.zeros(len(events), np.bool_)
    skews = np.array([config.models[model].skew for model, _ in events.owners], np.int64)
    return too_early(events.time, batch.timestamps[events.rows], skews[events.owner])


def _guessed(form: Form, batch: Batch) -> dict[str, bool]:
    """Return the features of the records and whether each looks like a number, so that a sample shows values."""
    kinds: dict[str, bool] = {}
    for value in batch.values:
        try:
            record = json.loads(value or b"")
        except (ValueError, RecursionError):
            continue
        if isinstance(form.features, Mapping):
            found: Any = {name: value_at(record, path) for name, path in form.features.items()}
        else:
            found = value_at(record, form.features)
        for name, inner in found.items() if isinstance(found, dict) else ():
            number = isinstance(inner, int | float | None) and not isinstance(inner, bool)
            kinds[name] = kinds.get(name, True) and number
    return kinds


def _lines(events: Events) -> Iterator[str]:
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
