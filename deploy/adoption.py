"""What people do to deployments: adopt a first champion, list, approve, reject, roll back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stationkeeper.contracts.messages import Approval, Deployment, Rollout
from stationkeeper.contracts.times import to_datetime
from stationkeeper.contracts.topics import Topics
from stationkeeper.deploy.core.admission import names
from stationkeeper.deploy.core.moves import steady
from stationkeeper.deploy.core.reasons import Reason, because
from stationkeeper.streams.ports import Outgoing, Reader, Sink

Decision = Literal["approve", "reject", "roll_back"]


class DeploymentError(ValueError):
    """A word about deployments that makes no sense; says what there is instead."""


@dataclass(frozen=True, slots=True)
class Deployments:
    """What the log says about production: the last rollout of each model and the audit log, oldest first."""

    rollouts: dict[str, Rollout]
    audit: tuple[Deployment, ...]

    def rollout(self, model: str) -> Rollout:
        """Return the rollout of a model; raises ``DeploymentError`` naming those there are."""
        if model not in self.rollouts:
            known = ", ".join(sorted(self.rollouts)) or "none"
            raise DeploymentError(f"model {model!r} has no champion in the log; known: {known}")
        return self.rollouts[model]


def read_deployments(reader: Reader, topics: Topics) -> Deployments:
    """Read both topics to their end; raises ``Retryable`` when the broker is away."""
    rollouts: dict[str, Rollout] = {}
    for batch in reader.read(reader.partitions(topics.rollouts.name)):
        for key, value in zip(batch.keys, batch.values, strict=True):
            if value is None:
                rollouts.pop((key or b"").decode(), None)
            else:
                rollouts[(key or b"").decode()] = Rollout.decode(value)
    audit = [
        Deployment.decode(value)
        for batch in reader.read(reader.partitions(topics.deployments.name))
        for value in batch.values
        if value is not None
    ]
    return Deployments(rollouts, tuple(audit))


def adoption(
    topics: Topics, model: str, version: str, time_ms: int, *, by: str, reference: bytes | None = None
) -> list[Outgoing]:
    """Return the records that make ``version`` the first champion of ``model``, for one transaction.

    The rollout record with all traffic on the version, the audit record, and the version's reference if given.
    """
    first = steady(model, version, time_ms, because(Reason.ADOPTED, version=version, by=by))
    key = model.encode()
    records = [Outgoing(topics.rollouts.name, first.rollout.encode(), key, 0)]
    records += [Outgoing(topics.deployments.name, one.encode(), key) for one in first.deployments]
    if reference is not None:
        records.append(Outgoing(topics.references.name, reference, f"{model}/{version}".encode(), 0))
    return records


def adopt(
    sink: Sink,
    reader: Reader,
    topics: Topics,
    model: str,
    version: str,
    time_ms: int,
    *,
    by: str,
    reference: bytes | None = None,
) -> Rollout:
    """Make a registered version the first champion, in one transaction; again with the same version changes nothing.

    Raises ``DeploymentError`` where the model has another champion: that is replaced by a rollout, not by adoption.
    """
    held = read_deployments(reader, topics).rollouts.get(model)
    if held is not None and held.champion != version:
        raise DeploymentError(
            f"model {model!r} has champion {held.champion} already; train or offer a candidate to replace it"
        )
    if held is not None and reference is None:
        return held
    records = adoption(topics, model, version, time_ms, by=by, reference=reference)
    commit(sink, records if held is None else records[-1:])
    return Rollout.decode(records[0].value or b"") if held is None else held


def approval(
    deployments: Deployments, model: str, decision: Decision, time_ms: int, *, by: str, note: str = ""
) -> Approval:
    """Return a person's word on the model's present rollout; raises ``DeploymentError`` when there is none to name."""
    rollout = deployments.rollout(model)
    known = sorted(names(rollout))
    if not known:
        raise DeploymentError(f"model {model!r} has had no rollout since its adoption: nothing to {decision}")
    return Approval(
        time=to_datetime(time_ms), target="rollout", id=known[0], model=model, decision=decision, by=by, note=note
    )


def approval_record(topics: Topics, word: Approval) -> Outgoing:
    """Return the record that carries a word to the controller."""
    return Outgoing(topics.approvals.name, word.encode(), word.id.encode())


def commit(sink: Sink, records: Sequence[Outgoing], group: Any = None) -> None:
    """Write records in one transaction."""
    sink.begin()
    try:
        sink.send(records)
        sink.commit({}, group)
    except BaseException:
        sink.abort()
        raise
