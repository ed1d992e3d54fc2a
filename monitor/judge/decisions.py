"""What closing panes decided: an answer in plain values, which the stage writes to its topics."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from stationkeeper.contracts.messages import RetrainRequest, Verdict
from stationkeeper.contracts.wire import Record


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
