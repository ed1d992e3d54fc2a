"""The oracle: counts the input log again in the plainest way, and says what was lost and what was counted twice."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field

from contracts.codes import Outcome
from contracts.messages import RetrainRequest, Verdict
from contracts.topics import dead_letter_topic
from contracts.wire import PaneDelta, decode
from monitor.judge import Judge
from monitor.partition_state import PartitionState
from monitor.verify import verify
from streams.loop import Loop
from streams.memory import MemoryReader, MemorySink, MemorySource
from streams.memory_log import MemoryLog
from streams.ports import Reader
from streams.settings import KafkaSettings
from tests.conformance.worlds import until
from tests.reliability.bank import Bank

LATENESS_MS = 120_000
PANE_MS = 60_000


@dataclass(slots=True)
class Audit:
    """What the log says against what was counted."""

    records: int = 0
    lost: int = 0
    twice: int = 0
    duplicates_seen: int = 0
    disorder_seen: int = 0
    poison_seen: int = 0
    verdicts: int = 0
    repeated_ids: int = 0
    numbers: int = 0
    differences: list[str] = field(default_factory=list)

    def compare(self, what: str, counted: int, true: int) -> None:
        """Compare one count."""
        self.numbers += 1
        self.lost += max(true - counted, 0)
        self.twice += max(counted - true, 0)
        if counted != true:
            self.differences.append(f"{what}: {counted}, the log says {true}")


def caught_up(bank: Bank) -> bool:
    """Return whether the tally has committed everything that is on the broker."""
    ends = {p: end for p, (_, end) in bank.reader.bounds(bank.reader.partitions(bank.scores)).items()}
    states = _states(bank)
    return all(states[p.index].next_offset == end for p, end in ends.items() if end)


def wait_caught_up(bank: Bank) -> float:
    """Wait for it and return how long it took."""
    began = time.monotonic()
    until(lambda: caught_up(bank), "the tally has caught up", 90)
    return time.monotonic() - began


def fresh_event_passes(bank: Bank) -> float:
    """Send events to every partition and return the seconds until they are committed."""
    bank.send(6)
    bank.settle()
    return wait_caught_up(bank)


def _states(bank: Bank) -> dict[int, PartitionState]:
    values: dict[bytes, bytes] = {}
    for batch in bank.reader.read(bank.reader.partitions(bank.topics.tally_state.name)):
        values |= {k: v for k, v in zip(batch.keys, batch.values, strict=True) if k is not None and v is not None}
    found = {}
    for partition in bank.reader.partitions(bank.scores):
        found[partition.index] = PartitionState(partition, 1_000_000)
        found[partition.index].restore(values)
    return found


def audit(bank: Bank) -> Audit:
    """Count everything again and compare; the tally must have caught up."""
    found = Audit()
    minutes: Counter[int] = Counter()
    poison: list[bytes] = []
    states = _states(bank)
    for partition in bank.reader.partitions(bank.scores):
        outcomes = _recount(bank.reader, partition, found, minutes, poison)
        state = states[partition.index]
        found.records += sum(outcomes.values())
        found.compare(f"partition {partition.index} received", state.received, sum(outcomes.values()))
        for outcome in Outcome:
            found.compare(f"partition {partition.index} {outcome}", state.outcomes[outcome], outcomes[outcome])
    rows: Counter[int] = Counter()
    for batch in bank.reader.read(bank.reader.partitions(bank.topics.panes.name)):
        for value in batch.values:
            for record in decode(value or b""):
                if isinstance(record, PaneDelta) and (record.first, record.segment) == (0, ""):
                    rows[record.start] += record.rows if record.source == "prediction" else 0
    for start in sorted({*rows, *minutes}):
        found.compare(f"pane {start}", rows[start], minutes[start])
    _compare_letters(bank, found, poison)
    checked = verify(bank.reader, bank.models, bank.topics, clock="stream")
    found.numbers += checked.counts
    found.differences += checked.differences + checked.unverifiable
    _compare_verdicts(bank, found)
    return found


def _recount(reader, partition, found: Audit, minutes: Counter[int], poison: list[bytes]) -> Counter[Outcome]:
    outcomes: Counter[Outcome] = Counter()
    seen: set[str] = set()
    clock = -1
    for batch in reader.read([partition]):
        for value in batch.values:
            try:
                row = json.loads(value.decode())
                identity, at = row["event_id"], row["time"]
            except (ValueError, TypeError, KeyError):
                outcomes[Outcome.REJECTED] += 1
                poison.append(value)
                continue
            if identity in seen:
                outcomes[Outcome.DUPLICATE] += 1
            elif at < clock - LATENESS_MS:
                outcomes[Outcome.LATE] += 1
                seen.add(identity)
            else:
                outcomes[Outcome.TALLIED] += 1
                seen.add(identity)
                minutes[at // PANE_MS * PANE_MS] += 1
                found.disorder_seen += at < clock
                clock = max(clock, at)
    found.duplicates_seen += outcomes[Outcome.DUPLICATE]
    found.poison_seen += outcomes[Outcome.REJECTED]
    return outcomes


def _compare_letters(bank: Bank, found: Audit, poison: list[bytes]) -> None:
    letters: Counter[bytes] = Counter()
    addresses: Counter[tuple[bytes, bytes]] = Counter()
    for batch in bank.reader.read(bank.reader.partitions(dead_letter_topic(bank.scores))):
        for value, headers in zip(batch.values, batch.headers, strict=True):
            own = dict(headers)
            letters[value or b""] += 1
            addresses[own["stationkeeper.partition"], own["stationkeeper.offset"]] += 1
    true = Counter(poison)
    for value in {*letters, *true}:
        found.compare(f"dead letter {value[:40]!r}", letters[value], true[value])
    found.compare("different addresses of dead letters", len(addresses), len(poison))


def _values(reader: Reader, topic: str) -> list[bytes]:
    return [v for batch in reader.read(reader.partitions(topic)) for v in batch.values if v is not None]


def _compare_verdicts(bank: Bank, found: Audit) -> None:
    """An undisturbed judge over the same panes must say the same; only what both have come to is compared."""
    said = [Verdict.decode(value).id for value in _values(bank.reader, bank.topics.verdicts.name)]
    asked = [RetrainRequest.decode(value).id for value in _values(bank.reader, bank.topics.requests.name)]
    found.verdicts = len(said)
    found.repeated_ids += len(said) - len(set(said)) + len(asked) - len(set(asked))
    log = MemoryLog()
    for topic in bank.topics.all():
        log.create(topic)
    for name in (bank.topics.references.name, bank.topics.rollouts.name, bank.topics.panes.name):
        for batch in bank.reader.read(bank.reader.partitions(name)):
            log.produce(name, batch.values, keys=batch.keys, partition=batch.partition.index)
    settings = KafkaSettings(prefix=bank.prefix, flush_interval=0, poll_timeout=0)
    stage = Judge(bank.models, bank.topics, clock="stream", partitions=lambda _topic: 3)
    reader = MemoryReader(log)
    loop = Loop(stage, MemorySource(log, settings, "judge"), MemorySink(log, settings, "judge"), reader, settings)
    panes = reader.partitions(bank.topics.panes.name)
    ends = {partition: end for partition, (_, end) in reader.bounds(panes).items()}
    while any(loop._positions.get(partition, -1) < end for partition, end in ends.items()):
        loop.turn()
    loop.turn()
    again = [Verdict.decode(value).id for value in _values(reader, bank.topics.verdicts.name)]
    requests = [RetrainRequest.decode(value).id for value in _values(reader, bank.topics.requests.name)]
    for what, live, calm in (("verdicts", said, again), ("requests", asked, requests)):
        found.compare(what, len(live), len(calm))
        if sorted(live) != sorted(calm):
            found.differences.append(f"{what}: {sorted(set(live) ^ set(calm))[:5]} on one side only")
