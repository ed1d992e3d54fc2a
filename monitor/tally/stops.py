"""Which input topics the tally does not read, why, and what a person decided of them."""

from collections.abc import Mapping
from typing import NamedTuple

import structlog

from stationkeeper.contracts.codes import STOP_HELP, DeadLetterCode, StopReason
from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import InputDecision
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.times import to_ms
from stationkeeper.events import Rejection
from stationkeeper.monitor.tally.partition import PartitionState
from stationkeeper.streams.dead_letters.letters import DeadLetterLimit, dead_letter
from stationkeeper.streams.dead_letters.limit import RejectionLimit
from stationkeeper.streams.ports import Batch, Outgoing, Partition
from stationkeeper.streams.settings import DeadLetterSettings

log = structlog.get_logger()


class Stop(NamedTuple):
    """Why a topic is not read: ``detail`` with the numbers and one example, ``at`` the place of that example."""

    reason: StopReason
    detail: str
    code: str = ""
    at: tuple[Partition, int] | None = None

    def words(self, topic: str) -> str:
        """Return the reason, the detail and what to do, for people."""
        return f"{topic}: {self.detail}. {STOP_HELP[self.reason].replace('TOPIC', topic)}"


class Stops:
    """Decides topic by topic from ids, ends and decisions; a stop is no state, it is found again after a restart."""

    def __init__(self) -> None:
        self.by_topic: dict[str, Stop] = {}
        # By the key of the record: the topic of decisions is compacted, and the latest of topic and action holds.
        self._decided: dict[bytes, InputDecision] = {}
        self._shorter: dict[Partition, int] = {}
        self._adopted: set[Partition] = set()

    def begin(self) -> None:
        """See that states are restored: what ends too early is told again."""
        self._shorter.clear()
        self._adopted.clear()

    def decide(self, key: bytes, value: bytes | None) -> None:
        """See a person's decision; raises ``ValueError`` for one that cannot be read."""
        if value is None:
            self._decided.pop(key, None)
        else:
            self._decided[key] = InputDecision.decode(value)

    def _decision(self, topic: str, action: str, topic_id: str) -> InputDecision | None:
        found = self._decided.get(f"{topic}/{action}".encode())
        # A decision is about one topic and not its name: after it was deleted and made again, nobody has decided.
        return found if found is not None and topic_id in {"", found.topic_id} else None

    def passed_until(self, partition: Partition, topic_id: str) -> int:
        """Return the offset before which rejected records stop nothing, because a person let them pass."""
        found = self._decision(partition.topic, "resume", topic_id)
        return 0 if found is None else found.ends.get(partition.index, 0)

    def reject(self, partition: Partition, offset: int, why: str, code: DeadLetterCode, field: str) -> None:
        """Stop a topic at a rejected record."""
        where = f"{partition.topic}/{partition.index}/{offset}"
        detail = f"{why}; for example {where} as {code.value}{f' ({field})' if field else ''}"
        self._stop(partition.topic, Stop(StopReason.REJECTED, detail, code.value, (partition, offset)))

    def shorter(self, partition: Partition, end: int) -> None:
        """Note that a partition ends too early."""
        self._shorter[partition] = end

    def review(
        self, ids: Mapping[str, str], ends: Mapping[Partition, int], states: Mapping[Partition, PartitionState]
    ) -> set[Partition]:
        """Look at every topic again, and let states begin anew where a person decided so; returns the changed ones."""
        changed: set[Partition] = set()
        # Sorted, so that two processes log the same stops in the same order.
        for topic in sorted({topic for topic, _ in states} | self.by_topic.keys()):
            mine = {partition: state for partition, state in states.items() if partition.topic == topic}
            stop = self._review(topic, ids.get(topic), mine, changed)
            if stop is not None:
                self._stop(topic, stop)
            elif self.by_topic.pop(topic, None) is not None and mine:
                log.info(LogEvent.INPUT_RESUMED, topic=topic)
            words = "" if stop is None else stop.words(topic)
            for partition, state in mine.items():
                end = ends.get(partition, 0) if state.topic_id == ids.get(topic) else 0
                # Of a topic that is read its end is written with what was read.
                if state.stopped != words or (words and end > state.end_offset):
                    changed.add(partition)
                state.stopped, state.end_offset = words, end or state.end_offset
        return changed

    def _review(
        self, topic: str, present: str | None, mine: Mapping[Partition, PartitionState], changed: set[Partition]
    ) -> Stop | None:
        # A topic whose partitions this process does not read is another one's to stop.
        if not mine:
            return None
        if present is None:
            return Stop(StopReason.GONE, "it does not exist")
        # Whether it is another topic comes before its length: a new one is mostly shorter
        # as well, and to go on where it ends would skip what it holds.
        accepted = self._decision(topic, "accept_new", present)
        other = [state for state in mine.values() if present and state.topic_id not in {"", present}]
        # A state of before ids were kept cannot say which topic it is of; one that is too short is another one.
        unsure = [p for p in mine if p in self._shorter and (p in self._adopted or not present)]
        other += [mine[partition] for partition in unsure]
        if other:
            # A decision counts once: after the next deletion the same record must not let another topic in.
            if accepted is None or all(to_ms(accepted.time) <= state.accepted for state in other):
                for partition in unsure:
                    mine[partition].topic_id = ""
                lost = sum(max(state.end_offset - (state.next_offset or 0), 0) for state in other)
                return Stop(StopReason.RECREATED, f"it is another topic than was read before, {_lost(lost)}")
            for state in other:
                state.begin_anew(present, to_ms(accepted.time))
                changed.add(state.partition)
        for partition, state in mine.items():
            if present and not state.topic_id:
                state.topic_id = present
                self._adopted.add(partition)
                changed.add(partition)
            end = self._shorter.get(partition)
            if end is None or (state.next_offset or 0) <= end:
                continue
            if accepted is None or to_ms(accepted.time) <= state.accepted:
                index = f"{topic}/{partition.index}"
                return Stop(StopReason.SHORTER, f"{index} ends at {end} and was read to {state.next_offset}")
            # From where it ended when the person looked: what came since is new.
            state.next_offset, state.accepted = min(end, accepted.ends.get(partition.index, end)), to_ms(accepted.time)
            changed.add(partition)
        stop = self.by_topic.get(topic)
        if stop is None or stop.at is None or stop.at[0] not in mine:
            return None
        partition, offset = stop.at
        return None if offset < self.passed_until(partition, mine[partition].topic_id) else stop

    def _stop(self, topic: str, stop: Stop) -> None:
        before = self.by_topic.get(topic)
        self.by_topic[topic] = stop
        # Found again at each review: logged once, and again only when it reads differently.
        if before != stop:
            log.error(LogEvent.INPUT_STOPPED, topic=topic, cause=stop.reason.value, reason=stop.words(topic))

    def samples(self) -> list[Sample]:
        """Return a sample for each topic that is not read."""
        return [
            Sample("stationkeeper_input_stopped", (topic, stop.reason.value, stop.code), 1)
            for topic, stop in sorted(self.by_topic.items())
        ]

    def status(self) -> list[dict[str, str]]:
        """Return ``contracts.status.StoppedInput`` for each topic that is not read."""
        return [
            {"topic": topic, "reason": stop.reason.value, "detail": stop.words(topic)}
            for topic, stop in sorted(self.by_topic.items())
        ]


