"""Files and frames as people have them, read in one way for `profile`, `init`, `backtest`, `check` and the library.

In: a path, a frame or arrays, the rules of values (``events.ValueRules``) and which column plays which part. Out: an
`InputTable`, columns as arrays with one `ColumnReading` each, or `TableRefused` with what to say. State: none.
Invariant: a column is used as what its line says or left out by name; nothing becomes a category for want of a better
reading, and a text means the same here and in a model's events.
Read `reader` (the face), then `text_file` (bytes to texts), `columns` (texts to values), `moments` (times),
`events_file` (records of events).
"""

from stationkeeper.tables.columns import WRITTEN, ColumnReading, TableRefused
from stationkeeper.tables.events_file import read_events
from stationkeeper.tables.moments import epoch_unit
from stationkeeper.tables.reader import Frame, InputTable, Parts, read_frame, read_table

__all__ = [
    "WRITTEN",
    "ColumnReading",
    "Frame",
    "InputTable",
    "Parts",
    "TableRefused",
    "epoch_unit",
    "read_events",
    "read_frame",
    "read_table",
]
