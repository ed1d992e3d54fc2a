"""What only the source over kafka-python has to do: tell a member that was dropped from one that was replaced."""

from collections.abc import Iterator

import pytest

from stationkeeper.streams.errors import Fenced
from stationkeeper.streams.kafka.source import KafkaSource
from tests.conformance.worlds import KafkaWorld, take_over
from tests.waiting import until

pytestmark = pytest.mark.broker


@pytest.fixture
def member(kafka) -> Iterator[KafkaSource]:
    """Yield a member with its partitions."""
    world = KafkaWorld(kafka.bootstrap)
    source = KafkaSource(world.settings(), "role")
    source.subscribe([world.create("in", 2)])
    try:
        take_over(source)
        yield source
    finally:
        source.close()
        world.close()


async def unreachable(timeout_ms=None):
    return False


def test_a_member_that_the_group_dropped_while_the_network_was_away_joins_again(member, monkeypatch):
    coordinator = member._consumer._coordinator
    with monkeypatch.context() as away:
        away.setattr(coordinator, "ensure_coordinator_ready_async", unreachable)
        # What the client does when a heartbeat is told that the member is unknown.
        coordinator.reset_generation()
        coordinator._disable_heartbeat()
        member.poll(0.05, 10)

    def again() -> bool:
        member.poll(0.05, 10)
        return member.take_rebalance() and member.joined() and len(member.assignment()) == 2

    until(again, "joined again")


def test_a_member_whose_name_another_process_took_is_fenced(member):
    # What the client does when a heartbeat is told that the instance is fenced: it stays, as it thinks, a member.
    member._consumer._coordinator._disable_heartbeat()
    with pytest.raises(Fenced, match=r"kafka\.instance"):
        member.poll(0.05, 10)
