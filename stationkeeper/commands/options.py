"""Options and outputs that verbs share: where the configuration is, how a table is read, and JSON or a table."""

import csv
import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stationkeeper.contracts.masking import printable

if TYPE_CHECKING:
    from stationkeeper.config import Config, ModelConfig
    from stationkeeper.events import ValueRules

# What click exits with for wrong use, so that a script sees one code for it.
EXIT_USAGE = 2

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Configuration file (YAML).", envvar="STATIONKEEPER_CONFIG", show_default=False
    ),
]
EvidentlyOption = Annotated[
    Path | None,
    typer.Option("--evidently-mapping", help="A DataDefinition or ColumnMapping of Evidently (JSON, YAML)."),
]
TimezoneOption = Annotated[
    str | None, typer.Option("--timezone", help="IANA name of the zone whose clock tells hours; default the model's.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def names_of(text: str | None) -> tuple[str, ...]:
    """Return the names of an option such as ``a,b``; one with a comma stands in quotes, as in CSV: ``"x, y",b``."""
    try:
        # Columns may hold commas; CSV's own quoting is what a person knows from the file.
        found = next(csv.reader([text], skipinitialspace=True), []) if text else []
    except csv.Error as error:
        raise typer.BadParameter(f"{text!r}: {error}; write a name with a comma or a line break in quotes") from None
    return tuple(name for name in found if name.strip())


def configured_values(
    config: Path | None, model: str | None
) -> tuple[str | None, "ValueRules", str | None, str | None]:
    """Return the model that is meant, how the configuration reads its values, its positive class and its time zone.

    Without a name it is the only one there is. None and the defaults where there is no configuration, or none of it.
    """
    from stationkeeper.config import Config, load
    from stationkeeper.events import ValueRules

    settings = Config() if config is None else load(config, refuse=True)
    models = settings.models
    # With one model in the file nobody should have to say which.
    name = model or (next(iter(models)) if len(models) == 1 and not settings.refused else None)
    refuse_wrong(settings, name or "")
    found = models.get(name or "")
    if found is None:
        return name, ValueRules(), None, None
    return name, found.values, found.positive, found.timezone


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How a table's texts are to be read; what is None stays as the configuration says."""

    text: Annotated[
        str | None,
        typer.Option("--text", help="Columns that stay text though they look like numbers (ZIP codes), a,b."),
    ] = None
    decimal: Annotated[
        str | None,
        typer.Option("--decimal", help="Numbers come as text with this decimal mark: . or , (1.234,50 €; 3,5%)."),
    ] = None
    na: Annotated[
        list[str] | None,
        typer.Option("--na", help="Texts that mean a missing value beside the empty one; a,b or repeat."),
    ] = None
    positive: Annotated[str | None, typer.Option("--positive", help="The label that scores are about, e.g. fraud.")] = (
        None
    )
    time_unit: Annotated[
        str | None,
        typer.Option("--time-unit", help="What a number in --time counts: s, ms, us or ns; default found out."),
    ] = None
    time_format: Annotated[
        str | None, typer.Option("--time-format", help="How --time is written, as strptime: '%d/%m/%Y %H:%M'.")
    ] = None
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="The file's character set, e.g. cp1252; default found out.")
    ] = None

    def over(self, configured: "ValueRules") -> "ValueRules":
        """Return the rules with what the options say laid over the configured ones; raises ``typer.BadParameter``."""
        from pydantic import ValidationError

        given = {
            "text": names_of(self.text) or None,
            "decimal": self.decimal,
            # --na adds to the empty text, which means missing in every file: a column of numbers needs it so.
            "na": None if self.na is None else ("", *(word for one in self.na for word in names_of(one))),
            "time_unit": self.time_unit,
            "time_format": self.time_format,
            "encoding": self.encoding,
        }
        # None is "not said": what the configuration says stays.
        told = {name: value for name, value in given.items() if value is not None}
        try:
            return type(configured).model_validate(configured.model_dump() | told)
        except ValidationError as error:
            first = error.errors()[0]
            option = "--" + str(first["loc"][0]).replace("_", "-")
            raise typer.BadParameter(f"{option} {first['input']}: {first['msg']}") from None


NOTHING_SAID = ReadingOptions()
"""The default of a verb's ``reading``: read as the configuration says, else find out."""


def reads_table(verb: Callable[..., None]) -> Callable[..., None]:
    """Return the verb with the options of ``ReadingOptions`` where its parameter ``reading`` stands.

    typer makes one option of each parameter of a function's signature and knows no groups of them: the verbs that read
    a table would each declare, and pass on, the same seven.
    """
    asked = inspect.signature(verb, eval_str=True).parameters.values()
    options = inspect.signature(ReadingOptions, eval_str=True).parameters
    # By keyword, because the new ones stand between others and a caller of the function names what it gives.
    found = [one for each in asked for one in (options.values() if each.name == "reading" else (each,))]

    @functools.wraps(verb)
    def told(**given: Any) -> None:
        reading = ReadingOptions(**{name: given.pop(name) for name in options if name in given})
        verb(**given, reading=reading)

    vars(told)["__signature__"] = inspect.Signature(found)
    return told


def model_settings(settings: "Config", model: str) -> "ModelConfig":
    """Return what the configuration says of a model; raises ``typer.BadParameter`` that names those there are."""
    refuse_wrong(settings, model)
    found = settings.models.get(model)
    if found is None:
        raise typer.BadParameter(f"model {model!r} is not configured; models: {', '.join(settings.models) or 'none'}")
    return found


def refuse_wrong(settings: "Config", model: str) -> None:
    """Raise ``typer.BadParameter`` where the entry of this model in the configuration is wrong."""
    why = next((one.why for one in settings.refused if one.name == model), None)
    if why is not None:
        raise typer.BadParameter(f"model {model!r} is refused until its entry is mended: {why}")


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

    # Colours guessed from a cell's text would mark parts of versions and ids as numbers.
    console = Console(highlight=False)
    # Drawn tables cannot be cut by `cut` and `awk`.
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
