"""The sums over labelled predictions of each pane, for as long as they are shown."""

from collections.abc import Callable, Collection, Iterator

from stationkeeper.monitor.core.reference import OutcomeSums, total

_Who = tuple[str, ...]


class RecentSums:
    """Sums by whose they are (version, segment), and by the prediction's pane, whose labels come in many parts."""

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

    def whose(self) -> list[_Who]:
        """Return whose sums there are, in the order of their names."""
        return sorted(self._kept)

    def coarsen(self, edge: int, length: int) -> set[int]:
        """Put panes that start before ``edge`` together by ``length`` (ms); returns the starts that changed."""
        changed: set[int] = set()
        for mine in self._kept.values():
            for start in [start for start in mine if start < edge and start % length]:
                whole = start - start % length
                mine[whole] = total([mine[whole], mine.pop(start)]) if whole in mine else mine.pop(start)
                changed |= {start, whole}
        return changed

    def condense(
        self, edge: int, length: int, of: Callable[[_Who], bool], how: Callable[[OutcomeSums], OutcomeSums], size: int
    ) -> set[int]:
        """Keep of panes that start before ``edge`` only what ``how`` makes of them, together by ``length`` (ms).

        Of those that ``of`` names, and that take more than ``size`` positions; returns the starts that changed.
        """
        changed: set[int] = set()
        for who, mine in self._kept.items():
            large = (start for start, sums in mine.items() if start < edge and (start % length or len(sums.at) > size))
            for start in list(large) if of(who) else ():
                whole, made = start - start % length, how(mine.pop(start))
                mine[whole] = mine[whole] + made if whole in mine else made
                changed |= {start, whole}
        return changed

    def oldest(self) -> int | None:
        """Return the start of the first pane that is kept."""
        return min((min(mine) for mine in self._kept.values()), default=None)

    def drop(self, before: int, of: Callable[[_Who], bool] = lambda _who: True) -> None:
        """Let go of panes that start before, of those that ``of`` names."""
        for who, mine in list(self._kept.items()):
            if not of(who):
                continue
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
        """Yield (start, whose, sums)."""
        for who, mine in self._kept.items():
            for start, sums in mine.items():
                yield start, who, sums
