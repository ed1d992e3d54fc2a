"""The verb for people who know Evidently: its report, written from our reference and rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from stationkeeper.commands.options import ConfigOption, JsonOption, print_json


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

    job = job_of(read_reference(reference), read_current(current, load(config).snapshots.directory), prediction)
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
