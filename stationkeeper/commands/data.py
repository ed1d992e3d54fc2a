"""Verbs about data: a first configuration, a reference, a replay, an explanation, reports, the count of counts."""

import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stationkeeper.commands.backtest import backtest
from stationkeeper.commands.options import (
    NOTHING_SAID,
    ConfigOption,
    EvidentlyOption,
    JsonOption,
    ReadingOptions,
    print_json,
    reads_table,
)
from stationkeeper.commands.profile import moment, profile

if TYPE_CHECKING:
    from stationkeeper.config import Config
    from stationkeeper.contracts.topics import Topics
    from stationkeeper.explain.lineage import Chain
    from stationkeeper.explain.verify import DigestCheck
    from stationkeeper.init.infer import ColumnRoles
    from stationkeeper.streams.ports import Reader

__all__ = ["EVIDENTLY_VERBS", "backtest", "dump", "explain", "init", "profile", "report", "verify"]


@reads_table
def init(  # noqa: PLR0913, PLR0917 - the verb's options
    source: Annotated[str, typer.Argument(help="A topic name, or a file of past predictions (CSV, Parquet, JSONL).")],
    topic: Annotated[str | None, typer.Option(help="With a table: the topic that the model's events are in.")] = None,
    labels: Annotated[str | None, typer.Option(help="The topic that labels come in, where it is another one.")] = None,
    model: Annotated[str, typer.Option(help="The model's name, where the sample does not say.")] = "model",
    bootstrap: Annotated[str | None, typer.Option(help="Broker, for a topic.", envvar="STATIONKEEPER_KAFKA")] = None,
    sample: Annotated[int, typer.Option(help="Records to look at.", min=1)] = 200,
    field: Annotated[
        list[str] | None,
        typer.Option(
            help="FIELD=COLUMN of a table, FIELD=PATH of a topic, e.g. label=churned; before guesses. Repeat."
        ),
    ] = None,
    evidently_mapping: EvidentlyOption = None,
    reading: ReadingOptions = NOTHING_SAID,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A file whose kafka: block says how to reach the broker.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here instead of stdout.")] = None,
    json: JsonOption = False,
) -> None:
    """Write a commented configuration guessed from a sample of a topic, of a file, or of both."""
    from stationkeeper.config import load
    from stationkeeper.events import ValueRules
    from stationkeeper.init.first import first_configuration
    from stationkeeper.init.infer import InitError

    # Asked before anything is read: a configuration that a person has edited must not be lost to a second `init`.
    if output is not None and output.exists():
        raise typer.BadParameter(f"{output} exists; choose another --output or move it away")
    # Of a configuration only how to reach the broker: the models are what this verb is to write.
    kafka = load(config, refuse=True).kafka
    if bootstrap is not None:
        kafka = kafka.model_copy(update={"bootstrap": bootstrap})
    rules = reading.over(ValueRules())
    try:
        made = first_configuration(
            *(source, topic, labels, model, kafka, sample),
            _roles(field, evidently_mapping),
            rules,
            reading.positive,
        )
    except InitError as error:
        raise typer.BadParameter(str(error)) from error
    if output is not None:
        output.write_text(made.text, encoding="utf-8")
    if json:
        seen = {one.source: asdict(one) for one in made.looked}
        print_json({"looked_at": seen, "profile": made.profile, "configuration": made.text, "output": output})
        return
    if output is None:
        typer.echo(made.text, nl=False)
        for line in made.proof:
            typer.echo(line, err=True)
        return
    for line in made.proof:
        typer.echo(line, err=True)
    typer.echo(f"wrote {output}; read it, then:\n  stationkeeper check --config {output} --sample 5", err=True)
    if made.profile is not None:
        typer.echo(f"  {made.profile} --publish --config {output}", err=True)


def _roles(pairs: list[str] | None, evidently_mapping: Path | None) -> "ColumnRoles":
    """Return what --field and --evidently-mapping say; --field goes first."""
    from stationkeeper.evidently.mapping import read_mapping
    from stationkeeper.init.infer import CONTRACT_FIELDS, ColumnRoles

    roles = read_mapping(evidently_mapping) if evidently_mapping is not None else ColumnRoles()
    fields = dict(roles.fields)
    for pair in pairs or ():
        name, _, column = pair.partition("=")
        if name not in CONTRACT_FIELDS or not column:
            raise typer.BadParameter(f"--field {pair!r}: write FIELD=COLUMN; fields are {', '.join(CONTRACT_FIELDS)}")
        fields[name] = column
    source = roles.source if evidently_mapping is not None else "--field"
    return replace(roles, fields=fields, source=source)


