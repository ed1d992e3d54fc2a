"""The sums over labelled predictions of each pane, for as long as they are shown."""

from collections.abc import Collection, Iterator

from stationkeeper.monitor.core.reference import OutcomeSums, total

_Who = tuple[str, str]


class RecentSums:
    """Sums by version and segment, and by the pane of the prediction; labels of a pane come in any number of parts."""

    def __init__(self) -> None:
        self._kept: dict[_Who, dict[int, OutcomeSums]] = {}

    def add(self, who: _Who, start: int, sums: OutcomeSums) -> None:
        """Add labels of the pane that began at ``start``."""
        if len(sums.at):
            mine = self._kept.setdefault(who, {})
            mine[start] = mine[start] + sums if start in mine else sums

    def total(self, who: _Who, since: int, until: int) -> OutcomeSums:
        """Return the sum over the panes that start at ``since`` or later, and at ``until`` at the latest."""
        return total(sums for start, sums in self._kept.get(who, {}).items() if since <= start <= until)

    def drop(self, before: int) -> None:
        """Let go of panes that start before."""
        for who, mine in list(self._kept.items()):
            # Oldest first only where labels came so: all are looked at, a few hundred.
            for start in [start for start in mine if start < before]:
                del mine[start]
            if not mine:
                del self._kept[who]

    def forget(self, gone: Collection[_Who]) -> None:
        """Let go of these versions and segments."""
        for who in gone:
            self._kept.pop(who, None)

    def items(self) -> Iterator[tuple[int, _Who, OutcomeSums]]:
        """Yield (start, (version, segment), sums)."""
        for who, mine in self._kept.items():
            for start, sums in mine.items():
                yield start, who, sums
