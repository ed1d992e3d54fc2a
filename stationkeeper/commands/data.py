"""Verbs about data: a first configuration, a reference, a replay, an explanation, a report, the count of counts."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from stationkeeper.commands.backtest import backtest
from stationkeeper.commands.options import ConfigOption, JsonOption, print_json

__all__ = ["backtest", "dump", "explain", "init", "profile", "report", "verify"]

_Features = Annotated[str | None, typer.Option("--features", help="Columns a,b,c; default every other column.")]


def init(
    source: Annotated[str, typer.Argument(help="A topic name, or a file of past predictions (CSV, Parquet, JSONL).")],
    model: Annotated[str, typer.Option(help="The model's name, where the sample does not say.")] = "model",
    bootstrap: Annotated[str | None, typer.Option(help="Broker, for a topic.", envvar="STATIONKEEPER_KAFKA")] = None,
    sample: Annotated[int, typer.Option(help="Records to look at.", min=1)] = 200,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here instead of stdout.")] = None,
) -> None:
    """Write a commented configuration guessed from a sample of a topic or a file."""
    from stationkeeper.starter import render, sketch_events, sketch_table

    path = Path(source)
    topic: str | None = None
    if path.suffix.lower() in {".csv", ".parquet"} or path.exists():
        if path.suffix.lower() in {".jsonl", ".ndjson", ".json"}:
            with path.open("rb") as lines:
                sketch = sketch_events([line for _, line in zip(range(sample), lines, strict=False)], source)
        else:
            sketch = sketch_table(_head(path, sample), source)
    else:
        topic = source
        sketch = sketch_events(_sample(source, bootstrap or "localhost:9092", sample), f"topic {source}")
        if not sketch.rows:
            raise typer.BadParameter(
                f"topic {source} holds no JSON objects to look at ({sketch.unreadable} records read)"
            )
    text = render(sketch, model=model, bootstrap=bootstrap or "localhost:9092", topic=topic)
    if output is None:
        typer.echo(text, nl=False)
    else:
        if output.exists():
            raise typer.BadParameter(f"{output} exists; choose another --output or move it away")
        output.write_text(text)
        typer.echo(f"wrote {output}; read it, then: stationkeeper check --config {output}", err=True)


def _head(path: Path, rows: int) -> dict[str, list[object]]:
    import polars as pl

    if not path.exists():
        raise typer.BadParameter(f"there is no file {path}")
    frame = pl.read_parquet(path, n_rows=rows) if path.suffix.lower() == ".parquet" else pl.read_csv(path, n_rows=rows)
    return frame.to_dict(as_series=False)


def _sample(topic: str, bootstrap: str, rows: int) -> list[bytes]:
    from contextlib import closing

    from streams.reader import KafkaReader
    from streams.settings import KafkaSettings

    with closing(KafkaReader(KafkaSettings(bootstrap=bootstrap), "init")) as reader:
        partitions = reader.partitions(topic)
        if not partitions:
            raise typer.BadParameter(f"there is no topic and no file called {topic!r} (broker {bootstrap})")
        bounds = reader.bounds(partitions)
        start = {p: max(first, end - rows) for p, (first, end) in bounds.items()}
        values = [v for batch in reader.read(partitions, start) for v in batch.values if v is not None]
    return values[:rows]


def profile(  # noqa: PLR0913, PLR0917 - the verb's options
    file: Annotated[Path, typer.Argument(help="Training data: CSV or Parquet.", exists=True, dir_okay=False)],
    model: Annotated[str, typer.Option(help="The model it belongs to.")] = "model",
    version: Annotated[str, typer.Option(help="The model's version.")] = "1",
    time: Annotated[str | None, typer.Option(help="Column with the time; teaches dependence and seasons.")] = None,
    time_unit: Annotated[str, typer.Option(help="What a number in --time counts: ms or s.")] = "ms",
    prediction: Annotated[str | None, typer.Option(help="Column with the score or class.")] = None,
    label: Annotated[str | None, typer.Option(help="Column with the truth.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column that undoes a rebalanced training set.")] = None,
    prior: Annotated[list[str] | None, typer.Option(help="CLASS=P: the class's true share; repeat.")] = None,
    features: _Features = None,
    categorical: Annotated[str | None, typer.Option(help="Number columns that are codes of categories, d,e.")] = None,
    sensitive: Annotated[str | None, typer.Option(help="Columns whose values are only kept salted and hashed.")] = None,
    threshold: Annotated[float, typer.Option(help="Score from which a decision is positive.")] = 0.5,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: FILE with .reference.json")] = None,
    publish: Annotated[bool, typer.Option("--publish", help="Also write it to the references topic.")] = False,
    per_hour: Annotated[float | None, typer.Option(help="Rows an hour expected, for the power card.")] = None,
    false_pages: Annotated[str, typer.Option(help="The budget, for the power card.")] = "1 per 30 days",
    config: ConfigOption = None,
) -> None:
    """Build a reference from training data: schema, cells and counts in a small versioned JSON."""
    import polars as pl

    from monitor import profile as build
    from monitor.core.reference_json import dump as text_of
    from stationkeeper.power_card import show_power_card

    frame = pl.read_parquet(file) if file.suffix.lower() == ".parquet" else pl.read_csv(file, try_parse_dates=True)
    options: dict[str, Any] = {
        "model": model,
        "version": version,
        "time": time,
        "time_unit": time_unit,
        "prediction": prediction,
        "label": label,
        "weight": weight,
        "prior": _priors(prior),
        "features": _names(features) or None,
        "categorical": _names(categorical),
        "sensitive": _names(sensitive),
        "threshold": threshold,
    }
    try:
        reference = build(frame, **options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    target = output or file.with_suffix(".reference.json")
    text = text_of(reference)
    target.write_text(text)
    typer.echo(
        f"{target}: {len(reference.subjects)} subjects, {reference.rows:,} rows, {len(text) / 1024:.1f} kB, "
        f"digest {reference.digest}"
    )
    for note in reference.notes:
        typer.echo(f"  note: {note}")
    show_power_card(reference, false_pages=false_pages, rows_per_hour=per_hour)
    if publish:
        _publish(config, f"{model}/{version}", text)


def _publish(config: ConfigOption, key: str, text: str) -> None:
    from stationkeeper.config import load
    from stationkeeper.wiring import plain_producer, topics_of

    settings = load(config)
    producer = plain_producer(settings)
    producer.send(topics_of(settings).references.name, text.encode(), key=key.encode(), partition=0).get(timeout=30)
    producer.close()
    typer.echo(f"published as the reference of {key}; the monitor uses it from its next batch on")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else ()


def _priors(pairs: list[str] | None) -> dict[str, float] | None:
    if not pairs:
        return None
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, share = pair.partition("=")
        try:
            found[name] = float(share)
        except ValueError:
            raise typer.BadParameter(f"--prior {pair!r}: write CLASS=SHARE, e.g. 1=0.003") from None
    return found


def explain(
    name: Annotated[str, typer.Argument(metavar="ID", help="Verdict, incident, request, candidate, run, version …")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Say why: the counts and numbers of a decision, and everything that led to it and followed from it."""
    from stationkeeper.explanation import tell
    from stationkeeper.log_reading import Lineage
    from stationkeeper.wiring import open_reader

    with open_reader(config) as (_, reader, topics):
        chain = Lineage(reader, topics).chain(name)
    if chain is None:
        raise typer.BadParameter(
            f"nothing in the log is called {name!r}; list what there is: stationkeeper requests list"
        )
    if json:
        print_json(chain.to_json())
    else:
        typer.echo(tell(chain))


