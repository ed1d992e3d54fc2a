"""A stage small enough to be checked by hand, and a thread that runs a loop over it."""

import json
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

from stationkeeper.contracts.metrics import Sample
from stationkeeper.streams.dead_letters.letters import DeadLetterLimit
from stationkeeper.streams.dead_letters.limit import RejectionLimit
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored
from stationkeeper.streams.settings import DeadLetterSettings, KafkaSettings
from tests.conformance.worlds import World
from tests.waiting import until


class Counting:
    """Writes one record for each input record, and counts them by partition in its changelog."""

    name = "counting"

    def __init__(
        self,
        topic: str,
        state: str,
        out: str,
        *,
        table: str | None = None,
        limit: DeadLetterSettings | None = None,
        slow_s: float = 0.0,
    ) -> None:
        self.inputs = (topic,)
        self.tables = (table,) if table else ()
        self.state, self.out, self.slow_s = state, out, slow_s
        self.limit = RejectionLimit(limit) if limit else None
        self.counts: dict[Partition, int] = {}
        self.written: list[str] = []
        self.shown: dict[bytes, bytes] = {}
        self.quiet: set[Partition] = set()
        self.restored: list[dict[bytes, bytes]] = []
        self.flushes = 0
        self.durable = 0
        self.ids: dict[str, str] = {}
        self.stops: set[str] = set()
        self.closed = False

    def changelog(self, assigned: frozenset[Partition]) -> tuple[Partition, ...]:
        return tuple(Partition(self.state, partition.index) for partition in sorted(assigned))

    def start_offsets(self, assigned: frozenset[Partition]) -> Mapping[Partition, int]:
        return {}

    def assigned(self, partitions: frozenset[Partition], restored: Restored) -> None:
        self.restored.append(dict(restored.values))
        known = {key.decode(): json.loads(value)["count"] for key, value in restored.values.items()}
        self.counts = {partition: known.get(str(partition.index), 0) for partition in partitions}
        self.written = []

    def revoked(self, partitions: frozenset[Partition]) -> None:
        self.counts, self.written = {}, []
        if self.limit:
            self.limit.forget()

    def table(self, topic: str, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.shown.pop(key, None)
        else:
            self.shown[key] = value

    def absorb(self, batch: Batch) -> None:
        if not len(batch):
            self.quiet.add(batch.partition)
            return
        time.sleep(self.slow_s)
        if self.limit:
            bad = [at for at, value in enumerate(batch.values) if value == b"bad"]
            try:
                self.limit.observe(batch.partition, len(batch), bad)
            except DeadLetterLimit:
                self.stops.add(batch.partition.topic)
                raise
        self.counts[batch.partition] += len(batch)
        self.written += [f"{batch.partition.index}/{offset}" for offset in batch.offsets]

    def stopped(self, ids: Mapping[str, str], ends: Mapping[Partition, int]) -> Collection[str]:
        """A topic past its limit, and one that is another than at first."""
        for topic, known in ids.items():
            self.ids.setdefault(topic, known)
        return self.stops | {topic for topic in self.inputs if ids.get(topic) != self.ids.get(topic)}

    def shorter(self, partition: Partition, end: int) -> None:
        self.stops.add(partition.topic)

    def flush(self, now_ms: int) -> list[Outgoing]:
        self.flushes += 1
        if not self.written:
            return []
        out = [Outgoing(self.out, address.encode()) for address in self.written]
        out += [
            Outgoing(self.state, json.dumps({"count": n}).encode(), str(p.index).encode(), p.index)
            for p, n in sorted(self.counts.items())
        ]
        self.written = []
        return out

    def committed(self) -> None:
        self.durable = sum(self.counts.values())

    def samples(self) -> list[Sample]:
        return [Sample("stationkeeper_records_received_total", ("all", "0"), self.durable)]

    def status(self) -> dict[str, Any]:
        return {"role": "counting", "counted": self.durable}

    def close(self) -> None:
        self.closed = True


class Running:
    """A loop in a thread of its own, as a role's process runs it."""

    def __init__(
        self, world: World, stage: Counting, settings: KafkaSettings, internal: Mapping[str, int] | None = None
    ) -> None:
        self.stage = stage
        self.stop_event = threading.Event()
        self.error: BaseException | None = None
        self.loop = Loop(
            stage,
            world.source(settings, stage.name),
            world.sink(settings, stage.name),
            world.reader(settings),
            settings,
            internal=internal,
        )
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.loop.run(self.stop_event)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def stop(self) -> None:
        """Ask it to stop as SIGTERM does, and wait."""
        self.stop_event.set()
        self.thread.join(30)
        assert not self.thread.is_alive(), "the loop did not drain"


class Setting:
    """The topics of one counting stage, and what must hold at the end."""

    def __init__(self, world: World, partitions: int = 2) -> None:
        self.world = world
        self.topic = world.create("in", partitions)
        self.state = world.create("state", max(partitions, 4), cleanup_policy="compact")
        self.out = world.create("out", 1)
        self.sent: dict[int, int] = {}
        self.runs: list[Running] = []

    def send(self, count: int, partition: int, value: bytes = b"good") -> None:
        """Produce to one partition."""
        self.world.produce(self.topic, [value] * count, partition=partition)
        self.sent[partition] = self.sent.get(partition, 0) + count

    def start(
        self,
        instance: str = "0",
        *,
        stage: Counting | None = None,
        internal: Mapping[str, int] | None = None,
        **settings: Any,
    ) -> Running:
        """Run a replica; ``internal`` are the topics of our own with their partitions."""
        run = Running(self.world, stage or self.stage(), self.world.settings(instance, **settings), internal)
        self.runs.append(run)
        return run

    def stage(self, **more: Any) -> Counting:
        """Return a fresh stage."""
        return Counting(self.topic, self.state, self.out, **more)

    def addresses(self) -> list[str]:
        """Return what is committed: one address for each record that was counted."""
        reader = self.world.reader()
        found = [value.decode() for batch in reader.read([Partition(self.out, 0)]) for value in batch.values if value]
        reader.close()
        return found

    def counted(self) -> dict[str, int]:
        """Return the counts in the changelog."""
        reader = self.world.reader()
        latest: dict[str, int] = {}
        for batch in reader.read(reader.partitions(self.state)):
            for key, value in zip(batch.keys, batch.values, strict=True):
                if key and value:
                    latest[key.decode()] = json.loads(value)["count"]
        reader.close()
        return latest

    def settled(self) -> None:
        """Wait until everything is counted, then hold that it was counted exactly once."""
        until(lambda: len(self.addresses()) >= sum(self.sent.values()), "every record is counted")
        expected = [f"{partition}/{offset}" for partition, count in self.sent.items() for offset in range(count)]
        assert sorted(self.addresses()) == sorted(expected)
        counted = {partition: count for partition, count in self.counted().items() if count}
        assert counted == {str(partition): count for partition, count in self.sent.items()}

    def close(self) -> None:
        """Stop what runs."""
        for run in self.runs:
            if run.thread.is_alive():
                run.stop()
