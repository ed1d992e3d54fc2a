"""What every fault does the same: let the stream end, see a fresh event pass, and hold what was counted to the log."""

from itertools import pairwise

import pytest

from stationkeeper.streams.errors import Retryable
from tests.reliability.bank import Bank
from tests.reliability.following import Following
from tests.reliability.ledger import Row, long_form
from tests.reliability.oracle import Audit, audit, fresh_event_passes, wait_caught_up, wait_read
from tests.waiting import until

CLIENTS = ("kafka-python", "librdkafka") if long_form() else ("kafka-python",)
"""Every row runs through each of them: what one survives says nothing about the other."""

only_long = pytest.mark.skipif(not long_form(), reason="takes a minute or more: runs in make reliability")
"""All rows take a quarter of an hour, on top of a suite that must end in 25 minutes; it runs one row of each kind."""


def hold(
    bank: Bank, row: Row, *, verdicts: bool = True, following: Following | None = None, crowded: bool = False
) -> Audit:
    """Let the stream end, see a fresh event pass, and hold that nothing was lost, doubled or said twice.

    Without ``verdicts`` they are not compared with an undisturbed judge's, only their ids among each other.
    ``following`` has counted a log that is too long to be counted now. ``crowded``: the join let rows go for want of
    room, so which labels it met cannot be compared; all else can.
    """
    bank.still()
    if following is None:
        wait_caught_up(bank)
        fresh = fresh_event_passes(bank)
    else:
        wait_read(bank, "tally", bank.scores, 900)
        fresh = fresh_event_passes(bank, lambda: wait_read(bank, "tally", bank.scores))
        following.follow()
    wait_read(bank, "judge", bank.topics.panes.name, 120 if following is None else 900)
    found = audit(bank, verdicts=verdicts, following=following)
    row.audited(found, fresh)
    assert found.differences == [], found.differences[:20]
    assert [line for line in found.unverifiable if not (crowded and "had no room for rows" in line)] == []
    assert (found.lost, found.twice, found.repeated_ids) == (0, 0, 0)
    # The stream was as dirty as it says.
    assert found.duplicates_seen > 0 or not bank.stream.duplicate
    assert found.poison_seen > 0 or not bank.stream.poison
    assert found.disorder_seen > 0
    return found


def minutes_closed(bank: Bank) -> int:
    """Return how far the judge's committed record of closed minutes goes, in offsets."""
    partitions = bank.reader.partitions(bank.topics.history.name)
    return sum(end for _, end in bank.reader.bounds(partitions).values())


def a_minute_is_closed(bank: Bank, after: int, limit_s: float = 90.0) -> None:
    """Wait until the judge has committed a closed minute past ``after`` (see ``minutes_closed``)."""

    def further() -> bool:
        try:
            return minutes_closed(bank) > after
        except Retryable:
            return False

    until(further, "a minute is closed", limit_s)


def longest_pause_s(bank: Bank, since: int) -> float:
    """Return the longest time from ``since`` (ms) on without a commit of closed minutes, by the broker's clock."""
    partitions = bank.reader.partitions(bank.topics.history.name)
    found = [int(stamp) for batch in bank.reader.read(partitions) for stamp in batch.timestamps if stamp >= since]
    stamps = [since, *sorted(found)]
    return max((later - earlier for earlier, later in pairwise(stamps)), default=0) / 1_000


def in_trouble(bank: Bank) -> int:
    """Return how often the workers had to give up a transaction or found no broker."""
    return sum(
        worker.logged("transaction_aborted") + worker.logged("broker_unreachable") for worker in bank.workers.values()
    )


def a_worker_noticed(bank: Bank, before: int) -> None:
    """Wait until a worker has had more trouble than before."""
    until(lambda: in_trouble(bank) > before, "a worker noticed")
