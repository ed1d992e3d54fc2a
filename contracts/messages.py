"""The low-rate messages of the loop, JSON on their topics: frozen, checked, with schema and version inside."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt
from pydantic_core import PydanticCustomError

FeatureValue = float | bool | str | None
Text = Annotated[str, Field(min_length=1, max_length=512)]  # chosen: an id of hash, tenant and time, five times

# What names a version, candidate, request or snapshot in a record that makes a role act: the letters of names in
# MLflow, semantic versions (1.2.0+build.5), dates, image tags and our own content ids; single dots and spaces only
# between them: neither ".." nor a path's separator is one. 249 is Kafka's bound for a topic, of which it may be a part.
Identifier = Annotated[
    str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9_@+:=-]+(?:[. ][A-Za-z0-9_@+:=-]+)*$")
]
Share = Annotated[float, Field(ge=0.0, le=1.0)]

OTHER_SCHEMA: Final = "other_schema"
"""Pydantic's name of the error for a message in a ``schema_version`` that this version does not read."""


def _readable(found: object) -> object:
    # A text or a fraction is nobody's version: it stays an error of type below.
    if type(found) is int and found != 1:
        raise PydanticCustomError(
            OTHER_SCHEMA,
            "schema_version is {found}, this version of Stationkeeper reads 1: upgrade this role to the version that "
            "wrote the message, then send it again (docs/upgrading.md)",
            {"found": found},
        )
    return found


# Raised when a reader that does not know a change would be wrong: a field that is gone or means another thing, a new
# word in a closed list. A new field with a default raises nothing: older readers leave it out (docs/adr).
SchemaVersion = Annotated[Literal[1], BeforeValidator(_readable)]


def _open(schema: dict[str, Any], message: type["Message"]) -> None:
    # Published it is a promise to readers in other languages: what they validate today holds for fields of tomorrow.
    if message.reads_newer:
        schema.pop("additionalProperties", None)


# Built when first used: a role writes a few of the thirty, and would wait for all of them at each start.
class Message(BaseModel, defer_build=True):
    """A frozen message: its writer may name known fields only, its reader leaves out those of the future.

    So a typo of ours is an error, and older roles go on beside newer ones (docs/adr/readers-leave-out-new-fields.md).
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, json_schema_extra=_open
    )

    schema_name: ClassVar[str]
    reads_newer: ClassVar[bool] = True
    """Whether ``decode`` leaves out fields that it does not know; False where people write the record by hand."""

    def encode(self) -> bytes:
        """Return UTF-8 JSON without nulls: a reader tells unknown from 0 by the field that is not there."""
        return self.model_dump_json(exclude_none=True, by_alias=True).encode()

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read a message; raises ``pydantic.ValidationError`` that names each bad field.

        >>> Subject.decode(b'{"type": "feature", "name": "age", "of_the_future": 1}').name
        'age'
        """
        return cls.model_validate_json(value, extra="ignore" if cls.reads_newer else None)


class _Event(Message):
    # Unlike our own messages: a producer may send fields for others, and its events must count all the same.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    event_id: Text | StrictInt
    """Names the event; a prediction, its features and its label share it, and a repeat is counted once; 7 is "7"."""
    time: AwareDatetime | int
    """When it happened: RFC 3339 with a zone, or epoch milliseconds."""
    model: Text
    """Which configured model."""


class PredictionEvent(_Event):
    """What a model was asked and what it answered."""

    schema_name: ClassVar[str] = "prediction"
    kind: Literal["prediction"] = "prediction"
    """May be left out in a topic that carries one kind only."""
    version: Text | StrictInt
    """The model version that answered; 3 is "3"."""
    features: dict[str, FeatureValue] = {}
    """Inputs by name; null is a missing value, an absent name is a missing field."""
    prediction: float | str | bool | dict[str, Share] | None = None
    """The answer: a score, a value, a class, or a probability for each class; null is an error of the model."""
    segment: dict[str, str | float | bool | None] | None = None
    """Values of the dimensions by which the model is watched apart."""
    arm: Literal["champion", "canary"] | None = None
    """Which arm of a rollout answered."""
    weight: Annotated[float, Field(gt=0)] | None = None
    """One over the sampling rate, where only a sample of the traffic is sent."""
    latency_ms: Annotated[float, Field(ge=0)] | None = None
    """How long the answer took."""
    entity_id: str | None = None
    """Whom it is about; used for erasure, never shown."""
    action: str | None = None
    """What was done upon the answer."""
    assignment_prob: Share | None = None
    """The probability with which this action was drawn; beside an ``arm`` it is that of the arm."""


