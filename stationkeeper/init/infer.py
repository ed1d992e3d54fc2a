"""What a sample of a topic or a file looks like: which of its fields are which, guessed from names and values.

Every guess carries why it was made, because a person has to judge it; a column that a person names is no guess.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from stationkeeper.config import MODEL_NAME
from stationkeeper.events import KINDS, Kind, MappingError, PathKeys, parse_instant, path_text
from stationkeeper.events.settings import JSON, TimeUnit
from stationkeeper.init.classes import ValueGuess, label_guesses
from stationkeeper.init.names import (
    NAMES,
    TIME_ENDINGS,
    ending,
    likelihood,
    names_score,
    says_it_happened,
    score_stem,
    words_of,
)
from stationkeeper.init.records import NEARLY, RecordSample, is_shares, leaves, unit_of
from stationkeeper.tables import ColumnReading, InputTable

CONTRACT_FIELDS: Final = ("event_id", "time", "model", "version", "prediction", "label")
_ID_ENDINGS: Final = frozenset({"id", "uuid", "guid", "key", "hash", "token"})
WHY_BINARY: Final = "the only one of nothing but 0 and 1; is it a feature? Then take --label away and list it"
# More names than this in one sample are no models: a fleet in one topic has a handful, a column such as a car's model
# has dozens.
MOST_MODELS: Final = 20
# From this many texts on, one that differs in nearly every record is an id, not a category: of half as many a category
# of many values shows as many by chance, twice as many are more than a short sample has.
_ENOUGH = 20


class InitError(ValueError):
    """Nothing can be guessed from what was given; the message says what was given and what to give."""


@dataclass(frozen=True, slots=True)
class Guess:
    """One contract field: the path it was found under, as a configuration writes it, and why it was taken."""

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
    """What a sample looks like: the models in it, the guesses, and the fields left over as features.

    ``features`` maps the name under which each is watched to its path; ``left_out`` maps the path of a field that is
    no feature to the reason. ``version`` is the one that all records carry. Of a table ``values`` are the settings
    under which it is read, ``positive`` its class. ``lone_label`` is the only label that ever came; ``unsure`` has the
    features that may be a contract field which was not found.
    """

    source: str
    own_form: bool
    models: tuple[str, ...]
    kinds: tuple[str, ...]
    guesses: tuple[Guess, ...]
    features: Mapping[str, str]
    time_unit: TimeUnit | None
    rows: int
    unreadable: int
    categorical: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    decoder: str = JSON
    table: bool = False
    version: str | None = None
    values: tuple[ValueGuess, ...] = ()
    positive: ValueGuess | None = None
    lone_label: str | None = None
    unsure: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def guess(self, field: str) -> Guess | None:
        """Return the guess for a contract field, if there is one."""
        return next((guess for guess in self.guesses if guess.field == field), None)


def sketch_events(
    sample: RecordSample, kind: Kind = "prediction", *, columns: Collection[str] = (), told: Mapping[str, str] = {}
) -> Sketch:
    """Look at JSON events of a topic of ``kind``; what is not a JSON object is counted as unreadable.

    ``columns`` are those of the reference's table, after which features are named where one fits, or its label's, of
    labels; ``told`` are paths that a person gave. Raises ``InitError`` where ``told`` names a path that no record has.
    """
    objects = sample.objects()
    unreadable = len(sample.values) - len(objects)
    # Whoever names paths says that the records are not in our form.
    own = () if told else sample.in_own_form(kind)
    if own:
        kinds = tuple(name for name in KINDS if any(events.kind == name for events in own))
        models = tuple(sorted({model for events in own for model, _ in events.owners}))
        numbers = [time for one in objects if isinstance(time := one.get("time"), int | float)]
        features = {name: f"features.{path_text((name,))}" for events in own for name in events.features}
        unit = unit_of(numbers) or "ms"
        return Sketch(
            *(sample.source, True, models, kinds, (), features, unit, len(objects), unreadable),
            decoder=sample.decoder,
            version=_only(version for events in own for _, version in events.owners if version),
            **label_guesses([truth for events in own if events.label is not None for truth in events.label.plain()]),
        )
    held: dict[PathKeys, list[Any]] = {}
    for one in objects:
        for path, leaf in leaves(one, _is_answer):
            held.setdefault(path, []).append(leaf)
    fields = {path: _Field(path, tuple(values), len(objects)) for path, values in held.items()}
    return _sketch_records(sample, fields, kind, columns, told, len(objects), unreadable)


def _only(versions: Iterable[object]) -> str | None:
    found = set(map(str, versions))
    return found.pop() if len(found) == 1 else None


def _is_answer(path: PathKeys, value: object) -> bool:
    return words_of(path[-1]) in NAMES["prediction"] and is_shares(value)


def _sketch_records(
    sample: RecordSample,
    fields: Mapping[PathKeys, "_Field"],
    kind: Kind,
    columns: Collection[str],
    told: Mapping[str, str],
    rows: int,
    unreadable: int,
) -> Sketch:
    texts = {path: text for path in fields if (text := _written(path)) is not None}
    paths = {text: path for path, text in texts.items()}
    strange = [path for path in told.values() if path not in paths]
    if strange:
        raise InitError(f"--field: {sample.source} has no field {strange[0]!r}; fields are {', '.join(paths)}")
    wanted = ("kind", *(name for name in CONTRACT_FIELDS if name != ("prediction" if kind == "label" else "label")))
    roles = {name: (paths[path], "given") for name, path in told.items()}
    roles |= _roles({path: fields[path] for path in texts}, wanted, roles)
    kinds = tuple(k for k in KINDS if "kind" in roles and k in fields[roles["kind"][0]].values)
    if "label" in kinds:
        roles |= _roles({path: fields[path] for path in texts}, ("label",), roles)
    if kind == "label" and "label" not in roles:
        called = [path for path in texts if path[-1] in columns and path not in {taken for taken, _ in roles.values()}]
        if len(called) == 1:
            roles["label"] = (called[0], f"{called[0][-1]!r} is the label of the table")
    models = tuple(sorted(set(fields[roles["model"][0]].known))) if "model" in roles else ()
    used = {path for path, _ in roles.values()}
    left_out: dict[str, str] = {}
    kept: list[PathKeys] = []
    for path in fields:
        # A path that leads to others is an object in some records and a leaf in the rest; its leaves are the fields.
        if path in used or any(other[: len(path)] == path and other != path for other in fields):
            continue
        why = "no path can be written for it" if path not in texts else fields[path].no_feature()
        if why is None:
            kept.append(path)
        else:
            left_out[texts.get(path, ".".join(path))] = why
    found = tuple(Guess(name, texts[path], why) for name, (path, why) in roles.items())
    names = {} if kind == "label" else _names_of(kept, columns)
    unit = fields[roles["time"][0]].time_unit(table=False) if "time" in roles else None
    return Sketch(
        *(sample.source, False, models, kinds, found, {names[p]: texts[p] for p in kept if p in names}, unit),
        *(rows, unreadable),
        left_out=left_out,
        decoder=sample.decoder,
        version=_only(fields[roles["version"][0]].known) if "version" in roles else None,
        **(label_guesses(fields[roles["label"][0]].known) if "label" in roles else {}),
    )


def sketch_table(table: InputTable, roles: ColumnRoles | None = None) -> Sketch:
    """Look at the columns of a table of past predictions; raises ``InitError`` where ``roles`` names a strange one."""
    roles, source = roles or ColumnRoles(), table.source
    columns = {reading.name: _plain(reading) for reading in table.readings}
    blind = {one.name: f"{one.blind}. {one.option}".strip(". ") for one in table.readings if one.blind}
    strange = [name for name in roles.named() if name not in columns]
    if strange:
        raise InitError(f"{roles.source}: {source} has no column {strange[0]!r}; columns are {', '.join(columns)}")
    rows = max((len(values) for values in columns.values()), default=0)
    fields: dict[PathKeys, _Field] = {(name,): _Field((name,), tuple(values), rows) for name, values in columns.items()}
    taken: dict[str, tuple[PathKeys, str]] = {name: ((path,), roles.source) for name, path in roles.fields.items()}
    free = {path: one for path, one in fields.items() if path[0] not in (roles.features or ())}
    taken |= _roles(free, CONTRACT_FIELDS, taken, table=True)
    used = {path[0] for path, _ in taken.values()}
    if "label" not in taken and "prediction" in taken:
        answer = taken["prediction"][0][0]
        left = {path: one for path, one in free.items() if path[0] not in used}
        kin = [path for path, one in left.items() if one.is_kin_of(answer)]
        binary = [path for path, one in left.items() if one.is_binary()]
        # Of two candidates none is taken: the wrong one as label would teach every measure to lie.
        alone = len({*kin, *binary}) == 1
        # First, and of any two values: beside it a feature of 0 and 1 would be taken for the truth.
        if len(kin) == 1 and left[kin[0]].is_truth_of(answer, alone=alone):
            taken["label"] = (kin[0], f"has two values and {answer!r} is named after it")
        elif alone and binary:
            taken["label"] = (binary[0], WHY_BINARY)
    used = {path[0] for path, _ in taken.values()} | set(roles.left_out)
    left_out: dict[str, str] = {}
    features: dict[str, str] = {}
    for name in columns:
        if name in used or (roles.features is not None and name not in roles.features):
            continue
        why = blind.get(name) if roles.features is None else None
        one = fields[name,]
        # A table may be too short for its reader to say so, and long enough to see that each row has its own.
        if why is None and roles.features is None and all(isinstance(v, str) for v in one.known) and one.is_key():
            why = f"another one in nearly every row, as an id. To watch it all the same: --features with {name}"
        if why is None:
            features[name] = name
        else:
            left_out[name] = why
    may_be = {"prediction": _Field.is_share, "label": _Field.has_two_values}
    unsure = {name: tuple(one for one in features if may(fields[one,])) for name, may in may_be.items()}
    unit = fields[taken["time"][0]].time_unit(table=True) if "time" in taken else None
    found = tuple(Guess(name, path[0], why) for name, (path, why) in taken.items())
    return Sketch(
        *(source, False, (), (), found, features, unit, rows, 0, roles.categorical),
        left_out=left_out,
        table=True,
        # A model without labels is a common one, a table of past predictions without any is none.
        unsure={name: may for name, may in unsure.items() if name not in taken and (may or name == "prediction")},
    )


@dataclass(frozen=True, slots=True)
class _Field:
    """The values of one path or column over the sample; ``rows`` counts the records, also those without it."""

    path: PathKeys
    values: tuple[Any, ...]
    rows: int

    @property
    def known(self) -> list[Any]:
        """The values that are there."""
        return [v for v in self.values if v is not None and not (isinstance(v, float) and math.isnan(v))]

    def distinct(self) -> float:
        """Return the share of the values that are different, 0 for none and for lists."""
        known = self.known
        try:
            return len(set(known)) / len(known) if known else 0.0
        except TypeError:
            return 0.0

    def time_unit(self, *, table: bool) -> TimeUnit | None:
        """Return what its numbers count, ``rfc3339`` for text and datetimes, None where it is no time."""
        known = self.known
        numbers = [v for v in known if isinstance(v, int | float) and not isinstance(v, bool)]
        if numbers and len(numbers) == len(known):
            return unit_of(numbers)
        if not known:
            return None
        read = sum(isinstance(v, date) or (isinstance(v, str) and _is_time(v, table=table)) for v in known)
        return "rfc3339" if read >= NEARLY * len(known) else None

    def is_kin_of(self, score: str) -> bool:
        """Return whether it holds two values and a word that a score is named after: credit_card by credit_score."""
        stem = score_stem(score)
        if not stem or not any(word.startswith(stem[0]) for word in words_of(self.path[-1]).split("_")):
            return False
        return self.has_two_values()

    def has_two_values(self) -> bool:
        """Return whether it holds two different texts or numbers."""
        return all(isinstance(v, str | int | float) for v in self.known) and len(set(self.known)) == 2

    def is_truth_of(self, score: str, *, alone: bool) -> bool:
        """Return whether its name says that the scored thing happened: churned, is_fraud, default; not credit_card.

        Of what somebody *has* that can be said only where it stands ``alone``: has_disease is a label, has_credit none.
        """
        return says_it_happened(self.path[-1], score, alone=alone)

    def fits(self, field: str, *, table: bool) -> bool:
        """Return whether the values can be this field of the contract."""
        known = self.known
        if not known:
            return False
        if field == "time":
            return self.time_unit(table=table) is not None
        whole = all(isinstance(v, str | int) and not isinstance(v, bool) and v != "" for v in known)
        if field == "event_id":
            # A topic may hold each record twice: an id need not be unique, only mostly. It is never absent.
            return whole and len(known) >= NEARLY * self.rows and 2 * self.distinct() >= 1
        if field == "kind":
            return all(isinstance(v, str) for v in known) and set(known) <= set(KINDS) and len(known) == self.rows
        # A name that the configuration could not hold, or dozens of them, is a property of the row (a car's model).
        if field == "model":
            named = all(isinstance(v, str) and MODEL_NAME.fullmatch(v) for v in known)
            return named and len(set(known)) <= MOST_MODELS and len(known) >= NEARLY * self.rows
        if field == "version":
            return whole and len(set(known)) <= MOST_MODELS and len(known) >= NEARLY * self.rows
        if all(is_shares(v) for v in known):
            return field == "prediction"
        scalars = all(isinstance(v, str | int | float | bool) for v in known)
        return scalars and not (all(isinstance(v, str) for v in known) and self.is_key())

    def is_key(self) -> bool:
        """Return whether nearly every value is another one, as in an id."""
        return len(self.known) >= _ENOUGH and self.distinct() >= NEARLY

    def is_share(self) -> bool:
        """Return whether there are numbers, and all lie between 0 and 1, not all at the ends."""
        known = self.known
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1 for v in known)
        return numbers and any(0 < v < 1 for v in known)

    def is_binary(self) -> bool:
        """Return whether there are both of two answers and nothing else, not even a gap."""
        return all(isinstance(v, bool | int) for v in self.values) and {int(v) for v in self.values} == {0, 1}

    def no_feature(self) -> str | None:
        """Return why this is no feature of an event, None where it can be one."""
        known = self.known
        if any(isinstance(v, list | dict) for v in known):
            return "a list or an object: only text, numbers and booleans are watched"
        if not known:
            return "null in every record of the sample"
        ends = ending(self.path)
        if self.time_unit(table=False) is not None and (isinstance(known[0], str) or ends in TIME_ENDINGS):
            return "a time: it moves on by itself"
        text = all(isinstance(v, str) for v in known)
        numbered = ends in _ID_ENDINGS and all(isinstance(v, int) for v in known)
        if (text or numbered) and self.is_key():
            return "another one in nearly every record, as an id"
        return None


def _plain(reading: ColumnReading) -> list[Any]:
    """Return a column's values as an event would hold them: whole numbers whole, None for what is missing."""
    if reading.values is None:
        return []
    values: list[Any] = reading.values.tolist()
    if reading.kind == "time":
        return list(reading.values.astype("datetime64[ms]").tolist())
    if reading.values.dtype.kind != "f":
        return values
    known = [None if math.isnan(value) else value for value in values]
    # A column of whole numbers with gaps is float in a table; its events carry integers.
    whole = all(value is None or value.is_integer() for value in known)
    return [None if value is None else int(value) for value in known] if whole else known


