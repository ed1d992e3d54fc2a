"""What the configuration says of an input topic: its name, and where in its JSON each field of the contract is."""

from typing import Annotated, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from stationkeeper.contracts.settings import Name, Settings

Kind = Literal["prediction", "feature", "label"]
FieldName = Literal[
    "kind",
    "event_id",
    "time",
    "model",
    "version",
    "features",
    "prediction",
    "label",
    "segment",
    "weight",
    "latency_ms",
    "entity_id",
    "action",
    "assignment_prob",
]
TimeUnit = Literal["rfc3339", "s", "ms", "us", "ns"]
KINDS: tuple[Kind, ...] = get_args(Kind)

JSON = "json"
"""The decoder of a topic that names none: its values are JSON text as they are."""


MAX_PATH = 512
"""Longest path in characters: chosen well above an envelope's keys with a long name; double would put a path that
nobody reads into every message about it."""

Path = Annotated[str, Field(min_length=1, max_length=MAX_PATH)]


DecimalMark = Literal[".", ","]


class ValueRules(Settings):
    """How texts are read as values: in a file of past rows, and in the events that are set beside it.

    ``na`` are the texts that stand for a missing value; an empty one always does where no other list is given. ``text``
    names features that stay text although they look like numbers, as ZIP codes do. ``decimal`` says that numbers come
    as text with this decimal mark (``1.234,50 €`` with ``","``); without it, text in a feature of numbers is a wrong
    type. The others are for files alone: ``time_unit`` is what a number in the time column counts, ``time_format`` how
    its text is written (``%d/%m/%Y %H:%M``), ``encoding`` the file's character set; left out, each is found out and
    said.
    """

    text: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    decimal: DecimalMark | None = None
    na: tuple[str, ...] = ("",)
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    time_format: str | None = None
    encoding: str | None = None


class InputMapping(Settings):
    """A topic that is not in our own form: where in its JSON each field of the contract is.

    ``map`` gives a path of object keys joined by dots for a field (``"a.b"``; quote a key that holds a dot:
    ``'a."b.c"'``); a field that is not mapped is looked for under its own name. ``features`` is the path of an object
    that holds them all, or a path for each feature. ``constants`` hold what the records do not say. ``time_unit``
    says what a number in ``time`` counts; with ``rfc3339`` only text is a time. ``decoder`` turns the record's value
    into JSON first: ``json``, ``confluent-json``, another entry point of ``stationkeeper.decoders`` or
    ``package.module:Name``.
    """

    topic: Name
    map: dict[FieldName, Path | dict[str, Path]] = {}
    constants: dict[Literal["model", "version", "segment"], str | dict[str, str]] = {}
    time_unit: TimeUnit = "ms"
    # 256 characters hold any import path that people write; it is repeated in messages and dead letters.
    decoder: Annotated[str, Field(min_length=1, max_length=256)] = JSON

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field, path in self.map.items():
            if isinstance(path, dict) and field != "features":
                raise ValueError(
                    f"map.{field}: only features takes a path for each name; write one path, e.g. payload.id"
                )
        for field, value in self.constants.items():
            if isinstance(value, dict) != (field == "segment"):
                form = "{dimension: value}" if field == "segment" else "text"
                raise ValueError(f"constants.{field}: found {value!r}; write {form}")
            if field in self.map:
                raise ValueError(f"{field} is both mapped and constant; keep one of map.{field} and constants.{field}")
        return self

    @property
    def own_form(self) -> bool:
        """Whether the topic carries the contract's own events."""
        return not self.map and not self.constants and self.time_unit == "ms"


def _input(value: object) -> object:
    return {"topic": value} if isinstance(value, str) else value


Input = Annotated[InputMapping, BeforeValidator(_input, json_schema_input_type=Name | InputMapping)]
"""A topic name (events in our own form) or an ``InputMapping``."""
