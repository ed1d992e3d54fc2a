"""A reference from a table as it was read, and what became of each of its columns in a line."""

from typing import Any

from stationkeeper.monitor.core.reference import Reference
from stationkeeper.monitor.profiling import profile
from stationkeeper.tables import InputTable, TableRefused

_TIME, _SURE = "@time", "@confidence"
_LEFT_OUT = "; not watched"


def profile_table(table: InputTable, **options: Any) -> tuple[Reference, tuple[str, ...]]:
    """Return the reference and a line for each column; ``options`` are those of ``monitor.profile`` but the columns'.

    Raises ``ValueError`` that names the column and what to say; also where nothing would be watched.
    """
    columns: dict[str, Any] = dict(table.columns)
    if table.times is not None:
        options["time"] = _TIME
        columns[_TIME] = table.times
    if table.confidence is not None:
        options["confidence"] = _SURE
        columns[_SURE] = table.confidence
    features = options.pop("features", None)
    # An answer to watch is enough; without one a reference of nothing would be written, and nothing ever found.
    if features is None and not columns.keys() - {*table.parts, _TIME} and table.prediction is None:
        raise TableRefused("no column can be watched:\n  " + "\n  ".join(table.lines()))
    readings = {reading.name: reading for reading in table.readings}
    for name in (*(options.get("categorical") or ()), *(options.get("sensitive") or ())):
        if name in readings and name not in columns:
            raise TableRefused(f"{readings[name].line()}; it cannot be used as --categorical or --sensitive")
    reference = profile(
        columns, features=features, prediction=table.prediction, label=table.label, untyped=table.untyped, **options
    )
    return reference, tuple(table.lines(left_out(reference)))


def left_out(reference: Reference) -> dict[str, str]:
    """Return the columns that a reference left out and why, as its notes say."""
    # From behind: a column's own name may hold a colon.
    notes = (note.removesuffix(_LEFT_OUT).rpartition(": ") for note in reference.notes if note.endswith(_LEFT_OUT))
    return {name: why for name, _, why in notes}
