"""What one model's configuration says to the monitor: its topics, its panes, its budget and its limits."""

from pathlib import Path as FilePath
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from contracts.times import format_duration, parse_duration
from monitor.core.budget import Budget, parse_budget

Kind = Literal["prediction", "feature", "label"]
FieldName = Literal[
    "kind",
    "event_id",
    "time",
    "model",
    "version",
    "features",
    "prediction",
    "label",
    "segment",
    "weight",
    "latency_ms",
]
TimeUnit = Literal["rfc3339", "s", "ms", "us", "ns"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


def _milliseconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _budget(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a budget; write for example '1 per 30 days'")  # noqa: TRY004 - a pydantic check
    parse_budget(value)
    return value


Duration = Annotated[int, BeforeValidator(_milliseconds), Field(ge=0)]
"""A span in milliseconds, written as ``90s``, ``5m`` or ``30d``."""

Positive = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]
Path = Annotated[str, Field(min_length=1, max_length=512)]


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputMapping(_Block):
    """A topic that is not in our own form: where in its JSON each field of the contract is.

    ``map`` gives a path of object keys joined by dots for a field (``"a.b"``; quote a key that holds a dot:
    ``'a."b.c"'``); a field that is not mapped is looked for under its own name. ``features`` is the path of an object
    that holds them all, or a path for each feature. ``constants`` hold what the records do not say. ``time_unit``
    says what a number in ``time`` counts; with ``rfc3339`` only text is a time.
    """

    topic: Name
    map: dict[FieldName, Path | dict[str, Path]] = {}
    constants: dict[Literal["model", "version", "segment"], str | dict[str, str]] = {}
    time_unit: TimeUnit = "ms"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field, path in self.map.items():
            if isinstance(path, dict) and field != "features":
                raise ValueError(
                    f"map.{field}: only features takes a path for each name; write one path, e.g. payload.id"
                )
        for field, value in self.constants.items():
            if isinstance(value, dict) != (field == "segment"):
                form = "{dimension: value}" if field == "segment" else "text"
                raise ValueError(f"constants.{field}: found {value!r}; write {form}")
            if field in self.map:
                raise ValueError(f"{field} is both mapped and constant; keep one of map.{field} and constants.{field}")
        return self

    @property
    def own_form(self) -> bool:
        """Whether the topic carries the contract's own events."""
        return not self.map and not self.constants and self.time_unit == "ms"


def _input(value: object) -> object:
    return {"topic": value} if isinstance(value, str) else value


Input = Annotated[InputMapping, BeforeValidator(_input)]
"""A topic name (events in our own form) or an ``InputMapping``."""


class Limits(_Block):
    """What a model may cost at most; whatever goes beyond is refused, counted and named, and nothing else suffers."""

    features: Positive = 1_000
    fields: Positive = 4_096
    message_bytes: Positive = 1_048_576
    segments: Positive = 200
    versions: Positive = 50
    series: Positive = 2_000


class QualitySettings(_Block):
    """Rules on broken data that replace the learned ones; None keeps the default of ``monitor.core``.

    ``learn_traffic`` is how long live panes teach volume and freshness by hour of the week where the reference does
    not, as one of training samples does not. Silence may then page; volume so learned only warns, because a few weeks
    know no holiday and no change of the clock. 0d leaves both unjudged.
    """

    stale_after: Duration | None = None
    learn_traffic: Duration = 14 * DAY_MS
    tolerance: Annotated[float, Field(ge=0, lt=1)] | None = None
    ignore: tuple[str, ...] = ()

    @field_validator("learn_traffic")
    @classmethod
    def _enough(cls, span: int) -> int:
        if 0 < span < 2 * DAY_MS:
            raise ValueError(f"{format_duration(span)} teaches no rhythm; write at least 2d, or 0d to judge none")
        return span


class RequestSettings(_Block):
    """How often a model may ask for retraining: ``most`` times in ``period``, ``cooldown`` apart."""

    cooldown: Duration = 6 * HOUR_MS
    most: Positive = 4
    period: Duration = 7 * DAY_MS
    enabled: bool = True


class JoinSettings(_Block):
    """The label join of one process: its local cache and the rows that may wait.

    ``cache`` is a directory that may be deleted at any time; null keeps none, and a start then reads the joins topic
    back over the label horizon. ``cache_bytes`` bounds its files together. ``rows`` is how many predictions without
    label, and labels without prediction, each of the joins partitions keeps; beyond it the first come go, counted.
    """

    cache: FilePath | None = FilePath(".stationkeeper") / "join"
    cache_bytes: Positive = 8 * 1024**3
    rows: Annotated[int, Field(ge=1_000)] = 5_000_000


class ModelSettings(_Block):
    """One model as the monitor sees it; ``name`` is its key in the configuration.

    ``inputs`` names the kind of event that carries the input statistics. ``pane`` is the length of a pane,
    ``lateness`` how much older than its partition's clock an event may be, ``skew`` how far ahead of the broker's
    timestamp. ``label_maturity`` is the age
    at which a prediction's label is taken for known or missing; labels that come later change charts only.
    ``segments`` are dimensions whose values are watched apart, next to all traffic. ``adoption`` is how long a
    reference without order of time learns from live panes before drift is judged: until then nothing pages but data
    quality. With 0d drift is judged at once, as if rows were independent; a reference with order of time never waits.
    """

    name: Name
    predictions: Input
    features: Input | None = None
    labels: Input | None = None
    inputs: Literal["prediction", "feature"] | None = None
    pane: Annotated[Duration, Field(ge=1_000)] = MINUTE_MS
    lateness: Duration = 2 * MINUTE_MS
    skew: Duration = 5 * MINUTE_MS
    dedupe: Annotated[int, Field(ge=0, le=100_000_000)] = 1_000_000
    segments: tuple[Name, ...] = ()
    label_horizon: Annotated[Duration, Field(ge=1_000)] = 30 * DAY_MS
    label_maturity: Duration = 6 * HOUR_MS
    window: Annotated[Duration, Field(ge=1_000)] = HOUR_MS
    positive: str | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    false_pages: Annotated[str, BeforeValidator(_budget)] = "1 per 30 days"
    adoption: Duration = 14 * DAY_MS
    quality: QualitySettings = QualitySettings()
    limits: Limits = Limits()
    requests: RequestSettings = RequestSettings()
    detectors: tuple[str, ...] = ()
    importance: dict[str, Annotated[float, Field(gt=0)]] = {}
    sensitive: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.inputs == "feature" and self.features is None:
            raise ValueError("inputs: feature needs features: TOPIC, the topic that carries them")
        if self.pane > self.window:
            raise ValueError(
                f"pane {format_duration(self.pane)} is longer than window {format_duration(self.window)}; "
                "write a window of at least one pane"
            )
        if DAY_MS % self.pane and self.pane % DAY_MS:
            raise ValueError(f"pane {format_duration(self.pane)} does not divide a day; write 1m, 5m, 15m or 1h")
        return self

    @field_validator("detectors")
    @classmethod
    def _known_detectors(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if names:
            # The registry knows river; nobody who does not ask for a plug-in pays for that.
            from monitor.plugins.registry import names as known

            for name in names:
                if name not in known():
                    raise ValueError(f"no detector plug-in {name!r}; allowed: {', '.join(known())}")
        return names

    @property
    def budget(self) -> Budget:
        """The false-page budget, read from its sentence."""
        return parse_budget(self.false_pages)

    @property
    def source(self) -> Kind:
        """The kind of event that carries the input statistics."""
        return self.inputs or ("feature" if self.features is not None else "prediction")

    def topics(self) -> dict[Kind, InputMapping]:
        """Return the configured input of each kind."""
        found: dict[Kind, InputMapping] = {"prediction": self.predictions}
        if self.features is not None:
            found["feature"] = self.features
        if self.labels is not None:
            found["label"] = self.labels
        return found
