"""Every key that a person may write is on the page of settings and in the editor's schema, with its unit."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

import stationkeeper
from scripts.docs.settings import OPTIONS, blocks, settings_page
from stationkeeper.config import Config, ModelConfig, load
from stationkeeper.contracts.settings import Settings
from stationkeeper.effective import effective, key_help, schema

KINDS: set[type[BaseModel]] = {kind for _, kind in blocks(Config)} | set(OPTIONS.values())
ROW = re.compile(r"^\| `(\w+)`( 🔒)? \| (.*?) \| (.*?) \| (in )?`(STATIONKEEPER__\w+)` \| (.+) \|$", re.MULTILINE)


def subclasses(kind: type[Settings]) -> Iterator[type[Settings]]:
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def numbers(annotation: Any) -> bool:
    """Whether a key is a number and nothing else: of others the words say what a number would mean."""
    if get_origin(annotation) is Annotated:
        return numbers(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        return all(numbers(one) for one in get_args(annotation) if one is not type(None))
    return annotation in {int, float}


def test_no_settings_model_is_left_out() -> None:
    for module in pkgutil.walk_packages(stationkeeper.__path__, "stationkeeper."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    # What only others are built on, and the part of a model that ModelConfig holds.
    whole = {one for one in subclasses(Settings) if one.__module__.startswith("stationkeeper.") and one.model_fields}
    assert {one for one in whole - KINDS if not set(one.__subclasses__()) & KINDS} == set()
    assert ModelConfig in KINDS


@pytest.mark.parametrize("kind", sorted(KINDS, key=str))
def test_every_key_says_what_it_does_and_every_number_in_what_unit(kind: type[BaseModel]) -> None:
    told = key_help(kind)
    # The name of a model is the key that it stands under.
    assert told.keys() == {field.alias or name for name, field in kind.model_fields.items()} - {"name"}
    for name, field in kind.model_fields.items():
        if (found := told.get(field.alias or name)) is None:
            continue
        # Two words say something; one only repeats the key.
        assert len(found.words.split()) >= 2, name
        assert found.unit or not numbers(field.annotation), f"{kind.__name__}.{name}: a number without its unit"


def test_nothing_is_said_of_keys_that_are_not_there() -> None:
    from stationkeeper.effective import _told

    known = {one.__name__: one for kind in KINDS for one in kind.__mro__ if issubclass(one, BaseModel)}
    assert _told().keys() <= known.keys()
    for name, keys in _told().items():
        assert keys.keys() <= known[name].model_fields.keys(), name


def test_the_page_counts_every_key() -> None:
    rows = ROW.findall(settings_page())
    # A block that stands in several places is told once.
    assert len(rows) == sum(len(key_help(kind)) for kind in KINDS)
    assert {row[0] for row in rows if row[1]} >= {"password", "key_password", "secret", "token", "callers"}


def test_the_variable_of_each_key_sets_it() -> None:
    """Each is set to the default that the page prints: that must load, and be told as the variable's doing."""
    tried = 0
    for _, _, default, _, within, variable, _ in ROW.findall(settings_page()):
        value = default.partition("` of `")[0].strip("`")
        # Left out, these blocks are none, and they need another key beside.
        alone = not variable.startswith(("STATIONKEEPER__OTLP__", "STATIONKEEPER__HTTP__TLS__"))
        if (
            within
            or not alone
            or "__NAME" in variable
            or default in {"", "block", "needed"}
            or default.startswith(" of")
        ):
            continue
        key = variable.removeprefix("STATIONKEEPER__").replace("__", ".").lower()
        env = {variable: value}
        assert load(None, env) == Config(), variable
        (found,) = [one for one in effective(None, env) if one.key == key]
        assert (found.origin, found.where) == ("environment", variable)
        tried += 1
    # Blocks of models are not among them, because their keys stand below a name.
    assert tried > 50


def test_an_editor_shows_the_words_of_every_key() -> None:
    made = schema()
    parts = [made, *(part for part in made["$defs"].values() if "properties" in part)]
    silent = [name for part in parts for name, one in part["properties"].items() if not one.get("description")]
    assert silent == []
    assert made["$defs"]["KafkaSettings"]["properties"]["fetch_bytes"]["description"].startswith("bytes: ")


def test_the_page_is_linked() -> None:
    root = Path(__file__).resolve().parents[2]
    assert "(settings.md)" in (root / "docs/configuration.md").read_text(encoding="utf-8")