class FeatureEvent(_Event):
    """Features that travel apart from the prediction; the same event_id joins them."""

    schema_name: ClassVar[str] = "feature"
    kind: Literal["feature"] = "feature"
    """May be left out in a topic that carries one kind only."""
    version: Text | StrictInt | None = None
    """The model version that will read them, where it is known."""
    features: dict[str, FeatureValue] = {}
    """Inputs by name; null is a missing value, an absent name is a missing field."""
    segment: dict[str, str | float | bool | None] | None = None
    """Values of the dimensions by which the model is watched apart."""
    weight: Annotated[float, Field(gt=0)] | None = None
    """One over the sampling rate, where only a sample of the traffic is sent."""
    entity_id: str | None = None
    """Whom it is about; used for erasure, never shown."""


class LabelEvent(_Event):
    """What turned out to be true, at the time it became known."""

    schema_name: ClassVar[str] = "label"
    kind: Literal["label"] = "label"
    """May be left out in a topic that carries one kind only."""
    label: float | str | bool
    """The truth: a class, a value, or true and false."""


class Level(StrEnum):
    """How loud a verdict is."""

    PAGE = "page"
    WARN = "warn"
    INFORM = "inform"


class VerdictKind(StrEnum):
    """What a verdict is about."""

    DATA_DRIFT = "data_drift"
    PREDICTION_DRIFT = "prediction_drift"
    PERFORMANCE = "performance"
    CONCEPT_DRIFT = "concept_drift"
    TRAIN_SERVE_SKEW = "train_serve_skew"
    DATA_QUALITY = "data_quality"
    RECOVERED = "recovered"
    CURE = "cure"


class CureOutcome(StrEnum):
    """Whether a retraining cured what it was asked for; ``unknown`` is neither (invariant 5)."""

    CURED = "cured"
    NOT_CURED = "not_cured"
    UNKNOWN = "unknown"


class SubjectState(StrEnum):
    """The state of a subject; ``unknown`` is neither good nor bad (invariant 5)."""

    UNKNOWN = "unknown"
    STEADY = "steady"
    DRIFTING = "drifting"
    BROKEN = "broken"
    RECOVERING = "recovering"


class SubjectType(StrEnum):
    """What family a subject belongs to."""

    FEATURE = "feature"
    PREDICTION = "prediction"
    JOINT = "joint"
    PERFORMANCE = "performance"
    QUALITY = "quality"
    VOLUME = "volume"
    FAIRNESS = "fairness"


class Subject(Message):
    """The thing that is watched: a feature, the prediction, a performance measure, a quality check."""

    schema_name: ClassVar[str] = "subject"
    type: SubjectType
    name: str
    # A word of the monitor's list as plain text, like a verdict's cause: an older reader takes a newer word.
    check: str | None = None


class Onset(Message):
    """When a change began: the estimate and the interval it lies in."""

    schema_name: ClassVar[str] = "onset"
    time: AwareDatetime
    low: AwareDatetime
    high: AwareDatetime
    row: int | None = None


class Verdict(Message):
    """One decision of the judge with the numbers behind it."""

    schema_name: ClassVar[str] = "verdict"
    schema_version: SchemaVersion = 1
    id: Text
    time: AwareDatetime
    model: Text
    version: Text
    segment: str = ""
    subject: Subject
    kind: VerdictKind
    level: Level
    state: SubjectState
    cause: str
    reason: str
    statistic: float | None = None
    threshold: float | None = None
    effect: float | None = None
    rows: int
    row: int | None = None
    onset: Onset | None = None
    incident: str | None = None
    reference: str | None = None
    budgeted: bool = True
    evidence: dict[str, Any] = {}


# Causes of a request for which nothing drifted; the monitor's vocabulary of causes holds both.
AGEING, SCHEDULE = "ageing", "schedule"


