"""Messages of the loop read back from their topics, for people's questions: lists, chains, explanations."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.messages import Candidate, Deployment, Level, Message, RetrainRequest, Rollout, Verdict
from stationkeeper.contracts.topics import Topics
from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, PaneDelta, WireError, decode
from stationkeeper.monitor.core.reference import InvalidReference, Reference, load
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.streams.ports import Batch, Partition, Reader

M = TypeVar("M", bound=Message)


def read_messages(reader: Reader, topic: str, kind: type[M]) -> Iterator[M]:
    """Yield the committed messages of a topic in order; what another version wrote is passed over."""
    for batch in reader.read(list(reader.partitions(topic))):
        for value in batch.values:
            if value is None:
                continue
            try:
                yield kind.decode(value)
            # A topic outlives versions of this program: what an older or newer one wrote must not hide the rest from a
            # person.
            except ValidationError:
                continue


def read_states(reader: Reader, topics: Topics) -> Iterator[RetrainState]:
    """Yield where each request stood, in order; what another version wrote is passed over."""
    for batch in reader.read(list(reader.partitions(topics.retrain_state.name))):
        for value in batch.values:
            with suppress(ValueError):
                if value is not None:
                    yield RetrainState.decode(value)


def read_references(reader: Reader, topics: Topics, model: str) -> dict[str, Reference]:
    """Return a model's references by digest, those of every version; what cannot be read is passed over."""
    found: dict[str, Reference] = {}
    for batch in reader.read(list(reader.partitions(topics.references.name))):
        for key, value in zip(batch.keys, batch.values, strict=True):
            if value is None or (key or b"").decode(errors="backslashreplace").partition("/")[0] != model:
                continue
            try:
                reference = load(value)
            # One damaged reference must not keep a person from the chain of another.
            except InvalidReference:
                continue
            found[reference.digest] = reference
    return found


def read_panes(
    reader: Reader, topics: Topics, model: str, *, segments: bool = False
) -> Iterator[PaneDelta | OutcomeDelta]:
    """Yield a model's panes and outcomes as `read_records` does."""
    for record in read_records(reader, topics, model, segments=segments):
        if not isinstance(record, ArmDelta):
            yield record


def read_records(
    reader: Reader, topics: Topics, model: str, *, segments: bool = False
) -> Iterator[PaneDelta | OutcomeDelta | ArmDelta]:
    """Yield a model's records of all traffic in the history topic; what another version wrote is passed over.

    With ``segments`` those of segments come too.

    O(history of the model's partition).
    """
    # A model's history lies in one partition by its name; reading all would take as long as all models have.
    partition = Partition(topics.history.name, partition_of(model, topics.history.partitions))
    if partition not in reader.partitions(topics.history.name):
        return
    for batch in reader.read([partition]):
        for value in batch.values:
            try:
                records = decode(value) if value is not None else []
            except WireError:
                continue
            for record in records:
                if (
                    isinstance(record, PaneDelta | OutcomeDelta | ArmDelta)
                    and record.model == model
                    and (segments or not record.segment)
                ):
                    yield record


def newest(reader: Reader, partitions: Collection[Partition], last: int) -> Iterator[tuple[Batch, range]]:
    """Yield batches with the rows that are the last ``last`` records of each partition, in offset order.

    Offsets are not all records: each transaction ends in a marker. So the look back doubles until it holds enough.
    """
    for partition, (first, end) in sorted(reader.bounds(list(partitions)).items()):
        back = 2 * last
        while True:
            start = max(first, end - back)
            batches = [batch for batch in reader.read([partition], {partition: start}) if len(batch)]
            spare = sum(map(len, batches)) - last
            if spare >= 0 or start == first:
                break
            back *= 2
        for batch in batches:
            skipped = min(max(spare, 0), len(batch))
            spare -= skipped
            if skipped < len(batch):
                yield batch, range(skipped, len(batch))


def latest(messages: Iterator[M], key: str) -> dict[str, M]:
    """Return the last message by one of its fields."""
    return {getattr(message, key): message for message in messages}


