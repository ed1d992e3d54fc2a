"""Row types made for one topic: structures that hold just the fields that are read, so the rest costs nothing."""

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import starmap
from operator import attrgetter, itemgetter
from typing import Any, Literal

import msgspec
from msgspec.structs import astuple

from stationkeeper.events.mapping import ASSIGNMENT, Form, PathKeys
from stationkeeper.events.settings import ValueRules

ABSENT = msgspec.UNSET
"""Marks a key that the record does not have, where null is something else."""

NAN = float("nan")

_MOSTLY = 2
"""Up to so many times as many fields as are wanted, a row is taken as a whole and not field by field: a tuple of all
costs about two thirds of the calls for each (see ``Raw.add``), so that beyond twice as many it no longer pays."""


class NotAnObject(ValueError):
    """A path runs through a value that is no object; the message is the key."""


# What msgspec lets through in its strict pass. It is exactly what ``faults.of_types`` allows, or a record's fate would
# hang on which of the two sees it. Ids, models and versions may be whole numbers, as databases and MLflow write them.
_TEXT = str | msgspec.UnsetType
_NAME = str | int | msgspec.UnsetType
_NUMBER = float | None
_SCALAR = str | bool | int | float | None | msgspec.UnsetType
_TYPES: dict[str, tuple[Any, Any]] = {
    "kind": (_TEXT, ABSENT),
    "event_id": (_NAME, ABSENT),
    "time": (str | int | float | msgspec.UnsetType, ABSENT),
    "model": (_NAME, ABSENT),
    "version": (str | int | None | msgspec.UnsetType, ABSENT),
    "prediction": (float | str | bool | dict[str, float] | None, None),
    "label": (float | str | bool | msgspec.UnsetType, ABSENT),
    "segment": (dict[str, str | bool | int | float | None] | None, None),
    "weight": (_NUMBER, NAN),
    "latency_ms": (_NUMBER, NAN),
    # Any value: whose event it is only says which rows hang together, and must not decide whether one is accepted.
    "entity_id": (Any, ABSENT),
}
# Fields that only one kind of event has: on topics without that kind they are skipped unread, whatever they hold.
_BY_KIND = {"prediction": {"prediction", "latency_ms", "entity_id"}, "feature": set[str](), "label": {"label"}}
_ONLY = {name for names in _BY_KIND.values() for name in names}
EXTRA = frozenset(ASSIGNMENT)
"""Fields of the contract that few readers want: read only where a form asks for them."""


@dataclass(frozen=True, slots=True, eq=False)
class Holder:
    """An object of a row that holds features: ``place`` among the row's own fields, None where it lies deeper.

    ``get`` reaches it from the row; None for the row itself.
    """

    get: Callable[[Any], Any] | None
    place: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The numeric features of one object of a row, taken out row by row.

    So wide rows are read in the order in which they lie in memory, and no call is made for each column.
    """

    names: tuple[str, ...]
    holder: Holder
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

    ``places`` are the fields that stand in the row itself, among its ``width`` fields. ``inner`` splits the path to a
    feature in two: to the object that holds it (one of ``holders``) and from there.

    ``written`` are features of numbers that come as text by the form's ``values``, which no structure can say strictly.

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
    places: Mapping[str, int]
    width: int
    holders: tuple[Holder, ...]
    inner: Mapping[str, tuple[Holder, Callable[[Any], Any]]]
    blocks: tuple[Block, ...]
    numeric: frozenset[str]
    written: frozenset[str]
    values: ValueRules


def row_type(form: Form, features: Mapping[str, bool]) -> RowType:
    """Build the row type of a topic; ``features`` says for each known feature whether it counts as a number."""
    tree: dict[str, Any] = {}
    get: dict[str, Callable[[Any], Any]] = {}
    wanted = set().union(*(_BY_KIND[kind] for kind in form.kinds))
    for name, path in form.paths.items():
        if (name in _ONLY and name not in wanted) or name in EXTRA:
            continue
        get[name] = _place(tree, path, *_declared(name, form))
    for name in (*form.extras, *(ASSIGNMENT if form.assigned else ())):
        # In another's records a name may mean anything: what is not mapped is not read.
        if name not in get and (name not in EXTRA or form.own or name in form.paths or name in form.extras):
            # Any value: a field that only one reader wants must not decide whether the record is accepted.
            get[name] = _place(tree, form.paths.get(name, (name,)), Any, ABSENT)
    getters: dict[str, Callable[[Any], Any]] = {}
    carries = set(form.kinds) != {"label"}
    root = form.features if isinstance(form.features, tuple) else None
    if carries:
        for name, numeric in features.items():
            where = form.feature_path(name)
            if where is None:
                continue
            strict = numeric and form.values.decimal is None
            getters[name] = _place(tree, where, _NUMBER if strict else _SCALAR, NAN if strict else ABSENT)
        if root is not None and not getters:
            _branch(tree, root)
    structure, build = _structure(tree, nullable=not form.own)
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(structure).decode
    closed = None
    if not all(map(nameable, _keys(tree))):
        # Such rows go the second way, record by record: slower, and the same meaning.
        decode = refuse
    elif root is not None and getters:
        closed = msgspec.json.Decoder(_structure(tree, nullable=not form.own, closed=root)[0]).decode
    places = _places(form, tree, get)
    written = frozenset(name for name in getters if features[name] and form.values.decimal is not None)
    numbers = frozenset(name for name in getters if features[name]) - written
    holders, inner, blocks = _holders(form, tree, getters, numbers, whole=bool(places))
    return RowType(
        decode, closed, build, get, getters, places, len(tree), holders, inner, blocks, numbers, written, form.values
    )


def nameable(key: str) -> bool:
    """Return whether msgspec takes a key of JSON as a field's name; it refuses quotes, backslashes and line breaks."""
    return not any(character in '"\\' or character < " " for character in key)


