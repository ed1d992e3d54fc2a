"""The oracle: counts the input log again in the plainest way, and says what was lost and what was counted twice."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stationkeeper.contracts.codes import Outcome
from stationkeeper.contracts.messages import RetrainRequest, Verdict
from stationkeeper.contracts.topics import dead_letter_topic
from stationkeeper.contracts.wire import PaneDelta, decode
from stationkeeper.monitor.judge import Judge
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.status import ModelView
from stationkeeper.monitor.tally.partition import PartitionState
from stationkeeper.monitor.verify import verify
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.kafka.clients import translated
from stationkeeper.streams.kafka.topics import admin_client
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.ports import Partition, Reader
from stationkeeper.streams.settings import KafkaSettings
from tests.reliability.bank import Bank
from tests.waiting import until

if TYPE_CHECKING:
    from tests.reliability.following import Following

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
    future_seen: int = 0
    oversize_seen: int = 0
    again_counted: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    verdicts: int = 0
    repeated_ids: int = 0
    numbers: int = 0
    differences: list[str] = field(default_factory=list)
    # What ``stationkeeper verify`` could not compare, and why.
    unverifiable: list[str] = field(default_factory=list)

    def add(self, plain: "Plain") -> None:
        """Note how dirty a partition was."""
        self.outcomes += plain.outcomes
        self.future_seen += plain.future
        self.again_counted += plain.again
        self.disorder_seen += plain.disorder

    def compare(self, what: str, counted: int, true: int) -> None:
        """Compare one count."""
        self.numbers += 1
        self.lost += max(true - counted, 0)
        self.twice += max(counted - true, 0)
        if counted != true:
            self.differences.append(f"{what}: {counted}, the log says {true}")


def caught_up(bank: Bank) -> bool:
    """Return whether the tally has committed everything that is on the broker; while that is away, it has not."""
    try:
        ends = {p: end for p, (_, end) in bank.reader.bounds(bank.reader.partitions(bank.scores)).items()}
        states = states_of(bank)
    except Retryable:
        return False
    return bool(ends) and all(states[p.index].next_offset == end for p, end in ends.items() if end)


def records_behind(bank: Bank) -> int:
    """Return how many records on the broker the tally has not committed."""
    ends, states = bank.reader.bounds(bank.reader.partitions(bank.scores)), states_of(bank)
    return sum(end - (states[p.index].next_offset or 0) for p, (_, end) in ends.items())


def wait_caught_up(bank: Bank, limit_s: float = 120.0) -> float:
    """Wait for it and return how long it took."""
    began = time.monotonic()
    until(lambda: caught_up(bank), "the tally has caught up", limit_s)
    return time.monotonic() - began


def committed_behind(bank: Bank) -> int:
    """Return how many records the tally's group has not committed, without reading its state."""
    known = committed_offsets(bank, "tally")
    ends = bank.reader.bounds(bank.reader.partitions(bank.scores))
    return sum(end - known.get(partition, 0) for partition, (_, end) in ends.items())


def committed_offsets(bank: Bank, role: str) -> dict[Partition, int]:
    """Return how far a role's group has committed."""
    group = bank.settings().group(role)
    with admin_client(bank.settings("admin")) as admin, translated(f"ask for the offsets of {group}"):
        told = admin.list_group_offsets({group: None})[group]
    return {Partition(at.topic, at.partition): max(found.offset, 0) for at, found in told.items()}


def wait_read(bank: Bank, role: str, topic: str, limit_s: float = 120.0) -> None:
    """Wait until a role has committed what is in a topic now."""
    ends = {at: end for at, (_, end) in bank.reader.bounds(bank.reader.partitions(topic)).items() if end}

    def read() -> bool:
        known = committed_offsets(bank, role)
        return all(known.get(partition, 0) >= end for partition, end in ends.items())

    until(read, f"the {role} has caught up", limit_s)


def fresh_event_passes(bank: Bank, passed: Callable[[], object] | None = None) -> float:
    """Send events to every partition and return the seconds until they are committed, by ``passed`` if given."""
    bank.send(6)
    bank.settle()
    began = time.monotonic()
    (passed or (lambda: wait_caught_up(bank)))()
    return time.monotonic() - began


