"""Input forms: which fields of a topic's JSON are read, as a path for each field of the contract."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from stationkeeper.events.settings import JSON, KINDS, MAX_PATH, InputMapping, Kind, TimeUnit, ValueRules

PathKeys = tuple[str, ...]

DEFAULT_POSITIVE = "1"
"""The class whose probability is the score, unless the model's settings name another."""

# One key of a path: text in double quotes with backslash escapes, or anything but a dot, a quote or a bracket.
_KEY = re.compile(r'"((?:[^"\\]|\\.)+)"|([^."\[\]]+)')
_PLAIN = re.compile(r'[^."\[\]]+')
_ESCAPED = re.compile(r'\\(["\\])')


MAX_TEXT = 512
"""Longest id, version or name in characters: chosen well above UUIDs and paths of deployments. Versions are kept with
the state: half would still hold those, double doubles what a hostile producer can make a tally keep."""

MAX_BYTES = 1_048_576
"""Longest record where no model's ``limits`` say otherwise: the broker's own default (message.max.bytes) is 1 MiB."""

MAX_FIELDS = 4_096
"""Most keys of one record where no ``limits`` say otherwise: chosen. Every key of an odd record costs a Python step:
half comes near wide models of 1 000 to 2 000 features, double lets a hostile record cost twice as much."""


class RecordLimits(Protocol):
    """What is refused of one record by its size."""

    @property
    def message_bytes(self) -> int:
        """The longest record."""

    @property
    def fields(self) -> int:
        """The most keys of a record, at any depth."""


class InputModel(Protocol):
    """What the reading of events needs to know of a model's configuration."""

    @property
    def name(self) -> str:
        """The model's name, as events carry it."""

    @property
    def positive(self) -> str | None:
        """The class whose probability is the score; None for the default."""

    @property
    def limits(self) -> RecordLimits:
        """The limits on one record."""

    @property
    def values(self) -> ValueRules:
        """How texts are read as values."""

    def topics(self) -> Mapping[Kind, InputMapping]:
        """Return the configured input of each kind."""


@dataclass(frozen=True, slots=True)
class RefusedModel:
    """A model whose entry in the configuration is refused: its name, why, and the texts that name each kind's topic."""

    name: str
    why: str
    inputs: Mapping[Kind, frozenset[str]] = field(default_factory=dict)

    def kinds(self, topic: str) -> list[Kind]:
        """Return the kinds of event that it would read from a topic, as far as its entry tells."""
        return [kind for kind, texts in self.inputs.items() if topic in texts]


class MappingError(ValueError):
    """A configuration of inputs that cannot be read as meant; the message names the key and what to write."""


def parse_path(text: str) -> PathKeys:
    """Return the object keys of a dotted path: ``a.b`` -> (a, b), ``a."b.c"`` -> (a, b.c); raises ``MappingError``."""
    keys: list[str] = []
    at = 0
    while True:
        match = _KEY.match(text, at)
        if match is None:
            raise MappingError(
                f"path {text!r} cannot be read at character {at}; write object keys joined by dots, "
                'a key that holds a dot in double quotes, e.g. payload."card.country"; arrays cannot be indexed'
            )
        keys.append(_ESCAPED.sub(r"\1", match[1]) if match[1] is not None else match[2])
        at = match.end()
        if at == len(text):
            return tuple(keys)
        if text[at] != ".":
            raise MappingError(f"path {text!r}: found {text[at]!r} at character {at} where a dot belongs")
        at += 1


def path_text(keys: PathKeys) -> str:
    """Return object keys as ``parse_path`` reads them; raises ``MappingError`` for an empty key or too long a path."""
    quoted = ('"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"' for key in keys)
    plain = map(_PLAIN.fullmatch, keys)
    text = ".".join(key if fine else inner for key, fine, inner in zip(keys, plain, quoted, strict=True))
    if not all(keys) or len(text) > MAX_PATH:
        raise MappingError(f"no path to {keys!r}: a key is empty, or it is longer than {MAX_PATH} characters")
    return text


_NO_RULES = ValueRules()


@dataclass(frozen=True, slots=True)
class Form:
    """How one topic is read: the kinds and models it carries and the path of each field.

    ``features`` is the path of the object that holds them, or a path by name. ``model`` is given where the records do
    not name it; without ``models`` any model is read. Records that name one of the ``refused`` models are left out
    unread: that its entry is wrong is no fault of their producer, and no other model's event. ``told`` is where a
    record says whose it is, also where a ``model`` is given; None where it does not. ``own`` is true for the
    contract's own events, whose ids and versions must be text. ``values`` says how texts are read. ``extras`` are
    fields that a reader wants beside the columns, as they are in the record. With ``assigned`` it wants what was done
    upon each answer, too (`with_assignment`).
    """

    topic: str
    kinds: tuple[Kind, ...]
    models: tuple[str, ...]
    paths: Mapping[str, PathKeys]
    features: PathKeys | Mapping[str, PathKeys]
    time_unit: TimeUnit = "ms"
    own: bool = True
    model: str | None = None
    version: str | None = None
    segment: Mapping[str, str] = field(default_factory=dict)
    positive: Mapping[str, str] = field(default_factory=dict)
    max_bytes: int = MAX_BYTES
    max_fields: int = MAX_FIELDS
    decoder: str = JSON
    extras: tuple[str, ...] = ()
    values: ValueRules = _NO_RULES
    refused: tuple[str, ...] = ()
    told: PathKeys | None = ("model",)
    assigned: bool = False

    def reads(self, model: str) -> bool:
        """Return whether events of this model belong here."""
        return model in self.models if self.models else 1 <= len(model) <= MAX_TEXT

    def feature_path(self, name: str) -> PathKeys | None:
        """Return where a feature is, None if a mapping that names each feature leaves it out."""
        return (*self.features, name) if isinstance(self.features, tuple) else self.features.get(name)


