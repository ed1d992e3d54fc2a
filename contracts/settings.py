"""What every block of configuration is made of: a frozen model that refuses unknown keys, spans of time, names."""

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from stationkeeper.contracts.column import canonical_key
from stationkeeper.contracts.masking import remember
from stationkeeper.contracts.times import parse_duration


class Settings(BaseModel):
    """A block of configuration: frozen, unknown keys refused, no NaN and no infinity as a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _milliseconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


class SettingError(ValueError):
    """A setting that is well written and cannot be used here and now: a file or a variable that is not there."""


Duration = Annotated[int, BeforeValidator(_milliseconds, json_schema_input_type=int | str), Field(ge=0)]
"""A span in milliseconds, written as ``90s``, ``5m`` or ``30d``."""


def _spelled(value: object) -> object:
    return canonical_key(value) if isinstance(value, bool | int | float) else value


ClassName = Annotated[str, BeforeValidator(_spelled, json_schema_input_type=str | bool | float), Field(min_length=1)]
"""The text of a class as labels spell it; YAML reads ``true`` and ``1`` as no text, and people write them so."""


def _remembered(value: SecretStr) -> SecretStr:
    remember(value.get_secret_value())
    return value


Secret = Annotated[SecretStr, AfterValidator(_remembered)]
"""A value that no output shows: as a setting it is stars, and in the messages of libraries ``masked`` hides it."""


class Credential(Settings):
    """A secret by exactly one of three ways: a ``file`` (a mounted secret), the variable ``env``, or the ``secret``."""

    # Inputs are hidden in errors because one of them may be the secret.
    model_config = ConfigDict(hide_input_in_errors=True)

    file: Path | None = None
    env: str | None = None
    secret: Secret | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(given is not None for given in (self.file, self.env, self.secret)) != 1:
            raise ValueError("write exactly one of file: (a path), env: (a variable's name) and secret:")
        return self

    def read(self, key: str) -> str:
        """Return the secret as it is now; raises ``SettingError`` that names ``key`` and what cannot be read."""
        if self.file is not None:
            return read_secret(self.file, f"{key}.file")
        if self.env is not None:
            return secret_variable(self.env, f"{key}.env")
        return self.secret.get_secret_value() if self.secret else ""


def read_secret(path: Path, key: str) -> str:
    """Return the text of a file without the white space around it; raises ``SettingError`` that names ``key``."""
    try:
        return remember(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise SettingError(f"{key} {path} cannot be read: {why}") from None


def secret_variable(name: str, key: str) -> str:
    """Return the value of a variable; raises ``SettingError`` that names ``key``."""
    if name not in os.environ:
        raise SettingError(f"{key} names {name}, which is not set")
    return remember(os.environ[name])


Positive = Annotated[int, Field(ge=1)]

# 249 characters of this alphabet are what Kafka allows for a topic; names of models and dimensions obey the same rule,
# so that any of them can be part of a topic, a group or a metric label.
Name = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]
