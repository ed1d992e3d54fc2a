"""``stationkeeper profile``: the baseline of a model, from training data or from a period of its own past."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stationkeeper.commands.options import (
    NOTHING_SAID,
    ConfigOption,
    EvidentlyOption,
    JsonOption,
    ReadingOptions,
    TimezoneOption,
    configured_values,
    names_of,
    print_json,
    reads_table,
    refuse_wrong,
)
from stationkeeper.contracts.masking import printable

if TYPE_CHECKING:
    from stationkeeper.config import Config
    from stationkeeper.init.infer import ColumnRoles
    from stationkeeper.monitor.core.power import PowerCard
    from stationkeeper.monitor.core.reference import Reference


def card_of(reference: "Reference", *, false_pages: str, rows_per_hour: float | None) -> "PowerCard | None":
    """Return the card at the expected traffic, by default the reference's own; None where nobody knows the traffic."""
    from stationkeeper.monitor.core.budget import parse_budget
    from stationkeeper.monitor.core.power import power_card

    known = reference.traffic.rows_per_hour.mean() if reference.traffic is not None else None
    # A person's own number goes first: the training table is often a sample of the traffic.
    rate = rows_per_hour or (float(known) if known is not None else None)
    # A card for a guessed traffic would promise delays that the real one cannot keep.
    return None if rate is None else power_card(reference, parse_budget(false_pages), rows_per_hour=rate)


def show_power_card(
    reference: "Reference", *, false_pages: str, rows_per_hour: float | None, adoption: int | None = None
) -> None:
    """Print per feature the smallest changes found within an hour and a day, at the budget; ``adoption`` in ms."""
    from stationkeeper.monitor.settings import DAY_MS, ModelSettings

    span = ModelSettings.model_fields["adoption"].default if adoption is None else adoption
    if not reference.adopted and span:
        days = f"{span / DAY_MS:g} days"
        typer.echo(
            f"adopting: 0 of {days}: the reference has no order of time, so its first {days} of live panes teach "
            "dependence, daily movement and hours; until then nothing pages but data quality. Profile with --time or "
            "--history to spare that; adoption: 0d judges at once"
        )
    card = card_of(reference, false_pages=false_pages, rows_per_hour=rows_per_hour)
    typer.echo("power card: the traffic is unknown; say --per-hour ROWS" if card is None else card.text())


__all__ = ["moment", "profile"]

_Features = Annotated[str | None, typer.Option("--features", help="Columns a,b,c; default every other column.")]


