"""The configuration of the whole: one YAML file whose every key the environment can override.

A role runs without the models whose entries are wrong (``Config.refused``), and a wrong key elsewhere ends it.

``STATIONKEEPER__KAFKA__BOOTSTRAP=host:9092`` overrides ``kafka: {bootstrap: …}``; a misspelt key or variable is an
error that names the nearest right one, never a silence. A variable is text where its key is text, else YAML.
"""

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, model_validator

from stationkeeper.access import HttpSettings
from stationkeeper.contracts.column import same_class
from stationkeeper.contracts.masking import masked, names_secret, remember_named
from stationkeeper.contracts.settings import Duration, Settings
from stationkeeper.contracts.times import format_duration
from stationkeeper.deploy.settings import RolloutSettings, ServeSettings, TargetSettings
from stationkeeper.events import Kind, RefusedModel
from stationkeeper.logs import LoggingSettings
from stationkeeper.monitor.settings import JoinSettings, ModelSettings
from stationkeeper.notify.notifier import NotifierSettings
from stationkeeper.registry import RegistrySettings
from stationkeeper.retrain.settings import RetrainSettings, SnapshotSettings
from stationkeeper.streams.settings import KafkaSettings

ENV_PREFIX = "STATIONKEEPER__"
ENV_KAFKA = "STATIONKEEPER_KAFKA"

# A part of topic names, metric labels and records (contracts.messages.Identifier): single dots between letters, so that
# no record about a configured model is ever refused for its name.
MODEL_NAME = re.compile(r"^(?=.{1,128}$)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$")
ModelName = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$")]


_LONG_WORD = re.compile(r"\S{257,}")
"""Longer than any topic (249), import path (256) or name: nothing that a message has to repeat."""

MAX_FOUND = 80
"""Characters of a wrong value that are shown: enough to recognise a value on one line; half cuts topic names, double
fills a terminal with one entry's."""


class ConfigError(ValueError):
    """A configuration that cannot be used; the message says where, what was found and what to write, and no secret."""

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))


class ModelConfig(ModelSettings):
    """One model: what the monitor watches, how it is retrained and how it is rolled out."""

    retrain: RetrainSettings | None = None
    rollout: RolloutSettings = RolloutSettings()

    @model_validator(mode="before")
    @classmethod
    def _readable(cls, data: Any) -> Any:
        if isinstance(data, _Unreadable):
            raise ValueError(data.why)  # noqa: TRY004 - a pydantic check
        return data

    def retraining(self) -> RetrainSettings:
        """Return how the model is retrained (by default where it says nothing), with its positive class and value."""
        found = self.retrain or RetrainSettings()
        labels = found.labels.model_copy(update={"positive": found.labels.positive or self.positive})
        value = found.gate.value or (self.value.matrix.worth if self.value else None)
        gate = found.gate.model_copy(update={"sensitive": (*found.gate.sensitive, *self.sensitive), "value": value})
        return found.model_copy(update={"labels": labels, "gate": gate})

    @model_validator(mode="after")
    def _one_absence(self) -> Self:
        if self.absent_is is None or self.retrain is None:
            return self
        if self.retrain.task != "binary":
            raise ValueError(
                f"absent_is: negative is of two classes, and retrain.task is {self.retrain.task!r}; leave one out"
            )
        age = self.retrain.labels.maturity
        if age != "auto" and age < self.label_maturity:
            raise ValueError(
                f"retrain.labels.maturity {format_duration(age)} is below label_maturity "
                f"{format_duration(self.label_maturity)}: a row would be trained on as a negative that is judged as "
                "unknown; raise the first, lower the second, or write auto"
            )
        return self

    @model_validator(mode="after")
    def _one_positive(self) -> Self:
        other = self.retrain.labels.positive if self.retrain else None
        if other is not None and self.positive is not None and not same_class(other, self.positive):
            raise ValueError(
                f"positive is {self.positive!r} and retrain.labels.positive is {other!r}: the model would be judged by "
                "one class and trained on the other; leave the second one out"
            )
        return self


