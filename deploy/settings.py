"""What a person may set about rollouts and serving; the defaults are safe, unknown keys are refused."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from stationkeeper.contracts.identity import content_id
from stationkeeper.contracts.masking import remember_named
from stationkeeper.contracts.settings import Credential, Duration, Name, Settings
from stationkeeper.deploy.core.policy import Action, Guardrail, GuardrailPolicy, Policy, QueryPolicy, TimeoutAction
from stationkeeper.deploy.core.split import BUCKETS


class GuardrailSettings(Settings):
    """One comparison of canary and champion: how much worse is tolerated and what harm does.

    ``margin`` is the ratio of the bad rate (canary over champion) that is still acceptable; harm means evidence
    that the true ratio is above it. A canary whose bad rate is below ``floor`` is good enough whatever the ratio, and
    an answer is slow only where it takes ``slower_by`` longer than the champion's besides (``latency`` alone); left out
    both are the guardrail's own.
    """

    action: Action
    margin: Annotated[float, Field(ge=1.0, le=1_000.0)]
    floor: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    slower_by: Duration | None = None


# What an arm may be worse by before it is rolled back (docs/canary.md). Errors: not at all. Decisions move with every
# honest retraining, so only a tenfold rise rolls back. Half slower, half more loss and a
# quarter less precision are noise of few labels; recall needs rare positives and informs; scores have no margin: any
# shift counts, and informs. Floors: one null answer of a thousand, one positive of a hundred. Without them a canary
# whose arms never fail could never be promoted; ten times as high and a canary that fails in one per cent passes.
# Slower by 5 ms besides: an answer in 60 microseconds takes 180 from the cold caches of a canary that gets one row in a
# hundred, which no caller notices; without it such canaries are rolled back. Most callers wait for tens of ms.
_DEFAULTS: dict[Guardrail, GuardrailSettings] = {
    Guardrail.ERRORS: GuardrailSettings(action=Action.ROLL_BACK, margin=1.0, floor=0.001),
    Guardrail.DECISIONS: GuardrailSettings(action=Action.ROLL_BACK, margin=10.0, floor=0.01),
    Guardrail.LATENCY: GuardrailSettings(action=Action.ROLL_BACK, margin=1.5, slower_by=5),
    Guardrail.LOSS: GuardrailSettings(action=Action.ROLL_BACK, margin=1.5),
    Guardrail.PRECISION: GuardrailSettings(action=Action.ROLL_BACK, margin=1.25),
    Guardrail.RECALL: GuardrailSettings(action=Action.INFORM, margin=1.25),
    Guardrail.SCORES: GuardrailSettings(action=Action.INFORM, margin=1.0),
}


class QuerySettings(Settings):
    """One number that the team's Prometheus tells of the canary, and its bounds.

    ``query`` is PromQL with ``$model``, ``$champion`` and ``$canary`` in it, e.g. ``sum(errors{version="$canary"})``;
    it gives one number. It is asked once a minute of ``url`` while both versions are out and on probation.
    ``failures`` in a row beyond ``at_most`` or below ``at_least`` do the ``action``; without a number no step passes.
    ``token`` is sent as a bearer token; ``ca_file`` checks the certificate, left out the system's do.
    """

    url: Annotated[str, Field(min_length=1)]
    query: Annotated[str, Field(min_length=1)]
    at_most: float | None = None
    at_least: float | None = None
    # Three minutes: one scrape that was missed, or a restart of one pod, is no harm; Argo's example takes as many.
    failures: Annotated[int, Field(ge=1)] = 3
    action: Action = Action.ROLL_BACK
    # A query over five minutes is answered in milliseconds; ten seconds would hold up the next of many.
    timeout: Annotated[Duration, Field(ge=100)] = 5_000
    token: Credential | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if urlsplit(self.url).scheme not in {"http", "https"} or not urlsplit(self.url).hostname:
            raise ValueError("url: is no address; write http://HOST:PORT of a Prometheus")
        if self.at_most is None and self.at_least is None:
            raise ValueError("write at_most: or at_least: (or both), the bounds of a good answer")
        if self.at_most is not None and self.at_least is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least: {self.at_least} is above at_most: {self.at_most}; no answer is within")
        return self

    def policy(self) -> QueryPolicy:
        """Return the bounds as the pure core takes them."""
        parts = urlsplit(self.url)
        # Without the user and the password of the address: this goes to the log, where a digest could be guessed.
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        asks = content_id("query", where, self.query, str(self.at_most), str(self.at_least), self.action.value)
        return QueryPolicy(self.action, self.failures, self.at_most, self.at_least, asks)


# Bounds beside the defaults of this file: a lower one is the least with which the thing works at all (one row, one
# step, an odds of one), an upper one is ten times and more what anybody means, so that a slip of the unit (10 for 10 %)
# is refused and no choice is; shares lie within 0 and 1, alphas exclude both ends, at which nothing or all would pass.
class RolloutSettings(Settings):
    """How a candidate of one model goes to production; times read the declared clock, the lease is wall.

    A step lasts ``step_duration`` and until the canary had a fifth of the rows that the next weight gives it in one
    ``step_duration``, at most ``min_rows``; where the next gives it no more than ``min_rows`` no rows are waited for,
    and where it would not in the busiest half hour of the candidate's snapshot either five minutes with five canary
    rows are enough.
    Promotion needs ``promote_rows`` canary rows over all steps and, of every guardrail that acts, evidence that the
    canary is below ``promote_margin`` times the champion (or the guardrail's own, wider margin); little traffic takes
    longer. Where labels are expected, a promotion is confirmed by labels that show fewer than ``probation_margin``
    times the wrong decisions, at latest after ``probation_max``; until then the old champion keeps ``holdback`` of the
    traffic where the target can split it so. A candidate that changes more than ``most_flips`` of the decisions logged
    since the change, or of which that is not known, waits for a person first. ``on_timeout`` ends both waits.
    ``share_tolerance`` is by what factor (1 + tolerance, on the odds) the traffic may miss the weight, as it does when
    few entities send most of it.
    """

    # Ramps by factors of two to five: a harm of 1 % of traffic hurts one user in a hundred, and each step has enough
    # rows to say something about the next. Fewer steps expose more users to what the step before could not show.
    steps: Annotated[tuple[float, ...], Field(min_length=1, max_length=50)] = (0.01, 0.05, 0.25, 0.5)
    # Half an hour outlasts caches, connection pools and the first batch of a caller; four steps fit into a night.
    step_duration: Duration = 30 * 60_000
    # 200 rows show a harm that hits one row in fifty (1 - .98**200 = .98); a thousand one in two hundred. At the last
    # step all of them are waited for, as behind it nothing limits whom a bad version reaches.
    min_rows: Annotated[int, Field(ge=1)] = 200
    promote_rows: Annotated[int, Field(ge=1)] = 1_000
    # None are asked for: labels may come days after the rows, and a model without labels must be able to roll out.
    min_labels: Annotated[int, Field(ge=0)] = 0
    # The chance that a canary as good as its champion is rolled back, all guardrails and looks together; and that one
    # beyond its margin is promoted: a convention. A tenth of it asks for three quarters more rows (log 1 / alpha).
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    promote_alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    # Labels are late in most places; where they are not in, the gate's word counts for them once serving is proven.
    promote_on: Literal["rows", "labels"] = "rows"
    # Half more failures is what a promotion may miss: told after some 400 failures, where a quarter more takes 1 500.
    promote_margin: Annotated[float, Field(gt=1.0, le=10.0)] = 1.5
    guardrails: dict[Guardrail, GuardrailSettings] = Field(default_factory=dict)
    queries: dict[Name, QuerySettings] = Field(default_factory=dict)
    # Rows that are independent: each counts as one.
    design_effect: Annotated[float, Field(ge=1.0)] = 1.0
    # Twice the odds: below it entities of uneven traffic would stop honest rollouts.
    share_tolerance: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0
    # A week holds a weekend; a canary that proved nothing by then is a matter for a person.
    max_duration: Duration = 7 * 86_400_000
    # What was not shown to be no worse goes back.
    on_timeout: TimeoutAction = TimeoutAction.ROLL_BACK
    # The loop closes at night; whoever wants a person's word first says so.
    approval: bool = False
    # The champion of before stays ready for as many rows as the promotion asked for, and for an hour: what a version
    # does to its own inputs (caches, people who answer it) begins to show within one; a day is right where they answer
    # late.
    probation_rows: Annotated[int, Field(ge=0)] = 1_000
    probation: Duration = 3_600_000
    # Three times the wrong decisions is what a confirmation may miss: the gate compared both on the same rows, what is
    # left to find is a fault of serving. Told after 60 wrong decisions; 1.5 would wait for 400.
    probation_margin: Annotated[float, Field(gt=1.0, le=100.0)] = 3.0
    # Two weeks outlast labels that a person gives; chargebacks need more. Until then the model takes no
    # other candidate, which is why it ends at all.
    probation_max: Duration = 14 * 86_400_000
    # What the old champion goes on answering until the promotion is confirmed. Two of a hundred see the older answers a
    # while longer, and a fault of the new version shows beside the same minutes' traffic; at half of it a doubled error
    # rate takes twice as long to see, at a tenth of the traffic the better version is kept from many. 0: none.
    holdback: Annotated[float, Field(ge=0.0, le=0.5)] = 0.02
    # None: a model that is retrained after a change has to decide otherwise, how often depends on the change. Set it
    # where a flood of new decisions is a harm by itself, as alerts that people work off.
    most_flips: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    # A router without its controller is back on the champion after it; renewed every third, so that two renewals may
    # fail. Kafka's leader changes take up to ten seconds, which one third survives.
    lease: Duration = 30_000

    @model_validator(mode="after")
    def _ramp(self) -> Self:
        # As the whole basis points that they become: less than one would be none, all of them leave no champion to
        # compare with, and two that become the same are one step.
        weights = [round(step * BUCKETS) for step in self.steps]
        if any(not 1 <= weight < BUCKETS for weight in weights):
            raise ValueError(f"steps: {list(self.steps)} must be shares of at least 0.0001 and below 1, e.g. 0.05")
        if weights != sorted(set(weights)):
            raise ValueError(
                f"steps: {list(self.steps)} must rise, by 0.0001 at least; a lower weight is a rollback, not a step"
            )
        for name, rail in self.guardrails.items():
            if rail.slower_by is not None and name is not Guardrail.LATENCY:
                raise ValueError(f"guardrails.{name}.slower_by: it is of latency alone; leave it out")
        if self.max_duration < self.step_duration * len(self.steps):
            raise ValueError(
                f"max_duration: {self.max_duration} ms is shorter than {len(self.steps)} steps of "
                f"{self.step_duration} ms; raise max_duration or shorten step_duration"
            )
        if self.probation_max < self.probation:
            raise ValueError(
                f"probation_max: {self.probation_max} ms is shorter than probation: {self.probation} ms; raise it"
            )
        if 0.0 < self.holdback < 1.0 / BUCKETS:
            raise ValueError(f"holdback: {self.holdback} is below 0.0001, the least weight; write 0 for none")
        if self.lease < 1_000:
            raise ValueError(f"lease: {self.lease} ms is below 1s; the controller could not renew it in time")
        return self

    def policy(self, *, labels_expected: bool = False) -> Policy:
        """Return these settings as the pure core takes them: basis points and milliseconds.

        ``labels_expected`` says that the model's labels come on a topic.
        """
        rails = {**_DEFAULTS, **self.guardrails}
        return Policy(
            steps_bp=tuple(round(step * BUCKETS) for step in self.steps),
            step_ms=self.step_duration,
            min_rows=self.min_rows,
            promote_rows=self.promote_rows,
            min_labels=self.min_labels,
            alpha=self.alpha,
            promote_alpha=self.promote_alpha,
            promote_on_labels=self.promote_on == "labels",
            promote_margin=self.promote_margin,
            guardrails={name: _guardrail(name, rail) for name, rail in rails.items()},
            design_effect=self.design_effect,
            share_tolerance=self.share_tolerance,
            max_ms=self.max_duration,
            on_timeout=self.on_timeout,
            approval=self.approval,
            probation_rows=self.probation_rows,
            probation_ms=self.probation,
            probation_margin=self.probation_margin,
            probation_max_ms=self.probation_max,
            holdback_bp=round(self.holdback * BUCKETS),
            labels_expected=labels_expected,
            most_flips=self.most_flips,
            queries={name: query.policy() for name, query in self.queries.items()},
        )


def _guardrail(name: Guardrail, rail: GuardrailSettings) -> GuardrailPolicy:
    floor = rail.floor if rail.floor is not None else _DEFAULTS[name].floor
    slower = rail.slower_by if rail.slower_by is not None else _DEFAULTS[name].slower_by
    return GuardrailPolicy(rail.action, rail.margin, floor or 0.0, slower or 0)


class TargetSettings(Settings):
    """A serving platform that follows the rollouts.

    ``kind`` is ``router`` (our own server; ``url`` defaults to that of ``serve``), ``http`` (the team's own), the name
    of one of docs/targets.md or of an installed extension, or its import path ``package.module:Class``. ``options``
    are the kind's own, ``models`` those that it serves; left out it serves all.
    ``token`` is sent as a bearer token (to ``router`` that of ``http``, left out); ``ca_file`` checks its
    certificate, left out the system's do.
    """

    kind: Annotated[str, Field(min_length=1, max_length=200)] = "router"
    url: str | None = None
    # Below a third of the lease, so that a slow target does not cost its renewal.
    timeout: Annotated[Duration, Field(ge=100)] = 2_000
    token: Credential | None = None
    ca_file: Path | None = None
    models: tuple[Name, ...] | None = None
    options: dict[str, str | int | float | bool] = {}

    @model_validator(mode="after")
    def _hide_options(self) -> Self:
        remember_named(self.options)
        return self


class ServeSettings(Settings):
    """The reference model server: where it listens, what it keeps and what it refuses."""

    # This machine alone: another address needs access control first.
    host: str = "127.0.0.1"
    # The port that model servers listen on by habit; 0 takes a free one.
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    cache_dir: Path = Path(".stationkeeper/models")
    # Whoever asks twice is answered by one version.
    sticky: Literal["entity_id", "event_id"] = "entity_id"
    # A mistyped name would be scored as if the value were not known.
    missing: Literal["refuse", "null"] = "refuse"
    # What was answered is counted; it costs each answer a round trip to the broker.
    ack: Literal["produced", "queued"] = "produced"
    # A request: 10 000 rows of 40 numbers of full precision (20 bytes each) as JSON fit in 8 MiB; a larger one holds a
    # worker for seconds.
    max_body_bytes: Annotated[int, Field(ge=1_024)] = 8 * 1024 * 1024
    max_rows: Annotated[int, Field(ge=1)] = 10_000
    # Chosen: 100 MB of events of a kB, a minute of a broker's absence at some 1 700 answers a second.
    max_pending_rows: Annotated[int, Field(ge=1)] = 100_000
    # How long an answer waits for the log at most (`ack: produced`), and how old a waiting one makes us unready.
    # A healthy broker acknowledges in milliseconds and changes a leader within a second; a caller who waits 15 s has
    # gone, and half a second would refuse answers at every change of a leader.
    produce_timeout: Duration = 2_000
    linger: Duration | None = None
    # What takes the least processor time of those that shrink: the answers are given on the same cores.
    compression: Literal["lz4", "zstd", "none"] = "lz4"
    # A producer in Python works on the core that answers, and holds requests up in bursts.
    client: Literal["auto", "kafka-python", "librdkafka"] = "auto"
    # One scores while the other parses and answers; more only help with more processors.
    workers: Annotated[int, Field(ge=1, le=64)] = 2

    @property
    def linger_ms(self) -> int:
        """Return how long answers wait for others to share a write: ``linger``, or what suits ``ack``."""
        if self.linger is not None:
            return self.linger
        # With `produced` it is part of each answer's time. With `queued` nobody waits: a write costs the requests
        # beside it more than a record does, and many records hold them up longer; 25 ms had the lowest 99th percentile
        # of 5, 10, 25, 50 and 100 over librdkafka. A process that is killed loses so much of its log.
        return 5 if self.ack == "produced" else 25
