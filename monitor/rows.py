"""Row types made for one topic: structures that hold just the fields that are read, so the rest costs nothing."""

import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import starmap
from operator import attrgetter, itemgetter
from typing import Any, Literal

import msgspec
from msgspec.structs import astuple

from monitor.mapping import Form, PathKeys

ABSENT = msgspec.UNSET
"""Marks a key that the record does not have, where null is something else."""

NAN = float("nan")


class NotAnObject(ValueError):
    """A path runs through a value that is no object; the message is the key."""


_TEXT = str | msgspec.UnsetType
_LOOSE_TEXT = str | int | msgspec.UnsetType
_NUMBER = float | None
_SCALAR = str | bool | int | float | None | msgspec.UnsetType
_TYPES: dict[str, tuple[Any, Any]] = {
    "kind": (_TEXT, ABSENT),
    "event_id": (_TEXT, ABSENT),
    "time": (str | int | float | msgspec.UnsetType, ABSENT),
    "model": (_TEXT, ABSENT),
    "version": (str | None | msgspec.UnsetType, ABSENT),
    "prediction": (float | str | bool | dict[str, float] | None, None),
    "label": (float | str | bool | msgspec.UnsetType, ABSENT),
    "segment": (dict[str, str | bool | int | float | None] | None, None),
    "weight": (_NUMBER, NAN),
    "latency_ms": (_NUMBER, NAN),
}
_BY_KIND = {"prediction": {"prediction", "latency_ms"}, "feature": set[str](), "label": {"label"}}
_ONLY = {name for names in _BY_KIND.values() for name in names}


@dataclass(frozen=True, slots=True)
class Block:
    """The numeric features of one object of a row (``holder`` None: of the row itself), taken out row by row.

    So wide rows are read in the order in which they lie in memory, and no call is made for each column.
    """

    names: tuple[str, ...]
    holder: Callable[[Any], Any] | None
    values: Callable[[Any], Any]
    pack: Callable[..., bytes]

    def take(self, held: Iterable[Any]) -> bytes:
        """Return the values of the objects as float64, row after row; raises ``struct.error`` for a null.

        A whole object as a tuple costs a quarter of getting its fields by name.
        """
        values = map(self.values, map(astuple, held))
        return b"".join(map(self.pack, values) if len(self.names) == 1 else starmap(self.pack, values))


@dataclass(frozen=True, slots=True)
class RowType:
    """A row's structure and how to reach each field and feature in it; ``numeric`` features default to NaN.

    ``inner`` splits the way to a feature in two: to the object that holds it (one getter for all features of that
    object) and from there; None for a feature of the row itself.

    ``closed`` is ``decode`` that also refuses a feature that is not known (None where features are mapped one by one).
    ``decode`` reads one record strictly: it raises ``msgspec.MsgspecError`` (and ``RecursionError`` for JSON too deep)
    for anything but an object with the declared types. ``build`` makes a row of an object without checking the fields'
    types; it raises ``NotAnObject`` where a path runs through something else.
    """

    decode: Callable[[bytes], Any]
    closed: Callable[[bytes], Any] | None
    build: Callable[[Mapping[str, Any]], Any]
    get: Mapping[str, Callable[[Any], Any]]
    feature: Mapping[str, Callable[[Any], Any]]
    inner: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]] | None]
    numeric: frozenset[str]
    blocks: tuple[Block, ...]


def row_type(form: Form, features: Mapping[str, bool]) -> RowType:
    """Build the row type of a topic; ``features`` says for each known feature whether it counts as a number."""
    tree: dict[str, Any] = {}
    get: dict[str, Callable[[Any], Any]] = {}
    wanted = set().union(*(_BY_KIND[kind] for kind in form.kinds))
    for name, path in form.paths.items():
        if name in _ONLY and name not in wanted:
            continue
        kind, default = _TYPES[name]
        if name == "kind":
            kind = Literal[form.kinds] | msgspec.UnsetType
        elif name == "model" and form.own:
            kind = Literal[form.models] | msgspec.UnsetType
        elif not form.own and name in {"event_id", "model"}:
            kind = _LOOSE_TEXT
        elif not form.own and name == "version":
            kind = str | int | None | msgspec.UnsetType
        get[name] = _place(tree, path, kind, default)
    getters: dict[str, Callable[[Any], Any]] = {}
    carries = set(form.kinds) != {"label"}
    root = form.features if isinstance(form.features, tuple) else None
    if carries:
        for name, numeric in features.items():
            where = form.feature_path(name)
            if where is None:
                continue
            getters[name] = _place(tree, where, _NUMBER if numeric else _SCALAR, NAN if numeric else ABSENT)
        if root is not None and not getters:
            _branch(tree, root)
    structure, build = _structure(tree, nullable=not form.own)
    decode = msgspec.json.Decoder(structure).decode
    closed = None
    if root is not None and getters:
        closed = msgspec.json.Decoder(_structure(tree, nullable=not form.own, closed=root)[0]).decode
    inner = _inner(form, tree, getters)
    numbers = [name for name in getters if features[name]]
    return RowType(decode, closed, build, get, getters, inner, frozenset(numbers), _blocks(form, tree, numbers))


