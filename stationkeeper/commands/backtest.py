"""``stationkeeper backtest``: replay a file through the judge and print one JSON line a verdict."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from contracts.messages import Level

__all__ = ["backtest"]

EXIT_USAGE = 2


def backtest(  # noqa: PLR0913, PLR0917 - the verb's options
    file: Annotated[Path, typer.Argument(help="Table (CSV, Parquet) or events (JSONL).")],
    reference: Annotated[Path | None, typer.Option(help="Reference made by `stationkeeper profile`.")] = None,
    reference_rows: Annotated[int | None, typer.Option(help="Or: the first N rows are the reference.")] = None,
    time: Annotated[str | None, typer.Option(help="Column with the time; without it row number is time.")] = None,
    time_unit: Annotated[str, typer.Option(help="What a number in --time counts: ms or s.")] = "ms",
    prediction: Annotated[str | None, typer.Option(help="Column with the prediction (score or class).")] = None,
    label: Annotated[str | None, typer.Option(help="Column with what turned out to be true.")] = None,
    label_delay: Annotated[str | None, typer.Option(help="How much later a label is known: duration or rows.")] = None,
    features: Annotated[str | None, typer.Option(help="Columns to watch, a,b,c; default every other column.")] = None,
    categorical: Annotated[str | None, typer.Option(help="Number columns that are codes of categories, d,e.")] = None,
    false_alarms_every: Annotated[
        str | None, typer.Option(help="Budget: one false page every N rows or e.g. 30d.")
    ] = None,
    pane: Annotated[str | None, typer.Option(help="Length of a pane: rows or a duration.")] = None,
    renew: Annotated[
        str, typer.Option(help="After a page, build a new reference from this many rows (auto, N, never).")
    ] = "auto",
    level: Annotated[Level, typer.Option(help="Quietest verdicts to print.")] = Level.PAGE,
    effect_floor: Annotated[float, typer.Option(help="Share of the traffic that may move without being drift.")] = 0.02,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Run other tools' fixed rules beside ours: lines with `rule`, and a table."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and summary on stderr.")] = False,
) -> None:
    """Judge a file as the daemon would have: one JSON line a verdict on stdout, a summary on stderr."""
    from monitor.core.reference_json import InvalidReference
    from stationkeeper.backtest import load_reference, replay_settings, run
    from stationkeeper.replay.table import BadInput, read_table

    try:
        table = read_table(file, time=time, time_unit=time_unit, prediction=prediction, label=label)
        settings = replay_settings(
            table,
            reference_rows=None if reference else reference_rows,
            label_delay=label_delay,
            features=features,
            categorical=categorical,
            every=false_alarms_every,
            pane=pane,
            renew=renew,
            effect_floor=effect_floor,
        )
        given = load_reference(reference) if reference else None
        err = None if quiet else sys.stderr
        run(table, settings, reference=given, level=level, out=sys.stdout, err=err, compare=compare)
    except (BadInput, InvalidReference, ValueError) as error:
        typer.echo(f"backtest: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from error