class OtlpSettings(Settings):
    """Where metrics and the loop's trace go as OTLP over HTTP; paths ``/v1/metrics`` and ``/v1/traces`` are added."""

    url: Annotated[str, Field(pattern="^https?://")]
    # What Prometheus scrapes by; half costs twice as much, double shows an incident later.
    interval: Annotated[Duration, Field(ge=1_000)] = 15_000
    # Chosen: below the interval, so that a collector that hangs costs one turn and not two.
    timeout: Annotated[Duration, Field(ge=100)] = 10_000


class Config(BaseModel):
    """The whole configuration.

    ``targets`` are the serving platforms that the role deploy moves, ``notifiers`` by their names whom the monitor
    tells of pages, requests and rollouts. ``drain`` is how long a role may take, after SIGTERM, to write what it has
    absorbed; then it leaves without.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clock: Literal["wall", "stream"] = "wall"
    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    snapshots: SnapshotSettings = SnapshotSettings()
    serve: ServeSettings = ServeSettings()
    targets: tuple[TargetSettings, ...] = (TargetSettings(),)
    http: HttpSettings = HttpSettings()
    join: JoinSettings = JoinSettings()
    logging: LoggingSettings = LoggingSettings()
    otlp: OtlpSettings | None = None
    notifiers: dict[ModelName, NotifierSettings] = {}
    # Below the 30 s that Kubernetes and compose wait before they kill; a flush takes a second or two.
    drain: Duration = 20_000
    models: dict[ModelName, ModelConfig] = {}
    _refused: tuple[RefusedModel, ...] = PrivateAttr(())

    @property
    def refused(self) -> tuple[RefusedModel, ...]:
        """The models whose entries are wrong, which are in no other part of this; empty where ``parse`` was strict."""
        return self._refused

    def without(self, refused: Sequence[RefusedModel]) -> Self:
        """Return the same without the models that turn out to be wrong beside the others."""
        names = {one.name for one in refused}
        kept = self.model_copy(update={"models": {k: v for k, v in self.models.items() if k not in names}})
        kept._refused = (*self._refused, *refused)  # noqa: SLF001 - of the same class
        return kept

    @model_validator(mode="before")
    @classmethod
    def _name_models(cls, data: Any) -> Any:
        """Give each model its key as its name, so that the rooms need not know the map."""
        if not isinstance(data, dict) or not isinstance(data.get("models"), dict):
            return data
        named = {
            key: {"name": key, **value} if isinstance(value, dict) and not isinstance(value, _Unreadable) else value
            for key, value in data["models"].items()
        }
        return {**data, "models": named}

    @model_validator(mode="after")
    def _nobody_unasked(self) -> Self:
        for key, host in (("http.host", self.http.host), ("serve.host", self.serve.host)):
            if self.http.exposed(host):
                raise ValueError(
                    f"{key} {host!r} can be reached by other machines, and nothing asks who they are: write "
                    "http.callers (who may ask, by token or password) or http.tls; or http.unprotected: true, "
                    "where a network of its own decides who connects, as a container's does; or listen on 127.0.0.1"
                )
        return self

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, source: str = "configuration", refuse: bool = False) -> Self:
        """Check plain data; raises ``ConfigError`` that lists every problem with its path and its mend.

        With ``refuse`` problems of single models leave these out, unless none would be left; all others still raise.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            whole = ConfigError(_explain(cls, error, source))
            # Where `models` itself is no map there is no entry that could be left out.
            if not refuse or any(len(one["loc"]) < 2 or one["loc"][0] != "models" for one in error.errors()):
                raise whole from None
        entries: Mapping[Any, Any] = data["models"]
        found = {key: _refusal(cls, key, place, entry, source) for place, (key, entry) in enumerate(entries.items(), 1)}
        sound = {key: entry for key, entry in entries.items() if found[key] is None}
        if not sound:
            raise whole
        kept = cls.parse({**data, "models": sound}, source=source)
        kept._refused = tuple(one for one in found.values() if one is not None)  # noqa: SLF001 - of the same class
        return kept


