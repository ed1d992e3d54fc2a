"""The one reading of events: the records of a topic to columns, the same for every role, command and demo."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from stationkeeper.events.columns import Rejection
from stationkeeper.events.decoder import Headers, JsonValues
from stationkeeper.events.feature_names import FeatureNames
from stationkeeper.events.json_reader import JsonReader, Reading
from stationkeeper.events.mapping import Form

_UNSALTED = np.uint64(0)
"""For readers that compare no id hash with another process's."""


class EventReader:
    """Reads batches of the topic that a form describes; keeps which features it has learned, nothing of the events.

    What becomes of a record depends on the form and the record alone. Features that were not learned are skipped
    unread; a reader that does not know their names beforehand reads with ``discover``.
    """

    def __init__(self, form: Form, *, salt: np.uint64 = _UNSALTED) -> None:
        self.form = form
        self._values = JsonValues(form)
        self.json = JsonReader(form, salt=salt)
        self._names = FeatureNames(form)

    def learn(self, features: Mapping[str, bool]) -> None:
        """Read these features from now on: whether each counts as a number."""
        self.json.learn(features)

    def read(self, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> Reading:
        """Return the accepted events by kind as columns, and each other record with its code. O(bytes)."""
        texts, refused = self._values.of(values, headers)
        reading = self.json.read(texts)
        if not refused:
            return reading
        rejected = [Rejection(one.row, *refused[one.row]) if one.row in refused else one for one in reading.rejected]
        return replace(reading, rejected=tuple(rejected))

    def discover(self, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> Reading:
        """Return the same with every feature that the accepted events carry, learning the names that are new.

        A feature that has ever held anything but a number is a category column from then on, which keeps each value's
        JSON type. O(bytes); a batch with a new name or type is read twice.
        """
        reading = self.read(values, headers)
        if reading.known:
            return reading
        rows = [row for events in reading.events if events.kind != "label" for row in events.rows.tolist()]
        found = self._names.look([reading.values[row] or b"" for row in rows], self.json.features)
        if found == self.json.features:
            return reading
        self.learn(found)
        return self.read(values, headers)