def report(
    model: Annotated[str | None, typer.Option(help="The model; with --backtest the one in the file.")] = None,
    backtest_file: Annotated[Path | None, typer.Option("--backtest", help="JSONL written by backtest.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="RFC 3339; default: all there is.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="RFC 3339.")] = None,
    plot: Annotated[str | None, typer.Option(help="Only the plot of this subject, as an SVG file.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: report.html or SUBJECT.svg.")] = None,
    config: ConfigOption = None,
) -> None:
    """Write one self-contained HTML file about a model and a period."""
    from stationkeeper.report import ReportError, from_backtest, from_log, write, write_plot
    from stationkeeper.wiring import open_reader

    try:
        if backtest_file is not None:
            made = from_backtest(backtest_file, model)
        elif model is None:
            raise typer.BadParameter("give --model NAME, or --backtest FILE")
        else:
            with open_reader(config) as (_, reader, topics):
                made = from_log(reader, topics, model, _moment(start), _moment(end))
        path = output or Path(f"{plot}.svg" if plot is not None else "report.html")
        if plot is not None:
            write_plot(made, plot, path)
        else:
            write(made, path)
    except ReportError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"wrote {path} ({path.stat().st_size / 1024:.0f} kB)")


def _moment(text: str | None) -> int | None:
    from datetime import datetime

    from contracts.times import to_ms

    try:
        return None if text is None else to_ms(datetime.fromisoformat(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a time: {error}; write 2026-01-31T12:00:00Z") from None


def verify(config: ConfigOption = None, json: JsonOption = False) -> int:
    """Recompute every pane from the input topics by an independent plain count and compare."""
    from monitor.verify import verify as compare
    from stationkeeper.wiring import open_reader

    with open_reader(config) as (settings, reader, topics):
        result = compare(reader, settings.models, topics, clock=settings.clock)
    if json:
        print_json(result.to_json())
    else:
        typer.echo(result.summary())
    return 0 if result.equal else 1


def dump(
    topic: Annotated[str, typer.Argument(help="An internal topic, e.g. panes, history, verdicts (prefix optional).")],
    config: ConfigOption = None,
    last: Annotated[int, typer.Option(help="How many records from the end of each partition.", min=1)] = 20,
) -> None:
    """Print the records of an internal topic as JSON lines, binary forms decoded."""
    import json

    import msgspec

    from contracts.wire import WireError, decode
    from stationkeeper.log_reading import newest
    from stationkeeper.wiring import open_reader

    with open_reader(config) as (_, reader, topics):
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
                    "key": (batch.keys[row] or b"").decode(errors="replace"),
                    "value": body,
                }
                shown += 1
                try:
                    print(json.dumps(line, default=str))  # noqa: T201 - the answer of the verb
                except BrokenPipeError:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                    return
    if not shown:
        typer.echo(f"{name} holds no records", err=True)
