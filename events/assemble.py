"""Fields to columns: one pass over each field of a batch, by kind of event."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from stationkeeper.events.columns import (
    Assigned,
    CategoryColumn,
    Events,
    Hashes,
    Integers,
    Keys,
    NumberColumn,
    category_column,
    number_column,
)
from stationkeeper.events.ids import hash_ids
from stationkeeper.events.mapping import DEFAULT_POSITIVE, MAX_TEXT, Form
from stationkeeper.events.raw import Raw
from stationkeeper.events.row_types import ABSENT, NAN
from stationkeeper.events.settings import Kind
from stationkeeper.events.text_values import holds_missing_word, texts_as_numbers
from stationkeeper.events.timestamps import BAD, parse_instants

# An empty text must not pass for an absent one ("" is the code of that), so it becomes one that no rule lets through.
_EMPTY = " " * (MAX_TEXT + 1)
# One salt for every topic and process, so that an entity falls into the same group wherever it is counted.
ENTITY_SALT = np.uint64(0x656E74697479)


def entity_hash(entity: str) -> np.uint64:
    """Return the hash that events of an entity carry: to look for them without keeping anyone's name."""
    text = entity[:MAX_TEXT]
    return np.uint64(hash_ids([text], ENTITY_SALT, np.array([len(text)], np.uint64))[0])


Owners = tuple[Integers, tuple[tuple[str, str], ...]]


def assemble(raw: Raw, form: Form, rows: Integers | None, salt: np.uint64) -> tuple[Events, ...] | None:
    """Return the events of each kind among rows of the right types, or None if a rule of ``Faults.of`` is broken.

    ``rows`` int64[n] are positions in the batch (None: all in order). O(n), by columns.
    """
    if not len(raw):
        return ()
    rows = np.arange(len(raw), dtype=np.int64) if rows is None else rows
    kinds = raw.fields["kind"]
    # The common case, without an index: each column is taken as it is.
    if len(form.kinds) == 1:
        if set(kinds) - {form.kinds[0], ABSENT}:
            return None
        events = _Assembly(raw, form, form.kinds[0], None).events(rows, salt)
        return None if events is None else (events,)
    if set(kinds) - set(form.kinds):
        return None
    out = []
    for kind in form.kinds:
        index = np.array([i for i, one in enumerate(kinds) if one == kind], np.int64)
        if not len(index):
            continue
        events = _Assembly(raw, form, kind, index).events(rows[index], salt)
        if events is None:
            return None
        out.append(events)
    return tuple(out)


