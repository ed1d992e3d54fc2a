"""Restore a judge of many models from its topics, in memory and on a real broker, and count what it writes a pane.

``python -m benchmarks restore [--models 50] [--features 200] [--strata 1 168] [--drawn] [--broker]``. One model runs
through its panes; its state stands for that of the others, under their names. Three times are told: reading back and
decoding the state (before a record is processed), reading the panes since the checkpoints again, and building the
tables of every detector, which follow from the references and are made when a model's first pane closes.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.measure.results import save
from stationkeeper.cli import collect_seldom
from stationkeeper.contracts.column import Column, categories, numbers
from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.topics import PANES_PARTITIONS, Topics
from stationkeeper.contracts.wire import ArmDelta, PaneDelta, Progress, Record, decode, encode, pack
from stationkeeper.monitor.core.reference import Reference, dump, profile
from stationkeeper.monitor.judge import Judge
from stationkeeper.monitor.packets import packed
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.state_codec import gather
from stationkeeper.monitor.status import ModelView
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored
from stationkeeper.streams.settings import KafkaSettings

START, MINUTE = 1_767_225_600_000, 60_000
ROWS, FLUSHES = 200, 6
FIRST = "model-0"


def table(features: int, rows: int, seed: int) -> dict[str, Any]:
    """Three quarters numbers, the rest categories of twenty values, and a score."""
    rng = np.random.default_rng(seed)
    numeric = features * 3 // 4
    out: dict[str, Any] = {f"n{i}": np.round(rng.normal(size=rows), 6) for i in range(numeric)}
    names = np.array([f"v{k}" for k in range(20)])
    out |= {f"c{i}": names[rng.integers(0, 20, rows)] for i in range(features - numeric)}
    return out | {"score": np.round(rng.beta(1, 4, rows), 6)}


def made_reference(features: int, strata: int, *, drawn: bool = False) -> Reference:
    """A reference of 20 000 rows; with ``strata`` its cells are known by hour: all alike, or ``drawn`` by chance."""
    made = profile(table(features, 20_000, 1), model=FIRST, version="1", prediction="score", salt="benchmark")
    if strata < 2:
        return made
    hours = [np.repeat(-(-s.counts[None, :] // strata), strata, axis=0) for s in made.subjects]
    if drawn:
        rng = np.random.default_rng(2)
        hours = [rng.poisson(s.counts / strata, (strata, len(s.counts))) for s in made.subjects]
    subjects = [replace(s, strata=mine) for s, mine in zip(made.subjects, hours, strict=True)]
    return replace(made, subjects=tuple(subjects))


def deltas(reference: Reference, features: int, minute: int, part: int) -> list[bytes]:
    """What one flush of a tally says of one minute."""
    columns = table(features, ROWS, 100 * minute + part + 2)
    named: dict[str, Column] = {
        "prediction" if name == "score" else name: categories(values) if name[0] == "c" else numbers(values)
        for name, values in columns.items()
    }
    counts = reference.layout.tally(named, np.zeros(ROWS, np.int64), np.array([ROWS]))[0]
    start, width = START + minute * MINUTE, len(counts)
    out: list[PaneDelta | ArmDelta] = [
        PaneDelta(FIRST, "1", reference.digest, "prediction", "", start, MINUTE, ROWS, b.start, width, pack(counts[b]))
        for b in reference.layout.blocks()
    ]
    scores = np.full(32, ROWS // 32, np.int64)
    out.append(ArmDelta(FIRST, "1", "", start, MINUTE, ROWS, 0, 0, 0, 0, pack(scores)))
    clock = start + part * MINUTE // FLUSHES
    return [*packed(out), encode([Progress("in", 0, "prediction", minute * FLUSHES + part + 1, clock, idle=False)])]


def settings_of(models: int) -> dict[str, ModelSettings]:
    """The models, all alike."""
    more = {"predictions": "in", "adoption": "0d", "quality": {"learn_traffic": "0d"}}
    return {f"model-{i}": ModelSettings.model_validate({"name": f"model-{i}", **more}) for i in range(models)}


@dataclass(frozen=True)
class Ran:
    """A model's state, the panes log that made it, and the bytes written to judge-state a pane."""

    state: dict[bytes, bytes]
    log: list[bytes]
    a_pane: int

    def tail(self) -> tuple[int, list[bytes]]:
        """Return the first offset that is in no checkpoint, and what follows."""
        since = gather(self.state)[f"{FIRST}/at"]["since"]
        first = len(self.log) if since is None else int(since)
        return first, self.log[first:]


