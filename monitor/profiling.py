"""``profile`` for frames: the library call of a training script, over polars, pandas or plain arrays."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np

from stationkeeper.contracts.column import Column, categories, numbers
from stationkeeper.contracts.times import UTC_ZONE, check_timezone, parse_duration
from stationkeeper.monitor.core.adoption import Timeline, adopt
from stationkeeper.monitor.core.performance import labels_in_order
from stationkeeper.monitor.core.reference import PREDICTION, Kind, Reference
from stationkeeper.monitor.core.reference import profile as freeze

Frame = Any
# Rows of a pane that is a number of rows, as live panes of a quiet model have them: half teaches dependence from noisy
# panes, twice from half as many.
PANE_ROWS = 50
# Panes that a reference has at least, where its rows can be cut so finely: 16 of them in a block leave six blocks.
_PANES = 100
# Units of epoch numbers that are read; finer ones come as datetimes.
_TO_MS = {"ms": 1, "s": 1_000}


def profile(
    data: Frame,
    *,
    time: str | None = None,
    pane: str | int | None = None,
    prediction: str | None = None,
    ignored: Collection[str] = (),
    ordered: bool = False,
    time_unit: str = "ms",
    timezone: str = UTC_ZONE,
    **options: Any,
) -> Reference:
    """Build a reference from a polars or pandas frame, a structured array or a mapping of arrays.

    ``time`` names a column of datetimes or epoch numbers (``time_unit``): rows are sorted by it and teach dependence,
    daily movement, seasons and traffic in panes of ``pane`` (a duration such as ``1m``; one that gives about a hundred
    panes or more if left out), hours and days by the clock of ``timezone``, an IANA name. Without it, ``ordered`` says
    that rows are in order of time and a pane is a number of rows. The other options are those of
    ``monitor.core.reference.profile``. Raises ``ValueError`` naming the column.
    """
    columns = columns_of(data)
    timeline: Timeline | None = None
    times: np.ndarray[Any, np.dtype[np.int64]] | None = None
    if time is not None:
        if time not in columns:
            raise ValueError(f"time column {time!r} is not in the data; columns are {', '.join(columns)}")
        times = epoch_ms(columns[time], time, time_unit)
        if not len(times):
            raise ValueError(f"time column {time!r} has no rows: a reference needs some")
        order = np.argsort(times, kind="stable")
        times = times[order]
        columns = {name: values[order] for name, values in columns.items()}
        timeline = Timeline.of_times(times, _pane_ms(pane, times), check_timezone(timezone))
    elif ordered:
        timeline = Timeline.of_rows(len(next(iter(columns.values()))), _pane_rows(pane))
    hidden = [*ignored, *([time] if time else [])]
    reference = freeze(columns, prediction=prediction, ignored=hidden, ordered=timeline is not None, **options)
    if times is not None:
        reference = replace(reference, first=int(times[0]), last=int(times[-1]))
    if timeline is None:
        note = "dependence between rows unknown: name a time column, or let an adoption period learn it"
        return replace(reference, notes=(*reference.notes, note))
    reference = adopt(reference, subject_columns(reference, columns, prediction), timeline)
    label = options.get("label")
    if reference.labels is None or prediction is None or label is None:
        return reference
    named = options.get("confidence")
    sure = None if named is None else numbers(columns[named]).values
    labels = labels_in_order(
        reference.labels, reference, columns[prediction], columns[label], timeline, confidence=sure
    )
    return replace(reference, labels=labels)


def columns_of(data: Frame) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Return a frame's columns as arrays by name: nulls of text become None, of numbers NaN.

    Takes pandas, polars and pyarrow frames, structured arrays and mappings of arrays; raises ``ValueError`` otherwise.
    """
    found = opened(data)
    if isinstance(found, Mapping):
        return {name: _plain(np.asarray(values)) for name, values in found.items()}
    return {str(name): _array(found[name]) for name in found.columns}


def opened(data: Frame) -> Any:
    """Return arrays by name, or a narwhals frame of what has columns of its own; raises ``ValueError`` otherwise."""
    if isinstance(data, Mapping):
        return {str(name): values for name, values in data.items()}
    if isinstance(data, np.ndarray) and data.dtype.names:
        return {name: data[name] for name in data.dtype.names}
    if isinstance(data, np.ndarray):
        raise ValueError(  # noqa: TRY004 - a value that does not fit, like the others
            f"an array of shape {data.shape} has no column names; give a mapping such as "
            "{'amount': x[:, 0], 'age': x[:, 1]}, with the names that events carry"
        )
    # Imported here: a mapping of arrays, as training scripts have, must not pay for it.
    import narwhals as nw

    try:
        return nw.from_native(data, eager_only=True)
    except TypeError as error:
        raise ValueError(
            f"a {type(data).__name__} is no frame; give a pandas, polars or pyarrow frame, a structured array "
            "or a mapping of arrays"
        ) from error


