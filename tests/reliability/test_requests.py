"""A storm of verdicts: what is asked of retraining stays within its policy, whatever happens to the judge."""

from itertools import pairwise
from typing import Any

import pytest

from contracts.messages import RetrainRequest
from tests.reliability.conftest import MakeBank
from tests.reliability.drill import hold, only_long
from tests.reliability.events import Stream
from tests.reliability.ledger import Ledger, rounds
from tests.reliability.oracle import values_of, wait_caught_up
from tests.reliability.workers import Setup

pytestmark = [pytest.mark.broker, pytest.mark.slow]

FLIP = 1_500
MOST = 4
COOLDOWN_MS = 30 * 60_000


def flipping(number: int, row: dict[str, Any]) -> None:
    """Two features move far away and come back, again and again."""
    if number // FLIP % 2:
        row["features"]["amount"] += 1.5
        row["features"]["age"] += 3.0


@only_long
def test_a_storm_of_verdicts_asks_within_the_policy(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((18,), f"inputs flip every 25 minutes, judge killed meanwhile; policy {MOST} a week, 30 min apart")
    policy = {"requests": {"cooldown": "30m", "most": MOST, "period": "7d"}}
    bank = make_bank(setup=Setup(model=policy), stream=Stream(step_ms=1_000, change=flipping))
    bank.both()
    for _ in range(rounds()):
        bank.send(8 * FLIP)
        bank.after(0.2, 1.0)
        bank.workers["judge-0"].kill()
        row.effect("judge ended by kill -9")
        bank.ready(bank.start("judge"))
        bank.settle()
        wait_caught_up(bank)
    found = hold(bank, row)
    asked = [RetrainRequest.decode(value) for value in values_of(bank.reader, bank.topics.requests.name)]
    row.effect("verdicts", found.verdicts)
    row.figure("requests", len(asked), "", bar=MOST + 1)
    assert 0 < len(asked) <= MOST < found.verdicts
    times = sorted(request.time.timestamp() * 1_000 for request in asked)
    assert all(later - earlier >= COOLDOWN_MS for earlier, later in pairwise(times))
