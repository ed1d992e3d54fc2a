"""``verify``: counts the input topics again in the plain way, up to what is committed, and compares every number."""

from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from stationkeeper.contracts.codes import Outcome
from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.topics import PANES_PARTITIONS, Topics
from stationkeeper.events import Form, forms
from stationkeeper.monitor.core.reference import Reference
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.state_codec import gather
from stationkeeper.monitor.tally import MAX_DIGESTS, PartitionState
from stationkeeper.monitor.verify.arms import Arm
from stationkeeper.monitor.verify.outcomes import OutcomeKey, PlainOutcomes
from stationkeeper.monitor.verify.recorded import Recorded
from stationkeeper.monitor.verify.recount import Gone, JoinKey, Key, Recount
from stationkeeper.streams.ports import Partition, Reader

# Differences written out: one fault repeats itself, and the count of the others is said.
_SHOWN = 20

# A tally that commits while it is compared makes numbers differ; five tries outlast one that is catching up. More would
# only make the message come later.
_TRIES = 5


@dataclass(slots=True)
class Verification:
    """What was compared and where it differed; ``differences`` are sentences with the numbers of both sides."""

    records: int = 0
    panes: int = 0
    counts: int = 0
    differences: list[str] = field(default_factory=list)
    unverifiable: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether every number that could be compared is equal."""
        return not self.differences

    @property
    def complete(self) -> bool:
        """Whether something was compared, and nothing was left out."""
        return self.counts > 0 and not self.unverifiable

    def compare(self, what: str, recorded: int, plain: int) -> None:
        """Compare one number."""
        self.counts += 1
        if recorded != plain:
            self.differences.append(f"{what}: {recorded}, counted again {plain}")

    def summary(self) -> str:
        """Return the result in words, the first differences with it."""
        lines = [f"{self.records} records counted again: {self.panes} panes, {self.counts} numbers compared"]
        lines += [f"not comparable: {line}" for line in self.unverifiable]
        lines += [f"differs: {line}" for line in self.differences[:_SHOWN]]
        if len(self.differences) > _SHOWN:
            lines.append(f"and {len(self.differences) - _SHOWN} more")
        return "\n".join([*lines, self._verdict()])

    def _verdict(self) -> str:
        if self.differences:
            return f"{len(self.differences)} differences"
        if not self.counts:
            return "nothing could be compared"
        return "equal" if self.complete else "equal as far as it could be compared"

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {"equal": self.equal, "complete": self.complete, **asdict(self)}


def verify(
    reader: Reader, models: Mapping[str, ModelSettings], topics: Topics, *, clock: Literal["wall", "stream"] = "wall"
) -> Verification:
    """Recompute outcomes, panes, arms and join rows from the input topics up to the committed offsets and compare all.

    What the join made of those rows, up to where it has committed, is paired again and compared too.

    Needs the inputs from where the tally began, and what it wrote from its first record on: what retention has removed
    of either is named in ``unverifiable``. Of a join row its id, a label's value and an action's probability are not
    compared; the sums by action have the octaves of these. Slow on purpose: about 20 000 events a second.
    """
    found = Verification()
    for _ in range(_TRIES):
        before, joined = _latest(reader, topics.tally_state.name), _latest(reader, topics.join_state.name)
        found = _Run(reader, models, topics, before, joined, wall=clock == "wall").result()
        after = _latest(reader, topics.tally_state.name), _latest(reader, topics.join_state.name)
        # A difference counts only where nobody wrote meanwhile: the state and the topics are read one after the other.
        if found.equal or after == (before, joined):
            return found
    found.unverifiable.append("the tally was writing all the time; stop it, or verify when it has caught up")
    return found


def _latest(reader: Reader, topic: str) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for batch in reader.read(reader.partitions(topic)):
        for key, value in zip(batch.keys, batch.values, strict=True):
            if key is not None and value is not None:
                found[key] = value
            elif key is not None:
                found.pop(key, None)
    return found


class _Run:
    """One comparison at one committed state."""

    def __init__(
        self,
        reader: Reader,
        models: Mapping[str, ModelSettings],
        topics: Topics,
        states: Mapping[bytes, bytes],
        joined: Mapping[bytes, bytes],
        *,
        wall: bool,
    ) -> None:
        self._reader, self._models, self._topics, self._states, self._wall = reader, models, topics, states, wall
        self._joined = gather(joined)
        self._found = Verification()
        self._references = self._all_references()
        self._left_out: set[str] = set()
        """Models of which nothing is compared but outcomes."""
        self._blind: set[str] = set()
        self._rows: Counter[Key] = Counter()
        self._cells: dict[Key, Counter[int]] = {}
        self._arms: dict[Arm, Counter[str]] = {}
        self._joins: Counter[JoinKey] = Counter()

    def result(self) -> Verification:
        """Count, then compare."""
        for topic, form in sorted(forms(list(self._models.values())).items()):
            for partition in self._reader.partitions(topic):
                self._count(partition, form)
        recorded = Recorded({name: settings.pane for name, settings in self._models.items()})
        recorded.read(self._reader, self._whole(self._topics.panes.name))
        self._compare_panes(recorded)
        self._compare_arms(recorded)
        # A row whose other side is gone would look unpaired, so none is compared.
        if self._trimmed(self._topics.joins.name):
            self._found.unverifiable.append(f"{self._topics.joins.name}: the first rows are gone")
        else:
            recorded.read(self._reader, self._reader.partitions(self._topics.joins.name))
            self._compare_joins(recorded)
            self._compare_outcomes(recorded)
        return self._found

    def _all_references(self) -> References:
        """Every reference that the log holds: panes stay those of the one that was in force when they were counted."""
        references = References(self._models)
        for batch in self._reader.read(self._reader.partitions(self._topics.references.name)):
            for key, value in zip(batch.keys, batch.values, strict=True):
                # What the tally refused counted nothing, and must keep nobody from counting the rest.
                with suppress(ValueError, ArithmeticError):
                    if key is not None:
                        references.put_reference(key, value)
        return references

    def _trimmed(self, topic: str) -> list[int]:
        return [p.index for p, (first, _) in self._reader.bounds(self._reader.partitions(topic)).items() if first > 0]

    def _whole(self, topic: str) -> list[Partition]:
        """The partitions that hold all that was ever written to them; models in the others are left out."""
        trimmed = self._trimmed(topic)
        if trimmed:
            self._found.unverifiable.append(f"{topic}: partitions {trimmed} have lost their first records")
            self._left_out |= {model for model in self._models if partition_of(model, PANES_PARTITIONS) in trimmed}
        return [partition for partition in self._reader.partitions(topic) if partition.index not in trimmed]

    def _leave_out(self, models: Collection[str], why: str) -> None:
        self._found.unverifiable.append(why)
        self._left_out |= set(models)

    def _count(self, partition: Partition, form: Form) -> None:
        # Its state is read by the same code as the tally reads it, on purpose: what is held against it is the counting.
        state = PartitionState(partition, max(self._models[name].dedupe for name in form.models))
        state.restore(self._states)
        where = f"{partition.topic}/{partition.index}"
        first = self._reader.bounds([partition])[partition][0]
        if state.next_offset is None:
            return
        # A state from before the offset was noted began where the log does, if it has counted anything at all.
        began = first if state.began is None and state.received else state.began or 0
        if first > (state.began or 0):
            self._leave_out(form.models, f"{where}: records before {first} are gone")
            return
        if state.epoch:
            self._leave_out(form.models, f"{where}: the topic was created anew, and what the one before held is gone")
        # The oldest changes are merged from here on, so which reference counted the first events is lost.
        if len(state.digests) >= MAX_DIGESTS:
            self._leave_out(form.models, f"{where}: references changed so often that the first are not known")
            return
        recount = Recount(form, self._models, wall=self._wall, left_out=self._references.left_out)
        records = self._read(partition, state, began, recount)
        # More records than were counted: it began later than the log does.
        if state.began is None and records > state.received:
            self._leave_out(form.models, f"{where}: an older version did not note where in the log counting began")
            return
        self._found.records += records
        self._blind |= recount.blind
        self._found.compare(f"{where}: records received", state.received, records)
        for outcome in Outcome:
            self._found.compare(f"{where}: {outcome.value}", state.outcomes[outcome], recount.outcomes[outcome])
        self._rows.update(recount.rows)
        self._joins.update(recount.joins)
        for key, cells in recount.cells.items():
            self._cells.setdefault(key, Counter()).update(cells)
        for arm, sums in recount.arms.items():
            self._arms.setdefault(arm, Counter()).update(sums)

    def _read(self, partition: Partition, state: PartitionState, began: int, recount: Recount) -> int:
        known: dict[str, Reference | Gone | None] = {}
        changes, left_out, records = list(state.digests), list(state.dropped), 0
        for batch in self._reader.read([partition], {partition: began}):
            values, _ = recount.texts.of(batch.values, batch.headers)
            for row, offset in enumerate(batch.offsets.tolist()):
                if offset >= (state.next_offset or 0):
                    return records
                # A change counts from its offset on, so before the event at it.
                while changes and changes[0][0] <= offset:
                    for name, digest in changes.pop(0)[1].items():
                        known[name] = self._by_digest(name, digest)
                while left_out and left_out[0][0] <= offset:
                    recount.dropped = frozenset(left_out.pop(0)[1])
                recount.take(offset, int(batch.timestamps[row]), values[row], known)
                records += 1
        return records

    def _by_digest(self, name: str, digest: str) -> Reference | Gone | None:
        found = self._references.by_digest(digest)
        if found is None and digest:
            # Twelve characters tell the references of a model apart.
            why = f"reference {digest[:12]} of {name} is gone from {self._topics.references.name}"
            if why not in self._found.unverifiable:
                self._found.unverifiable.append(why)
            return Gone(digest)
        return found

    def _comparable(self, model: str, segment: str = "") -> bool:
        return model in self._models and model not in self._left_out and not (segment and model in self._blind)

    def _compare_panes(self, recorded: Recorded) -> None:
        found = self._found
        foreign = sorted({key.model for key in recorded.cells} - set(self._models))
        if foreign:
            found.unverifiable.append(f"{self._topics.panes.name}: models {foreign} are not configured")
        for key in sorted({*recorded.cells, *self._cells}):
            if not self._comparable(key.model, key.segment):
                continue
            found.panes += 1
            found.compare(f"{key}: rows", recorded.rows[key], self._rows[key])
            # Its rows were compared, its cells cannot be.
            if key.digest and self._references.by_digest(key.digest) is None:
                continue
            counts, mine = recorded.cells.get(key, np.zeros(0, np.int64)), self._cells.get(key, Counter())
            plain = np.zeros(max(len(counts), 1 + max(mine, default=-1)), np.int64)
            plain[list(mine.keys())] = list(mine.values())
            found.counts += len(counts)
            # Another width is a difference too, also where all beyond is zero: the layout is not what the reference
            # says.
            if len(plain) != len(counts) or (plain != counts).any():
                wrong = np.flatnonzero(plain[: len(counts)] != counts)[:_SHOWN].tolist()
                pairs = ", ".join(f"{at}: {counts[at]} for {plain[at]}" for at in wrong)
                found.differences.append(
                    f"{key}: counts differ ({pairs or f'{len(counts)} for {len(plain)} positions'})"
                )

    def _compare_arms(self, recorded: Recorded) -> None:
        for arm in sorted({*recorded.arms, *self._arms}):
            if self._comparable(arm.model) and arm.model not in self._blind:
                counted, plain = recorded.arms.get(arm, Counter()), self._arms.get(arm, Counter())
                for name in sorted({*counted, *plain}):
                    self._found.compare(f"{arm}: {name}", counted[name], plain[name])

    def _compare_joins(self, recorded: Recorded) -> None:
        for key in sorted({*recorded.joins, *self._joins}):
            if self._comparable(key.model) and key.model not in self._blind:
                self._found.compare(f"{key}: rows", recorded.joins[key], self._joins[key])

    def _compare_outcomes(self, recorded: Recorded) -> None:
        """Pair the rows again of which the join has sent the outcomes, and compare what it told."""
        plain = PlainOutcomes(self._models)
        plain.read(self._reader, self._reader.partitions(self._topics.joins.name), self._joined)
        self._found.unverifiable += plain.gaps
        if not plain.crowded:
            self._compare_sums("", recorded.outcomes, plain.sums)
        if not plain.crowded and not plain.forgotten:
            self._compare_sums(" corrections", recorded.corrections, plain.corrections)

    def _compare_sums(
        self, of: str, recorded: Mapping[OutcomeKey, Counter[str]], plain: Mapping[OutcomeKey, Counter[str]]
    ) -> None:
        for key in sorted({*recorded, *plain}):
            if self._comparable(key.model) and key.model not in self._blind:
                counted, mine = recorded.get(key, Counter()), plain.get(key, Counter())
                for name in sorted({*counted, *mine}):
                    self._found.compare(f"{key}{of}: {name}", counted[name], mine[name])