ASSIGNMENT: Final = ("action", "assignment_prob", "arm")
"""The fields that say what was done upon an answer, and with what probability it was drawn."""


def with_assignment(form: Form) -> Form:
    """Return the form of a reader that wants what was done upon each answer.

    In another's records, where a name may mean anything, only a mapped ``action`` is one.
    """
    return replace(form, assigned="prediction" in form.kinds and (form.own or "action" in form.paths))


# The contract's fields under their own names: what a mapping does not name is looked for here.
_OWN = (
    *("kind", "event_id", "time", "model", "version", "prediction", "label", "segment", "weight", "latency_ms"),
    "entity_id",
)


def forms(models: Collection[InputModel], refused: Collection[RefusedModel] = ()) -> dict[str, Form]:
    """Return the form of every input topic; raises ``MappingError`` where two inputs read one topic differently.

    A topic can carry several models and kinds as long as all of them read it in the same way. With ``refused`` ones
    the others' topics are read as they were with them, as far as their entries tell: their kinds count, and a topic of
    two does not become one's. Where they do not tell, only what names a refused model is kept from the others.
    """
    found: dict[str, tuple[InputMapping, list[Kind], list[str]]] = {}
    for model in models:
        for kind, mapping in model.topics().items():
            known, kinds, names = found.setdefault(mapping.topic, (mapping, [], []))
            # A record is decoded once, by one form.
            if known != mapping:
                raise MappingError(
                    f"topic {mapping.topic!r} is read in two ways, by model {names[0]!r} and by model {model.name!r} "
                    f"({kind}); give both the same map, constants and time_unit"
                )
            if kind not in kinds:
                kinds.append(kind)
            if model.name not in names:
                names.append(model.name)
    by_name = {model.name: model for model in models}
    for topic, (_, _, names) in found.items():
        strange = [name for name in names if by_name[name].values != by_name[names[0]].values]
        if strange:
            raise MappingError(
                f"texts of topic {topic!r} are read in two ways, by model {names[0]!r} and by model {strange[0]!r}; "
                "give both the same values:"
            )
    made = {}
    for topic, (mapping, kinds, names) in found.items():
        others = [one for one in refused if one.kinds(topic)]
        whole = dict.fromkeys([*kinds, *(kind for one in others for kind in one.kinds(topic))])
        form = _form(mapping, tuple(whole), [by_name[name] for name in names], alone=len(names) == 1 and not others)
        made[topic] = replace(form, refused=tuple(one.name for one in refused))
    return made


def own_form(kinds: tuple[Kind, ...] = KINDS, *, source: str = "events", models: tuple[str, ...] = ()) -> Form:
    """Return the contract's own form of a source that no configuration names, as a file of events is."""
    return Form(source, kinds, models, {name: (name,) for name in _OWN}, ("features",))


def _form(mapping: InputMapping, kinds: tuple[Kind, ...], readers: Sequence[InputModel], *, alone: bool) -> Form:
    models = tuple(model.name for model in readers)
    own = mapping.own_form
    paths: dict[str, PathKeys] = {name: (name,) for name in _OWN}
    features: PathKeys | dict[str, PathKeys] = ("features",)
    for name, path in mapping.map.items():
        if isinstance(path, dict):
            features = {feature: parse_path(text) for feature, text in path.items()}
        elif name == "features":
            features = parse_path(path)
        else:
            paths[name] = parse_path(path)
    constants: dict[str, Any] = {str(field): value for field, value in mapping.constants.items()}
    model = constants.get("model")
    # Records of another's making name no model of ours; with one reader there is no question whose they are.
    if model is None and not own and "model" not in mapping.map and alone:
        model = models[0]
    told = paths["model"] if "model" not in constants else None
    mapped = [path for name, path in paths.items() if name != "model"]
    mapped += [features] if isinstance(features, tuple) else features.values()
    # The mapping says that what stands there is something else than whose event it is.
    if model is not None and told is not None and any(path[: len(told)] == told for path in mapped):
        told = None
    for constant in (*constants, *(["model"] if model is not None else [])):
        # A constant wins over the record, which may hold something else under that name.
        paths.pop(constant, None)
    return Form(
        mapping.topic,
        kinds,
        models,
        paths,
        features,
        mapping.time_unit,
        own,
        model,
        constants.get("version"),
        constants.get("segment", {}),
        {model.name: model.positive for model in readers if model.positive is not None},
        # A topic of several models takes what any of them takes: one model's limit must not lose another's events.
        max(model.limits.message_bytes for model in readers),
        max(model.limits.fields for model in readers),
        mapping.decoder,
        values=readers[0].values,
        told=told,
    )
