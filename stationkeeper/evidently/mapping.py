"""Evidently's column mapping as ours, and ours as Evidently's.

Two forms are read, from JSON, YAML or a Python dict: ``DataDefinition`` (0.7: ``numerical_columns``,
``classification: [...]``) and the older ``ColumnMapping`` (to 0.6: ``numerical_features``, ``target``). Their fields
were read in evidently 0.7.23 and in its documentation of the two versions.
"""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from stationkeeper.init.infer import ColumnRoles
from stationkeeper.monitor.core.reference import Kind, Reference

DEFINITION: Final = frozenset(
    {
        *("id_column", "timestamp", "service_columns", "numerical_columns", "categorical_columns", "text_columns"),
        *("datetime_columns", "unknown_columns", "list_columns", "classification", "regression", "llm"),
        *("numerical_descriptors", "categorical_descriptors", "test_descriptors", "ranking", "special_columns"),
        "embeddings",
    }
)
COLUMN_MAPPING: Final = frozenset(
    {
        *("target", "prediction", "datetime", "id", "numerical_features", "categorical_features", "text_features"),
        *("datetime_features", "target_names", "task", "pos_label", "embeddings", "user_id", "item_id"),
        "recommendations_type",
    }
)


class MappingRefused(ValueError):
    """A column mapping that cannot be read; the message names the file, the field and what is read."""


def read_mapping(path: Path) -> ColumnRoles:
    """Read a DataDefinition or ColumnMapping from JSON, YAML or a Python literal; raises ``MappingRefused``."""
    try:
        content = _content(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MappingRefused(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MappingRefused(f"{path} is neither JSON, YAML nor a Python dict: {error}") from None
    if not isinstance(content, dict):
        raise MappingRefused(f"{path} holds a {type(content).__name__}; write the fields of a DataDefinition")
    return roles_of(content, str(path))


def _content(text: str) -> Any:
    """Return plain data; what ``print(dict)`` wrote is a Python literal, which as YAML would mean 'None' by None."""
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return yaml.safe_load(text)


def roles_of(content: Mapping[str, Any], source: str) -> ColumnRoles:
    """Return what a mapping says, given as plain data; raises ``MappingRefused`` for fields of neither form."""
    # A dumped object lists all its fields; what is empty says nothing and must not make two forms look mixed.
    given = {str(name): value for name, value in content.items() if value not in (None, [], {}, "")}
    if given.keys() <= DEFINITION:
        return _definition(given, source)
    if given.keys() <= COLUMN_MAPPING:
        return _column_mapping(given, source)
    strange = sorted(given.keys() - DEFINITION - COLUMN_MAPPING)
    if strange:
        raise MappingRefused(
            f"{source}: {strange[0]!r} is no field of Evidently's DataDefinition ({', '.join(sorted(DEFINITION))}) "
            f"nor of its ColumnMapping ({', '.join(sorted(COLUMN_MAPPING))})"
        )
    mixed = sorted(given.keys() & DEFINITION - COLUMN_MAPPING), sorted(given.keys() & COLUMN_MAPPING - DEFINITION)
    raise MappingRefused(f"{source} mixes fields of DataDefinition {mixed[0]} with fields of ColumnMapping {mixed[1]}")


def _definition(given: Mapping[str, Any], source: str) -> ColumnRoles:
    fields: dict[str, str] = {}
    _put(fields, "event_id", given.get("id_column"), source, "id_column")
    _put(fields, "time", given.get("timestamp"), source, "timestamp")
    for task in ("classification", "regression"):
        tasks = given.get(task, [])
        if not isinstance(tasks, Sequence) or isinstance(tasks, str) or not all(isinstance(t, Mapping) for t in tasks):
            raise MappingRefused(f"{source}: {task} must be a list of objects such as {{target: y, prediction: p}}")
        if len(tasks) > 1 or (tasks and "prediction" in fields):
            raise MappingRefused(f"{source}: more than one task; keep the one whose prediction is watched")
        for one in tasks:
            _put(fields, "label", one.get("target"), source, f"{task}.target")
            # Probabilities tell more than labels, and they are what a threshold and drift of scores are about.
            answer = one.get("prediction_probas") or one.get("prediction_labels") or one.get("prediction")
            _put(fields, "prediction", answer, source, f"{task}.prediction")
    numeric = _names(given, "numerical_columns", source)
    categorical = _names(given, "categorical_columns", source)
    others = ("service_columns", "text_columns", "datetime_columns", "unknown_columns", "list_columns")
    # Service columns is an object of roles in some versions; its values are columns all the same.
    left_out = [name for field in others for name in _columns_of(given.get(field))]
    return _roles(source, fields, numeric, categorical, left_out)


def _column_mapping(given: Mapping[str, Any], source: str) -> ColumnRoles:
    fields: dict[str, str] = {}
    for ours, theirs in (("label", "target"), ("prediction", "prediction"), ("time", "datetime"), ("event_id", "id")):
        _put(fields, ours, given.get(theirs), source, theirs)
    numeric = _names(given, "numerical_features", source)
    categorical = _names(given, "categorical_features", source)
    others = ("text_features", "datetime_features", "user_id", "item_id")
    left_out = [name for field in others for name in _columns_of(given.get(field))]
    return _roles(source, fields, numeric, categorical, left_out)


def _roles(
    source: str, fields: dict[str, str], numeric: Sequence[str], categorical: Sequence[str], left_out: Sequence[str]
) -> ColumnRoles:
    """Join the parts; with no list of columns Evidently takes every other column, and so do we."""
    # Evidently lists target and prediction among the columns as well; as features they would be watched twice.
    used = set(fields.values())
    listed = tuple(name for name in (*numeric, *categorical) if name not in used)
    return ColumnRoles(
        source=source,
        fields=fields,
        features=listed or None,
        categorical=tuple(name for name in categorical if name not in used),
        left_out=tuple(left_out),
    )


def _put(fields: dict[str, str], ours: str, value: Any, source: str, theirs: str) -> None:
    """Take a column for a contract field; a list is taken where it names one column only."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return
    if not isinstance(value, str):
        raise MappingRefused(
            f"{source}: {theirs} is {value!r}; one column is read: for a probability of each class name the column of "
            "the positive one, or of the predicted class"
        )
    fields[ours] = value


def _names(given: Mapping[str, Any], field: str, source: str) -> list[str]:
    value = given.get(field, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise MappingRefused(f"{source}: {field} is {value!r}; write a list of column names")
    return value


def _columns_of(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, str):
        return [value]
    return [name for name in value or () if isinstance(name, str)]


def definition_of(reference: Reference, columns: Sequence[str]) -> dict[str, list[str]]:
    """Return the arguments of a DataDefinition for those columns that a reference knows, in its order."""
    known = [subject for subject in reference.subjects if subject.name in columns]
    return {
        "numerical_columns": [s.name for s in known if s.kind is Kind.NUMERIC],
        "categorical_columns": [s.name for s in known if s.kind is not Kind.NUMERIC],
    }