_MERGE = "tag:yaml.org,2002:merge"
_NO_BLOCK = "line {}: << takes the keys of another block, as <<: *name; this is none"
_INPUTS: Mapping[Kind, str] = {"prediction": "predictions", "feature": "features", "label": "labels"}
"""The keys that name topics."""


class _Unreadable(dict[str, Any]):
    """An entry that cannot be read, with the reason; of its inputs it holds the topics that can be."""

    def __init__(self, why: str, read: Mapping[str, Any]) -> None:
        super().__init__(read)
        self.why = why


def _pairs(node: yaml.Node, within: tuple[yaml.Node, ...] = ()) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return a block's keys and values with those that it merges and has not itself; a << of no block stays one."""
    if not isinstance(node, yaml.MappingNode) or node in within:
        return []
    found = [pair for pair in node.value if pair[0].tag != _MERGE]
    for key, value in (pair for pair in node.value if pair[0].tag == _MERGE):
        for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            known = [held.value for held, _ in found]
            inner = _pairs(one, (*within, node)) if isinstance(one, yaml.MappingNode) else [(key, one)]
            found += [pair for pair in inner if pair[0].value not in known]
    return found


def _named_topics(node: yaml.Node) -> dict[str, list[Any]]:
    """Return the topics that an entry names by input, those of a key that is written twice together."""
    found: dict[str, list[Any]] = defaultdict(list)
    for key, value in _pairs(node):
        if key.value in _INPUTS.values():
            inner = _pairs(value) if isinstance(value, yaml.MappingNode) else [(None, value)]
            found[key.value] += [held.value for name, held in inner if name is None or name.value == "topic"]
    return found


class _Loader(yaml.CSafeLoader):
    """A YAML loader that refuses a key written twice, and a template that was not filled in where a key belongs.

    What is wrong in an entry under ``models`` is that entry's alone: it is ``_Unreadable``, and the others are read.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._checked: set[int] = set()

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self._check(node)
        return super().construct_mapping(node, deep=deep)

    def _check(self, node: yaml.MappingNode) -> None:
        # Once: what a block merges stands among its own keys afterwards, and both may have one.
        if id(node) in self._checked:
            return
        seen: set[Any] = set()
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            merges = key_node.tag == _MERGE
            key = "<<" if merges else _key(self.construct_object(key_node, deep=True), line)
            if key in seen:
                raise ConfigError(f"line {line}: the key {key!r} is written twice; keep one")
            seen.add(key)
            for one in (value.value if isinstance(value, yaml.SequenceNode) else [value]) if merges else ():
                if not isinstance(one, yaml.MappingNode):
                    raise ConfigError(_NO_BLOCK.format(line))
                self._check(one)
        self._checked.add(id(node))

    def get_single_data(self) -> Any:
        """Return what the file holds."""
        root = self.get_single_node()
        pairs = root.value if isinstance(root, yaml.MappingNode) else []
        blocks = [value for key, value in pairs if key.value == "models" and isinstance(value, yaml.MappingNode)]
        if len(blocks) != 1:
            return None if root is None else self.construct_document(root)
        entries, blocks[0].value = _pairs(blocks[0]), []
        # The entries first: what a block merges stands among its own keys once it has been read.
        found = self._entries(entries)
        return {**self.construct_document(root), "models": found}

    def _entries(self, pairs: Sequence[tuple[yaml.Node, yaml.Node]]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        topics: dict[Any, dict[str, list[Any]]] = {}
        named = [_named_topics(node) for _, node in pairs]
        for place, (key_node, node) in enumerate(pairs, 1):
            key, line = f"#{place}", key_node.start_mark.line + 1
            try:
                if key_node.tag == _MERGE:
                    raise ConfigError(_NO_BLOCK.format(line))  # noqa: TRY301 - told as the others are
                key = _key(self.construct_document(key_node), line)
                value = self.construct_document(node)
            # Of any kind: PyYAML lets through what int, datetime and others say to a value of their tag.
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told of this entry
                value = _Unreadable(_unread(error, line), named[place - 1])
                # As it is after a document that could be read; the rest of this one would be told of the next entry.
                self.constructed_objects, self.recursive_objects = {}, {}
                self.state_generators, self.deep_construct = [], False
            if key in found:
                # Nobody knows which of the two is meant.
                for name, more in topics[key].items():
                    named[place - 1][name] += more
                value = _Unreadable(f"line {line}: the key {key!r} is written twice; keep one", named[place - 1])
            found[key], topics[key] = value, named[place - 1]
        return found


def _key(key: Any, line: int) -> Any:
    """Return a key that can be one; raises ``ConfigError`` for another."""
    if not isinstance(key, Hashable):
        raise ConfigError(
            f"line {line}: a {type(key).__name__} stands where a key belongs; is it the place of a template, "
            "as {{ name }}, that was not filled in? A value with braces stands in quotes"
        )
    return key


def _unread(error: Exception, line: int) -> str:
    """Return why YAML from a line on cannot be read."""
    known = isinstance(error, ConfigError | yaml.YAMLError)
    return str(error) if known else f"line {line} or below: not YAML ({type(error).__name__}: {error})"


def _read(text: str) -> Any:
    """Return YAML as plain data; raises ``ConfigError`` or ``yaml.YAMLError``."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a CSafeLoader
    except (ConfigError, yaml.YAMLError):
        raise
    except Exception as error:
        # Of any kind, as in an entry.
        raise ConfigError(_unread(error, 1)) from error