@reads_table
def profile(  # noqa: PLR0913, PLR0917 - the verb's options
    file: Annotated[
        Path | None, typer.Argument(help="Training data: CSV, Parquet, JSON lines.", exists=True, dir_okay=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model it belongs to; of events in a file, theirs.")] = None,
    version: Annotated[
        str | None, typer.Option(help="The model's version; default 1, with --history the champion.")
    ] = None,
    history: Annotated[
        str | None, typer.Option(help="Instead of a file: a model whose own past panes become its baseline.")
    ] = None,
    start: Annotated[str | None, typer.Option("--from", help="With --history: RFC 3339; default all there is.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="With --history: RFC 3339.")] = None,
    time: Annotated[str | None, typer.Option(help="Column with the time; teaches dependence and seasons.")] = None,
    timezone: TimezoneOption = None,
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
    false_pages: Annotated[
        str | None, typer.Option(help="The budget, for the power card; default: the configured one, or 1 per 30 days.")
    ] = None,
    evidently_mapping: EvidentlyOption = None,
    reading: ReadingOptions = NOTHING_SAID,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Build a reference from training data, or from a model's past: cells and counts in a small versioned JSON."""
    if history is not None:
        _from_history(
            history, version, (start, end), timezone, output, per_hour, false_pages, config, publish=publish, json=json
        )
        return
    if file is None:
        raise typer.BadParameter("give a FILE with training data, or --history MODEL to take a period of its past")
    from stationkeeper.contracts.times import UTC_ZONE
    from stationkeeper.evidently.mapping import read_mapping
    from stationkeeper.init.infer import ColumnRoles
    from stationkeeper.profiling.from_table import profile_table
    from stationkeeper.tables import Parts, read_table

    roles = read_mapping(evidently_mapping) if evidently_mapping is not None else ColumnRoles()
    only, rules, known, zone = configured_values(config, model)
    rules = reading.over(rules)
    parts = Parts(
        time or roles.fields.get("time"),
        prediction or roles.fields.get("prediction"),
        label or roles.fields.get("label"),
        weight,
        names_of(features) or roles.features,
    )
    try:
        table = read_table(file, rules, parts, model=model)
        # What is said goes first, then what the events say, then the one model that the configuration has.
        name = model or table.model or only or "model"
        configured = _configured(config, name)
        reference, lines = profile_table(
            table,
            model=name,
            version=version or table.version or "1",
            weight=weight,
            prior=_priors(prior),
            features=parts.features or _all_but(roles, list(table.columns)),
            categorical=names_of(categorical) or roles.categorical,
            sensitive=names_of(sensitive),
            threshold=threshold,
            positive=reading.positive or known,
            timezone=timezone or zone or UTC_ZONE,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    for line in lines:
        typer.echo(f"  {line}", err=True)
    # Beside the file, so that a second file's reference does not overwrite the first one's.
    target = output or file.with_suffix(".reference.json")
    _write(reference, target, per_hour, false_pages, configured, json=json)
    if publish:
        _publish(config, reference)


def _from_history(  # noqa: PLR0913 - the options of the verb that ask for a period
    model: str,
    version: str | None,
    period: tuple[str | None, str | None],
    timezone: str | None,
    output: Path | None,
    per_hour: float | None,
    false_pages: str | None,
    config: ConfigOption,
    *,
    publish: bool,
    json: bool,
) -> None:
    from stationkeeper.contracts.times import UTC_ZONE, check_timezone
    from stationkeeper.process.wiring import open_reader
    from stationkeeper.profiling.from_history import history_reference

    configured = _configured(config, model)
    zone = timezone or (configured.models[model].timezone if configured is not None else UTC_ZONE)
    with open_reader(config) as (_, reader, topics):
        try:
            start, end = map(moment, period)
            reference = history_reference(reader, topics, model, version, start, end, check_timezone(zone))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    target = output or Path(f"{model}.reference.json")
    _write(reference, target, per_hour, false_pages, configured, json=json)
    if publish:
        _publish(config, reference)


def _write(
    reference: "Reference",
    target: Path,
    per_hour: float | None,
    false_pages: str | None,
    configured: "Config | None",
    *,
    json: bool,
) -> None:
    from stationkeeper.monitor.core.reference import dump as text_of

    text = text_of(reference)
    target.write_text(text)
    model = None if configured is None else configured.models[reference.model]
    budget = false_pages or (model.false_pages if model is not None else "1 per 30 days")
    if json:
        card = card_of(reference, false_pages=budget, rows_per_hour=per_hour)
        facts = {"subjects": [subject.name for subject in reference.subjects], "rows": reference.rows}
        found = {"output": target, "digest": reference.digest, **facts, "notes": reference.notes}
        print_json({**found, "power": None if card is None else asdict(card)})
        return
    typer.echo(
        f"{target}: {len(reference.subjects)} subjects, {reference.rows:,} rows, {len(text) / 1024:.1f} kB, "
        f"digest {reference.digest}"
    )
    for note in reference.notes:
        typer.echo(f"  note: {printable(note)}")
    adoption = None if model is None else model.adoption
    show_power_card(reference, false_pages=budget, rows_per_hour=per_hour, adoption=adoption)


def _configured(config: ConfigOption, model: str) -> "Config | None":
    """Return the configuration, if one is given; it must know the model."""
    from stationkeeper.process.wiring import told_config

    if config is None:
        return None
    settings = told_config(config)
    refuse_wrong(settings, model)
    if model not in settings.models:
        raise typer.BadParameter(
            f"--model {model}: {config} has no such model; models: {', '.join(settings.models) or 'none'}"
        )
    return settings


def _all_but(roles: "ColumnRoles", columns: list[str]) -> tuple[str, ...] | None:
    """Return the features that a mapping leaves: those it lists, else every column that it calls nothing else."""
    if roles.features is not None or not (roles.fields or roles.left_out):
        return roles.features
    return tuple(name for name in columns if name not in {*roles.fields.values(), *roles.left_out})


def _publish(config: ConfigOption, reference: "Reference") -> None:
    from stationkeeper.monitor.core.reference import dump as text_of
    from stationkeeper.process.wiring import prepare_topics, publish, told_config, topics_of
    from stationkeeper.streams.ports import Outgoing

    settings, key, text = told_config(config), f"{reference.model}/{reference.version}", text_of(reference)
    # The first command of a new installation may be this one: a topic that is not there yet is made, or named.
    prepare_topics(settings, create_inputs=False)
    publish(settings, Outgoing(topics_of(settings).references.name, text.encode(), key.encode(), 0))
    typer.echo(f"published as the reference of {key}; the monitor uses it from its next batch on")


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


def moment(text: str | None) -> int | None:
    """Return an RFC 3339 time of an option as epoch ms; raises ``typer.BadParameter`` that shows one."""
    from datetime import datetime

    from stationkeeper.contracts.times import to_ms

    try:
        return None if text is None else to_ms(datetime.fromisoformat(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a time: {error}; write 2026-01-31T12:00:00Z") from None