def _keys(tree: Mapping[str, Any]) -> Iterator[str]:
    for key, node in tree.items():
        yield key
        if isinstance(node, dict):
            yield from _keys(node)


def refuse(_value: bytes) -> Any:
    """Stand for a strict pass that cannot be: raises ``msgspec.ValidationError`` for any record."""
    raise msgspec.ValidationError("a field of this form has a name that no structure can hold")


def _declared(name: str, form: Form) -> tuple[Any, Any]:
    """The types that a field may have in this form, and its default."""
    kind, default = _TYPES[name]
    if name == "kind":
        kind = Literal[form.kinds] | msgspec.UnsetType
    elif name == "model" and form.own and form.models:
        kind = Literal[form.models] | int | msgspec.UnsetType
    return kind, default


def _holders(
    form: Form, tree: dict[str, Any], names: Collection[str], numbers: frozenset[str], *, whole: bool
) -> tuple[tuple[Holder, ...], dict[str, tuple[Holder, Callable[[Any], Any]]], tuple[Block, ...]]:
    """How to reach features, by the object that holds them, and the numeric ones of each; ``whole`` as in _MOSTLY."""
    homes: dict[PathKeys, list[str]] = {}
    for name in names:
        homes.setdefault((form.feature_path(name) or ())[:-1], []).append(name)
    root = {key: place for place, key in enumerate(tree)}
    inner: dict[str, tuple[Holder, Callable[[Any], Any]]] = {}
    blocks: list[Block] = []
    holders: list[Holder] = []
    for path, mine in homes.items():
        branch: Any = tree
        for key in path:
            branch = branch[key]
        places = {key: place for place, key in enumerate(branch)}
        at = {name: places[(form.feature_path(name) or ())[-1]] for name in mine}
        holder = Holder(_getter(tree, path) if path else None, root[path[0]] if whole and len(path) == 1 else None)
        holders.append(holder)
        inner |= {name: (holder, attrgetter(f"f{place}")) for name, place in at.items()}
        found = tuple(name for name in mine if name in numbers)
        if found:
            pack = struct.Struct(f"{len(found)}d").pack
            blocks.append(Block(found, holder, itemgetter(*[at[name] for name in found]), pack))
    return tuple(holders), inner, tuple(blocks)


def _places(form: Form, tree: dict[str, Any], names: Collection[str]) -> dict[str, int]:
    """Where fields stand in the row itself; none where most of the row is something else, as in flat forms."""
    keys = {name: path[0] for name in names if len(path := form.paths.get(name, (name,))) == 1}
    places = {key: place for place, key in enumerate(tree)}
    return {} if len(tree) > _MOSTLY * len(keys) else {name: places[key] for name, key in keys.items()}


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
        rename[name] = key if nameable(key) else f"unnameable {position}"
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