@dataclass(frozen=True, slots=True)
class Chain:
    """verdict → request → candidate (snapshot, run, version) → deployments, as far as it got."""

    verdicts: tuple[Verdict, ...]
    request: RetrainRequest | None
    candidate: Candidate | None
    deployments: tuple[Deployment, ...]
    outcome: RetrainState | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "verdicts": [v.model_dump(mode="json", exclude_none=True) for v in self.verdicts],
            "request": self.request.model_dump(mode="json", exclude_none=True) if self.request else None,
            "outcome": self.outcome.status() if self.outcome else None,
            "candidate": self.candidate.model_dump(mode="json", exclude_none=True) if self.candidate else None,
            "deployments": [d.model_dump(mode="json", exclude_none=True) for d in self.deployments],
        }


class Lineage:
    """Every message of the loop, walked in either direction from any id (invariant 8)."""

    def __init__(self, reader: Reader, topics: Topics) -> None:
        self.verdicts = list(read_messages(reader, topics.verdicts.name, Verdict))
        # A request is sent again when it is withdrawn or its cure is known, a candidate when it is found again after
        # a crash: the last one tells all.
        self.requests = latest(read_messages(reader, topics.requests.name, RetrainRequest), "id")
        self.candidates = latest(read_messages(reader, topics.candidates.name, Candidate), "id")
        self.deployments = list(read_messages(reader, topics.deployments.name, Deployment))
        self.outcomes = {state.id: state for state in read_states(reader, topics)}
        self.rollouts = latest(read_messages(reader, topics.rollouts.name, Rollout), "model")

    def latest_incident(self, model: str) -> str | None:
        """Return the incident of a model that warned or paged last, else the last there is; None without any."""
        told = [verdict for verdict in self.verdicts if verdict.model == model and verdict.incident]
        # What is for information comes last after a promotion, of the version that no longer serves: nobody was called
        # by it, and it hides why the new version came.
        loud = [verdict for verdict in told if verdict.level != Level.INFORM]
        return (loud or told)[-1].incident if told else None

    def chain(self, name: str) -> Chain | None:
        """Return the chain that holds ``name``, None when nothing has that name.

        A name is the id of a verdict, incident, request, candidate, run, snapshot, reference or deployment, or
        ``model/version``.
        """
        requests = list(self.requests.values())
        # From whatever was named outwards: first what it is itself, then what caused it, then what followed.
        candidate = next((c for c in self.candidates.values() if self._names(c, name)), None)
        deployment = next((d for d in self.deployments if name == d.id), None)
        verdict = next((v for v in self.verdicts if name in {v.id, v.incident}), None)
        request = next((r for r in requests if name in {r.id, r.incident, r.verdict}), None)
        if deployment is not None:
            candidate = candidate or self.candidates.get(deployment.candidate or "")
        if candidate is not None:
            request = request or self.requests.get(candidate.request)
        if request is None and verdict is not None and verdict.incident is not None:
            request = next((r for r in requests if r.incident == verdict.incident), None)
        if request is None and candidate is None and verdict is None and deployment is None:
            return None
        candidate = candidate or next(
            (c for c in self.candidates.values() if request is not None and c.request == request.id), None
        )
        # All verdicts of the incident and not the named one alone: the one that asked is seldom the first.
        incident = request.incident if request else (verdict.incident if verdict else None)
        verdicts = tuple(v for v in self.verdicts if incident is not None and v.incident == incident)
        # A verdict without an incident, as data quality may be, is a chain of its own.
        if verdict is not None and verdict not in verdicts:
            verdicts = (*verdicts, verdict)
        done = tuple(d for d in self.deployments if candidate is not None and d.candidate == candidate.id)
        if deployment is not None and deployment not in done:
            done = (*done, deployment)
        return Chain(verdicts, request, candidate, done, self.outcomes.get(request.id) if request else None)

    @staticmethod
    def _names(candidate: Candidate, name: str) -> bool:
        return name in {
            candidate.id,
            candidate.run_id,
            candidate.snapshot,
            candidate.reference,
            f"{candidate.model}/{candidate.version}",
        }
