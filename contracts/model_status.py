"""The JSON of one watched model: its subjects, incidents, performance and labels, as typed dictionaries.

See contracts/status.py for the rules that hold for every field, and docs/status-api.md for the same in words.
"""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

# Twenty bars are what a plot of the page (420 wide) shows apart, with their names.
MAX_CELLS = 20
# Four hours of one-minute windows. Half shows no working day; twice doubles a status of 10 000 subjects.
MAX_POINTS = 240

StateName = Literal["unknown", "steady", "drifting", "broken", "recovering"]
SubjectTypeName = Literal["feature", "prediction", "joint", "performance", "quality", "volume", "fairness"]
LevelName = Literal["page", "warn", "inform"]
VersionRole = Literal["champion", "canary", "retired"]
RequestOutcome = Literal["published", "suppressed", "rejected", "failed", "no_evidence", "candidate"]


# In all that follows a field that is not known is left out, never null: 0 and "unknown" must not look alike.


class Cells(TypedDict):
    """The distribution of one subject in at most ``MAX_CELLS`` coarse cells, reference beside window.

    ``reference`` and ``window`` are counts (length k). ``edges`` (length k + 1 of the numeric cells, in order) is for
    numeric subjects; ``labels`` (length k) names the others, hash buckets and the missing cell.
    """

    labels: list[str]
    reference: list[int]
    window: list[int]
    edges: NotRequired[list[float]]


class Series(TypedDict):
    """A subject over its last closed chart windows (at most ``MAX_POINTS``, oldest first), as columns.

    ``ratio`` is evidence over threshold, so that 1 is where an incident opens; ``distance`` is the distance named by
    ``distance_name``, bias-corrected; None where the window had too few rows to say.
    """

    time: list[int]
    ratio: list[float | None]
    distance: list[float | None]
    distance_name: str
    noise: NotRequired[list[float | None]]


class SubjectStatus(TypedDict):
    """One watched thing: its state, the numbers behind the state and, for the worst ones, its plots' data."""

    name: str
    type: SubjectTypeName
    version: str
    segment: str
    state: StateName
    reason: str
    rows: int
    check: NotRequired[str]
    statistic: NotRequired[float]
    threshold: NotRequired[float]
    effect: NotRequired[float]
    floor: NotRequired[float]
    followed: NotRequired[float]
    onset: NotRequired[int]
    incident: NotRequired[str]
    window_start: NotRequired[int]
    window_end: NotRequired[int]
    distances: NotRequired[dict[str, float]]
    noise: NotRequired[dict[str, float]]
    quality: NotRequired[dict[str, float]]
    sensitive: NotRequired[bool]
    cells: NotRequired[Cells]
    series: NotRequired[Series]


class MovedSubject(TypedDict):
    """What one subject of an incident showed when it was seen; ``effect`` is the share of its rows that moved."""

    name: str
    kind: str
    joined: int
    effect: float
    recovered: bool
    check: NotRequired[str]


class HarmStatus(TypedDict):
    """What an incident costs a row: by labels since its onset, else by what the scores let expect, else unknown.

    ``lost`` (95 %: ``low`` to ``high``) is in points of 1 of ``measure``, or in the label's unit where that is ``mae``;
    above 0 is worse. ``value`` is what a row brings less. ``void`` is the share of rows of which nothing can be said.
    """

    source: Literal["measured", "estimated", "unknown"]
    reason: str
    words: str
    measure: NotRequired[str]
    lost: NotRequired[float]
    low: NotRequired[float]
    high: NotRequired[float]
    rows: NotRequired[int]
    value: NotRequired[float]
    void: NotRequired[float]


class CureStatus(TypedDict):
    """What became of the retraining of an incident, in words and with the numbers that they rest on; ``time`` in ms."""

    outcome: Literal["cured", "not_cured", "unknown"]
    words: str
    time: int
    numbers: dict[str, float]


class IncidentStatus(TypedDict):
    """One cause: what moved, since when, how sure, what it costs, and what was done about it."""

    id: str
    model: str
    version: str
    segment: str
    kind: str
    cause: str
    level: LevelName
    reason: str
    onset: int
    opened: int
    leader: str
    subjects: list[str]
    onset_low: NotRequired[int]
    onset_high: NotRequired[int]
    closed: NotRequired[int]
    recovered_reason: NotRequired[str]
    statistic: NotRequired[float]
    threshold: NotRequired[float]
    effect: NotRequired[float]
    harm: NotRequired[HarmStatus]
    rows: NotRequired[int]
    moved: NotRequired[list[MovedSubject]]
    verdicts: NotRequired[list[str]]
    request: NotRequired[str]
    request_outcome: NotRequired[RequestOutcome]
    request_reason: NotRequired[str]
    cure: NotRequired[CureStatus]