def text_of(path: Path) -> str:
    """Return what a configuration file holds; raises ``ConfigError``."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give --config FILE or run init") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None


def load(
    path: Path | None, env: Mapping[str, str] | None = None, *, refuse: bool = False, held: str | None = None
) -> Config:
    """Read the file (none: defaults), lay the environment over it and check the result; raises ``ConfigError``.

    With ``refuse`` the models whose entries are wrong are left out, as ``Config.parse`` says. ``held`` is what the file
    held when it was read before.
    """
    env = os.environ if env is None else env
    # What libraries read for themselves, such as MLFLOW_TRACKING_PASSWORD, may stand in their errors as well.
    remember_named(env)
    data: Any = {}
    if path is not None:
        try:
            data = _read(text_of(path) if held is None else held) or {}
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not YAML: {error}") from None
        if not isinstance(data, dict):
            raise ConfigError(f"{path} holds a {type(data).__name__}; write keys such as kafka: and models:")
    for _, keys, text in variables(env):
        try:
            _lay(data, keys, _env_value(keys, text))
        except ConfigError as error:
            models = data.get("models") or {}
            if keys[0] != "models" or len(keys) == 1 or not isinstance(models, dict):
                raise
            # It is of one model: that one is refused by it, and is so without what is wrong with the others.
            entry = next((held for key, held in models.items() if str(key).lower() == keys[1]), None)
            _lay(data, keys[:2], _Unreadable(str(error), entry if isinstance(entry, dict) else {}))
    if env.get(ENV_KAFKA):
        _lay(data, ["kafka", "bootstrap"], env[ENV_KAFKA])
    return Config.parse(data, source=str(path or "environment"), refuse=refuse)


def variables(env: Mapping[str, str]) -> Iterator[tuple[str, list[str], str]]:
    """Yield each variable that sets a key: its name, the key's path in lower case, and its text."""
    for name, text in sorted(env.items()):
        if name.startswith(ENV_PREFIX):
            yield name, name.removeprefix(ENV_PREFIX).lower().split("__"), text


def _env_value(keys: Sequence[str], text: str) -> Any:
    """Return a variable's value: text where the key is one, so that ``12345`` is a user name; else YAML.

    A password such as ``a: b#c`` would be a map and a comment as YAML, and a wrong password as a cut text.
    """
    here: set[type[BaseModel]] = {Config}
    field = None
    for key in keys:
        fields = [found for model in here if (found := model.model_fields.get(key)) is not None]
        field = fields[0] if fields else None
        here = {inner for one in fields for inner in models_in(one.annotation)} or here
    kinds = set() if field is None else set(_scalars_in(field.annotation))
    if kinds and kinds <= {str, SecretStr, type(None)} and not (type(None) in kinds and text in {"", "null", "~"}):
        # Quotes around the whole come off, as they did when every variable was YAML.
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
        return text[1:-1] if quoted else text
    name = f"{ENV_PREFIX}{'__'.join(keys).upper()}"
    try:
        return _read(text)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML ({type(error).__name__})") from None


