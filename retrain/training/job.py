"""A training job and its result, as they cross to the training subprocess and back."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from stationkeeper.contracts.messages import LearningCurve, Shadow
from stationkeeper.registry import ModelTask
from stationkeeper.retrain.core.plan import TrainingWindow, WindowKind
from stationkeeper.retrain.core.selection import Selection
from stationkeeper.retrain.core.threshold import Threshold, ThresholdRule
from stationkeeper.retrain.settings import RetrainSettings

# The files of one training directory. They are the interface between the stage, the subprocess and the gate; a stage
# that resumes a request of an older build looks for the same names.
JOB_FILE = "job.json"
RESULT_FILE = "result.json"
LOG_FILE = "training.log"
PROGRESS_FILE = "progress.json"
HELD_OUT_FILE = "held_out.parquet"
GROUP = "segment:"
"""Begins the name of a column of segments among the held-out scores."""
AMOUNT = "amount"
"""The column of amounts among the held-out scores, where decisions are valued by one."""
WEIGHT = "weight"
"""The column that says for how many rows each held-out row stands; a training of an older build wrote none."""
SCORED_FILE = "scored.parquet"
SHADOW_FILE = "shadow.parquet"
SKOPS_FILE = "model.skops"
ARTIFACT_DIRECTORY = "artifact"
CHAMPION_DIRECTORY = "champion"


class Record(BaseModel):
    """The base of what crosses to a file or the state topic: frozen, closed; the core's dataclasses may be fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainingJob(Record):
    """Everything a training depends on: equal jobs on equal snapshots give equal models.

    ``onset_ms`` None means that nothing changed: every row counts as after the change. ``champion`` is the directory
    of the artifact to compare with; ``champion_until_ms`` is the last event time it learnt from.
    """

    model: str
    snapshot: Path
    digest: str
    task: ModelTask
    trainer: str
    positive: str
    windows: tuple[TrainingWindow, ...]
    holdout: float
    validation: float
    threshold_rule: ThresholdRule
    alert_rate: float
    seed: int
    threads: int
    memory_bytes: int
    max_rows: int
    onset_ms: int | None = None
    champion: Path | None = None
    champion_until_ms: int | None = None
    request: str | None = None
    features: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}
    environment: tuple[str, ...] = ()
    # A job of an older build names neither: what it could write was not limited.
    disk_bytes: int = 2**63 - 1
    segments: tuple[str, ...] | None = ()
    protected: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    amount: str | None = None
    # A job of an older build reads all: its snapshot was cut already.
    data_rows: int = 2**63 - 1
    timeout_s: float | None = None
    # Of no search, and of an older build, both are empty.
    space: dict[str, tuple[Any, ...]] = {}
    search_s: float = 0.0
    # The time of the youngest row whose label could have come; a job of an older build, and of a table, does not say.
    ripe_until_ms: int | None = None

    @classmethod
    def of(cls, settings: RetrainSettings, asked_share: float = 1.0, **facts: Any) -> "TrainingJob":
        """Return the job of a model's settings with the facts of one training; ``asked_share`` is ``Plan.asked``."""
        return cls(
            task=ModelTask(settings.task),
            trainer=settings.trainer,
            positive=settings.labels.positive_class,
            holdout=settings.windows.holdout * asked_share,
            validation=settings.windows.validation,
            threshold_rule=settings.threshold.rule,
            alert_rate=settings.threshold.alert_rate,
            seed=settings.training.seed,
            threads=settings.training.threads,
            memory_bytes=settings.training.memory_bytes,
            max_rows=settings.training.max_rows,
            features=settings.data.features,
            exclude=settings.data.exclude,
            parameters=settings.parameters,
            environment=settings.training.environment,
            disk_bytes=settings.training.disk_bytes,
            segments=settings.segment_features(),
            protected=settings.gate.protected,
            sensitive=settings.gate.sensitive,
            amount=settings.gate.amount if settings.gate.value is not None else None,
            data_rows=settings.data.max_rows,
            timeout_s=settings.training.timeout / 1_000,
            space=settings.search.space if settings.search else {},
            search_s=settings.search.budget / 1_000 if settings.search else 0.0,
            **facts,
        )

    def params(self) -> dict[str, str]:
        """Return what a tracking server should know of the job, without paths."""
        hidden = {"snapshot", "champion", "champion_until_ms", "ripe_until_ms", "windows", "digest", "request", "model"}
        values = self.model_dump(mode="json", exclude=hidden)
        return {name: str(value) for name, value in values.items() if value not in (None, [], (), {})}


class TrainingResult(Record):
    """What a training gave: the artifact lies in ``ARTIFACT_DIRECTORY``, scores in the two Parquet files.

    ``performance`` is ours, on rows held out; ``metrics`` is what the trainer says of its final model. A regression has
    no threshold.
    """

    window: WindowKind
    backtest: dict[str, float]
    # None where left out: states are written without nulls.
    threshold: Threshold | None = None
    champion_threshold: float | None = None
    performance: dict[str, float]
    rows: int
    rows_after: int
    rows_held_out: int
    features: int
    parity: float
    onnx_sha256: str
    onnx_bytes: int
    trainer: str
    code: str
    seconds: dict[str, float]
    packages: dict[str, str]
    metrics: dict[str, float] = {}
    # Results of older builds say neither, and are judged without.
    serving: dict[str, float] = {}
    # What a search chose: how far it came depends on the machine, so who trains again takes this.
    parameters: dict[str, Any] | None = None
    changed_inputs: tuple[str, ...] = ()
    # Nor is there one of a first champion, which answers beside nobody.
    shadow: Shadow | None = None
    curve: LearningCurve | None = None
    busiest: float | None = None
    # None where labels come for all rows alike.
    selection: Selection | None = None


class TrainingError(Record):
    """Why a training gave nothing; ``final`` errors are not tried again, as a seeded training would end the same.

    ``cause`` of a final one: the data, a limit of the settings, or the trainer (a package that is missing, a model
    that cannot be written).
    """

    detail: str
    final: bool
    cause: Literal["data", "limit", "trainer"] = "data"
