"""A running server with a rollouts topic in memory, and everything it touches."""

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.contracts.times import to_datetime
from stationkeeper.deploy.core.split import rollout_salt
from stationkeeper.deploy.router.router import Router
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.ports import Batch, Partition

NOW = 1_000_000


LEASE = 30_000


class RolloutsLog:
    """A rollouts topic in memory, as a ``Reader``."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes | None]] = []
        self.exists = True
        self.asked = 0
        self.up = True

    def write(self, rollout: Rollout) -> None:
        self.records.append((rollout.model.encode(), rollout.encode()))

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        self.asked += 1
        return (Partition(topic, 0),) if self.exists else ()

    def bounds(self, partitions: Any) -> dict[Partition, tuple[int, int]]:
        return {one: (0, len(self.records)) for one in partitions}

    def follow(self, partitions: Any, positions: dict[Partition, int], timeout_s: float) -> list[Batch]:
        if not self.up:
            raise Retryable("the broker is switched off")
        (partition,) = partitions
        at, end = positions[partition], len(self.records)
        if at == end:
            threading.Event().wait(0.01)
            return []
        positions[partition] = end
        keys, values = zip(*self.records[at:end], strict=True)
        import numpy as np

        return [Batch(partition, np.arange(at, end), np.zeros(end - at, np.int64), keys, values, end)]

    def read(self, partitions: Any, start: Any = None) -> Iterator[Batch]:
        return iter(())

    def close(self) -> None:
        pass


@dataclass
class Served:
    """A running server and everything it touches."""

    port: int
    router: Router
    rollouts: RolloutsLog
    log: Any
    registry: Any
    clock: list[int]

    def ask(self, path: str, body: Any = None, method: str = "POST") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data)
        answer = connection.getresponse()
        content = json.loads(answer.read())
        connection.close()
        return answer.status, content

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(value) for _, _, value in self.log.records]

    def applied(self) -> tuple[str | None, str | None, int]:
        shown = self.router.traffic.status("fraud")
        return shown["champion"], shown["canary"], shown["weight_bp"]


def record(champion: str = "1", canary: str | None = None, weight_bp: int = 0, epoch: int = 1) -> Rollout:
    return Rollout(
        model="fraud",
        epoch=epoch,
        time=to_datetime(NOW),
        phase=RolloutPhase.CANARY if canary else RolloutPhase.STEADY,
        champion=champion,
        canary=canary,
        weight_bp=weight_bp,
        salt=rollout_salt("fraud", epoch),
        lease_until=to_datetime(NOW + LEASE) if canary else None,
    )


def instances(count: int, **more: Any) -> dict[str, Any]:
    return {
        "instances": [
            {
                "event_id": f"e{i}",
                "entity_id": f"card-{i % 50}",
                "time": NOW + i,
                "features": {"amount": i / count - 0.5, "method": "wallet" if i % 3 else "card"},
                **more,
            }
            for i in range(count)
        ]
    }