class RetrainRequest(Message):
    """Asks for a new model, with the evidence; its id makes it idempotent (invariant 8).

    ``withdrawn`` is why the same request, sent again, is taken back: it stops unless its training runs already.
    ``cure`` is what became of it, sent again after probation, ``cure_reason`` why; ``looks`` how many a gate may have.
    """

    schema_name: ClassVar[str] = "retrain-request"
    schema_version: SchemaVersion = 1
    id: Identifier
    time: AwareDatetime
    model: Identifier
    version: Text
    incident: Text
    verdict: Text
    kind: VerdictKind
    cause: str
    onset: Onset
    subjects: tuple[str, ...]
    reference: str | None = None
    manual: bool = False
    evidence: dict[str, Any] = {}
    withdrawn: str = ""
    cure: CureOutcome | None = None
    cure_reason: str = ""
    looks: Annotated[int, Field(ge=1)] | None = None

    @property
    def aged(self) -> bool:
        """Whether nothing drifted: the model is old, or the calendar asks. Its onset is where age is counted from."""
        return self.cause in {AGEING, SCHEDULE}


class GateOutcome(StrEnum):
    """The gate's total verdict: absence of evidence never passes."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    NO_EVIDENCE = "no_evidence"


class Shadow(Message):
    """What a candidate would have answered to the logged rows since the change, beside its champion.

    ``flipped`` is how many decisions it changes, among them ``silent`` rows, for which it has no number; a regression
    flips none. ``risen`` of them become positive (binary). ``moved`` is the mean distance of two answers: of a binary
    model the share of rows between them, of several classes the total variation, else in the value's unit.
    ``labelled`` counts the changed answers (of a regression all) with a ripe label of a row that neither has learnt
    from, and then who was right. ``places`` are the segments in which more change than elsewhere.
    """

    schema_name: ClassVar[str] = "shadow"
    rows: int
    since: AwareDatetime
    until: AwareDatetime
    flipped: int | None = None
    risen: int | None = None
    silent: int = 0
    moved: float = 0.0
    labelled: int = 0
    challenger_right: int = 0
    champion_right: int = 0
    places: tuple[str, ...] = ()

    @property
    def flip_share(self) -> float | None:
        """The share of decisions that change, None where none can be told."""
        return None if self.flipped is None or not self.rows else self.flipped / self.rows

    def words(self) -> str:
        """Return the numbers as one sentence."""
        rows = f"{self.rows} logged rows since {self.since.isoformat()}"
        if self.flipped is None or self.flip_share is None:
            said = f"on {rows} its answers are {self.moved:.4g} from the champion's in the mean"
        else:
            said = f"it changes {self.flipped} of {rows} ({self.flip_share:.2%})"
        if self.risen is not None and self.flipped is not None:
            said += f", {self.risen} to positive and {self.flipped - self.risen - self.silent} from it"
        if self.silent:
            said += f"; for {self.silent} it has no number"
        if self.labelled:
            said += f"; of {self.labelled} with a label it was right in {self.challenger_right}"
            said += f", the champion in {self.champion_right}"
        return said + (f"; most in {', '.join(self.places)}" if self.places else "")


class Spared(Message):
    """How many wrong answers a row ``version`` spared its champion on the same held-out rows since the onset.

    By hand: 563 of 6 000 wrong and then 548 are .0025; luck of those that passed is taken off by its standard error.
    """

    schema_name: ClassVar[str] = "spared"
    version: Identifier
    share: float


class LearningCurve(Message):
    """Loss of a training on ``rows`` since ``onset``, on a ``quarter``; no training learns from more than ``most``."""

    schema_name: ClassVar[str] = "learning-curve"
    version: str = ""
    onset: AwareDatetime
    until: AwareDatetime
    rows: Annotated[int, Field(gt=0)]
    loss: Annotated[float, Field(ge=0.0)]
    quarter: Annotated[float, Field(ge=0.0)]
    error: Annotated[float, Field(ge=0.0)]
    most: Annotated[int, Field(gt=0)] | None = None


class Candidate(Message):
    """A registered version that passed the gate; ``busiest`` is the most requests a minute in a half hour before it."""

    schema_name: ClassVar[str] = "candidate"
    schema_version: SchemaVersion = 1
    id: Identifier
    time: AwareDatetime
    request: Identifier
    model: Identifier
    version: Identifier
    champion: Identifier
    run_id: str
    snapshot: Identifier
    reference: str
    artifact: str
    gate: GateOutcome
    gate_reason: str
    evidence: dict[str, Any] = {}
    shadow: Shadow | None = None
    """None where no row was logged since the change, and of builds that made none."""
    spared: Spared | None = None
    """None where neither age nor a calendar asked, of a regression (never right), and of builds that told none."""
    curve: LearningCurve | None = None
    busiest: Annotated[float, Field(ge=0.0)] | None = None


class RolloutPhase(StrEnum):
    """Where a model's rollout stands."""

    STEADY = "steady"
    CANARY = "canary"
    HOLD = "hold"
    AWAITING_APPROVAL = "awaiting_approval"
    PROBATION = "probation"


