"""``stationkeeper backtest``: replay a file through the judge and print one JSON line a verdict."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stationkeeper.commands.options import (
    EXIT_USAGE,
    NOTHING_SAID,
    ConfigOption,
    ReadingOptions,
    TimezoneOption,
    configured_values,
    names_of,
    reads_table,
)

if TYPE_CHECKING:
    from stationkeeper.contracts.messages import Level, Verdict

# The levels as text: every start of the command would wait for the messages that hold them.
LevelName = Literal["page", "warn", "inform"]

__all__ = ["backtest"]


@reads_table
def backtest(  # noqa: PLR0913, PLR0917 - the verb's options
    file: Annotated[Path | None, typer.Argument(help="Table (CSV, Parquet) or events (JSONL).")] = None,
    reference: Annotated[Path | None, typer.Option(help="Reference made by `stationkeeper profile`.")] = None,
    reference_rows: Annotated[int | None, typer.Option(help="Or: the first N rows are the reference.")] = None,
    time: Annotated[str | None, typer.Option(help="Column with the time; without it row number is time.")] = None,
    prediction: Annotated[str | None, typer.Option(help="Column with the prediction (score or class).")] = None,
    label: Annotated[str | None, typer.Option(help="Column with what turned out to be true.")] = None,
    label_delay: Annotated[str | None, typer.Option(help="How much later a label is known: duration or rows.")] = None,
    label_maturity: Annotated[
        str | None,
        typer.Option(help="Least age at which a label is judged; default the delay, with --time at least 6h."),
    ] = None,
    adoption: Annotated[
        str | None,
        typer.Option(help="How long live rows teach a reference without order of time; default 14d with --time."),
    ] = None,
    features: Annotated[str | None, typer.Option(help="Columns to watch, a,b,c; default every other column.")] = None,
    categorical: Annotated[str | None, typer.Option(help="Number columns that are codes of categories, d,e.")] = None,
    false_alarms_every: Annotated[
        str | None, typer.Option(help="Budget: one false page every N rows or e.g. 30d.")
    ] = None,
    pane: Annotated[str | None, typer.Option(help="Length of a pane: rows or a duration.")] = None,
    renew: Annotated[
        str, typer.Option(help="After a page, build a new reference from this many rows (auto, N, never).")
    ] = "auto",
    level: Annotated[LevelName, typer.Option(help="Quietest verdicts to print.")] = "page",
    effect_floor: Annotated[
        float | None,
        typer.Option(help="Share of the traffic that may move without being drift; the daemon's by default."),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Run other tools' fixed rules beside ours: lines with `rule`, and a table."),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML report with plots: courses, pages, rules with --compare.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option(help="ROW=WORDS or TIME=WORDS of a change you know of, for the report; repeat.")
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="Instead of a file: a model whose past is judged anew from its topics.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="With --topic: 30d, or a time; default all there is.")] = None,
    until: Annotated[str | None, typer.Option(help="With --topic: a time; default the end.")] = None,
    changed: Annotated[
        Path | None, typer.Option(help="With --topic: a changed configuration to compare with --config.")
    ] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="With --topic: KEY=VALUE of the model to change; repeat.")
    ] = None,
    timezone: TimezoneOption = None,
    model: Annotated[str | None, typer.Option(help="Of events of several models in a file: which one.")] = None,
    reading: ReadingOptions = NOTHING_SAID,
    config: ConfigOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and summary on stderr.")] = False,
) -> None:
    """Judge a file, or a model's past on its topics, as the daemon would have.

    One JSON line a verdict goes to stdout, a summary to stderr. With --topic the summary compares what paged under
    --config with what would have paged under --changed or --set.
    """
    from stationkeeper.contracts.messages import Level

    if topic is not None:
        _past(topic, since, until, changed, assign or [], Level(level), config, quiet=quiet)
        return
    if file is None:
        raise typer.BadParameter("give a FILE to judge, or --topic MODEL to judge a model's past again")
    # Imported here and not above: `stationkeeper --help` must not wait for numpy, polars and the detectors.
    from stationkeeper.backtesting.course import change_of
    from stationkeeper.backtesting.run import load_reference, replay_settings, run
    from stationkeeper.backtesting.table import BadInput, table_of
    from stationkeeper.contracts.times import UTC_ZONE
    from stationkeeper.monitor.core.reference import InvalidReference
    from stationkeeper.tables import Parts, read_table

    _, rules, known, zone = configured_values(config, model)
    rules = reading.over(rules)
    try:
        parts = Parts(time, prediction, label, None, names_of(features) or None)
        read = read_table(file, rules, parts, model=model)
        table = table_of(read)
        if not quiet:
            sys.stderr.writelines(f"  {line}\n" for line in read.lines())
        given = load_reference(reference) if reference else None
        settings = replay_settings(
            table,
            reference_rows=None if reference else reference_rows,
            label_delay=label_delay,
            label_maturity=label_maturity,
            adoption=adoption,
            features=names_of(features) or None,
            categorical=names_of(categorical),
            every=false_alarms_every,
            pane=pane,
            renew=renew,
            effect_floor=effect_floor,
            positive=reading.positive or known,
            timezone=timezone or zone or (UTC_ZONE if given is None else given.timezone),
        )
        marks = tuple(change_of(one) for one in change or ())
        err = None if quiet else sys.stderr
        found = run(
            table,
            settings,
            reference=given,
            level=Level(level),
            out=sys.stdout,
            err=err,
            compare=compare,
            course=report is not None,
        )
        if found.course is not None and report is not None:
            from stationkeeper.report.gather import from_course, write

            # In the report, so that whoever is sent it can make it again.
            command = shlex.join(["stationkeeper", *sys.argv[1:]])
            write(from_course(found.course, found.lines, f"a backtest of {len(table):,} rows", command, marks), report)
            if err is not None:
                err.write(f"wrote {report}\n")
    except (BadInput, InvalidReference, ValueError) as error:
        typer.echo(f"backtest: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from error


def _past(
    model: str,
    since: str | None,
    until: str | None,
    changed: Path | None,
    assignments: list[str],
    level: "Level",
    config: Path | None,
    *,
    quiet: bool,
) -> None:
    import json

    from stationkeeper.backtesting.run import ProgressBar, json_line, shown
    from stationkeeper.backtesting.topics import ReplayError, changed_settings, model_of, replay_topic
    from stationkeeper.config import load
    from stationkeeper.process.wiring import open_reader

    try:
        with open_reader(config) as (settings, reader, topics):
            running = model_of(settings, model)
            # --set is laid over --changed where both are given: the more particular word wins.
            other = None if changed is None else model_of(load(changed), model)
            if assignments:
                other = changed_settings(running if other is None else other, assignments)
            bar = ProgressBar(100, None if quiet else sys.stderr, "of the log")

            def say(verdict: "Verdict", name: str) -> None:
                if shown(verdict, level):
                    typer.echo(json.dumps({"configuration": name, **json_line(verdict)}, ensure_ascii=False))

            found = replay_topic(
                reader,
                topics,
                running,
                other,
                since=since,
                until=until,
                said=say,
                progress=lambda share: bar.update(int(100 * share)),
            )
            bar.done()
    except ReplayError as error:
        typer.echo(f"backtest: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from error
    if not quiet:
        for line in found.lines():
            typer.echo(line, err=True)