class Rejected:
    """The records that are rejected between two flushes, and what stops their topic when there are too many."""

    def __init__(self, settings: DeadLetterSettings, stops: Stops) -> None:
        self.limit = RejectionLimit(settings)
        self._connect_headers, self._stops = settings.connect_headers, stops
        self._letters: list[Outgoing] = []

    def take(self, state: PartitionState, batch: Batch, rejected: list[Rejection]) -> None:
        """Count rejected records of a batch and make dead letters; raises ``DeadLetterLimit`` for one too many."""
        # The faults of a batch come by kind; the limit and its example follow the order of the log.
        rejected.sort(key=lambda one: one.row)
        state.reject(one.code for one in rejected)
        for row, code, detail in ((one.row, one.code, one.detail) for one in rejected):
            letter = dead_letter(batch, row, code, "tally", detail=detail, connect_headers=self._connect_headers)
            self._letters.append(letter)
        # What a person let pass is no news: rejected as ever, but it stops nothing.
        passed = self._stops.passed_until(batch.partition, state.topic_id)
        counted = {one.row: one for one in rejected if batch.offsets[one.row] >= passed}
        try:
            self.limit.observe(batch.partition, len(batch), list(counted))
        except DeadLetterLimit as error:
            last = counted[error.row]
            self._stops.reject(batch.partition, int(batch.offsets[error.row]), str(error), last.code, last.detail)
            raise

    def drain(self) -> list[Outgoing]:
        """Return the dead letters since the last call."""
        letters, self._letters = self._letters, []
        return letters

    def clear(self) -> None:
        """Forget what was not drained, and the counts: the same records may come again."""
        self._letters.clear()
        self.limit.forget()


def _lost(records: int) -> str:
    return f"of which {records} known records were never read" if records else "of which nothing unread was known"
