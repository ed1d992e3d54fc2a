"""What a sample of a topic or a file looks like: which of its fields are which, guessed from names and values.

Every guess carries why it was made, because a person has to judge it; a column that a person names is no guess.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

# How deep objects are looked into; deeper ones are one leaf, so that an odd record cannot nest without end. Chosen: at
# half, fields of an envelope in an envelope are not found; double finds more paths than a person reads.
MAX_DEPTH: Final = 6
OWN_KINDS: Final = frozenset({"prediction", "feature", "label"})
CONTRACT_FIELDS: Final = ("event_id", "time", "model", "version", "prediction", "label")
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "event_id": ("event_id", "eventid", "id", "request_id", "requestid", "transaction_id", "uuid", "inference_id"),
    "time": ("time", "timestamp", "ts", "event_time", "eventtime", "occurred_at", "created_at", "date", "datetime"),
    "model": ("model", "model_name", "modelname", "model_id"),
    "version": ("version", "model_version", "modelversion"),
    "prediction": ("prediction", "score", "probability", "proba", "y_pred", "predicted", "output", "pred"),
    "label": ("label", "target", "y_true", "truth", "actual", "outcome", "ground_truth", "y"),
}
WHY_BINARY: Final = "the only one of nothing but 0 and 1; is it a feature? Then take --label away and list it"
# Each unit's range lies between 1973 and 2286; a number below 1e8 is a count, no time.
_EPOCH: Final = (("s", 1e8, 1e10), ("ms", 1e11, 1e13), ("us", 1e14, 1e16), ("ns", 1e17, 1e19))


@dataclass(frozen=True, slots=True)
class Guess:
    """One contract field: the path it was found under and why it was taken."""

    field: str
    path: str
    why: str


@dataclass(frozen=True, slots=True)
class ColumnRoles:
    """The roles of columns that a person, or another tool's mapping, has set; no guess is made against them.

    ``fields`` maps a contract field to its column; ``features`` None means every column that is nothing else.
    ``categorical`` are number columns that are codes, ``left_out`` columns that are no features.
    """

    source: str = "given"
    fields: Mapping[str, str] = field(default_factory=dict)
    features: tuple[str, ...] | None = None
    categorical: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def named(self) -> tuple[str, ...]:
        """Return every column that is named."""
        return (*self.fields.values(), *(self.features or ()), *self.categorical)


@dataclass(frozen=True, slots=True)
class Sketch:
    """What a sample looks like: the models in it, the guesses, and the paths left over as features."""

    source: str
    own_form: bool
    models: tuple[str, ...]
    kinds: tuple[str, ...]
    guesses: tuple[Guess, ...]
    features: tuple[str, ...]
    time_unit: str | None
    rows: int
    unreadable: int
    categorical: tuple[str, ...] = ()

    def guess(self, field: str) -> Guess | None:
        """Return the guess for a contract field, if there is one."""
        return next((guess for guess in self.guesses if guess.field == field), None)


def sketch_events(values: Iterable[bytes], source: str) -> Sketch:
    """Look at JSON events; what is not a JSON object is counted as unreadable."""
    events: list[dict[str, Any]] = []
    unreadable = 0
    for value in values:
        try:
            event = json.loads(value)
        except ValueError:
            event = None
        if isinstance(event, dict):
            events.append(event)
        else:
            unreadable += 1
    kinds = tuple(sorted({str(event.get("kind")) for event in events} & OWN_KINDS))
    own = bool(kinds) and all({"event_id", "time", "model", "kind"} <= event.keys() for event in events)
    columns: dict[str, list[Any]] = {}
    for event in events:
        for path, leaf in _leaves(event):
            columns.setdefault(path, []).append(leaf)
    models = tuple(sorted({str(event["model"]) for event in events})) if own else ()
    return _sketch(columns, source, len(events), unreadable, own_form=own, models=models, kinds=kinds)


def sketch_table(columns: Mapping[str, Sequence[Any]], source: str, roles: ColumnRoles | None = None) -> Sketch:
    """Look at the columns of a table of past predictions; raises ``ValueError`` where ``roles`` names a strange one."""
    roles = roles or ColumnRoles()
    strange = [name for name in roles.named() if name not in columns]
    if strange:
        raise ValueError(f"{roles.source}: {source} has no column {strange[0]!r}; columns are {', '.join(columns)}")
    rows = max((len(values) for values in columns.values()), default=0)
    return _sketch({name: list(values) for name, values in columns.items()}, source, rows, 0, roles=roles, table=True)


def _sketch(
    columns: Mapping[str, list[Any]],
    source: str,
    rows: int,
    unreadable: int,
    *,
    own_form: bool = False,
    models: tuple[str, ...] = (),
    kinds: tuple[str, ...] = (),
    roles: ColumnRoles | None = None,
    table: bool = False,
) -> Sketch:
    roles = roles or ColumnRoles()
    taken = {name: Guess(name, path, roles.source) for name, path in roles.fields.items()}
    for name in CONTRACT_FIELDS:
        for path, values in columns.items():
            if name in taken or path in {*(guess.path for guess in taken.values()), *(roles.features or ())}:
                continue
            last = re.sub(r"[^a-z0-9_]", "", path.rsplit(".", 1)[-1].lower())
            if last in _NAMES[name] and _fits(name, values):
                taken[name] = Guess(name, path, f"named {path.rsplit('.', 1)[-1]!r}")
                break
    used = {guess.path for guess in taken.values()}
    if "event_id" not in taken:
        keys = (path for path, values in columns.items() if _is_key(values) and len(values) == rows)
        unique = next((path for path in keys if path not in used), None)
        if unique is not None and rows > 1:
            taken["event_id"] = Guess("event_id", unique, f"{rows} different texts in {rows} rows")
    if table and "label" not in taken and "prediction" in taken:
        binary = [path for path, values in columns.items() if path not in used and _is_binary(values)]
        if len(binary) == 1:
            taken["label"] = Guess("label", binary[0], WHY_BINARY)
    used = {guess.path for guess in taken.values()} | set(roles.left_out)
    # A list is no feature, and neither is an object's path that one odd record filled with a plain value.
    left = tuple(
        path
        for path, values in columns.items()
        if path not in used
        and path != "kind"
        and (roles.features is None or path in roles.features)
        and not any(isinstance(value, list | dict) for value in values)
        and not any(other.startswith(f"{path}.") for other in columns)
    )
    time = taken.get("time")
    unit = _time_unit(columns[time.path]) if time else None
    found = tuple(taken.values())
    return Sketch(source, own_form, models, kinds, found, left, unit, rows, unreadable, roles.categorical)


def _leaves(value: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        path = f"{prefix}{key}"
        if isinstance(inner, dict) and depth < MAX_DEPTH:
            yield from _leaves(inner, f"{path}.", depth + 1)
        else:
            yield path, inner


def _fits(field: str, values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    if not known:
        return False
    if field == "time":
        return _time_unit(known) is not None
    if field == "event_id":
        # A topic may hold a record twice or thrice: an id need not be unique, only mostly.
        texts = all(isinstance(value, str) for value in known) and 2 * len(set(known)) >= len(known)
        return texts or all(isinstance(value, int) and not isinstance(value, bool) for value in known)
    return all(isinstance(value, str | int | float | bool) for value in known)


def _is_key(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values) and len(set(values)) == len(values)


def _is_binary(values: Sequence[Any]) -> bool:
    """Return whether there are both of two answers and nothing else, not even a gap."""
    return all(isinstance(value, bool | int) for value in values) and {int(value) for value in values} == {0, 1}


def _time_unit(values: Sequence[Any]) -> str | None:
    first = next((value for value in values if value is not None), None)
    if isinstance(first, datetime):
        return "rfc3339"
    if isinstance(first, str):
        try:
            datetime.fromisoformat(first)
        except ValueError:
            return None
        return "rfc3339"
    if isinstance(first, int | float) and not isinstance(first, bool):
        return next((unit for unit, low, high in _EPOCH if low <= first < high), None)
    return None
