"""Options and outputs that verbs share: where the configuration is, and JSON or a table."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stationkeeper.contracts.masking import printable

if TYPE_CHECKING:
    from stationkeeper.events import ValueRules

# What click exits with for wrong use, so that a script sees one code for it.
EXIT_USAGE = 2

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Configuration file (YAML).", envvar="STATIONKEEPER_CONFIG", show_default=False
    ),
]
TextOption = Annotated[
    str | None, typer.Option("--text", help="Columns that stay text though they look like numbers (ZIP codes), a,b.")
]
DecimalOption = Annotated[
    str | None,
    typer.Option("--decimal", help="Numbers come as text with this decimal mark: . or , (1.234,50 €; 3,5%)."),
]
NaOption = Annotated[
    list[str] | None, typer.Option("--na", help="Texts that mean a missing value beside the empty one; a,b or repeat.")
]
PositiveOption = Annotated[str | None, typer.Option("--positive", help="The label that scores are about, e.g. fraud.")]
TimeUnitOption = Annotated[
    str | None, typer.Option("--time-unit", help="What a number in --time counts: s, ms, us or ns; default found out.")
]
TimeFormatOption = Annotated[
    str | None, typer.Option("--time-format", help="How --time is written, as strptime: '%d/%m/%Y %H:%M'.")
]
EncodingOption = Annotated[
    str | None, typer.Option("--encoding", help="The file's character set, e.g. cp1252; default found out.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def names_of(text: str | None) -> tuple[str, ...]:
    """Return the names of an option such as ``a,b``; one with a comma stands in quotes, as in CSV: ``"x, y",b``."""
    try:
        found = next(csv.reader([text], skipinitialspace=True), []) if text else []
    except csv.Error as error:
        raise typer.BadParameter(f"{text!r}: {error}; write a name with a comma or a line break in quotes") from None
    return tuple(name for name in found if name.strip())


def configured_values(config: Path | None, model: str | None) -> tuple[str | None, "ValueRules", str | None]:
    """Return the model that is meant, how the configuration reads its values, and its positive class.

    Without a name it is the only one there is. None and the defaults where there is no configuration, or none of it.
    """
    from stationkeeper.config import load
    from stationkeeper.events import ValueRules

    models = {} if config is None else load(config).models
    name = model or (next(iter(models)) if len(models) == 1 else None)
    found = models.get(name or "")
    return (name, ValueRules(), None) if found is None else (name, found.values, found.positive)


def value_rules(
    configured: "ValueRules",
    *,
    text: str | None = None,
    decimal: str | None = None,
    na: Sequence[str] | None = None,
    time_unit: str | None = None,
    time_format: str | None = None,
    encoding: str | None = None,
) -> "ValueRules":
    """Return the rules that a verb's options lay over the configured ones; raises ``typer.BadParameter``."""
    from pydantic import ValidationError

    given = {
        "text": names_of(text) or None,
        "decimal": decimal,
        "na": None if na is None else ("", *(word for one in na for word in names_of(one))),
        "time_unit": time_unit,
        "time_format": time_format,
        "encoding": encoding,
    }
    told = {name: value for name, value in given.items() if value is not None}
    try:
        return type(configured).model_validate(configured.model_dump() | told)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise typer.BadParameter(f"{option} {first['input']}: {first['msg']}") from None


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, default=str))


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """Print rows as a table: drawn on a terminal, tab-separated when piped; ``empty`` says what no rows mean."""
    if not rows:
        typer.echo(empty, err=True)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        typer.echo("\t".join(columns))
        for row in rows:
            typer.echo("\t".join(_text(row.get(column)) for column in columns))
        return
    table = Table(show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_text(row.get(column))) for column in columns))
    console.print(table)


def _text(value: Any) -> str:
    """Return a cell; names come from records, and a terminal would obey their control characters."""
    return "" if value is None else printable(str(value))
