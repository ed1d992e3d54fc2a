"""One thing that ``check`` looked at: what was found, and what to do where it is not right."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from stationkeeper.contracts.masking import masked

Outcome = Literal["ok", "warning", "failed"]
MARKS: dict[Outcome, str] = {"ok": "✓", "warning": "△", "failed": "✗"}


@dataclass(frozen=True, slots=True)
class SetupCheck:
    """One thing that was looked at, what was found, and what to do where it is not right.

    ``detail`` is kept without the credentials of the addresses and errors that it quotes. ``lines`` are the records of
    a sample as they are: the mapped events, then those that failed.
    """

    what: str
    outcome: Outcome
    detail: str
    lines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Here, as every finding comes by: it is printed, also as JSON, and kept by pipelines.
        object.__setattr__(self, "detail", masked(self.detail))

    @property
    def mark(self) -> str:
        """Return the mark of the outcome."""
        return MARKS[self.outcome]

    @property
    def failed(self) -> bool:
        """Return whether something would fail."""
        return self.outcome == "failed"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)
