"""The generated page docs/settings.md: every key of the configuration with default, unit and environment variable."""

from collections.abc import Iterator
from enum import Enum
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from scripts.docs.pages import table
from stationkeeper.config import ENV_PREFIX, Config, models_in
from stationkeeper.contracts.settings import Credential, Settings
from stationkeeper.contracts.times import format_duration
from stationkeeper.deploy.targets.kubernetes.cluster import ClusterOptions
from stationkeeper.deploy.targets.kubernetes.gateway_api import RouteOptions
from stationkeeper.deploy.targets.kubernetes.kserve import ServiceOptions
from stationkeeper.deploy.targets.mlflow_alias import AliasOptions
from stationkeeper.deploy.targets.sagemaker import SageMakerOptions
from stationkeeper.deploy.targets.vertex import VertexOptions
from stationkeeper.effective import key_help
from stationkeeper.events import InputMapping

OPTIONS: Final[dict[str, type[Settings]]] = {
    "mlflow-alias": AliasOptions,
    "kserve": ServiceOptions,
    "gateway-api": RouteOptions,
    "argo-rollouts, flagger": ClusterOptions,
    "sagemaker": SageMakerOptions,
    "vertex": VertexOptions,
}
"""The options of each kind of target that has some: blocks that no model of the configuration names."""

_HEAD = """# Settings: every key

<!-- Written by `python -m scripts.docs.publish`; change stationkeeper/keys.yaml or the models and run `make docs`. -->

Each block with its keys, their defaults and units, and the variable that sets a key from outside; it goes before the
file. NAME stands for a name of your own (in a variable in capitals). A key with a lock (🔒) holds a secret: `config
show` prints stars, and no log, page or metric shows it. A span of time is written as `90s`, `5m`, `12h`, `30d`.
[configuration.md](configuration.md) explains topics and models, `stationkeeper config schema` prints the same for an
editor, and `stationkeeper config show --effective` what is in force.
"""


def blocks(kind: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every block of the configuration with its path, in the order of the keys."""
    yield path, kind
    for name, field in kind.model_fields.items():
        for inner in models_in(field.annotation):
            below = f"{path}.{field.alias or name}".lstrip(".")
            if "dict[" in str(field.annotation):
                below += ".NAME"
            yield from blocks(inner, f"{below}[]" if "tuple[" in str(field.annotation) else below)


def settings_page() -> str:
    """Return docs/settings.md."""
    where: dict[type[BaseModel], list[str]] = {}
    for path, kind in blocks(Config):
        where.setdefault(kind, []).append(path)
    lines = [*_HEAD.splitlines(), ""]
    for kind, paths in where.items():
        lines += [f"## {paths[0] or 'The whole'}", ""]
        if len(paths) > 1:
            # Each place has variables of its own, of which the table can show only the first one's.
            others = [f"`{path}` ({_variable(f'{path}.KEY')})" for path in paths[1:]]
            lines += [f"Likewise {', '.join(others)}.", ""]
        lines += _table(kind, paths[0])
    for name, options in OPTIONS.items():
        lines += [f"## targets[].options of {name}", "", *_table(options, "targets[].options")]
    return "\n".join(lines[:-1]) + "\n"


def _table(kind: type[BaseModel], path: str) -> list[str]:
    told = key_help(kind)
    rows = []
    for name, field in kind.model_fields.items():
        key = field.alias or name
        if key not in told:
            continue
        one, inner = told[key], list(models_in(field.annotation))
        # Of a topic a name is enough; of all others the block is a section of this page.
        default = "block" if inner and InputMapping not in inner else _default(field, one.unit) + _allowed(field)
        # What a target's own options need, and the wiring fills in where it is left out.
        default = "" if default == "needed" and "left out" in one.words else default
        lock = " 🔒" if _secret(field) else ""
        rows.append([f"`{key}`{lock}", default, one.unit, _variable(f"{path}.{key}".lstrip(".")), one.words])
    return table(["key", "default", "unit", "variable", "what it says"], rows)


def _default(field: FieldInfo, unit: str) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "needed"
    if value in (None, (), {}, ""):
        return ""
    if unit == "span" and isinstance(value, int):
        return f"`{format_duration(value)}`"
    return f"`{_plain(value)}`"


def _allowed(field: FieldInfo) -> str:
    """Return the words that a key may hold where they are a closed list."""
    kinds = [field.annotation, *get_args(field.annotation)]
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    words += [one.value for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum) for one in kind]
    return f" of {', '.join(f'`{word}`' for word in words)}" if words else ""


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    return f"[{', '.join(map(_plain, value))}]" if isinstance(value, tuple) else str(value)


def _secret(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation) or Credential in models_in(field.annotation)


def _variable(path: str) -> str:
    # An entry of a list has no variable of its own: the list is set whole, as YAML.
    whole, _, rest = path.partition("[]")
    name = f"`{ENV_PREFIX}{whole.replace('.', '__').upper()}`"
    return f"in {name}" if rest else name