class PerformanceSeries(TypedDict):
    """A measure over time; ``estimated`` needs no labels, ``real`` waits for them; None where not known."""

    time: list[int]
    real: list[float | None]
    low: NotRequired[list[float | None]]
    high: NotRequired[list[float | None]]
    estimated: NotRequired[list[float | None]]
    estimated_low: NotRequired[list[float | None]]
    estimated_high: NotRequired[list[float | None]]


class PerformanceStatus(TypedDict):
    """One performance measure of one version: the latest value of matured labels and its history.

    ``estimated`` with ``estimated_low`` and ``estimated_high`` (95 %) is expected without labels, of the latest window;
    ``estimate_reason`` says why there is none. ``estimate_error`` is how far the estimate of the labelled rows was off,
    ``estimate_labels`` how many mature labels of calm weeks say beside the reference's what a score stands for.
    ``low`` and ``high`` hold at every look (95 %); with ``labelled``, the value of the labelled rows alone, they and
    ``value`` are corrected for labels that an action keeps away. ``share`` is false where the measure is no share of 1
    but has the unit of the label, of the value, or nats. ``binning`` is how far the value may be off because scores are
    binned.
    """

    version: str
    segment: str
    measure: str
    state: StateName
    reason: str
    rows: int
    value: NotRequired[float]
    low: NotRequired[float]
    high: NotRequired[float]
    labelled: NotRequired[float]
    reference: NotRequired[float]
    estimated: NotRequired[float]
    estimated_low: NotRequired[float]
    estimated_high: NotRequired[float]
    estimate_error: NotRequired[float]
    estimate_labels: NotRequired[int]
    estimate_reason: NotRequired[str]
    share: NotRequired[bool]
    binning: NotRequired[float]
    series: NotRequired[PerformanceSeries]


class ActionStatus(TypedDict):
    """How many rows of one action got a label, of those of a day whose labels are in."""

    action: str
    rows: int
    labelled: int


class SelectionStatus(TypedDict):
    """Which ``actions`` keep labels away, among ``rows`` of the latest day whose labels are in.

    ``unseen`` of them have no label and no labelled row stands for them. ``weighted`` labelled rows weigh 1 /
    ``assignment_prob`` and are worth ``effective`` equal ones, ``clipped`` of them at the bound; 0 where nothing is
    corrected.
    """

    rows: int
    labelled: int
    actions: list[ActionStatus]
    unseen: int
    weighted: int
    effective: float
    clipped: int


class LabelStatus(TypedDict):
    """How many of the predictions whose label is due have one; ``selection`` where an action keeps labels away."""

    due: int
    arrived: int
    reason: str
    completeness: NotRequired[float]
    horizon_ms: NotRequired[int]
    selection: NotRequired[SelectionStatus]


class VersionStatus(TypedDict):
    """One version seen in the traffic."""

    version: str
    role: VersionRole
    rows: int
    reference: NotRequired[str]
    first_seen: NotRequired[int]


class PowerLine(TypedDict):
    """One line of the power card: the smallest shift that this subject shows within a time."""

    subject: str
    within: str
    shift: float
    unit: str


class AdoptionStatus(TypedDict):
    """How far the champion's reference is in learning from live panes; absent where nothing is to be learned.

    ``reason`` says it in words: ``adopting: 3.2 of 14 days``.
    """

    version: str
    reason: str
    passed_ms: int
    length_ms: int
    panes: int
    rows: int


class TrafficStatus(TypedDict):
    """Where volume or silence is not judged, and why; absent where the champion's are judged at every hour.

    ``since`` and ``until`` (ms) are when live panes began to teach the week, and when they will have; absent where
    nothing came yet, or nothing is learned at all.
    """

    reason: str
    since: NotRequired[int]
    until: NotRequired[int]


class FairnessStatus(TypedDict):
    """How far a segment's rate lies from that of the others of its dimension, of one version since its last decision.

    ``low`` to ``high`` holds the difference at every look together; ``open`` says that it was told and has not closed.
    """

    segment: str
    rate: str
    value: float
    others: float
    rows: int
    others_rows: int
    low: float
    high: float
    open: bool


class ModelStatus(TypedDict):
    """Everything the judge knows of one model.

    ``timezone`` says whose clock tells the hours; absent where all of them are those of UTC.
    """

    model: str
    state: StateName
    reason: str
    champion: str | None
    watermark: int | None
    pane_ms: int
    versions: list[VersionStatus]
    subjects: list[SubjectStatus]
    incidents: list[IncidentStatus]
    canary: NotRequired[str]
    adoption: NotRequired[AdoptionStatus]
    traffic: NotRequired[TrafficStatus]
    timezone: NotRequired[str]
    fairness: NotRequired[list[FairnessStatus]]
    false_pages: NotRequired[str]
    clock: NotRequired[Literal["wall", "stream"]]
    performance: NotRequired[list[PerformanceStatus]]
    labels: NotRequired[LabelStatus]
    power: NotRequired[list[PowerLine]]
