"""What a role keeps between runs: named fields, checked when they are read back."""

from typing import Any, TypeVar

import msgspec


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every kept state: a frozen record with named fields; numpy arrays are allowed as fields.

    It is stored as a map by field name, so that a field with a default may be added and old state still be read. Where
    older builds stored a list by position, a subclass says ``array_like=True`` and new fields come last.
    """


_S = TypeVar("_S", bound=State)


def state_of(plain: Any, kind: type[_S]) -> _S:
    """Return stored plain values (maps, lists, arrays) as the state they were; O(size).

    Raises ``msgspec.ValidationError`` with the path of the first field that does not fit.
    """
    return msgspec.convert(plain, kind)


def replaced(state: _S, **changes: Any) -> _S:
    """Return the state with some fields changed."""
    return msgspec.structs.replace(state, **changes)
