"""What a member knows of its share: held back until it is sought, told once when it changes, and fenced when taken."""

from types import SimpleNamespace
from typing import Any

import pytest
from kafka.structs import TopicPartition

from stationkeeper.streams.errors import Fenced
from stationkeeper.streams.kafka.membership import Membership
from stationkeeper.streams.ports import Partition

SHARE = {TopicPartition("in", 0)}


class Client:
    """What of the library's consumer a membership uses."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.stable, self.rejoined = True, 0
        self._coordinator = SimpleNamespace(
            stable=lambda: self.stable, _heartbeat_enabled=True, _join_task=None, request_rejoin=self.rejoin
        )

    def pause(self, partition: TopicPartition) -> None:
        self.told.append(("pause", partition))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.told.append(("seek", partition, offset))

    def rejoin(self) -> None:
        self.rejoined += 1


def member() -> tuple[Membership, Client, list[str]]:
    changes: list[str] = []
    made, client = Membership(lambda: changes.append("changed")), Client()
    made.follow(client)
    return made, client, changes


def test_a_share_is_held_back_and_told_once() -> None:
    made, client, changes = member()
    assert (made.joined, made.take_change()) == (False, False)
    made.on_partitions_assigned(SHARE)
    (one,) = SHARE
    assert client.told == [("pause", one), ("seek", one, 0)]
    assert (set(made.assigned), made.joined, made.take_change(), made.take_change()) == (
        {Partition("in", 0)},
        True,
        True,
        False,
    )
    for taken in (made.on_partitions_revoked, made.on_partitions_lost):
        taken(SHARE)
        assert (made.assigned, made.joined, made.take_change()) == (frozenset(), False, True)
    assert len(changes) == 3


def test_an_empty_share_is_one_too() -> None:
    made, _, _ = member()
    made.on_partitions_assigned(set())
    assert (made.joined, made.assigned, made.take_change()) == (True, frozenset(), True)


def test_a_stable_member_without_heartbeats_was_replaced_and_one_that_joins_again_was_not() -> None:
    made, client, _ = member()
    made.on_partitions_assigned(SHARE)
    made.check("me")
    client._coordinator._heartbeat_enabled = False
    client.stable = False
    made.check("me")
    client.stable = True
    with pytest.raises(Fenced, match=r"runs as me; give each replica its own kafka\.instance"):
        made.check("me")


def test_a_join_whose_answer_was_lost_is_asked_for_again() -> None:
    made, client, _ = member()
    made.check("me")
    client._coordinator._join_task = SimpleNamespace(is_done=False)
    made.check("me")
    assert client.rejoined == 0
    client._coordinator._join_task.is_done = True
    made.check("me")
    assert client.rejoined == 1
