"""What a person may set about retraining, the registry and snapshots; unknown keys are refused."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from stationkeeper.contracts.messages import Text
from stationkeeper.contracts.plugins import IMPORT_PATH, PluginGroup, plugin_names
from stationkeeper.contracts.settings import ClassName, Duration, Settings
from stationkeeper.contracts.times import format_duration
from stationkeeper.retrain.core.gate import GateRules
from stationkeeper.retrain.core.plan import PlanRules
from stationkeeper.retrain.core.segments import SegmentRules
from stationkeeper.retrain.core.threshold import ThresholdRule
from stationkeeper.retrain.core.value import Worth

# The defaults below are chosen for a binary classifier with tens of thousands of events a day, whose labels come within
# days; where no rule or measurement gives a value it is called chosen.
# Bounds beside them: a lower one is the least with which the thing works at all (a gate needs rows to resample, a
# training a quarter of a GiB), an upper one is ten times and more what anybody means, so that a slip of the unit is
# refused and no choice is; shares exclude 0 and 1, at which one side would have no rows.
_GIB = 1024**3

# Keys of builds before the monitor alone decided how often a model may ask, and what holds their meaning now.
_MOVED = {"cooldown": "cooldown", "daily_budget": "most and period"}

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class LabelSettings(Settings):
    """What a label means and when it may be used.

    ``maturity`` is the age from which a prediction's label counts as final: younger rows are left out, because the
    labels that come first (a reported fraud) are not like those that come late. ``auto`` takes the 99 % quantile of
    the delays seen. ``positive`` is the label text of the class that scores and thresholds are about: that of the model
    unless it is given here, and ``true`` where neither is; 1 and true are one class.
    """

    maturity: Literal["auto"] | Duration = "auto"
    positive: ClassName | None = None

    @property
    def positive_class(self) -> str:
        """The positive class's text."""
        return self.positive or "true"


class DataSettings(Settings):
    """How many labelled rows a retrain needs and which features it may use.

    ``min_rows`` and ``min_positives`` count matured labelled rows after the onset; ``max_wait`` is how long (declared
    clock, from the request) they may take to come. A snapshot holds the newest ``snapshot_rows`` of ``history``, in
    pieces larger than memory; a training and its gate read the newest ``max_rows`` labelled ones of it, and of those
    without a label among them at most as many. Each look at the gate that finds too little evidence asks for twice the
    rows of the look before.
    """

    # Chosen: with holdout 0.3 and some per cent positive, 3 000 rows leave the gate 900 rows after the change, as many
    # before it and tens of positives, in which a segment of a ninth still has the gate's hundred rows. A large gain
    # shows there, a small one waits for the next look at twice the rows, and where more rows would have made a better
    # model a follow-up is asked for (requests.follow_up). Half of it leaves more segments unjudged, twice of it leaves
    # the old model at work longer.
    min_rows: Annotated[int, Field(ge=50)] = 3_000
    # The recall on 100 positives is known to ten points (95 %), on 50 to fourteen, which tells few models apart.
    min_positives: Annotated[int, Field(ge=5)] = 100
    # Chosen: two weeks of drift without labels are a matter for a person.
    max_wait: Duration = 14 * 86_400_000
    # Chosen: a million rows of 100 numbers take 800 MB in memory, twice that with as many unlabelled ones, within
    # training.memory_bytes.
    max_rows: Annotated[int, Field(ge=1_000)] = 1_000_000
    # Chosen: what was measured to need less than 2 GiB of memory (python -m benchmarks snapshot); as Parquet some GB.
    snapshot_rows: Annotated[int, Field(ge=1_000)] = 50_000_000
    # Chosen: half a year holds what was normal before the change; more rows than snapshot_rows are cut anyway.
    history: Duration = 180 * 86_400_000
    features: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class WindowSettings(Settings):
    """The training windows that compete, and the shares of the rows after the change that models do not learn from."""

    # Chosen between min_rows and max_rows: the window that helps when the change came gradually and its onset is vague.
    last_rows: Annotated[int, Field(ge=100)] = 20_000
    # How many rows of before a row since the change weighs, in the window that mixes them. Chosen: of the first 3 000
    # rows since it among 20 000 of before, three fifths of the weight is theirs. Windows without it compete as well.
    after_change_weight: Annotated[float, Field(gt=1.0, le=1_000.0)] = 10.0
    # Chosen: half of it doubles the variance of the gate's difference, twice of it leaves too little to learn from.
    holdout: Share = 0.3
    # Chosen: of 3 000 rows 600 tell the windows apart; half of it is decided by chance, the rest is trained on.
    validation: Share = 0.2

    @model_validator(mode="after")
    def _leave_training_rows(self) -> Self:
        # A tenth of min_rows is what the smallest default window then learns from after the change.
        if self.holdout + self.validation > 0.9:
            raise ValueError(
                f"holdout {self.holdout:g} and validation {self.validation:g} leave less than a tenth of the rows "
                "after the change to train on; lower one of them"
            )
        return self