def _blocks(form: Form, tree: dict[str, Any], names: Collection[str]) -> tuple[Block, ...]:
    """Numeric features by the object that holds them."""
    homes: dict[PathKeys, list[str]] = {}
    for name in names:
        homes.setdefault((form.feature_path(name) or ())[:-1], []).append(name)
    found = []
    for path, mine in homes.items():
        branch: Any = tree
        for key in path:
            branch = branch[key]
        places = {key: place for place, key in enumerate(branch)}
        values = itemgetter(*[places[(form.feature_path(name) or ())[-1]] for name in mine])
        holder = _getter(tree, path) if path else None
        found.append(Block(tuple(mine), holder, values, struct.Struct(f"{len(mine)}d").pack))
    return tuple(found)


def _inner(
    form: Form, tree: dict[str, Any], names: Collection[str]
) -> dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]] | None]:
    holders: dict[PathKeys, Callable[[Any], Any]] = {}
    found: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]] | None] = {}
    places: dict[int, dict[str, int]] = {}
    for name in names:
        path = form.feature_path(name) or ()
        if len(path) < 2:
            found[name] = None
            continue
        holder = holders.setdefault(path[:-1], _getter(tree, path[:-1]))
        branch: Any = tree
        for key in path[:-1]:
            branch = branch[key]
        if id(branch) not in places:
            places[id(branch)] = {key: place for place, key in enumerate(branch)}
        found[name] = (holder, attrgetter(f"f{places[id(branch)][path[-1]]}"))
    return found


def _branch(tree: dict[str, Any], path: PathKeys) -> dict[str, Any]:
    branch: Any = tree
    for key in path:
        branch = branch.setdefault(key, {})
        if not isinstance(branch, dict):
            raise TypeError(f"path {'.'.join(path)} runs through a field that is itself read")
    found: dict[str, Any] = branch
    return found


def _place(tree: dict[str, Any], path: PathKeys, kind: Any, default: Any) -> Callable[[Any], Any]:
    branch = _branch(tree, path[:-1])
    if path[-1] in branch:
        found = branch[path[-1]]
        if isinstance(found, dict):
            raise TypeError(f"path {'.'.join(path)} is both a field and an object of fields")
        branch[path[-1]] = (found[0] | kind, found[1])
    else:
        branch[path[-1]] = (kind, default)
    return _getter(tree, path)


def _getter(tree: dict[str, Any], path: PathKeys) -> Callable[[Any], Any]:
    names, branch = [], tree
    for key in path:
        names.append(f"f{list(branch).index(key)}")
        branch = branch[key] if isinstance(branch[key], dict) else {}
    return attrgetter(".".join(names))


def _structure(
    tree: dict[str, Any], *, nullable: bool, closed: PathKeys | None = None
) -> tuple[type[msgspec.Struct], Callable[[Any], Any]]:
    """Nested structures with plain attribute names f0, f1, … renamed to the JSON keys, and how to build one."""
    fields: list[Any] = []
    rename: dict[str, str] = {}
    parts: list[tuple[str, Any, Callable[[Any], Any] | None]] = []
    for position, (key, node) in enumerate(tree.items()):
        name = f"f{position}"
        rename[name] = key
        if isinstance(node, dict):
            within = closed[1:] if closed and closed[0] == key else None
            inner, inner_build = _structure(node, nullable=nullable, closed=within)
            fields.append((name, inner, msgspec.field(default_factory=inner)))
            parts.append((key, None, inner_build))
        else:
            kind, default = node
            fields.append((name, kind, default))
            parts.append((key, default, None))
    made = msgspec.defstruct("Row", fields, rename=rename, gc=False, forbid_unknown_fields=closed == ())

    def build(data: Any) -> Any:
        values = []
        for key, default, inner_build in parts:
            if inner_build is None:
                values.append(data.get(key, default))
                continue
            branch = data.get(key, {})
            if branch is None and nullable:
                branch = {}
            if not isinstance(branch, dict):
                raise NotAnObject(key)
            values.append(inner_build(branch))
        return made(*values)

    return made, build