def latest_state(bank: Bank) -> dict[bytes, bytes]:
    """Return the tally's committed state records by key."""
    values: dict[bytes, bytes] = {}
    for batch in bank.reader.read(bank.reader.partitions(bank.topics.tally_state.name)):
        values |= {k: v for k, v in zip(batch.keys, batch.values, strict=True) if k is not None and v is not None}
    return values


def states_of(bank: Bank) -> dict[int, PartitionState]:
    """Return the tally's committed state by partition."""
    values, found = latest_state(bank), {}
    for partition in bank.reader.partitions(bank.scores):
        found[partition.index] = PartitionState(partition, bank.models["fraud"].dedupe)
        found[partition.index].restore(values)
    return found


def audit(bank: Bank, *, verdicts: bool = True, following: "Following | None" = None) -> Audit:
    """Count everything again and compare; the tally must have caught up.

    ``following`` has counted the log already.
    """
    found = Audit()
    minutes: Counter[int] = Counter()
    poison: Counter[bytes] = Counter()
    states = states_of(bank)
    for partition in bank.reader.partitions(bank.scores):
        plain = _recount(bank, partition) if following is None else following.plain[partition.index]
        minutes += plain.minutes
        poison += plain.poison
        found.add(plain)
        state, outcomes = states[partition.index], plain.outcomes
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
    found.duplicates_seen, found.poison_seen = found.outcomes[Outcome.DUPLICATE], found.outcomes[Outcome.REJECTED]
    _compare_letters(bank, found, poison)
    if following is None:
        checked = verify(bank.reader, bank.models, bank.topics, clock=bank.setup.clock)
        found.numbers += checked.counts
        found.differences += checked.differences
        found.unverifiable += checked.unverifiable
    else:
        following.compare_panes(found)
    compare_verdicts(bank, found, replayed=verdicts and bank.setup.clock == "stream")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(constant)


