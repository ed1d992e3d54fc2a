"""The power card on paper: what this reference can see at the expected traffic, before anything runs."""

import typer

from monitor.core.reference import Reference


def show_power_card(reference: Reference, *, false_pages: str, rows_per_hour: float | None) -> None:
    """Print per feature the smallest changes found within an hour and a day, at the budget."""
    from monitor.core.budget import parse_budget
    from monitor.core.power import power_card

    known = reference.traffic.rows_per_hour.mean() if reference.traffic is not None else None
    rate = rows_per_hour or (float(known) if known is not None else None)
    if rate is None:
        typer.echo("power card: the traffic is unknown; say --per-hour ROWS")
        return
    typer.echo(power_card(reference, parse_budget(false_pages), rows_per_hour=rate).text())
