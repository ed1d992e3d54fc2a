"""What one model's configuration says to the monitor: its topics, its panes, its budget and its limits."""

from datetime import date
from pathlib import Path as FilePath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from stationkeeper.contracts.labels.delay import Absence
from stationkeeper.contracts.settings import ClassName, Duration, Name, Positive, Settings
from stationkeeper.contracts.times import UTC_ZONE, check_day, check_timezone, format_duration
from stationkeeper.events import Input, InputMapping, Kind, ValueRules
from stationkeeper.monitor.core.budget import WARNINGS_A_PAGE, Budget, parse_budget
from stationkeeper.monitor.core.incidents import HarmRules
from stationkeeper.monitor.core.performance import TOLERANCE, FairnessRules
from stationkeeper.monitor.core.performance.measures import ValueMatrix

# Event times are epoch milliseconds everywhere, so durations are too.
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


def _budget(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a budget; write for example '1 per 30 days'")  # noqa: TRY004 - a pydantic check
    parse_budget(value)
    return value


class Limits(Settings):
    """What a model may cost at most; whatever goes beyond is refused, counted and named, and nothing else suffers."""

    # The widest event that was measured: 5 800 of them a second on one core (docs/performance.md). Each feature costs
    # some 18 kB in every segment.
    features: Positive = 1_000
    # Four times the features: an event may bring context beside them. More fields are a message gone wrong.
    fields: Positive = 4_096
    # Kafka's own default for one record (message.max.bytes).
    message_bytes: Positive = 1_048_576
    # Each segment is watched as all traffic is and takes its part of the budget: at 200 parts a page needs 200 times
    # the evidence, and memory is 200 times that of one watch.
    segments: Positive = 200
    # A model retrained once a week keeps a year of versions; each holds its reference and its detectors.
    versions: Positive = 50
    # Prometheus series of one model: 200 segments at ten each. A server takes a few million of all models.
    series: Positive = 2_000


class QualitySettings(Settings):
    """Rules on broken data that replace the learned ones; None keeps the default of ``monitor.core``.

    ``learn_traffic`` is how long live panes teach volume and freshness by hour of the week where the reference does
    not, as one of training samples does not. Silence may then page; volume so learned only warns, because a few weeks
    know no holiday and no change of the clock. 0d leaves both unjudged.
    """

    stale_after: Duration | None = None
    # Each hour of the week is then seen twice, the least that tells a rhythm from one odd day.
    learn_traffic: Duration = 14 * DAY_MS
    tolerance: Annotated[float, Field(ge=0, lt=1)] | None = None
    ignore: tuple[str, ...] = ()

    @field_validator("learn_traffic")
    @classmethod
    def _enough(cls, span: int) -> int:
        # Of each hour of the day the two that tell how far one lies from the other.
        if 0 < span < 2 * DAY_MS:
            raise ValueError(f"{format_duration(span)} teaches no rhythm; write at least 2d, or 0d to judge none")
        return span


class RequestSettings(Settings):
    """When a model asks for retraining, and how often it may: ``most`` times in ``period``, ``cooldown`` apart.

    ``when: drift`` asks for every incident that a new model may cure. ``when: harm`` asks for those that have shown
    harm (``harm``), however long after they opened. ``when: pays`` asks for incidents whose harm outweighs ``cost``,
    and besides, without any incident, once what the champion's age has cost since the last request reaches it: the
    price of a retraining in wrong answers, e.g. 500 where nobody would spend it to spare fewer. ``when: schedule`` asks
    each ``every`` after the last request or promotion, whatever drifts.

    Beside ``drift``, ``harm`` and ``pays`` a version that stays asks once more, without ``cooldown``, as soon as there
    are four times the labelled rows since its change and its learning curve forecasts that they spare ``follow_up`` of
    its loss; null never does.
    """

    when: Literal["drift", "harm", "pays", "schedule"] = "drift"
    cost: Annotated[float, Field(gt=0)] | None = None
    # Not 0, which would ask at each pane; a calendar finer than a day is none.
    every: Annotated[Duration, Field(ge=DAY_MS)] | None = None

    # Chosen: a training, its gate and the first canary steps take hours, so a request before that knows nothing new.
    cooldown: Duration = 6 * HOUR_MS
    # Chosen: more than one request every other day is not drift but a model or a rule that a person must look at.
    most: Positive = 4
    period: Duration = 7 * DAY_MS
    enabled: bool = True
    # Twice the gain that the gate asks for (`gate.min_gain`): of a forecast of just that half would not be shown.
    follow_up: Annotated[float, Field(gt=0, lt=1)] | None = 0.1

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.when == "pays" and self.cost is None:
            raise ValueError("requests.when: pays needs requests.cost, the price of a retraining in wrong answers")
        if self.when == "schedule" and self.every is None:
            raise ValueError("requests.when: schedule needs requests.every, e.g. 30d")
        if self.when != "schedule" and self.every is not None:
            raise ValueError(f"requests.every belongs to requests.when: schedule; it is {self.when}")
        return self


class HarmSettings(Settings):
    """From where on an incident does harm, for ``page_on: harm`` and ``requests.when: harm`` or ``pays``.

    That is a loss of the model's accuracy since the onset of more than ``tolerance`` (points of 1; of a regression the
    mean error, relative to the usual one), measured on labels or estimated without, or rows of which nothing can be
    estimated, as those with values never seen before, above the share ``void``.
    """

    tolerance: Annotated[float, Field(ge=0, lt=1)] = HarmRules().tolerance
    void: Annotated[float, Field(ge=0, le=1)] = HarmRules().void

    @property
    def rules(self) -> HarmRules:
        """Both as the core takes them."""
        return HarmRules(self.tolerance, self.void)


class FairnessSettings(Settings):
    """Which dimensions of ``segments`` are compared: whether a segment meets other decisions than the rest.

    Judged are the rates of positive decisions (approvals), of true positives and of false positives, the last two on
    matured labels. ``tolerance`` is by how many points of 1 a segment's rate may differ unremarked.
    """

    segments: Annotated[tuple[Name, ...], Field(min_length=1)]
    # Five points; its reason stands in the core. Of none at all nobody could say when it is over.
    tolerance: Annotated[float, Field(gt=0, le=0.5)] = FairnessRules(()).tolerance

    @property
    def rules(self) -> FairnessRules:
        """The same for the core."""
        return FairnessRules(self.segments, self.tolerance)


class ValueSettings(Settings):
    """What each outcome of a decision is worth, in one unit: e.g. an undetected fraud −120, a call to a customer −5."""

    # Nothing: who names one outcome means the others to be worth nothing.
    true_positive: float = 0.0
    false_positive: float = 0.0
    false_negative: float = 0.0
    true_negative: float = 0.0

    @property
    def matrix(self) -> ValueMatrix:
        """The four in the order of a confusion table."""
        return ValueMatrix((self.true_positive, self.false_positive, self.false_negative, self.true_negative))


class JoinSettings(Settings):
    """The label join of one process: its local cache and the rows that may wait.

    ``cache`` is a directory that may be deleted at any time; null keeps none, and a start then reads the joins topic
    back over the label horizon. ``cache_bytes`` bounds its files together. ``rows`` is how many predictions without
    label, and labels without prediction, each of the joins partitions keeps; beyond it the first come go, counted.
    ``corrections`` is how many predictions that have their label it keeps beside them, for labels that say later that
    it was another.
    """

    cache: FilePath | None = FilePath(".stationkeeper") / "join"
    # Chosen: what a small disk spares; the files of full ``rows`` in each of a few partitions fit in it.
    cache_bytes: Positive = 8 * 1024**3
    # At about 70 bytes a row, 5 M are 350 MB of memory for each side of a partition (monitor.join.store). Fewer than a
    # thousand are less than a second of a busy topic: no label would meet its prediction.
    rows: Annotated[int, Field(ge=1_000)] = 5_000_000
    # A tenth of that, as corrections are rare and mostly come soon (monitor.join.settled); half forgets sooner, and a
    # correction of what is forgotten is a label of no prediction.
    corrections: Annotated[int, Field(ge=1_000)] = 500_000


class ModelSettings(Settings):
    """One model as the monitor sees it; ``name`` is its key in the configuration.

    ``inputs`` names the kind of event that carries the input statistics. ``pane`` is the length of a pane,
    ``lateness`` how much older than its partition's clock an event may be, ``skew`` how far ahead of the broker's
    timestamp. ``label_maturity`` is the least age at which a prediction is judged by its label; how late labels come is
    learned, and where they come later than that, class by class, more is waited for. Labels that come after their
    prediction was judged change charts only. ``absent_is: negative`` is for labels that only come for positives (frauds
    are reported, good payments never): what has no label at that age is a negative.
    ``page_on: harm`` lets drift of inputs and predictions warn, and page once it has shown harm (``harm``).
    ``error_tolerance`` is how far the error rate, and the share of positives at a score, may rise above the reference's
    before that is evidence; the size of a regression's errors has none.
    ``value`` is what each outcome of a decision is worth; ``quantile`` the one that a regression predicts.
    ``values`` says how texts are read, in files of past rows and in events alike.
    ``false_warnings`` is the budget of warnings, such as "1 per 7 days"; left out, it is that beside one page in 30
    days, and in the same proportion beside any other. ``segments`` are dimensions whose values are watched apart,
    next to all traffic. ``adoption`` is how long a reference without order of time learns from live panes before
    drift is judged: until then nothing pages but data quality. With 0d drift is judged at once, as if rows were
    independent; a reference with order of time never waits.
    ``timezone`` is the IANA name of the zone whose clock traffic follows: hours and days that references and live panes
    teach are local, so that a change of the clock is no odd evening. Panes, budgets and times in messages stay in UTC.
    A changed zone moves what live panes taught of traffic at once; a reference keeps its own until the next is made.
    ``holidays`` are days, by that clock, on which traffic is not like other days': drift and volume of panes that
    lie in part on them are neither judged nor learned from, broken data and labels as ever.
    ``follow_seasons`` lets the reference of drift follow a slow season while nothing is open, at most a point of the
    rows a week and ten in all; the status says how far it has moved. With false it stays as it was made.
    """

    name: Name
    predictions: Input
    features: Input | None = None
    labels: Input | None = None
    inputs: Literal["prediction", "feature"] | None = None
    # A minute: what happened is dated to it, and a step of all detectors is paid 1 440 times a day. Panes of less than
    # a second hold no rows to speak of, and a window holds one pane at least.
    pane: Annotated[Duration, Field(ge=1_000)] = MINUTE_MS
    # A verdict waits for it after each pane. Producers that buffer and retry come within two minutes (Kafka's own
    # delivery.timeout.ms); what comes later is counted as late and only charts take it.
    lateness: Duration = 2 * MINUTE_MS
    # The clocks of machines that keep time at all agree within minutes; further ahead an event would close panes early.
    skew: Duration = 5 * MINUTE_MS
    # Ids remembered in each partition to drop what is sent twice, hours of a busy partition: 23 to 64 bytes each
    # (monitor.hashtable), so that a hundred million take some 4 GB.
    dedupe: Annotated[int, Field(ge=0, le=100_000_000)] = 1_000_000
    segments: tuple[Name, ...] = ()
    # A month holds chargebacks and cancelled orders as they are usually told; longer costs memory of the join alone. At
    # least a second, as panes.
    label_horizon: Annotated[Duration, Field(ge=1_000)] = 30 * DAY_MS
    # Chosen for labels that come within minutes or hours. Set it to when labels are complete: of labels that come by
    # class (fraud first) a shorter one reads the first to come as all.
    label_maturity: Duration = 6 * HOUR_MS
    absent_is: Literal["negative"] | None = None
    value: ValueSettings | None = None
    fairness: FairnessSettings | None = None
    # The median: its loss is half the mean absolute error, so that it says the same.
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.5
    # An hour, as in `core.watch`.
    window: Annotated[Duration, Field(ge=1_000)] = HOUR_MS
    values: ValueRules = ValueRules()
    positive: ClassName | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    false_pages: Annotated[str, BeforeValidator(_budget)] = "1 per 30 days"
    false_warnings: Annotated[str, BeforeValidator(_budget)] | None = None
    # Two weekends and two of each weekday, the least that shows how far days differ (docs/statistics.md).
    adoption: Duration = 14 * DAY_MS
    quality: QualitySettings = QualitySettings()
    limits: Limits = Limits()
    # Harm shows when labels come, for fraud days later; drift is known at once (docs/adr/page-on-drift.md).
    page_on: Literal["drift", "harm"] = "drift"
    harm: HarmSettings = HarmSettings()
    # The core's point; 0 finds a loss of a point within days, and calls the reference's own wear by its name too.
    error_tolerance: Annotated[float, Field(ge=0, lt=1)] = TOLERANCE
    timezone: Annotated[str, AfterValidator(check_timezone)] = UTC_ZONE
    holidays: tuple[Annotated[date, BeforeValidator(check_day)], ...] = ()
    follow_seasons: bool = True
    requests: RequestSettings = RequestSettings()
    detectors: tuple[str, ...] = ()
    importance: dict[str, Annotated[float, Field(gt=0)]] = {}
    sensitive: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.inputs == "feature" and self.features is None:
            raise ValueError("inputs: feature needs features: TOPIC, the topic that carries them")
        if self.requests.when == "pays" and self.labels is None:
            raise ValueError("requests.when: pays needs labels: TOPIC, from which it knows what age costs")
        if self.absent_is is not None and self.labels is None:
            raise ValueError("absent_is: negative needs labels: TOPIC, the topic that carries those of the positives")
        if self.fairness is not None:
            for name in self.fairness.segments:
                if name not in self.segments:
                    raise ValueError(
                        f"fairness.segments: {name!r} is not watched apart; add it to segments "
                        f"({', '.join(self.segments) or 'none so far'}) or take it out"
                    )
        if self.pane > self.window:
            raise ValueError(
                f"pane {format_duration(self.pane)} is longer than window {format_duration(self.window)}; "
                "write a window of at least one pane"
            )
        if self.warnings_a_page < 1:
            raise ValueError(
                f"false_warnings {self.false_warnings} is rarer than false_pages {self.false_pages}; what pages has "
                "warned before, so allow at least as many"
            )
        if DAY_MS % self.pane and self.pane % DAY_MS:
            raise ValueError(f"pane {format_duration(self.pane)} does not divide a day; write 1m, 5m, 15m or 1h")
        return self

    @field_validator("detectors")
    @classmethod
    def _known_detectors(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if names:
            # The registry knows river; nobody who does not ask for a plug-in pays for that.
            from stationkeeper.monitor.plugins import registry

            for name in names:
                if not registry.is_known(name):
                    raise ValueError(f"no detector plug-in {name!r}; allowed: {', '.join(registry.names())}")
        return names

    @property
    def budget(self) -> Budget:
        """The false-page budget, read from its sentence."""
        return parse_budget(self.false_pages)

    @property
    def warnings_a_page(self) -> float:
        """How many false warnings are allowed for each false page; ``ValueError`` where they share no clock."""
        if self.false_warnings is None:
            return WARNINGS_A_PAGE
        warnings = parse_budget(self.false_warnings)
        if warnings.clock != self.budget.clock:
            raise ValueError(
                f"false_warnings {self.false_warnings} counts {warnings.clock}, false_pages {self.false_pages} counts "
                f"{self.budget.clock}; write both in time or both in rows"
            )
        return warnings.alpha / self.budget.alpha

    @property
    def source(self) -> Kind:
        """The kind of event that carries the input statistics."""
        return self.inputs or ("feature" if self.features is not None else "prediction")

    def absence(self) -> Absence | None:
        """Return when no label is a negative one; None where every class is labelled."""
        horizon = max(self.label_horizon, self.label_maturity)
        return None if self.absent_is is None else Absence(self.pane, horizon, self.label_maturity)

    def topics(self) -> dict[Kind, InputMapping]:
        """Return the configured input of each kind."""
        found: dict[Kind, InputMapping] = {"prediction": self.predictions}
        if self.features is not None:
            found["feature"] = self.features
        if self.labels is not None:
            found["label"] = self.labels
        return found
