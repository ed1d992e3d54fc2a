"""The power card on paper: what this reference can see at the expected traffic, before anything runs."""

from typing import TYPE_CHECKING

import typer

from monitor.core.reference import Reference
from monitor.settings import DAY_MS

if TYPE_CHECKING:
    from monitor.core.power import PowerCard

DEFAULT_ADOPTION = 14 * DAY_MS


def card_of(reference: Reference, *, false_pages: str, rows_per_hour: float | None) -> "PowerCard | None":
    """Return the card at the expected traffic, by default the reference's own; None where nobody knows the traffic."""
    from monitor.core.budget import parse_budget
    from monitor.core.power import power_card

    known = reference.traffic.rows_per_hour.mean() if reference.traffic is not None else None
    rate = rows_per_hour or (float(known) if known is not None else None)
    return None if rate is None else power_card(reference, parse_budget(false_pages), rows_per_hour=rate)


def show_power_card(
    reference: Reference, *, false_pages: str, rows_per_hour: float | None, adoption: int | None = None
) -> None:
    """Print per feature the smallest changes found within an hour and a day, at the budget; ``adoption`` in ms."""
    span = DEFAULT_ADOPTION if adoption is None else adoption
    if not reference.adopted and span:
        days = f"{span / DAY_MS:g} days"
        typer.echo(
            f"adopting: 0 of {days}: the reference has no order of time, so its first {days} of live panes teach "
            "dependence, daily movement and hours; until then nothing pages but data quality. Profile with --time or "
            "--history to spare that; adoption: 0d judges at once"
        )
    card = card_of(reference, false_pages=false_pages, rows_per_hour=rows_per_hour)
    typer.echo("power card: the traffic is unknown; say --per-hour ROWS" if card is None else card.text())
