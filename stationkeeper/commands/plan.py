"""The verb that says what a load needs, before anything is bought."""

import re
from typing import Annotated

import typer

from stationkeeper.commands.options import JsonOption, print_json, print_rows

# As people write traffic; M is never a thousandth nor a minute, so a small m is refused.
_TIMES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
# Seconds of each; a rate without a span is one a second.
_SPANS = {"s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}


def rate(text: str) -> float:
    """Return events a second of a text such as ``1M/s``, ``250k/min``, ``3000``.

    Raises ``typer.BadParameter`` that says how it is written.

    >>> rate("1.5M/s"), rate("120/min"), rate("7")
    (1500000.0, 2.0, 7.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]?)(?:/(s|min|h|d))?", text.strip())
    if found is None or float(found[1]) <= 0:
        raise typer.BadParameter(f"{text!r} is no rate; write a number above 0 as 250k/s, 1M/s, 30k/min, 2M/d")
    return float(found[1]) * _TIMES[found[2]] / _SPANS[found[3] or "s"]


def plan(
    *,
    events: Annotated[str, typer.Option(help="Predictions: 1M/s, 250k/min, 2M/d.", show_default=False)],
    models: Annotated[int, typer.Option(min=1, help="Models that are watched.")] = 1,
    features: Annotated[int, typer.Option(min=1, help="Features of each model.")] = 15,
    segments: Annotated[int, typer.Option(min=0, help="Segments of each model that are watched apart.")] = 0,
    labels: Annotated[float, typer.Option(min=0, max=1, help="Share of predictions that get a label.")] = 0.0,
    retention: Annotated[float, typer.Option(min=0.01, help="Days that Kafka keeps the input.")] = 3.0,
    copies: Annotated[int, typer.Option(min=1, help="Replication factor.")] = 3,
    one_topic: Annotated[bool, typer.Option("--one-topic", help="All models share one input topic.")] = False,
    json: JsonOption = False,
) -> None:
    """Say what a load needs: partitions, replicas, memory, disk of Kafka; from measured costs, nothing is read."""
    from dataclasses import asdict

    from stationkeeper.capacity import USE, Load, kept_costs
    from stationkeeper.capacity import plan as planned

    costs = kept_costs()
    load = Load(
        rate(events), models, features, segments, labels, input_days=retention, copies=copies, one_topic=one_topic
    )
    found = planned(load, costs)
    if json:
        print_json({"load": asdict(load), "plan": asdict(found), "costs": {"taken": costs.taken, "on": costs.machine}})
        return
    judging = f"judging takes {found.judge_mb:,.0f} MB of all together"
    work = f"{found.tally_cores:.1f} cores count, {found.judge_cores:.1f} judge"
    rows = [
        ("monitors of one core", f"{found.replicas}", work),
        ("partitions of the inputs", f"{found.partitions}", "in all; a monitor more finds work"),
        ("memory of a monitor", f"{found.replica_mb:,.0f} MB", judging),
        ("into the brokers", f"{found.input_mb_s:,.1f} MB/s", "before compression and replication"),
        *(
            (f"disk: {one.name}", f"{one.mb / 1e3:,.1f} GB", _kept(one.days, one.mb_a_day)) for one in found.topics
        ),
        (f"disk of all, {copies} copies", f"{found.disk_mb / 1e6:,.2f} TB", "as the events are sent, uncompressed"),
    ]  # fmt: skip
    print_rows(
        [dict(zip(("what", "needs", "of which"), row, strict=True)) for row in rows],
        ("what", "needs", "of which"),
        empty="",
    )
    typer.echo(f"each core busy to {USE:.0%}; costs of {costs.taken} on {costs.machine} ({costs.command})")
    for warning in found.warnings:
        typer.secho(f"warning: {warning}", err=True, fg="yellow")


def _kept(days: float, mb_a_day: float) -> str:
    return f"{mb_a_day / 1e3:,.1f} GB a day" + (f", kept {days:g} days" if days else " written, compacted")