def _is_time(text: str, *, table: bool) -> bool:
    if not table:
        return parse_instant(text, "rfc3339") is not None
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


# What ids are written with: UUIDs, paths, URNs, base64, parts put together. A comma or a sign makes an amount of it,
# a blank a remark, but for one before a number (FL 00017) that is neither of a currency (EUR 17) nor of thousands.
_IDENTITY = re.compile(
    r"[\w.:/@#=+~|;-]+|(?![A-Z]{3} [1-9]|\d{1,3} \d{3}$)[\w.:/@#=+~|;-]+ (?=\D*\d)(?!\d*\.)[\w.:/@#=+~|;-]+"
)
_DECIMAL = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")


def _is_identity(text: str) -> bool:
    """Return whether a text can be an id, and is neither words nor a number with a fraction."""
    return _IDENTITY.fullmatch(text) is not None and _DECIMAL.fullmatch(text) is None


def _roles(
    fields: Mapping[PathKeys, _Field],
    wanted: Sequence[str],
    taken: Mapping[str, tuple[PathKeys, str]],
    *,
    table: bool = False,
) -> dict[str, tuple[PathKeys, str]]:
    """Return the path of each contract field that is found and why, the likeliest name and the least depth first."""
    found: dict[str, tuple[PathKeys, str]] = {}

    def free() -> dict[PathKeys, _Field]:
        used = {path for path, _ in (*taken.values(), *found.values())}
        return {path: one for path, one in fields.items() if path not in used}

    for name in wanted:
        if name in taken:
            continue
        ranked = [
            (rank, len(path), path)
            for path, one in free().items()
            if (rank := likelihood(name, path)) is not None and one.fits(name, table=table)
        ]
        if ranked:
            path = min(ranked, key=lambda one: one[:2])[2]
            found[name] = (path, f"named {path[-1]!r}")
    if "time" in wanted and "time" not in {*found, *taken}:
        # What some records lack dates no event: those records would be rejected.
        times = [path for path, one in free().items() if one.fits("time", table=table) and len(one.known) == one.rows]
        typed = [path for path in times if any(isinstance(v, str | date) for v in fields[path].known)]
        if len(typed or times) == 1:
            found["time"] = ((typed or times)[0], "the only one that holds times")
    if "prediction" in wanted and "prediction" not in {*found, *taken}:
        of_two = [path[-1] for path, one in free().items() if one.has_two_values()]
        scores = [path for path, one in free().items() if names_score(path, of_two) and one.is_share()]
        # Of two scores neither is guessed; the line is left to fill in.
        if len(scores) == 1:
            found["prediction"] = (scores[0], f"{scores[0][-1]!r} is the only score between 0 and 1")
    if not table and "event_id" in wanted and "event_id" not in {*found, *taken}:
        for path, one in free().items():
            unique = all(isinstance(v, str) for v in one.values) and len(set(one.values)) == len(one.values) == one.rows
            # A moment of the event may be another in each row too, and is no id of it however it is written.
            moment = likelihood("time", path) is not None or one.time_unit(table=True) is not None
            if unique and one.rows > 1 and not moment and all(map(_is_identity, one.values)):
                found["event_id"] = (path, f"{one.rows} different texts in {one.rows} rows")
                break
    return found


def _written(path: PathKeys) -> str | None:
    """Return a path as a configuration writes it, None where none can be written."""
    try:
        return path_text(path)
    except MappingError:
        return None


def _names_of(paths: Sequence[PathKeys], columns: Collection[str]) -> dict[PathKeys, str]:
    """Return the name under which each path is watched: its column's, else its last keys, as few as tell it apart."""
    found: dict[PathKeys, str] = {}
    for path in paths:
        ends = [joint.join(path[-n:]) for n in range(len(path), 0, -1) for joint in (".", "_")]
        column = next((name for name in ends if name in columns), None)
        if column is not None and column not in found.values():
            found[path] = column
    # The shortest ends that differ, so that `customer.age` and `device.age` both keep a readable name.
    depth = max(map(len, paths), default=0)
    for keys in range(1, depth + 1):
        open_ = [path for path in paths if path not in found]
        short = {path: ".".join(path[-keys:]) for path in open_}
        names = [*found.values(), *short.values()]
        found |= {path: name for path, name in short.items() if names.count(name) == 1}
    # A flat key with a dot beside an object of the same name: only the path as it is written tells them apart.
    return found | {path: path_text(path) for path in paths if path not in found}