def _scalars_in(annotation: Any) -> Iterator[Any]:
    """Yield the plain types that an annotation allows, through unions and Annotated; a container yields itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _scalars_in(get_args(annotation)[0])
    elif origin in {Union, UnionType}:
        for argument in get_args(annotation):
            yield from _scalars_in(argument)
    else:
        yield origin or annotation


def _lay(data: dict[str, Any], keys: list[str], value: Any) -> None:
    """Set a nested key in place; existing keys match without case, as variables are upper case."""
    for key in keys[:-1]:
        match = next((k for k in data if str(k).lower() == key), key)
        if not isinstance(data.get(match), dict):
            data[match] = {}
        data = data[match]
    match = next((k for k in data if str(k).lower() == keys[-1]), keys[-1])
    data[match] = value


def _refusal(root: type[Config], key: Any, place: int, entry: Any, source: str) -> RefusedModel | None:
    """Return what is told of an entry that is wrong, found by looking at it alone; one without a name is #place."""
    try:
        root.model_validate({"models": {key: entry}})
    except ValidationError as error:
        why = masked(_explain(root, error, source))
    else:
        return None
    named = isinstance(key, str) and MODEL_NAME.fullmatch(key) is not None
    inputs = entry if isinstance(entry, dict) else {}
    return RefusedModel(
        key if named else f"#{place}",
        why,
        {kind: _topics(inputs.get(name)) for kind, name in _INPUTS.items()},
    )


def _topics(value: Any) -> frozenset[str]:
    """Return the topic of an input as far as its entry says it: a path or constant may be called like another's."""
    topic = value.get("topic") if isinstance(value, dict) else value
    return frozenset(one for one in (topic if isinstance(topic, list) else [topic]) if isinstance(one, str))


def _explain(root: type[BaseModel], error: ValidationError, source: str) -> str:
    lines = [f"{source}: {error.error_count()} problem(s)"]
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            allowed = sorted(_allowed(root, problem["loc"][:-1]))
            wrong = str(problem["loc"][-1])
            # Half of the letters: of two words nobody confuses fewer are alike, and at the library's own 0.6 a short
            # key with two letters changed finds none.
            near = difflib.get_close_matches(wrong, allowed, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(allowed)}"
            lines.append(f"  {where}: unknown key {wrong!r}; {hint}")
        else:
            # A whole block is not shown: the path names it, and one of its values may be a password.
            hidden = names_secret(where) or isinstance(problem["input"], dict | list)
            found = "" if hidden else f" (found {_short(problem['input'])})"
            lines.append(f"  {where}: {problem['msg'].removeprefix('Value error, ')}{found}")
    # Masking takes the square of a word's length, and such a word is none that anybody would recognise.
    return "\n".join(_LONG_WORD.sub(lambda word: f"({len(word[0])} characters)", line) for line in lines)


def _short(value: object) -> str:
    """Return a wrong value as it is shown: whole or by its length, as half an address could show its password."""
    text = repr(value)
    return text if len(text) <= MAX_FOUND else f"{len(text)} characters"


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the blocks that a field's annotation holds, through unions, maps and lists."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def _allowed(root: type[BaseModel], path: tuple[int | str, ...]) -> set[str]:
    """Return the keys allowed at a path of an error, walking models, maps and unions."""
    here: set[type[BaseModel]] = {root}
    for part in path:
        fields = [model.model_fields[str(part)] for model in here if str(part) in model.model_fields]
        here = {inner for field in fields for inner in models_in(field.annotation)} or here
    return {field.alias or name for model in here for name, field in model.model_fields.items()} - {"name"}
