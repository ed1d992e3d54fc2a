"""A member of a consumer group as kafka-python knows it: its share, and the two ways in which it loses it unnoticed."""

from collections.abc import Callable

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.structs import TopicPartition

from stationkeeper.streams.errors import Fenced
from stationkeeper.streams.kafka.clients import ours
from stationkeeper.streams.ports import Partition


class Membership(ConsumerRebalanceListener):  # type: ignore[misc] # kafka-python has no types
    """What the group has given this member, and whether that changed since it was last asked.

    Newly assigned partitions are held back until the loop has restored their state and seeks. The client calls it
    inside ``poll``; ``on_change`` is called with each change, before the poll returns.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self.assigned: frozenset[Partition] = frozenset()
        self.joined = False
        self.changed = False

    def follow(self, client: KafkaConsumer) -> None:
        """Be the membership of this client from now on."""
        self._client = client

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Note that the assignment is being taken away."""
        del revoked
        self.leave()

    def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        """Note that the assignment was taken away: the same, as nothing uncommitted is worth keeping."""
        del lost
        self.leave()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Note a new assignment and hold its partitions back."""
        for partition in assigned:
            self._client.pause(partition)
            # A position must exist, or the client would look for a committed one and refuse to go on without.
            self._client.seek(partition, 0)
        self._set(frozenset(ours(partition) for partition in assigned), joined=True)

    def leave(self) -> None:
        """Have no partitions; the loop gives up what is not committed."""
        self._set(frozenset(), joined=False)

    def _set(self, assigned: frozenset[Partition], *, joined: bool) -> None:
        self.assigned, self.joined, self.changed = assigned, joined, True
        self._on_change()

    def take_change(self) -> bool:
        """Return whether the share changed since the last call, also where it is the same again."""
        changed, self.changed = self.changed, False
        return changed

    def check(self, member: str) -> None:
        """See whether this process is still ``member``; raises ``Fenced`` when another has its name."""
        coordinator = self._client._coordinator  # noqa: SLF001 - nothing public tells it or asks for a join
        if not self.joined:
            # kafka-python 3.0.12 drops the answer to a join that arrives as a poll's time runs out; a leader that had
            # joined because partitions were added then believes to be a member, without partitions and without
            # heartbeats, for ever.
            task = coordinator._join_task  # noqa: SLF001
            if task is not None and task.is_done:
                coordinator.request_rejoin()
        # When a heartbeat is told that another process has this member's name, kafka-python 3.0.12 stops its
        # heartbeats and says nothing more. It stops them as well when the group has dropped the member, after a network
        # that was away for longer than the session, but then it means to join again and is not stable.
        elif coordinator.stable() and not coordinator._heartbeat_enabled:  # noqa: SLF001
            raise Fenced(f"another process runs as {member}; give each replica its own kafka.instance")
