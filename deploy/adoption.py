"""Adopting a first champion, and what the log says about production."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from stationkeeper.contracts.messages import Deployment, Rollout
from stationkeeper.contracts.topics import Topics
from stationkeeper.deploy.core.moves import steady
from stationkeeper.deploy.core.reasons import Reason, because
from stationkeeper.streams.ports import Outgoing, Reader, Sink


class DeploymentError(ValueError):
    """A word about deployments that makes no sense; says what there is instead."""


@dataclass(frozen=True, slots=True)
class Deployments:
    """What the log says about production: the last rollout of each model and the audit log, oldest first.

    ``refused`` says of a model why its rollout cannot be read, ``unreadable`` how many records of its audit cannot.
    """

    rollouts: dict[str, Rollout]
    audit: tuple[Deployment, ...]
    refused: dict[str, str] = field(default_factory=dict)
    unreadable: Counter[str] = field(default_factory=Counter)

    def held(self, model: str) -> Rollout | None:
        """Return the rollout of a model, None before its first; raises ``DeploymentError`` where it cannot be read."""
        if model in self.refused:
            raise DeploymentError(f"a record of production of {model!r} cannot be read: {self.refused[model]}")
        return self.rollouts.get(model)

    def rollout(self, model: str) -> Rollout:
        """Return the rollout of a model; raises ``DeploymentError`` naming those there are."""
        held = self.held(model)
        if held is None:
            known = ", ".join(sorted(self.rollouts)) or "none"
            raise DeploymentError(f"model {model!r} has no champion in the log; known: {known}")
        return held


def read_deployments(reader: Reader, topics: Topics) -> Deployments:
    """Read both topics to their end; raises ``Retryable`` when the broker is away."""
    rollouts: dict[str, Rollout] = {}
    audit: list[Deployment] = []
    refused: dict[str, str] = {}
    unreadable: Counter[str] = Counter()
    for topic in (topics.rollouts.name, topics.deployments.name):
        for batch in reader.read(reader.partitions(topic)):
            for key, value in zip(batch.keys, batch.values, strict=True):
                # A key that is no text names no model: whoever wrote it hurts none.
                model = (key or b"").decode(errors="backslashreplace")
                try:
                    if topic == topics.deployments.name:
                        audit += [] if value is None else [Deployment.decode(value)]
                        continue
                    # The table is compacted: its last record alone counts, and one that is mended is read again.
                    refused.pop(model, None)
                    rollouts.pop(model, None)
                    if value is not None:
                        rollouts[model] = Rollout.decode(value)
                except ValidationError as error:
                    # The audit is kept for a year and decides nothing: a line of it is missed, no verb refused.
                    if topic == topics.deployments.name:
                        unreadable[model] += 1
                        continue
                    first = error.errors(include_input=False, include_url=False)[0]
                    where = ".".join((error.title.lower(), *map(str, first["loc"])))
                    refused[model] = f"{where}: {first['msg']}"
    return Deployments(rollouts, tuple(audit), refused, unreadable)


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
    held = read_deployments(reader, topics).held(model)
    if held is not None and held.champion != version:
        raise DeploymentError(
            f"model {model!r} has champion {held.champion} already; train or offer a candidate to replace it"
        )
    if held is not None and reference is None:
        return held
    records = adoption(topics, model, version, time_ms, by=by, reference=reference)
    commit(sink, records if held is None else records[-1:])
    return Rollout.decode(records[0].value or b"") if held is None else held


def commit(sink: Sink, records: Sequence[Outgoing], group: Any = None) -> None:
    """Write records in one transaction."""
    sink.begin()
    try:
        sink.send(records)
        sink.commit({}, group)
    except BaseException:
        sink.abort()
        raise