def explain(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="Verdict, incident, request, candidate, run, version …, or a model.")
    ],
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Hash snapshot, artifact, reference and recipe again; exit 1 if one differs."),
    ] = False,
    openlineage: Annotated[
        bool,
        typer.Option("--openlineage", help="Print the training as run events of OpenLineage instead, one JSON a line."),
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> int:
    """Say why: the counts and numbers of a decision, and everything that led to it and followed from it."""
    from stationkeeper.explain.bins import bins_of
    from stationkeeper.explain.explain import chain_text
    from stationkeeper.explain.lineage import Lineage
    from stationkeeper.explain.verify import verified_text
    from stationkeeper.process.wiring import open_reader

    with open_reader(config) as (settings, reader, topics):
        lineage = Lineage(reader, topics)
        chain = lineage.chain(name)
        # An id goes before a model of the same name: it is what a message or an alert says.
        if chain is None and name in settings.models:
            latest = lineage.latest_incident(name)
            if latest is None:
                raise typer.BadParameter(f"model {name!r} has had no incident: nothing was decided that has a reason")
            chain = lineage.chain(latest)
        if chain is None:
            raise typer.BadParameter(
                f"nothing in the log is called {name!r}; a model's name explains its latest incident: "
                f"{', '.join(settings.models) or 'none is configured'}"
            )
        bins = bins_of(reader, topics, chain.verdicts)
        checks = _verified(settings, chain, reader, topics) if verify else []
    if openlineage:
        from stationkeeper.explain.openlineage import run_events

        for event in run_events(chain.outcome, settings.kafka.prefix) if chain.outcome is not None else []:
            typer.echo(dumps(event))
    elif json:
        tables = {verdict: table.to_json() for verdict, table in bins.items()}
        told = {"verified": [one.to_json() for one in checks]} if verify else {}
        print_json({**chain.to_json(), "bins": tables, **told})
    else:
        typer.echo(chain_text(chain, bins))
        if verify:
            typer.echo(f"\n{verified_text(checks)}")
    return 1 if any(one.state == "wrong" for one in checks) else 0


def _verified(settings: "Config", chain: "Chain", reader: "Reader", topics: "Topics") -> "list[DigestCheck]":
    """Check the digests of a chain where this command runs."""
    from stationkeeper.explain.lineage import read_references
    from stationkeeper.explain.verify import verify_chain
    from stationkeeper.registry import Registry
    from stationkeeper.retrain.snapshot import SnapshotStore
    from stationkeeper.retrain.training import TrainerError
    from stationkeeper.retrain.training.trainer import load_trainer
    from stationkeeper.retrain.training.training import code_digest

    def code_of(trainer: str) -> str | None:
        # Only what the configuration names is loaded: a name from the registry must not choose what runs here.
        mine = settings.models.get(chain.candidate.model) if chain.candidate else None
        if mine is None or mine.retrain is None or mine.retrain.trainer != trainer:
            return None
        try:
            return code_digest(load_trainer(trainer, mine.retrain.parameters))
        except TrainerError:
            return None

    known = read_references(reader, topics, chain.candidate.model) if chain.candidate else {}
    store = SnapshotStore.of(settings.snapshots)
    return verify_chain(chain, store, Registry(settings.registry), known, code_of)


def report(  # noqa: PLR0913, PLR0917 - the verb's options
    model: Annotated[str | None, typer.Option(help="The model; with --backtest the one in the file.")] = None,
    backtest_file: Annotated[Path | None, typer.Option("--backtest", help="JSONL written by backtest.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="RFC 3339; default: all there is.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="RFC 3339.")] = None,
    plot: Annotated[
        str | None, typer.Option(help="Only one plot, as .svg or .png: a subject, or `timeline` of a backtest.")
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="With --plot: on a dark ground.")] = False,
    change: Annotated[
        list[str] | None, typer.Option(help="With --backtest: ROW=WORDS or TIME=WORDS of a known change; repeat.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "--out", "-o", help="Default: report.html or SUBJECT.svg.")
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Write one self-contained HTML file about a model and a period."""
    from stationkeeper.backtesting.course import change_of
    from stationkeeper.process.wiring import open_reader
    from stationkeeper.report.gather import ReportError, from_backtest, from_log, write, write_plot

    try:
        known = [change_of(one) for one in change or ()]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        if backtest_file is not None:
            made = from_backtest(backtest_file, model, known)
        elif model is None:
            raise typer.BadParameter("give --model NAME, or --backtest FILE")
        else:
            with open_reader(config) as (_, reader, topics):
                made = from_log(reader, topics, model, moment(start), moment(end))
        path = output or Path(f"{plot}.svg" if plot is not None else "report.html")
        if plot is not None:
            write_plot(made, plot, path, dark=dark)
        else:
            write(made, path)
    except ReportError as error:
        raise typer.BadParameter(str(error)) from error
    if json:
        print_json({"output": path, "bytes": path.stat().st_size})
        return
    typer.echo(f"wrote {path} ({path.stat().st_size / 1024:.0f} kB)")


def verify(config: ConfigOption = None, json: JsonOption = False) -> int:
    """Count the input topics again in a plain way: exit 0 all equal, 1 differences, 3 not all comparable."""
    from stationkeeper.monitor.verify import verify as compare
    from stationkeeper.process.wiring import open_reader

    # Whole: what was counted of a model before its entry went wrong cannot be counted again without it.
    with open_reader(config, whole=True) as (settings, reader, topics):
        result = compare(reader, settings.models, topics, clock=settings.clock)
    if json:
        print_json(result.to_json())
    else:
        typer.echo(result.summary())
    if not result.equal:
        return 1
    # Not 0: counts that could not be compared (records gone from the topic) are no proof of equality.
    return 0 if result.complete else 3


def dump(
    topic: Annotated[str, typer.Argument(help="An internal topic, e.g. panes, history, verdicts (prefix optional).")],
    config: ConfigOption = None,
    last: Annotated[int, typer.Option(help="How many records from the end of each partition.", min=1)] = 20,
) -> None:
    """Print the records of an internal topic as JSON lines, binary forms decoded."""
    import json

    import msgspec

    from stationkeeper.contracts.wire import WireError, decode
    from stationkeeper.explain.lineage import newest
    from stationkeeper.process.wiring import open_reader

    with open_reader(config) as (_, reader, topics):
        # With the prefix or without it, as pages and `kafka-topics` show it or as the documents do.
        name = topic if topic.startswith(f"{topics.prefix}.") else f"{topics.prefix}.{topic}"
        partitions = reader.partitions(name)
        if not partitions:
            raise typer.BadParameter(f"there is no topic {name!r}; topics: {', '.join(t.name for t in topics.all())}")
        shown = 0
        for batch, rows in newest(reader, partitions, last):
            for row in rows:
                value = batch.values[row]
                body: object = None
                if value is not None:
                    try:
                        body = json.loads(value)
                    except ValueError:
                        try:
                            body = [msgspec.to_builtins(record) for record in decode(value)]
                        except WireError:
                            body = {"bytes": len(value)}
                line = {
                    "partition": batch.partition.index,
                    "offset": int(batch.offsets[row]),
                    # Keys are names of models; what is no UTF-8 is shown, not refused, for this verb is for looking at
                    # damage.
                    "key": (batch.keys[row] or b"").decode(errors="replace"),
                    "value": body,
                }
                shown += 1
                try:
                    print(json.dumps(line, default=str))  # noqa: T201 - the answer of the verb
                # `dump … | head` is the usual way to call it; Python would print a trace at its end as well, for the
                # stream it still holds.
                except BrokenPipeError:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                    return
    if not shown:
        typer.echo(f"{name} holds no records", err=True)


def evidently_report(
    reference: Annotated[Path, typer.Argument(help="A reference that profile wrote.")],
    current: Annotated[str, typer.Argument(help="Rows: a CSV or Parquet file, or a snapshot's SHA-256.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file.")] = Path("evidently.html"),
    prediction: Annotated[str | None, typer.Option(help="The rows' column that holds the prediction.")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Write Evidently's data-drift report of a reference against rows, in an environment of its own (made once)."""
    from stationkeeper.config import load
    from stationkeeper.evidently.environment import ready
    from stationkeeper.evidently.report import job_of, read_current, read_reference, run
    from stationkeeper.retrain.snapshot import SnapshotStore

    snapshots = SnapshotStore.of(load(config, refuse=True).snapshots)
    job = job_of(read_reference(reference), read_current(current, snapshots), prediction)
    if not ready():
        typer.echo("making an environment for Evidently in the cache, once (about 700 MB)", err=True)
    metrics = run(job, output)
    if json:
        print_json({"output": str(output), "columns": job.columns, "metrics": metrics})
        return
    rows = f"{job.reference.height:,} rows drawn from the reference against {job.current.height:,}"
    typer.echo(f"wrote {output} ({output.stat().st_size / 1024:,.0f} kB): {len(job.columns)} columns, {rows}")
    for metric in metrics:
        typer.echo(f"  {metric['name']}: {metric['value']}")


EVIDENTLY_VERBS: dict[str, Callable[..., object]] = {"report": evidently_report}
