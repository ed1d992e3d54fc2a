"""Which versions and segment values have a place of their own: first come in the order of the log, up to the limit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from stationkeeper.events import Events
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally.partition import PartitionState
from stationkeeper.monitor.tally.segments import LONGEST, Places, Segmenter

MOST_ACTIONS: Final = 16
"""Actions of a model that are told apart, the first to come: block, approve, review and their like. Free text in the
field would else fill every record; at half a policy of a dozen offers loses some, at double nothing is gained."""

OTHER_VERSION: Final = "(other)"
"""What versions without a place are counted as, together."""


class CardinalityLimits:
    """Gives out the places of one tally: a function of one partition's log prefix (and of the references in force).

    What has no place is counted together as ``(other)`` and by the name of the limit in ``PartitionState.refused``.
    """

    def __init__(self, models: Mapping[str, ModelSettings], references: References) -> None:
        self._models, self._references = models, references
        self._segmenter = Segmenter(models, references)

    def versions(self, state: PartitionState, kinds: Sequence[Events]) -> list[Events]:
        """Return the events with their owners as they are counted; a version keeps the place it once had.

        A version that has a reference of its own is always admitted; the others share ``limits.versions`` places.
        """
        known = state.versions
        fresh: dict[tuple[str, str], int] = {}
        for events in kinds:
            for code, owner in enumerate(events.owners):
                # A label names no version, so it takes no place.
                if events.kind != "label" and owner not in known:
                    rows = events.rows[events.owner == code]
                    if len(rows):
                        fresh[owner] = min(int(rows[0]), fresh.get(owner, int(rows[0])))
        # By the row at which each first came: a place must not depend on how records fall into batches.
        for owner in sorted(fresh, key=fresh.__getitem__):
            mine = sum(model == owner[0] and version != OTHER_VERSION for model, version in known)
            if self._references.own(*owner) is not None or mine < self._models[owner[0]].limits.versions:
                known.add(owner)
        return [self._renamed(state, events) for events in kinds]

    @staticmethod
    def _renamed(state: PartitionState, events: Events) -> Events:
        if events.kind == "label" or all(owner in state.versions for owner in events.owners):
            return events
        owners = []
        for code, (model, version) in enumerate(events.owners):
            if (model, version) not in state.versions:
                state.refuse("versions", int(np.count_nonzero(events.owner == code)))
                version = OTHER_VERSION  # noqa: PLW2901 - the version as it is counted
            owners.append((model, version))
        return replace(events, owners=tuple(owners))

    def actions(self, state: PartitionState, events: Events) -> Events:
        """Return the events without the actions that have no place: their rows count as if they did not say."""
        found = events.assigned
        if found is None:
            return events
        width, said = len(found.names), np.flatnonzero(found.code >= 0)
        pairs, first, pair = np.unique(
            events.owner[said] * width + found.code[said], return_index=True, return_inverse=True
        )
        # Numbered anew: what reads them goes through all rows once a name, which of free text takes seconds a batch.
        numbers, codes = dict[str, int](), np.full(len(pairs), -1, np.int64)
        # By the row at which each first came, as versions.
        for at in np.argsort(first).tolist():
            owner, mine = divmod(int(pairs[at]), width)
            name, known = found.names[mine], state.actions.setdefault(events.owners[owner][0], [])
            if name not in known and len(known) < MOST_ACTIONS and len(name) <= LONGEST:
                known.append(name)
            if name in known:
                codes[at] = numbers.setdefault(name, len(numbers))
        code = np.full(len(found.code), -1, np.int64)
        code[said] = codes[pair.reshape(-1)]
        return replace(events, assigned=replace(found, names=tuple(numbers), code=code))

    def segments(self, state: PartitionState, kinds: Sequence[Events]) -> None:
        """Give the values of segment dimensions their places, in the order in which counted events bring them."""
        wanted = [one for events in kinds for one in self._values(state.places, events)]
        # By the row at which each first came, as versions: places must not depend on batches.
        for _, model, dimension, value, count in sorted(wanted):
            if not state.places.give(model, dimension, value, self._models[model].limits.segments):
                state.refuse("segments", count)

    def _values(self, places: Places, events: Events) -> Iterator[tuple[int, str, str, str, int]]:
        """Yield (first row, model, dimension, value, events) of values that neither a reference nor a place has."""
        if events.kind == "label":
            return
        for code, (model, version) in enumerate(events.owners):
            if not self._models[model].segments:
                continue
            part = events if len(events.owners) == 1 else events.keep(np.flatnonzero(events.owner == code))
            reference = self._references.of(model, version)
            for dimension in self._models[model].segments:
                column = self._segmenter.column(dimension, part)
                if column is None or Places.fixed(reference, dimension) is not None:
                    continue
                known = places.known.get((model, dimension), {})
                if known.keys() >= set(column.keys):
                    continue
                present = np.flatnonzero(column.codes >= 0)
                codes, first, counts = np.unique(column.codes[present], return_index=True, return_counts=True)
                for value, at, count in zip(codes.tolist(), first.tolist(), counts.tolist(), strict=True):
                    if column.keys[value] not in known:
                        yield int(part.rows[present[at]]), model, dimension, column.keys[value], count
