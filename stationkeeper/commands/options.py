"""Options and outputs that verbs share: where the configuration is, and JSON or a table."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from stationkeeper.contracts.masking import printable

# What click exits with for wrong use, so that a script sees one code for it.
EXIT_USAGE = 2

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Configuration file (YAML).", envvar="STATIONKEEPER_CONFIG", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def names_of(text: str | None) -> tuple[str, ...]:
    """Return the names of an option such as ``a,b``; one with a comma stands in quotes, as in CSV: ``"x, y",b``."""
    found = next(csv.reader([text], skipinitialspace=True), []) if text else []
    return tuple(name for name in found if name.strip())


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
