"""The cure of a promoted version: it counts as one when the version has been steady for a while."""

from dataclasses import dataclass

STEADY_PANES = 30
STEADY_ROWS = 500


@dataclass(slots=True)
class Cure:
    """A version was promoted; incidents of the one before close when it has been steady."""

    old: str
    new: str
    since: int
    rows: int = 0
    panes: int = 0

    def step(self, rows: int, *, steady: bool) -> bool:
        """Take a closed pane with ``rows`` of the new version; returns whether it has been steady long enough."""
        self.panes, self.rows = (self.panes + 1, self.rows + rows) if steady else (0, 0)
        return self.panes >= STEADY_PANES and self.rows >= STEADY_ROWS
