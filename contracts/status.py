"""The JSON of ``/api/v1/status``: what each role hands to people, as typed dictionaries.

A stage returns its own part from ``status()``; ``stationkeeper.process.web`` merges the parts of a process
(and of its peers) into one ``FleetStatus``. Plain dictionaries, because a judge fills thousands of them after a commit;
``check`` proves that they have this shape and is called by tests, not by the daemon; ``understood`` takes nothing else
from another process. docs/status-api.md says the same in words.

Every time is UTC epoch milliseconds, every share lies in 0..1, every evidence is a natural logarithm. A field that is
not required is left out when its number does not exist: nothing is shown as zero because it is unknown.
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, Literal, NotRequired

import msgspec
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from stationkeeper.contracts.model_status import ModelStatus, RequestOutcome

# Raised when a field changes its meaning or goes; a new optional field does not raise it.
SCHEMA_VERSION: Final = 1

RequestStage = Literal["planned", "waiting", "snapshot", "training", "gate", "registering", "done"]
StepState = Literal["done", "current", "planned", "rolled_back"]


class Conservation(TypedDict):
    """Invariant 1 for one input partition: ``received`` is the sum of the five outcomes."""

    topic: str
    partition: int
    received: int
    tallied: int
    late: int
    duplicate: int
    rejected: int
    dropped: int
    expired: NotRequired[int]
    next_offset: NotRequired[int]
    end_offset: NotRequired[int]
    clock: NotRequired[int | None]
    idle: NotRequired[bool]


class StoppedInput(TypedDict):
    """An input topic that is not read: a ``StopReason``, and what to do, in words."""

    topic: str
    reason: str
    detail: str


class TallyStatus(TypedDict):
    """What ``Tally.status()`` returns."""

    role: Literal["tally"]
    conservation: list[Conservation]
    dead_letters: NotRequired[dict[str, int]]
    stopped: NotRequired[list[StoppedInput]]
    detail: NotRequired[dict[str, Any]]


class JoinStatus(TypedDict):
    """What ``Join.status()`` returns; its numbers in ``detail`` are shown as a table of names and values."""

    role: Literal["join"]
    detail: NotRequired[dict[str, Any]]


class JudgeStatus(TypedDict):
    """What ``Judge.status()`` returns."""

    role: Literal["judge"]
    models: list[ModelStatus]
    detail: NotRequired[dict[str, Any]]


class StageTime(TypedDict):
    """One stage that a request went through; ``left`` is absent while it is in it."""

    stage: RequestStage
    entered: int
    left: NotRequired[int]
    note: NotRequired[str]


class RequestStatus(TypedDict):
    """One retrain request in work or lately ended; ``clock`` is the stream time of what it knows of labels."""

    id: str
    model: str
    incident: str
    stage: RequestStage
    reason: str
    created: int
    clock: NotRequired[int]
    outcome: NotRequired[RequestOutcome]
    stages: NotRequired[list[StageTime]]
    plan: NotRequired[str]
    snapshot: NotRequired[str]
    snapshot_rows: NotRequired[int]
    run_id: NotRequired[str]
    version: NotRequired[str]
    gate: NotRequired[Literal["pass", "fail", "no_evidence"]]
    gate_reason: NotRequired[str]
    candidate: NotRequired[str]
    cure: NotRequired[str]


class RetrainStatus(TypedDict):
    """What ``Retrain.status()`` returns, newest request first."""

    role: Literal["retrain"]
    requests: list[RequestStatus]
    detail: NotRequired[dict[str, Any]]


class GuardrailStatus(TypedDict):
    """One comparison of the arms: log e-value of harm against its threshold, in words in ``reason``."""

    name: str
    reason: str
    evidence: NotRequired[float]
    threshold: NotRequired[float]
    champion: NotRequired[float]
    canary: NotRequired[float]


class Step(TypedDict):
    """One canary step with the evidence it ended on, and minutes that it does not count by why."""

    weight_bp: int
    state: StepState
    started: NotRequired[int]
    ended: NotRequired[int]
    rows_champion: NotRequired[int]
    rows_canary: NotRequired[int]
    uncounted: NotRequired[dict[str, float]]
    guardrails: NotRequired[list[GuardrailStatus]]


class DeploymentStatus(TypedDict):
    """One line of the audit log of rollouts."""

    id: str
    time: int
    action: str
    champion: str
    reason: str
    canary: NotRequired[str]
    weight_bp: NotRequired[int]


class RolloutStatus(TypedDict):
    """Where one model's traffic stands and how it came there."""

    model: str
    phase: Literal["steady", "canary", "hold", "awaiting_approval", "probation"]
    champion: str
    weight_bp: int
    reason: str
    since: int
    canary: NotRequired[str]
    holdback: NotRequired[str]
    holdback_bp: NotRequired[int]
    candidate: NotRequired[str]
    request: NotRequired[str]
    shadow: NotRequired[str]
    lease_until: NotRequired[int]
    steps: NotRequired[list[Step]]
    deployments: NotRequired[list[DeploymentStatus]]


