"""The effective configuration: every key with its value and where that comes from, secrets as stars; what each says."""

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from stationkeeper.config import ENV_KAFKA, Config, ModelConfig, load, models_in, variables
from stationkeeper.contracts.masking import MASK, masked, names_secret
from stationkeeper.contracts.settings import Duration
from stationkeeper.contracts.times import format_duration
from stationkeeper.events import path_text

Keys = tuple[str, ...]
Origin = Literal["file", "environment", "default"]
# What marks a field as a span of time: it is kept in ms and shown as people write it.
_SPAN = get_args(Duration)[1]


@dataclass(frozen=True, slots=True)
class KeyHelp:
    """What a key says, and the unit of its number: ``span`` is a span of time, as ``90s``; empty where it has none."""

    unit: str
    words: str

    @property
    def sentence(self) -> str:
        """Both as an editor shows them."""
        if self.unit == "span":
            return f"{self.words} (as 90s, 5m, 30d)."
        return f"{self.unit}: {self.words}." if self.unit else f"{self.words}."


@dataclass(frozen=True, slots=True)
class EffectiveKey:
    """One key: its dotted path, its value as a file would have it, and the line or variable that set it."""

    key: str
    value: Any
    origin: Origin
    where: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"key": self.key, "value": self.value, "from": self.origin, "where": self.where}


def effective(path: Path | None, env: Mapping[str, str] | None = None) -> list[EffectiveKey]:
    """Return every key of the configuration that a role would run with; raises ``ConfigError`` as ``load`` does.

    A model that is refused is one key whose value says why; of it no role has more.
    """
    env = os.environ if env is None else env
    config = load(path, env, refuse=True)
    lines = {} if path is None else _lines(path)
    named: dict[Keys, str] = {tuple(keys): name for name, keys, _ in variables(env)}
    if env.get(ENV_KAFKA):
        named["kafka", "bootstrap"] = ENV_KAFKA
    found = []
    for keys, value, usual in _leaves(config, ()):
        origin, where = _origin(keys, named, lines, usual=value == usual)
        shown = f"{path}:{where}" if origin == "file" else where
        secret = keys[0] == "notifiers" and keys[-1] == "url" and isinstance(value, str)
        told = _receiver(value) if secret else _shown(keys[-1], value)
        found.append(EffectiveKey(path_text(keys), told, origin, shown))
    for one in config.refused:
        keys = ("models", one.name)
        variable = next((name for known, name in named.items() if known[:2] == ("models", one.name.lower())), "")
        file = f"{path}:{lines[keys]}" if keys in lines else str(path or "")
        why = f"refused: {'; '.join(map(str.strip, one.why.splitlines()))}"
        found.append(EffectiveKey(".".join(keys), why, "file" if file else "environment", file or variable))
    return found


def _origin(keys: Keys, named: Mapping[Keys, str], lines: Mapping[Keys, int], *, usual: bool) -> tuple[Origin, str]:
    """The variable or the line that set a key or what holds it; a block may be set and this key of it left out."""
    folded = tuple(key.lower() for key in keys)
    for length in range(len(keys), 0, -1):
        whole = length == len(keys)
        name = named.get(folded[:length])
        if name is not None and (whole or not usual):
            return "environment", name
        line = lines.get(keys[:length])
        if line is not None and (whole or not usual):
            return "file", str(line)
    return "default", ""


def _leaves(model: BaseModel, above: Keys) -> Iterator[tuple[Keys, Any, Any]]:
    """Yield the path, the value and the default of each key that holds no block of its own."""
    for name, field in type(model).model_fields.items():
        # A model's name is the key that it stands under.
        if name == "name" and above[:1] == ("models",) and len(above) == 2:
            continue
        keys, value = (*above, field.alias or name), getattr(model, name)
        usual = field.get_default(call_default_factory=True, validated_data={})
        yield from _inner(keys, value, usual, field)