def one_model(topics: Topics, reference: Reference, features: int, panes: int) -> Ran:
    """Run a model through its panes."""
    judge = Judge(settings_of(1), topics, view=ModelView, clock="stream")
    judge.table(topics.references.name, f"{FIRST}/1".encode(), dump(reference).encode())
    where = Partition(topics.panes.name, partition_of(FIRST, PANES_PARTITIONS))
    judge.assigned(frozenset({where}), Restored())
    state: dict[bytes, bytes] = {}
    log: list[bytes] = []
    late = 0
    for minute in range(panes):
        for part in range(FLUSHES):
            values = tuple(deltas(reference, features, minute, part))
            at = np.arange(len(log), len(log) + len(values))
            log += values
            judge.absorb(Batch(where, at, at, (None,) * len(values), values, len(log)))
            out: list[Outgoing] = judge.flush((minute * FLUSHES + part) * 10_000)
            mine = [one for one in out if one.topic == topics.judge_state.name]
            written = sum(len(one.value or b"") for one in mine)
            late += written if minute >= panes - 5 else 0
            state |= {one.key: one.value for one in mine if one.key and one.value}
    return Ran(state, log, late // 5)


def copies(state: dict[bytes, bytes], models: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (partition, key, value) of the state under every model's name, and the progress of every partition."""
    mine = partition_of(FIRST, PANES_PARTITIONS)
    for key, value in state.items():
        if key.startswith(b"progress/"):
            for index in range(PANES_PARTITIONS):
                yield index, key.replace(f"progress/{mine}".encode(), f"progress/{index}".encode()), value
            continue
        for i in range(models):
            name = f"model-{i}"
            yield partition_of(name, PANES_PARTITIONS), key.replace(FIRST.encode(), name.encode(), 1), value


def named(value: bytes, models: list[str]) -> bytes:
    """Return a value of the panes topic as it would be of these models together."""
    records: list[Record] = []
    for record in decode(value):
        if isinstance(record, PaneDelta | ArmDelta):
            records += [msgspec.structs.replace(record, model=model) for model in models]
        else:
            records.append(record)
    return encode(records)


Produce = Callable[[str, int, bytes, bytes], None]


@contextmanager
def memory(topics: Topics) -> Iterator[tuple[Produce, Callable[[Judge], Loop], Callable[[], None]]]:
    """The log in this process."""
    log = MemoryLog()
    for topic in topics.all():
        log.create(topic)
    settings = KafkaSettings(prefix=topics.prefix, flush_interval=0, poll_timeout=0)

    def produce(topic: str, partition: int, key: bytes, value: bytes) -> None:
        log.produce(topic, [value], keys=[key], partition=partition)

    def loop(stage: Judge) -> Loop:
        return Loop(
            stage, MemorySource(log, settings, "judge"), MemorySink(log, settings, "judge"), MemoryReader(log), settings
        )

    yield produce, loop, lambda: None


@contextmanager
def broker(topics: Topics) -> Iterator[tuple[Produce, Callable[[Judge], Loop], Callable[[], None]]]:
    """A local Apache Kafka."""
    from kafka import KafkaProducer

    from stationkeeper.streams.broker import LocalBroker
    from stationkeeper.streams.connect import reader_for, sink_for, source_for
    from stationkeeper.streams.kafka.topics import ensure_internal

    with tempfile.TemporaryDirectory() as directory, LocalBroker(Path(directory)) as cluster:
        settings = KafkaSettings(bootstrap=cluster.bootstrap, prefix=topics.prefix, flush_interval=0)
        ensure_internal(settings, topics)
        producer = KafkaProducer(acks="all", linger_ms=5, max_request_size=8 << 20, **settings.connection("benchmark"))

        def produce(topic: str, partition: int, key: bytes, value: bytes) -> None:
            producer.send(topic, value, key=key, partition=partition)

        def loop(stage: Judge) -> Loop:
            return Loop(
                stage,
                source_for(settings, "judge"),
                sink_for(settings, "judge"),
                reader_for(settings, "judge"),
                settings,
            )

        yield produce, loop, lambda: producer.flush(120)
        producer.close()


@dataclass(frozen=True)
class Restore:
    """Where from, how much, and the seconds of each part; ``state_mb`` is read back in ``restored_s``."""

    world: str
    strata: int
    state_mb: float
    references_s: float
    references_cpu_s: float
    restored_s: float
    restored_cpu_s: float
    records: int
    built_s: float
    built_cpu_s: float

    @property
    def cpu_s(self) -> float:
        """Processor time of the whole: references, state, and what is judged on."""
        return self.references_cpu_s + self.restored_cpu_s + self.built_cpu_s

    def __str__(self) -> str:
        return (
            f"{self.world}, {self.strata} strata: {self.state_mb:.1f} MB of state; references read in "
            f"{self.references_s:.2f} s ({self.references_cpu_s:.2f} s of CPU); state restored in "
            f"{self.restored_s:.2f} s ({self.restored_cpu_s:.2f} s of CPU); {self.records} records read again and "
            f"every detector's tables built in {self.built_s:.2f} s more ({self.built_cpu_s:.2f} s of CPU); "
            f"{self.cpu_s:.2f} s of CPU in all"
        )


def measure(world: Any, topics: Topics, reference: Reference, ran: Ran, models: int, strata: int) -> Restore:
    """Restore once and time each part; raises ``RuntimeError`` where a watch did not come back whole."""
    names = [f"model-{i}" for i in range(models)]
    first, tail = ran.tail()
    with world(topics) as (produce, make_loop, flush):
        text = dump(reference)
        size = 0
        for i in range(models):
            renamed = text.replace(f'"model":"{FIRST}"', f'"model":"model-{i}"', 1)
            produce(topics.references.name, 0, f"model-{i}/1".encode(), renamed.encode())
        for index, key, value in copies(ran.state, models):
            produce(topics.judge_state.name, index, key, value)
            size += len(value)
        for index in range(PANES_PARTITIONS):
            mine = [name for name in names if partition_of(name, PANES_PARTITIONS) == index]
            for value in [encode([])] * first + [named(value, mine) for value in tail]:
                produce(topics.panes.name, index, b"", value)
        flush()
        stage = Judge(settings_of(models), topics, view=ModelView, clock="stream")
        loop = make_loop(stage)
        began, cpu = time.monotonic(), time.process_time()
        loop._connect()  # noqa: SLF001 - the step that reads the references, timed apart
        tables, tables_cpu = time.monotonic() - began, time.process_time() - cpu
        cpu = time.process_time()
        while len(stage.judges) < models:
            loop.turn()
        restored = next(s.value for s in loop.vitals.samples() if s.metric == "stationkeeper_restore_seconds")
        restore_cpu = time.process_time() - cpu
        began, cpu = time.monotonic(), time.process_time()
        while min(loop._positions.at.values()) < len(ran.log) or stage._cold:  # noqa: SLF001
            loop.turn()
        built, build_cpu = time.monotonic() - began, time.process_time() - cpu
        rows = {watch.rows for judge in stage.judges.values() for watch in judge.watches.values()}
        loop.close()
    if len(rows) != 1:
        raise RuntimeError(f"{world.__name__}: models that are all alike came back with {sorted(rows)} rows")
    return Restore(
        world=world.__name__,
        strata=strata,
        state_mb=size / 1e6,
        references_s=tables,
        references_cpu_s=tables_cpu,
        restored_s=restored,
        restored_cpu_s=restore_cpu,
        records=len(tail),
        built_s=built,
        built_cpu_s=build_cpu,
    )


def main() -> None:
    """Print what is written and how long a restore takes, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--features", type=int, default=200)
    parser.add_argument(
        "--strata", type=int, nargs="*", default=[1, 168], help="hours by which the reference knows its cells"
    )
    parser.add_argument("--drawn", action="store_true", help="hours differ by chance, as those of life do")
    parser.add_argument("--panes", type=int, default=60)
    parser.add_argument("--broker", action="store_true", help="also on a local Apache Kafka")
    given = parser.parse_args()
    collect_seldom()
    found = []
    for strata in given.strata:
        topics = Topics("restore")
        reference = made_reference(given.features, strata, drawn=given.drawn)
        ran = one_model(topics, reference, given.features, given.panes)
        print(f"{given.models} models x {given.features} features, {strata} strata, vector of {len(reference.layout)}")
        print(f"judge-state, one model: {ran.a_pane / 1e3:.0f} kB a pane of {FLUSHES} flushes")
        for world in (memory, broker) if given.broker else (memory,):
            found.append(measure(world, topics, reference, ran, given.models, strata))
            print(found[-1], flush=True)
    every = [asdict(one) | {"cpu_s": one.cpu_s} for one in found]
    name = "restore-drawn" if given.drawn else "restore"
    save(name, {"models": given.models, "features": given.features, "restores": every})


if __name__ == "__main__":
    main()
