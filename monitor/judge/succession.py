"""Watches whose reference a newer one replaced for the same version: they end, and so do the incidents they hold."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stationkeeper.monitor.judge.pending import WatchKey
from stationkeeper.monitor.references import References

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


GRACE_PANES = 5
"""Panes for which the counts of both references may still come, from partitions that see the new one later."""


def replaced(
    seen: Mapping[WatchKey, int], references: References, model: str, now: int, pane: int
) -> Iterator[tuple[WatchKey, str]]:
    """Yield the watches whose reference is no longer in force, each with the digest that is.

    A watch is replaced once the new reference's own has been seen and its own was not for ``GRACE_PANES``.
    """
    for key, at in sorted(seen.items()):
        reference = references.of(model, key.version)
        if reference is None or reference.digest == key.digest:
            continue
        after = seen.get(key._replace(digest=reference.digest))
        if after is not None and after > at and now - at > GRACE_PANES * pane:
            yield key, reference.digest