def _inner(keys: Keys, value: Any, usual: Any, field: FieldInfo) -> Iterator[tuple[Keys, Any, Any]]:
    if isinstance(value, BaseModel):
        yield from _leaves(value, keys)
    elif isinstance(value, dict) and any(isinstance(inner, BaseModel) for inner in value.values()):
        for key, inner in value.items():
            yield from _inner((*keys, key), inner, None, field)
    elif isinstance(value, tuple) and any(isinstance(inner, BaseModel) for inner in value):
        for place, inner in enumerate(value):
            yield from _inner((*keys, str(place)), inner, None, field)
    elif isinstance(value, int) and not isinstance(value, bool) and is_span(field):
        yield keys, format_duration(value), format_duration(usual) if isinstance(usual, int) else usual
    else:
        yield keys, value, usual


def is_span(field: FieldInfo) -> bool:
    """Return whether a key's number is a span of time, kept in ms."""
    optional = [found for part in get_args(field.annotation) for found in get_args(part)[1:]]
    return _SPAN in field.metadata or _SPAN in optional


def _shown(key: str, value: Any) -> Any:
    """A value as plain data without secrets: what is one by its type, by its key's name, or within a text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, SecretStr) or names_secret(key):
        return MASK
    if isinstance(value, Mapping):
        return {str(inner): _shown(str(inner), held) for inner, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(key, held) for held in value]
    return masked(str(getattr(value, "value", value)))


def _receiver(url: str) -> str:
    """Of a notifier's address the scheme and the host: in a chat system whoever knows the rest may write there."""
    with suppress(ValueError):
        parts = urlsplit(url)
        # Reading the port raises where it is none: then a password with a slash may stand where the host is read.
        if parts.hostname and parts.username is None and parts.port != 0:
            return f"{parts.scheme}://{parts.netloc}/{MASK}"
    return MASK


def _lines(path: Path) -> dict[Keys, int]:
    """Return the line of each key of a YAML file; what a merge key brings has none of its own."""
    found: dict[Keys, int] = {}
    open_: list[tuple[Keys, yaml.Node | None]] = [
        ((), yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
    ]
    while open_:
        above, node = open_.pop()
        if isinstance(node, yaml.MappingNode):
            held = [((*above, str(key.value)), key, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            held = [((*above, str(place)), value, value) for place, value in enumerate(node.value)]
        else:
            continue
        for keys, marked, value in held:
            found[keys] = marked.start_mark.line + 1
            open_.append((keys, value))
    return found


def key_help(kind: type[BaseModel]) -> dict[str, KeyHelp]:
    """Return what each key of a block says, from ``keys.yaml``; ``KeyError`` names a key that is not in there."""
    told: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        told |= _told().get(one.__name__, {})
    found = {}
    for name, field in kind.model_fields.items():
        if kind is ModelConfig and name == "name":
            continue
        unit, closed, words = told[name].removeprefix("[").partition("] ")
        span = "span" if is_span(field) else ""
        found[field.alias or name] = KeyHelp(unit, words) if closed else KeyHelp(span, told[name])
    return found


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file, by which an editor completes keys and marks wrong ones."""
    made = Config.model_json_schema(mode="validation")
    model = made["$defs"]["ModelConfig"]
    # A model's name is the key that it stands under.
    del model["properties"]["name"]
    model["required"].remove("name")
    for kind in blocks(Config):
        properties = (made if kind is Config else made["$defs"][kind.__name__])["properties"]
        for key, told in key_help(kind).items():
            properties[key]["description"] = told.sentence
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Stationkeeper configuration", **made}


def blocks(kind: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a settings model and all that stand in it, each once, in the order of its keys."""
    found = [kind]
    for field in kind.model_fields.values():
        for inner in models_in(field.annotation):
            found += [one for one in blocks(inner) if one not in found]
    return found


@functools.cache
def _told() -> dict[str, dict[str, str]]:
    text = files("stationkeeper").joinpath("keys.yaml").read_text(encoding="utf-8")
    read: dict[str, dict[str, str]] = yaml.load(text, Loader=yaml.CSafeLoader)
    return read