class _Assembly:
    """Makes columns of the rows of one kind of a batch (``index`` None: all of them)."""

    def __init__(self, raw: Raw, form: Form, kind: Kind, index: Integers | None) -> None:
        self._raw, self._form, self._kind, self._index = raw, form, kind, index
        self._n = len(raw) if index is None else len(index)

    def events(self, rows: Integers, salt: np.uint64) -> Events | None:
        """Return the columns, or None where a rule is broken."""
        kind, form = self._kind, self._form
        ids = self._ids()
        lengths = np.fromiter(map(len, ids or ()), np.uint64)
        if ids is None or not 1 <= lengths.min() <= lengths.max() <= MAX_TEXT:
            return None
        times = parse_instants(self._field("time"), form.time_unit)
        if (times == BAD).any():
            return None
        owners = self._owners()
        weight = self._measure("weight", lowest=np.nextafter(0, 1))
        latency = self._measure("latency_ms", lowest=0.0) if kind == "prediction" else None
        if owners is None or weight is False or latency is False:
            return None
        hashed = hash_ids(ids, salt, lengths)
        events = Events(kind, rows, times, hashed, *owners, weight=weight, latency=latency, segments=self._segments())
        if form.extras:
            fields = {name: ids if name == "event_id" else self._field(name) for name in form.extras}
            events = replace(events, extras=fields)
        if kind == "label":
            labels = self._field("label")
            if type(ABSENT) in set(map(type, labels)) or holds_missing_word(labels, form.values):
                return None
            return replace(events, label=category_column(labels, ABSENT))
        events = replace(events, features=self._raw.features(self._index))
        if kind != "prediction":
            return events
        return self._with_prediction(replace(events, entity=self._entity(hashed), assigned=self._assigned()))

    def _field(self, name: str) -> list[Any]:
        return self._raw.list_of(self._raw.fields[name], self._index)

    def _optional(self, name: str) -> list[Any] | None:
        return self._field(name) if name in self._raw.fields else None

    def _ids(self) -> list[str] | None:
        values = self._field("event_id")
        kinds = set(map(type, values))
        if kinds != {str}:
            if not kinds <= {str, int}:
                return None
            values = list(map(str, values))
        return values

    def _owners(self) -> Owners | None:
        """(model, version) of each row as codes; labels and features may lack a version."""
        form = self._form
        models, model_code = self._codes("model", form.model)
        if not all(form.reads(model) for model in models):
            return None
        versions, version_code = self._codes("version" if self._kind != "label" else "", form.version)
        if any(len(v) > MAX_TEXT or (self._kind == "prediction" and not v) for v in versions):
            return None
        if len(models) == 1:
            return version_code, tuple((models[0], version) for version in versions)
        width = len(versions)
        # One number a pair; versions of two models may be called alike.
        distinct, owner = np.unique(model_code * width + version_code, return_inverse=True)
        return owner.reshape(-1), tuple((models[pair // width], versions[pair % width]) for pair in distinct.tolist())

    def _codes(self, name: str, constant: str | None) -> tuple[tuple[str, ...], Integers]:
        """Distinct texts and codes; what is absent is "", what is empty is longer than any text may be."""
        values = self._optional(name)
        if values is None:
            return (constant or "",), np.zeros(self._n, np.int64)
        first = values[0]
        if isinstance(first, str) and first and values.count(first) == len(values):
            return (first,), np.zeros(self._n, np.int64)
        keys = Keys()
        texts = ["" if value is None or value is ABSENT else str(value) or _EMPTY for value in values]
        codes = np.fromiter(map(keys.__getitem__, texts), np.int64, self._n)
        return tuple(keys), codes

    def _measure(self, name: str, lowest: float) -> Any:
        """A column of numbers with NaN where there is none; None if there is none at all, False if one is below."""
        values = self._optional(name)
        # The default of a record without the field is one object, so counting it costs a third of looking at numbers.
        if values is None or values.count(NAN) == self._n:
            return None
        numbers = np.fromiter(values, np.float64, self._n)
        if np.isnan(numbers).all():
            return None
        return False if (numbers < lowest).any() else numbers

    def _entity(self, ids: Hashes) -> Hashes | None:
        """A hash of each row's entity, the same whatever the topic; a row without one is an entity of its own."""
        values = self._optional("entity_id")
        # Without any entity the events themselves are the units, and no hash is paid for.
        if values is None or values.count(ABSENT) == self._n:
            return None
        if set(map(type, values)) != {str}:
            values = ["" if one is None or one is ABSENT else str(one) for one in values]
        if max(map(len, values)) > MAX_TEXT:
            # Cut and not refused: whose event it is must not decide whether it counts.
            values = [one[:MAX_TEXT] for one in values]
        lengths = np.fromiter(map(len, values), np.uint64, self._n)
        return np.where(lengths > 0, hash_ids(values, ENTITY_SALT, lengths), ids)

    def _assigned(self) -> Assigned | None:
        """What was done upon each answer; None where the form does not ask or no record says it."""
        actions = self._optional("action") if self._form.assigned else None
        if actions is None or actions.count(ABSENT) == self._n:
            return None
        keys = Keys()
        said = [str(one) if isinstance(one, str | int) and str(one) else None for one in actions]
        code = np.fromiter((-1 if one is None else keys[one] for one in said), np.int64, self._n)
        drawn = np.full(self._n, np.nan)
        chances, arms = self._optional("assignment_prob"), self._optional("arm") or [ABSENT] * self._n
        for row, chance in enumerate(chances or ()):
            # Beside an arm it is the arm that was drawn: which version answered says nothing of who gets a label.
            if said[row] is not None and type(chance) in (int, float) and not isinstance(arms[row], str):
                drawn[row] = chance if 0.0 < chance <= 1.0 else np.nan
        return Assigned(tuple(keys), code, drawn) if keys else None

    def _segments(self) -> dict[str, CategoryColumn]:
        constant = self._form.segment.items()
        found = {name: CategoryColumn(np.zeros(self._n, np.int64), (value,)) for name, value in constant}
        values = self._optional("segment")
        if values is None or values.count(None) == self._n:
            return found
        # Sorted: a set gives its names in another order in each process.
        for name in sorted({name for value in values if value for name in value}):
            found[name] = category_column([ABSENT if not v else v.get(name, ABSENT) for v in values], ABSENT)
        return found

    def _with_prediction(self, events: Events) -> Events | None:
        values: Sequence[Any] = self._field("prediction")
        kinds = set(map(type, values))
        if dict in kinds:
            if any(isinstance(v, dict) and not all(0.0 <= share <= 1.0 for share in v.values()) for v in values):
                return None
            positive = [self._form.positive.get(model, DEFAULT_POSITIVE) for model, _ in events.owners]
            answers = [
                _from_shares(v, positive[owner]) if isinstance(v, dict) else (v, NAN)
                for v, owner in zip(values, events.owner.tolist(), strict=True)
            ]
            values = [answer for answer, _ in answers]
            sure = np.array([share for _, share in answers])
            events = replace(events, confidence=None if np.isnan(sure).all() else sure)
            kinds = set(map(type, values))
        if kinds <= {float, int}:
            return replace(events, prediction=NumberColumn(np.fromiter(values, np.float64, self._n)))
        rules = self._form.values
        if kinds & {str, bool}:
            return replace(events, prediction=category_column(texts_as_numbers(values, rules), ABSENT, rules.na))
        return replace(events, prediction=number_column(values, ABSENT))


def _from_shares(shares: dict[str, float], positive: str) -> tuple[float | str | None, float]:
    """The positive class's probability; of other classes the likeliest (the first by name among equals) and its own."""
    if positive in shares:
        return float(shares[positive]), NAN
    best = min(shares, key=lambda name: (-shares[name], name), default=None)
    return (None, NAN) if best is None else (best, float(shares[best]))
