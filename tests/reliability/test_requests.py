"""A storm of verdicts: what is asked of retraining stays within its policy, whatever happens to the judge."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from stationkeeper.contracts.messages import RetrainRequest
from tests.reliability.bank import Bank
from tests.reliability.conftest import MakeBank
from tests.reliability.drill import hold, only_long
from tests.reliability.events import NEVER, Stream, draw
from tests.reliability.ledger import Ledger, rounds
from tests.reliability.oracle import values_of, wait_caught_up, wait_read
from tests.reliability.workers import Setup

pytestmark = [pytest.mark.broker, pytest.mark.slow]

REGIONS = 12
PER_MINUTE = 600
CALM = 75
STORM = 70
"""Minutes: a region first needs 3 000 rows that show what is usual there."""
MOST = 4
COOLDOWN_MS = 30 * 60_000


def stormy(number: int, row: dict[str, Any]) -> None:
    """Every ten minutes all subjects of a region move away one after the other and come back; no two regions at once.

    So nothing is one cause, and each region would ask for itself.
    """
    region = draw(number, "region") % REGIONS
    row["segment"] = {"region": f"r{region}"}
    minute = number // PER_MINUTE - CALM
    if minute < 0:
        return
    phase, features = (minute - 5 * region) % 10, row["features"]
    features["amount"] += 3.0 if phase < 4 else 0.0
    features["age"] += 6.0 if 1 <= phase < 5 else 0.0
    features["country"] = "us" if 2 <= phase < 6 else features["country"]
    row["prediction"] = round((row["prediction"] + 2) / 3, 6) if 3 <= phase < 7 else row["prediction"]


def busiest_minute(bank: Bank) -> int:
    """Return how many verdicts were written within one minute of the wall clock, at most."""
    stamps = [
        int(stamp)
        for batch in bank.reader.read(bank.reader.partitions(bank.topics.verdicts.name))
        for stamp in batch.timestamps
    ]
    return max(Counter(stamp // 60_000 for stamp in stamps).values(), default=0)


@only_long
def test_a_storm_of_verdicts_asks_within_the_policy(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row(
        (18,),
        f"{REGIONS} segments whose subjects move and come back every ten minutes, judge killed meanwhile; "
        f"policy {MOST} a week, 30 min apart",
    )
    policy = {"requests": {"cooldown": "30m", "most": MOST, "period": "7d"}, "segments": ["region"]}
    bank = make_bank(setup=Setup(model=policy), stream=Stream(poison=0, duplicate=0, shift_at=NEVER, change=stormy))
    bank.both()
    bank.send(CALM * PER_MINUTE)
    bank.settle()
    wait_caught_up(bank)
    wait_read(bank, "judge", bank.topics.panes.name)
    before = len(values_of(bank.reader, bank.topics.verdicts.name))
    for _ in range(rounds()):
        bank.send(STORM * PER_MINUTE // rounds())
        bank.after(0.2, 1.0)
        bank.workers["judge-0"].kill()
        row.effect("judge ended by kill -9")
        bank.ready(bank.start("judge"))
        bank.settle()
        wait_caught_up(bank)
    found = hold(bank, row)
    sent = [RetrainRequest.decode(value) for value in values_of(bank.reader, bank.topics.requests.name)]
    asked = [request for request in sent if not request.withdrawn]
    row.effect("verdicts before the storm", before)
    row.effect("verdicts", found.verdicts)
    row.effect("verdicts of the busiest minute", busiest_minute(bank))
    row.figure("requests", len(asked), "", bar=MOST + 1)
    assert found.verdicts - before >= 250
    assert 0 < len(asked) <= MOST
    times = sorted(request.time.timestamp() * 1_000 for request in asked)
    assert all(later - earlier >= COOLDOWN_MS for earlier, later in pairwise(times))