class DeployStatus(TypedDict):
    """What ``Deploy.status()`` returns."""

    role: Literal["deploy"]
    rollouts: list[RolloutStatus]
    detail: NotRequired[dict[str, Any]]


class RoleHealth(TypedDict):
    """Whether one role of the loop works; added by the web server, not by the stage."""

    role: str
    live: bool
    ready: bool
    reasons: list[str]
    heartbeat: NotRequired[int]
    lag: NotRequired[int]
    detail: NotRequired[dict[str, Any]]


class ModelRefusal(TypedDict):
    """A model that is left alone because its entry in the configuration is wrong; without a name its place, as #2."""

    model: str
    reason: str


class FleetStatus(TypedDict):
    """What ``/api/v1/status`` answers: the parts of all roles that this process can see, merged."""

    schema_version: Literal[1]
    generated: int
    roles: list[RoleHealth]
    models: list[ModelStatus]
    conservation: list[Conservation]
    requests: list[RequestStatus]
    rollouts: list[RolloutStatus]
    dead_letters: NotRequired[dict[str, int]]
    refused: NotRequired[list[ModelRefusal]]


BY_ROLE: dict[str, Any] = {
    "tally": list[TallyStatus],
    "join": list[JoinStatus],
    "judge": list[JudgeStatus],
    "retrain": list[RetrainStatus],
    "deploy": list[DeployStatus],
    "fleet": list[FleetStatus],
    "model": list[ModelStatus],
}


def check(status: Mapping[str, Any], kind: str | None = None) -> None:
    """Prove that ``status`` has the shape of its role (``kind``, default its ``role`` field), for tests.

    Raises ``pydantic.ValidationError`` naming each bad field, ``KeyError`` for an unknown role, and ``TypeError`` or
    ``ValueError`` for what JSON cannot hold: numpy scalars, NaN and infinities.
    """
    # Extra keys are an error, as a misspelt field would otherwise never reach the page.
    _shape(kind or status["role"], "forbid").validate_python([dict(status)])
    json.dumps(status, allow_nan=False)


@cache
def _shape(kind: str, extra: Literal["allow", "forbid"]) -> TypeAdapter[Any]:
    # Lists, because pydantic takes a configuration for a list of dictionaries and not for a dictionary alone.
    return TypeAdapter(BY_ROLE[kind], config=ConfigDict(extra=extra, strict=True, allow_inf_nan=False))


def understood(answer: bytes, kind: Literal["fleet", "model"]) -> Any:
    """Return the ``FleetStatus`` or ``ModelStatus`` that another process answers; keys of a newer build stay in it.

    Raises ``ValueError`` that names the first wrong field, and what JSON cannot hold (NaN, infinities, half a letter).
    """
    found = msgspec.json.decode(answer)
    try:
        (status,) = _shape(kind, "allow").validate_python([found])
    except ValidationError as error:
        first, *others = error.errors(include_url=False, include_input=False)
        where = ".".join(map(str, first["loc"][1:])) or kind
        more = f", and {len(others)} more" if others else ""
        raise ValueError(f"{where}: {first['msg']}{more}") from None
    return status