def subject_columns(
    reference: Reference, columns: Mapping[str, Any], prediction: str | None = None
) -> dict[str, Column]:
    """Return the columns of a table by subject, each as the kind the reference counts."""
    out: dict[str, Column] = {}
    for subject in reference.subjects:
        source = prediction if subject.name == PREDICTION and prediction is not None else subject.name
        if source in columns:
            values = columns[source]
            numeric = subject.kind is Kind.NUMERIC
            out[subject.name] = numbers(values) if numeric else categories(values, subject.json_type)
    return out


def epoch_ms(values: np.ndarray[Any, Any], name: str, unit: str = "ms") -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return a time column as epoch milliseconds; raises ``ValueError`` for text, nulls or an unknown unit."""
    if values.dtype.kind == "M":
        if np.isnat(values).any():
            raise ValueError(f"time column {name!r}: some rows have no time; drop them first")
        return np.asarray(values.astype("datetime64[ms]").astype(np.int64))
    if values.dtype.kind in "iuf":
        if unit not in _TO_MS:
            raise ValueError(f"time unit {unit!r}: must be one of {', '.join(_TO_MS)}")
        if not np.isfinite(values.astype(np.float64)).all():
            raise ValueError(f"time column {name!r}: some rows have no time; drop them first")
        return np.asarray((values.astype(np.float64) * _TO_MS[unit]).astype(np.int64))
    try:
        moments = [datetime.fromisoformat(str(value)) for value in values]
        utc = [moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment for moment in moments]
        return epoch_ms(np.array(utc, "datetime64[ms]"), name)
    except ValueError as error:
        raise ValueError(f"time column {name!r} holds text that is not ISO 8601 ({error})") from error


def _array(column: Any) -> np.ndarray[Any, Any]:
    """One column as an array: typed where its kind has a missing value of its own, else as objects with None."""
    kind = column.dtype
    if kind.is_temporal() or (kind.is_numeric() and not kind.is_decimal()):
        return np.asarray(column.to_numpy())
    if str(kind) == "Boolean" and not column.null_count():
        return np.asarray(column.to_numpy(), np.bool_)
    return _plain(np.array(column.to_list(), dtype=object))


def _plain(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same, but decimals as the numbers they are: databases and Parquet give amounts of money so."""
    if values.dtype.kind != "O" or not any(isinstance(value, Decimal) for value in values):
        return values
    if not all(isinstance(value, int | float | Decimal) or _missing(value) for value in values):
        return values
    return np.array([np.nan if _missing(value) else float(value) for value in values])


def _missing(value: object) -> bool:
    """Whether a value is None or pandas' NA; the base install has no pandas to ask."""
    return value is None or type(value).__name__ == "NAType"


def _pane_ms(pane: str | int | None, times: np.ndarray[Any, Any]) -> int:
    if pane is not None:
        return _positive(pane, parse_duration(pane) if isinstance(pane, str) else int(pane))
    span = int(times[-1] - times[0]) + 1
    # A minute, ten, an hour, a day: what people read off a clock.
    lengths = (60_000, 600_000, 3_600_000, 86_400_000)
    for length, following in pairwise(lengths):
        # A pane wants about fifty rows, but fewer than a hundred panes teach too little of dependence, and a pane of a
        # day nothing of its hours: three weeks of 40 rows an hour are 500 panes of an hour, not 21 of a day.
        if len(times) * length / span >= PANE_ROWS or span // following < _PANES:
            return length
    return lengths[-1]


def _pane_rows(pane: str | int | None) -> int:
    if isinstance(pane, str):
        raise ValueError(  # noqa: TRY004 - a value that does not fit, like the others
            f"pane {pane!r}: without a time column a pane is a number of rows, e.g. 50"
        )
    return PANE_ROWS if pane is None else _positive(pane, pane)


def _positive(given: str | int, length: int) -> int:
    if length < 1:
        raise ValueError(f"pane {given!r}: must be above 0; write for example 1m, or a number of rows without a time")
    return length
