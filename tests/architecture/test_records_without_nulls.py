"""Records are written without nulls: a field that may be null and has no default could be written and never read."""

import typing
from collections.abc import Iterator
from types import NoneType

import pytest
from pydantic import BaseModel

from stationkeeper.contracts import messages
from stationkeeper.contracts.messages import Message
from stationkeeper.retrain.service.state import RetrainState

WRITTEN: tuple[type[BaseModel], ...] = (
    RetrainState,
    *(one for one in vars(messages).values() if isinstance(one, type) and issubclass(one, Message)),
)


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation names, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models_in(part)


def reached(root: type[BaseModel]) -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = set()
    waiting = [root]
    while waiting:
        model = waiting.pop()
        if model not in found:
            found.add(model)
            waiting += [inner for field in model.model_fields.values() for inner in models_in(field.annotation)]
    return found


@pytest.mark.parametrize("root", WRITTEN, ids=lambda model: model.__name__)
def test_each_field_that_may_be_null_has_a_default(root: type[BaseModel]) -> None:
    unread = [
        f"{model.__name__}.{name}"
        for model in reached(root)
        for name, field in model.model_fields.items()
        if field.is_required() and NoneType in typing.get_args(field.annotation)
    ]
    assert unread == []
