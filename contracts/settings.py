"""What every block of configuration is made of: a frozen model that refuses unknown keys, spans of time, names."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from stationkeeper.contracts.times import parse_duration


class Settings(BaseModel):
    """A block of configuration: frozen, unknown keys refused, no NaN and no infinity as a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _milliseconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[int, BeforeValidator(_milliseconds), Field(ge=0)]
"""A span in milliseconds, written as ``90s``, ``5m`` or ``30d``."""

Positive = Annotated[int, Field(ge=1)]

# 249 characters of this alphabet are what Kafka allows for a topic; names of models and dimensions obey the same rule,
# so that any of them can be part of a topic, a group or a metric label.
Name = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]
