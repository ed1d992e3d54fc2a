"""Which segments an event is in, the plain way: what it says itself, else its feature; first come, first placed."""

from collections.abc import Iterable, Mapping
from typing import Any

from stationkeeper.contracts.column import canonical_key
from stationkeeper.events import Form
from stationkeeper.monitor.core.reference import CategoricalCells, NumericCells, Reference
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally import LONGEST, OTHER
from stationkeeper.monitor.verify.reading import MISSING, Found, at_path


class PlainSegments:
    """The segments of one input partition's events, and the values that have a place in it."""

    def __init__(self, form: Form, models: Mapping[str, ModelSettings]) -> None:
        self._form, self._models = form, models
        self._places: dict[tuple[str, str], set[str]] = {}

    def of(self, event: Found, reference: Reference | None, others: Iterable[Reference]) -> tuple[str, ...]:
        """Return the event's segments beside all traffic; ``others`` are the references that features are read by."""
        found = []
        for dimension in self._models[event.model].segments:
            value = self._value(event, dimension, others)
            subject = None if reference is None else reference.by_name.get(dimension)
            if subject is not None and isinstance(subject.cells, CategoricalCells) and not subject.sensitive:
                placed = value in subject.cells.values
            else:
                placed = value is not None and self._place(event.model, dimension, value)
            found.append(f"{dimension}={value if placed else OTHER}")
        return tuple(found)

    def _place(self, model: str, dimension: str, value: str) -> bool:
        mine = self._places.setdefault((model, dimension), set())
        if value not in mine and len(mine) < self._models[model].limits.segments and len(value) <= LONGEST:
            mine.add(value)
        return value in mine

    def _value(self, event: Found, dimension: str, others: Iterable[Reference]) -> str | None:
        path = self._form.paths.get("segment")
        held: Any = MISSING if path is None else at_path(event.data, path)
        if isinstance(held, dict) and dimension in held:
            return canonical_key(held[dimension])
        if dimension in self._form.segment:
            return self._form.segment[dimension]
        cells = [one.by_name[dimension].cells for one in others if dimension in one.by_name]
        where = self._form.feature_path(dimension)
        if not cells or where is None:
            return None
        value = at_path(event.data, where)
        if not all(isinstance(one, NumericCells) for one in cells):
            return None if value is MISSING else canonical_key(value)
        if not isinstance(value, bool | int | float) or abs(value) > 10**308:
            return None
        return canonical_key(float(value))