class Rollout(Message):
    """The state of one model in production; the log's last record decides the champion and every weight.

    ``weight_bp`` is the canary's share in basis points; the router applies it only until ``lease_until`` (its
    clock), so that a dead controller leaves none on a canary. ``curve`` is the candidate's; ``controller`` is opaque.
    """

    schema_name: ClassVar[str] = "rollout"
    schema_version: SchemaVersion = 1
    model: Identifier
    epoch: Annotated[int, Field(ge=0)]
    time: AwareDatetime
    phase: RolloutPhase
    champion: Identifier
    canary: Identifier | None = None
    # Whole basis points: two routers that round a share differently would put one entity in different arms.
    weight_bp: Annotated[int, Field(ge=0, le=10_000)] = 0
    salt: str = ""
    lease_until: AwareDatetime | None = None
    candidate: Identifier | None = None
    request: Identifier | None = None
    curve: LearningCurve | None = None
    reason: str = ""
    controller: dict[str, Any] = {}
    spared: Spared | None = None
    """What the gate saw of the latest candidate, for whoever forecasts what a retraining brings."""


class DeploymentAction(StrEnum):
    """What a deployment record says was done."""

    ADOPTED = "adopted"
    STARTED = "started"
    STEP = "step"
    HELD = "held"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"
    CONFIRMED = "confirmed"


class Deployment(Message):
    """One thing done to production, with its reason and numbers: the audit log of rollouts."""

    schema_name: ClassVar[str] = "deployment"
    schema_version: SchemaVersion = 1
    id: Text
    time: AwareDatetime
    model: Text
    action: DeploymentAction
    champion: Text
    canary: str | None = None
    weight_bp: int = 0
    candidate: str | None = None
    request: str | None = None
    reason: str
    evidence: dict[str, Any] = {}


class Approval(Message):
    """A person's decision on a request or a rollout; ``canary`` is the one version to take back, else what is out."""

    # People write them by hand too, where `princpal` or `nte` must not pass for nothing said.
    reads_newer: ClassVar[bool] = False
    schema_name: ClassVar[str] = "approval"
    schema_version: SchemaVersion = 1
    time: AwareDatetime
    target: Literal["request", "rollout"]
    id: Identifier
    model: Identifier
    decision: Literal["approve", "reject", "roll_back", "promote", "retry", "pause", "resume"]
    by: Text
    note: str = ""
    principal: str = ""
    """Whom the broker let in, where it asked: two approvals of one principal are one person's."""
    canary: Identifier | None = None


class InputDecision(Message):
    """A person's decision on an input topic that was stopped; the key is topic and action, the latest one holds."""

    # With `topicid` mistyped for `topic_id` a decision on one topic would hold for every later one of its name.
    reads_newer: ClassVar[bool] = False
    schema_name: ClassVar[str] = "input-decision"
    schema_version: SchemaVersion = 1
    time: AwareDatetime
    topic: Text
    action: Literal["resume", "accept_new"]
    topic_id: str = ""
    """The id of the topic that is meant (KIP-516); empty where the broker tells none."""
    ends: dict[int, int] = {}
    """End offset by partition at that time: before it, no rejected record stops the topic again."""
    by: Text = "unknown"


MESSAGES: tuple[type[Message], ...] = (
    PredictionEvent,
    FeatureEvent,
    LabelEvent,
    Verdict,
    RetrainRequest,
    Candidate,
    Rollout,
    Deployment,
    Approval,
    InputDecision,
)
