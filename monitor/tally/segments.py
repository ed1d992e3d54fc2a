"""Segments: the values of configured dimensions that are watched apart, next to all traffic."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from stationkeeper.contracts.column import Status, canonical_key
from stationkeeper.events import CategoryColumn, Events, Integers, NumberColumn
from stationkeeper.monitor.core.reference import CategoricalCells, Reference
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings

OTHER = "(other)"
"""The segment of all values without a place; in brackets, as no plain value is."""

LONGEST = 128
"""Characters of the longest value that can have a segment: it becomes a label of metrics and part of keys, where ids
and free text have no business; half would cut long names of regions, double only makes labels longer."""


def segment_name(dimension: str, value: str) -> str:
    """Return the name of a segment, e.g. ``country=DE``."""
    return f"{dimension}={value}"


class Places:
    """The values that have a segment of their own, by model and dimension, in the order they came."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], dict[str, str]] = {}
        """The segment of each value that came, by (model, dimension)."""
        self.changed = False

    @staticmethod
    def fixed(reference: Reference | None, dimension: str) -> tuple[str, ...] | None:
        """Return the values that the reference places itself: the top ones of a categorical feature; else None."""
        subject = None if reference is None else reference.by_name.get(dimension)
        if subject is not None and isinstance(subject.cells, CategoricalCells) and not subject.sensitive:
            return tuple(subject.cells.values)
        return None

    def give(self, model: str, dimension: str, value: str, limit: int) -> bool:
        """Give a value a place while there are any; returns whether it has one."""
        known = self.known.setdefault((model, dimension), {})
        if value in known:
            return True
        # A text that long is no segment, and would lie in every record of the state.
        if len(known) >= limit or len(value) > LONGEST:
            return False
        known[value] = segment_name(dimension, value)
        self.changed = True
        return True

    def take_over(self, model: str, dimension: str, values: Iterable[str]) -> None:
        """Give places as they were given before."""
        self.known[model, dimension] = {value: segment_name(dimension, value) for value in values}

    def segments(self, model: str, dimension: str, reference: Reference | None) -> Mapping[str, str]:
        """Return the segment of each value that is counted apart."""
        fixed = self.fixed(reference, dimension)
        if fixed is None:
            return self.known.get((model, dimension), {})
        return {value: segment_name(dimension, value) for value in fixed}


class Segmenter:
    """Splits events by segment: all traffic first (""), then each value of each dimension.

    A dimension is looked for in the event's ``segment``, then among its features. Values that have no place, because
    the cap is reached or the event names none, are in ``dimension=(other)``. Where the dimension is a categorical
    feature of the reference, its top values have the places, whatever came first.
    """

    def __init__(self, models: Mapping[str, ModelSettings], references: References) -> None:
        self._models = models
        self._references = references

    def split(
        self, model: str, events: Events, reference: Reference | None, places: Places
    ) -> Iterator[tuple[tuple[str, ...], Integers]]:
        """Yield (segment names, each event's position among them): all traffic, then each dimension."""
        yield ("",), np.zeros(len(events), np.int64)
        for dimension in self._models[model].segments:
            codes, names = self.codes(model, dimension, events, reference, places)
            yield names, codes

    @staticmethod
    def column(dimension: str, events: Events) -> CategoryColumn | None:
        """Return the values of a dimension as categories, None where no event carries it."""
        own, feature = events.segments.get(dimension), events.features.get(dimension)
        if isinstance(feature, NumberColumn):
            keys: dict[str, int] = {}
            values = [canonical_key(value) for value in feature.values.tolist()]
            raw = np.array([-1 if v is None else keys.setdefault(v, len(keys)) for v in values], np.int64)
            feature = CategoryColumn(raw, tuple(keys))
        if own is None or feature is None:
            return own or feature
        missing = own.codes == Status.ABSENT
        if not missing.any():
            return own
        # Each event for itself: where its neighbours name their segment, it may still have only the feature.
        place = {key: code for code, key in enumerate(own.keys)}
        table = np.array([*(place.setdefault(key, len(place)) for key in feature.keys), Status.ABSENT], np.int64)
        instead = table[np.where(feature.codes >= 0, feature.codes, len(table) - 1)]
        return CategoryColumn(np.where(missing, instead, own.codes), tuple(place))

    def codes(
        self, model: str, dimension: str, events: Events, reference: Reference | None, places: Places
    ) -> tuple[Integers, tuple[str, ...]]:
        """Return each event's segment of one dimension as codes int64[n] into segment names."""
        column = self.column(dimension, events)
        names: list[str] = [segment_name(dimension, OTHER)]
        if column is None:
            return np.zeros(len(events), np.int64), tuple(names)
        present = column.codes >= 0
        # Values of other batches lie in the keys too; a segment without events would be a record of zeros.
        used = np.bincount(column.codes[present], minlength=len(column.keys)) > 0
        table = np.zeros(len(column.keys) + 1, np.int64)
        apart = places.segments(model, dimension, reference)
        for code in np.flatnonzero(used).tolist():
            name = apart.get(column.keys[code])
            if name is not None:
                table[code] = len(names)
                names.append(name)
        return np.where(present, table[np.maximum(column.codes, 0)], 0), tuple(names)


def planned_segments(settings: ModelSettings, reference: Reference, segment: str) -> tuple[str, ...]:
    """Return all segments that share the model's budget, all traffic first: known before any of them is seen.

    A dimension that is a categorical feature has its top values and the rest; another, and a sensitive one, whose
    values the reference does not hold, has as many places as the limit allows. ``segment`` is among them in any case.
    """
    names = [""]
    for dimension in settings.segments:
        fixed = Places.fixed(reference, dimension)
        if fixed is not None:
            names += [segment_name(dimension, value) for value in fixed]
        else:
            # Names of places: which values will take them is not known, and the budget must not change as they come.
            names += [f"{dimension}#{place}" for place in range(settings.limits.segments)]
        names.append(segment_name(dimension, OTHER))
    if segment not in names:
        place = next((i for i, name in enumerate(names) if name == f"{segment.split('=', maxsplit=1)[0]}#0"), None)
        if place is None:
            names.append(segment)
        else:
            names[place] = segment
    return tuple(names)