class Plain:
    """One partition in the plainest way: a dictionary, a clock, and the rules of the model's settings in words."""

    def __init__(self, model: ModelSettings, *, wall: bool) -> None:
        self._model, self._wall = model, wall
        self._seen: dict[str, int] = {}
        self._clock = -1
        self.outcomes: Counter[Outcome] = Counter()
        self.minutes: Counter[int] = Counter()
        self.poison: Counter[bytes] = Counter()
        self.future, self.again, self.disorder = 0, 0, 0

    def take(self, offset: int, stamp: int, value: bytes) -> None:
        """Count the next record."""
        model = self._model
        try:
            row = json.loads(value.decode(), parse_constant=_refuse)
            identity, at = row["event_id"], row["time"]
            if self._wall and at > stamp + model.skew:
                self.future += 1
                raise ValueError("in the future")  # noqa: TRY301 - it ends like any other poison
        except (ValueError, TypeError, KeyError, RecursionError):
            self.outcomes[Outcome.REJECTED] += 1
            self.poison[_sum(value)] += 1
            return
        before, self._seen[identity] = self._seen.get(identity), offset
        if before is not None and offset - before <= model.dedupe:
            self.outcomes[Outcome.DUPLICATE] += 1
        elif at < self._clock - model.lateness:
            self.outcomes[Outcome.LATE] += 1
        else:
            self.again += before is not None
            self.outcomes[Outcome.TALLIED] += 1
            self.minutes[at // PANE_MS * PANE_MS] += 1
            self.disorder += at < self._clock
            self._clock = max(self._clock, at)
        if len(self._seen) > 2 * max(model.dedupe, 500_000):
            # What is past the horizon is no duplicate any more; ``again`` then counts too few, which only informs.
            self._seen = {key: seen for key, seen in self._seen.items() if seen >= offset - model.dedupe}


def _recount(bank: Bank, partition: Partition) -> Plain:
    plain = Plain(bank.models["fraud"], wall=bank.setup.clock == "wall")
    for batch in bank.reader.read([partition]):
        for offset, stamp, value in zip(batch.offsets.tolist(), batch.timestamps.tolist(), batch.values, strict=True):
            plain.take(offset, stamp, value or b"")
    return plain


def _compare_letters(bank: Bank, found: Audit, true: Counter[bytes]) -> None:
    """Value by value; of a letter that the broker found too large only the sum is left, and it must be the value's."""
    letters: Counter[bytes] = Counter()
    addresses: Counter[tuple[bytes, bytes]] = Counter()
    for batch in bank.reader.read(bank.reader.partitions(dead_letter_topic(bank.scores))):
        for value, headers in zip(batch.values, batch.headers, strict=True):
            own = dict(headers)
            cut = own.get("stationkeeper.value.sha256")
            found.oversize_seen += cut is not None
            letters[cut or _sum(value or b"")] += 1
            addresses[own["stationkeeper.partition"], own["stationkeeper.offset"]] += 1
    for value in {*letters, *true}:
        found.compare(f"dead letter {value!r}", letters[value], true[value])
    found.compare("different addresses of dead letters", len(addresses), true.total())


def _sum(value: bytes) -> bytes:
    return hashlib.sha256(value).hexdigest().encode()


def values_of(reader: Reader, topic: str) -> list[bytes]:
    """Return the values of a topic."""
    return [v for batch in reader.read(reader.partitions(topic)) for v in batch.values if v is not None]


def _said(bank: Bank) -> tuple[list[Verdict], list[str], dict[Partition, int]]:
    """Every verdict and the id of every request, and the panes that they come from: offsets that commit with them."""
    while True:
        judged = committed_offsets(bank, "judge")
        verdicts = [Verdict.decode(value) for value in values_of(bank.reader, bank.topics.verdicts.name)]
        sent = [RetrainRequest.decode(value) for value in values_of(bank.reader, bank.topics.requests.name)]
        asked = [request.id for request in sent if not request.withdrawn and request.cure is None]
        if committed_offsets(bank, "judge") == judged:
            return verdicts, asked, judged


def compare_verdicts(bank: Bank, found: Audit, *, replayed: bool) -> None:
    """An undisturbed judge over the same panes must say the same; only what both have come to is compared."""
    verdicts, asked, judged = _said(bank)
    found.kinds.update(str(verdict.kind) for verdict in verdicts)
    said = [verdict.id for verdict in verdicts]
    found.verdicts = len(said)
    found.repeated_ids += len(said) - len(set(said)) + len(asked) - len(set(asked))
    if not replayed:  # what a judge says by the wall clock depends on when it is asked
        return
    log = MemoryLog()
    for topic in bank.topics.all():
        log.create(topic)
    for name in (bank.topics.references.name, bank.topics.rollouts.name, bank.topics.panes.name):
        for batch in bank.reader.read(bank.reader.partitions(name)):
            # The tally goes on telling its progress; a minute that this closes by now is not in what was said.
            end = judged.get(batch.partition, 0) if name == bank.topics.panes.name else batch.next_offset
            come = int(np.searchsorted(batch.offsets, end))
            log.produce(name, batch.values[:come], keys=batch.keys[:come], partition=batch.partition.index)
    settings = KafkaSettings(prefix=bank.prefix, flush_interval=0, poll_timeout=0)
    count = len(bank.reader.partitions(bank.scores))
    stage = Judge(bank.models, bank.topics, view=ModelView, clock=bank.setup.clock, partitions=lambda _topic: count)
    reader = MemoryReader(log)
    loop = Loop(stage, MemorySource(log, settings, "judge"), MemorySink(log, settings, "judge"), reader, settings)
    panes = reader.partitions(bank.topics.panes.name)
    ends = {partition: end for partition, (_, end) in reader.bounds(panes).items()}
    while any(loop._positions.at.get(partition, -1) < end for partition, end in ends.items()):
        loop.turn()
    loop.turn()
    again = [Verdict.decode(value).id for value in values_of(reader, bank.topics.verdicts.name)]
    sent = [RetrainRequest.decode(value) for value in values_of(reader, bank.topics.requests.name)]
    requests = [request.id for request in sent if not request.withdrawn and request.cure is None]
    for what, live, calm in (("verdicts", said, again), ("requests", asked, requests)):
        found.compare(what, len(live), len(calm))
        if sorted(live) != sorted(calm):
            found.differences.append(f"{what}: {sorted(set(live) ^ set(calm))[:5]} on one side only")
