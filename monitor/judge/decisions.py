"""What closing panes decided, and the outbox in which it waits for the next flush."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.messages import RetrainRequest, Verdict
from stationkeeper.contracts.topics import PANES_PARTITIONS, Topics
from stationkeeper.contracts.wire import Record
from stationkeeper.monitor.packets import packed
from stationkeeper.streams.ports import Outgoing


@dataclass(frozen=True, slots=True)
class Decisions:
    """Records for history, verdicts and requests, each in order of their panes; ``closed`` counts the panes.

    ``judged`` says that labels were judged without a pane that closed.
    """

    history: tuple[Record, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    requests: tuple[RetrainRequest, ...] = ()
    closed: int = 0
    judged: bool = False


def joined(parts: Iterable[Decisions]) -> Decisions:
    """Return decisions of later panes behind those of earlier ones; O(records), once for any number of parts."""
    each = tuple(parts)
    return Decisions(
        tuple(chain.from_iterable(part.history for part in each)),
        tuple(chain.from_iterable(part.verdicts for part in each)),
        tuple(chain.from_iterable(part.requests for part in each)),
        sum(part.closed for part in each),
        any(part.judged for part in each),
    )


class Outbox:
    """What came about since the last flush: decisions by model, and what is to be written again.

    ``touched`` are models whose state differs from what is written, ``moved`` the panes partitions whose clocks do.
    """

    def __init__(self) -> None:
        self._decided: dict[str, list[Decisions]] = {}
        self.touched: set[str] = set()
        self.moved: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self.touched or self.moved)

    def put(self, model: str, decided: Decisions) -> None:
        """Add what was decided of a model, behind what was before."""
        self._decided.setdefault(model, []).append(decided)
        self.touched.add(model)

    @property
    def closed(self) -> set[str]:
        """The models of which a pane closed, or labels were judged: their state changed in more than its open panes."""
        return {name for name, parts in self._decided.items() if any(part.closed or part.judged for part in parts)}

    def records(self, topics: Topics) -> Iterator[Outgoing]:
        """Yield all decisions for history, verdicts and requests, model by model, each in order of its panes."""
        for name, parts in self._decided.items():
            one, key, target = joined(parts), name.encode(), partition_of(name, PANES_PARTITIONS)
            yield from (Outgoing(topics.history.name, value, key, target) for value in packed(list(one.history)))
            yield from (Outgoing(topics.verdicts.name, verdict.encode(), key) for verdict in one.verdicts)
            yield from (Outgoing(topics.requests.name, request.encode(), key) for request in one.requests)

    def clear(self) -> None:
        """Forget all: it is written, or its transaction was given up."""
        self._decided.clear()
        self.touched.clear()
        self.moved.clear()