class LimitSettings(Settings):
    """What a challenger may take and how far off its scores may be; a limit that is set and not measured never passes.

    ``p99_ms`` is the 99 % quantile of the time one row takes, ``load_ms`` the time to load it, both wall time of one
    thread where it was trained, without any network; ``onnx_bytes`` its size; ``calibration_error`` the mean distance
    of scores and rates over ten bins of the held-out rows.
    """

    p99_ms: Annotated[float, Field(gt=0.0)] | None = None
    load_ms: Annotated[float, Field(gt=0.0)] | None = None
    onnx_bytes: Annotated[int, Field(gt=0)] | None = None
    calibration_error: Share | None = None


class GateSettings(Settings):
    """When a challenger is better: error rates of both sides, the margin, and how many looks share them.

    ``margin`` is how much worse the decisions may be overall (F1 points of a classifier, share of the champion's loss
    of a regression) before the challenger is inferior. ``min_gain`` is the share of the champion's log loss (or
    absolute error) after the change that the challenger must save to count as better by that measure. ``alpha`` is
    the chance to pass a model that is not better, over all ``looks`` together. ``min_gain`` is not asked where age or
    a calendar asked: there the loss estimated better is enough.

    ``segments`` are the features (or ``auto``) in whose values the challenger must do no harm: give up more than
    ``segment_margin`` of what the champion knows there, shown on at least ``segment_min_rows`` rows. ``protected`` are
    those whose groups must not lie further apart than under the champion, by more than ``protected_gap`` in true
    positive rate, false positive rate or approval rate. Where decisions have a ``value``, the challenger's must not be
    worth less by more than ``margin`` of what could be won; ``amount`` is the feature that each is multiplied by.
    Where labels come for some rows rather than others, at most ``unlabelled_margin`` of all may get another decision
    without a label, or a labelled row that stands for them, to tell which decision is right.
    """

    # 5 % over all looks is the convention of one-sided superiority tests; looks share it by Bonferroni (core.gate).
    alpha: Share = 0.05
    # Chosen: what a gain after the change may cost elsewhere; 0 would ask for proof of a gain everywhere.
    margin: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.03
    min_gain: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    # Each look doubles the rows: five looks reach sixteen times min_rows and cost a fifth of alpha each.
    looks: Annotated[int, Field(ge=1, le=10)] = 5
    # 4 000 resamples leave 20 beyond the bound at the comparison's level (0.05 / 5 / 2): enough for a stable quantile.
    # Gaps of a protected feature are bounded at .05 / 5 / 3: 13 are left, and fewer with several features.
    replicates: Annotated[int, Field(ge=200, le=100_000)] = 4_000
    # Blocks must be longer than serial dependence and many enough to resample: 100 of the first look's 900 rows after
    # the change are 9 rows each, and later looks have longer ones. With 200 a visit of eight rows lies in two or three.
    blocks: Annotated[int, Field(ge=10, le=2_000)] = 100
    # "auto": every text or boolean feature with 2 to 20 values (numbers name no group of people or payments); () judges
    # the whole alone, in which harm to a twelfth does not show.
    segments: Literal["auto"] | tuple[Text, ...] = "auto"
    # Between two cases: a model that is blind in a segment gives up all it knew there; a simple one that cures a large
    # change gave up half in what did not change (a logistic regression, tests/retrain/bank.py), and is still the cure.
    segment_margin: Annotated[float, Field(ge=0.0, le=1.0)] = 0.75
    # Chosen: the mean of 100 losses is normal enough for the test, and a segment of fewer rows decides nothing.
    segment_min_rows: Annotated[int, Field(ge=30)] = 100
    # As margin, and for its reason: by so much of all rows the decisions may be worse where no label can tell.
    unlabelled_margin: Annotated[float, Field(ge=0.0, le=1.0)] = 0.03
    # None by default: which groups of people the law or the house protects is not to be guessed from names.
    protected: tuple[Text, ...] = ()
    # Those of the model (models.NAME.sensitive) are always among them: their values are told as group 1, group 2.
    sensitive: tuple[Text, ...] = ()
    # Chosen: half of what the "four fifths rule" of US employment law allows at a rate of one. To show that a gap is no
    # wider takes about 400 positives in each group; half of it takes four times as many.
    protected_gap: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    # That of the model (models.NAME.value), in the order of a confusion table; without it decisions have no value.
    value: tuple[float, float, float, float] | None = None
    # None by default: every decision counts alike.
    amount: Text | None = None
    # None is set by default: what is slow or large depends on where the model is served.
    limits: LimitSettings = LimitSettings()
    # At least a row a block by default: with fewer rows than blocks each row is one (core/gate.blocks_of), rows that
    # depend on their neighbours count as independent, and the bounds come out too narrow.
    min_rows: Annotated[int, Field(ge=20)] = 200


class ThresholdSettings(Settings):
    """How the decision threshold is chosen on rows that the scored model has not seen.

    ``keep-precision``: the lowest threshold whose precision is that of the champion before the change, but never below
    that of ``f1``, which is also what a first champion takes. ``f1``: the largest F1. ``alert-rate``: ``alert_rate``
    of the rows.
    """

    rule: ThresholdRule = ThresholdRule.KEEP_PRECISION
    # Only read by the rule alert-rate; chosen as the order of magnitude of alerts that people can look at.
    alert_rate: Share = 0.01


VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class TrainingSettings(Settings):
    """The limits of the training subprocess; ``timeout`` and ``retry_after`` are wall time.

    ``memory_bytes`` and ``disk_bytes`` hold for all its processes together. ``environment`` names the variables of the
    role that a training may see besides those that any program needs (``PATH``, ``HOME``, the locale): credentials are
    passed on only by name.
    """

    # An hour is far beyond what the default trainers take on max_rows (seconds); it ends what hangs.
    timeout: Annotated[Duration, Field(ge=1_000)] = 3_600_000
    # A training is seeded, so another try helps only against the machine (a system that ran out of memory, a disk that
    # failed): two are enough to see that.
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    # Chosen: a machine without memory has got some back by then, and a registry that is away is asked six times a
    # minute.
    retry_after: Duration = 10_000
    # Chosen: max_rows of 100 numbers are 40 MB, of which a fit holds some ten copies; ten times that.
    memory_bytes: Annotated[int, Field(ge=_GIB // 4)] = 4 * _GIB
    # Chosen: a snapshot of a million rows of 100 numbers is below 1 GiB, and a trainer may write it several times.
    disk_bytes: Annotated[int, Field(ge=_GIB // 64)] = 20 * _GIB
    # The role shares its machine, and the sums of several threads differ in their last bits from run to run.
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    # Rows that one fit learns from, chosen: a fit of the default trainers stays within seconds on one thread.
    max_rows: Annotated[int, Field(ge=500)] = 50_000
    # Any number; fixed, so that the same rows give the same model again.
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 20_260_105
    environment: tuple[VariableName, ...] = ()


class SearchSettings(Settings):
    """Which parameters of the trainer are searched, and for how long (wall time).

    ``space`` names keywords of the trainer's class with the values that are tried. ``retrain.parameters`` are tried
    first, then random combinations on the validation rows, in the window that won; a fit that would end past ``budget``
    is not begun. What was chosen is the version's; the gate's rows choose nothing.
    """

    # Chosen: some tens of fits of the default trainers; at half a small search is cut off, at double a canary begins
    # ten minutes later for a gain that is seldom past noise.
    budget: Annotated[Duration, Field(ge=1_000)] = 600_000
    space: Annotated[dict[Text, tuple[Any, ...]], Field(min_length=1)]

    @field_validator("space")
    @classmethod
    def _values(cls, space: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        empty = sorted(name for name, values in space.items() if not values)
        if empty:
            raise ValueError(f"{', '.join(empty)}: no value to try; list at least one")
        return space


class RetrainSettings(Settings):
    """How one model is retrained; every default suits a binary classifier with delayed labels.

    ``trainer`` is ``gradient-boosting``, ``lightgbm`` (extra ``lightgbm``), ``logistic-regression``, ``command`` (any
    program), another distribution's entry point in the group ``stationkeeper.trainers``, or the import path
    ``package.module:Class`` of a class that satisfies ``retrain.training.Trainer``; the directory in which the role was
    started is searched last.
    ``parameters`` are the keywords of that class (``trees`` and ``leaves`` of gradient boosting, ``command`` of
    ``command``); they are recorded with every version, so no secret belongs there. ``breaker`` is how many retrains in
    a row may end without a better model before a person must ask; how often a model may ask at all is
    ``models.NAME.requests``. With ``approval`` a person says yes to each request, with ``risk: high`` two different
    people do; what nobody approved within ``approval_expires`` (wall time) lapses: nothing is trained.
    """

    trainer: str = "gradient-boosting"
    parameters: dict[str, Any] = Field(default_factory=dict)
    # None by default: the shipped trainers' parameters suit most tables, and a search delays every candidate.
    search: SearchSettings | None = None
    task: Literal["binary", "multiclass", "regression"] = "binary"
    labels: LabelSettings = LabelSettings()
    data: DataSettings = DataSettings()
    windows: WindowSettings = WindowSettings()
    threshold: ThresholdSettings = ThresholdSettings()
    gate: GateSettings = GateSettings()
    training: TrainingSettings = TrainingSettings()
    # Chosen: one useless retrain is chance, three in a row say that training is not the cure.
    breaker: Annotated[int, Field(ge=1)] = 3
    approval: bool = False
    # Low: whoever runs the role has said yes to retraining by configuring it. Which model decides about people, or
    # about much money, is not to be guessed.
    risk: Literal["low", "high"] = "low"
    # A week: a person on holiday has a deputy by then. At half a long weekend lapses what somebody would have approved;
    # at double rows and onset are a fortnight old when training begins.
    approval_expires: Annotated[Duration, Field(ge=60_000)] = 7 * 86_400_000

    @model_validator(mode="before")
    @classmethod
    def _name_what_moved(cls, values: object) -> object:
        gone = sorted(_MOVED.keys() & values.keys()) if isinstance(values, dict) else []
        if gone:
            instead = "; ".join(f"write models.NAME.requests.{_MOVED[key]} instead of retrain.{key}" for key in gone)
            raise ValueError(f"{', '.join(gone)}: the monitor alone decides how often a model may ask; {instead}")
        return values

    @model_validator(mode="after")
    def _search_leaves_time(self) -> Self:
        if self.search is not None and self.search.budget >= self.training.timeout:
            raise ValueError(
                f"search.budget {format_duration(self.search.budget)} leaves nothing of training.timeout "
                f"{format_duration(self.training.timeout)} for the model itself; lower one or raise the other"
            )
        return self

    @field_validator("trainer")
    @classmethod
    def _known_trainer(cls, value: str) -> str:
        if IMPORT_PATH.fullmatch(value) is None and value not in (known := plugin_names(PluginGroup.TRAINERS)):
            raise ValueError(
                f"{value!r} is no trainer; write {', '.join(known)} or the import path package.module:Class"
            )
        return value

    @property
    def approvers(self) -> int:
        """How many different people must say yes to a request that asks a person at all."""
        # Four eyes: whoever asks again, or approves first, cannot be the second pair.
        return 2 if self.risk == "high" else 1

    def plan_rules(self) -> PlanRules:
        """Return what the planning core needs of these settings."""
        return PlanRules(
            min_rows=self.data.min_rows,
            min_positives=self.data.min_positives if self.task == "binary" else 0,
            max_wait_ms=self.data.max_wait,
            breaker=self.breaker,
            approval=self.approval or self.approvers > 1,
            last_rows=self.windows.last_rows,
            after_change_weight=self.windows.after_change_weight,
            max_rows=self.data.max_rows,
            looks=self.gate.looks,
        )

    def segment_rules(self) -> SegmentRules:
        """Return what the gate core needs to judge segments."""
        gate = self.gate
        return SegmentRules(gate.segment_margin, gate.segment_min_rows, gate.protected, gate.protected_gap)

    def segment_features(self) -> tuple[str, ...] | None:
        """Return the features whose values are segments; None for all with few values."""
        return None if self.gate.segments == "auto" else self.gate.segments

    def worth(self) -> Worth | None:
        """Return what the gate core needs to value decisions; None where nothing says what they are worth."""
        gate = self.gate
        return None if gate.value is None else Worth(gate.value, gate.amount or "")

    def limits(self) -> dict[str, float]:
        """Return the limits that are set."""
        return {name: float(value) for name, value in self.gate.limits.model_dump(exclude_none=True).items()}

    def gate_rules(self, *, aged: bool = False, looks: int | None = None) -> GateRules:
        """Return what the gate core needs; ``aged``: the request is for no change, ``looks``: how many it may have."""
        gate = self.gate
        return GateRules(
            alpha=gate.alpha,
            margin=gate.margin,
            min_gain=gate.min_gain,
            # A level that is divided by looks which a request cannot have would only hide what its one look shows.
            looks=min(gate.looks, looks or gate.looks),
            replicates=gate.replicates,
            blocks=gate.blocks,
            min_rows=gate.min_rows,
            # The holdout's share of the positives that training wants, a quarter of it, as the gate only compares;
            # below five its interval says nothing.
            min_positives=max(5, round(self.data.min_positives * self.windows.holdout / 4)),
            seed=self.training.seed,
            aged=aged,
            unlabelled_margin=gate.unlabelled_margin,
        )


_URL = r"^[a-z][a-z0-9+.-]*://.+"


class SnapshotSettings(Settings):
    """Where snapshots of training data lie and how long one that no live model names is kept.

    ``dvc`` is a git repository with DVC in it, where each becomes a tracked version besides. ``object_store`` is the
    URL of a folder, as fsspec reads it, where all of them lie; ``directory`` then holds copies of those used here.
    """

    directory: Path = Path("snapshots")
    # A year, in which auditors ask what a model learned from, and a month for the question to be asked.
    retention: Duration = 400 * 86_400_000
    dvc: Path | None = None
    # None by default: one machine's directory is a store, and needs no driver.
    object_store: Annotated[str, Field(pattern=_URL)] | None = None

    @field_validator("object_store", mode="before")
    @classmethod
    def _a_url(cls, given: Any) -> Any:
        # The pattern alone, which the chart's schema needs, says nothing of what to write.
        if isinstance(given, str) and re.match(_URL, given) is None:
            raise ValueError("is no URL of a folder; write one such as s3://BUCKET/FOLDER or file:///mnt/nas/FOLDER")
        return given
