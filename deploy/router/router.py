"""The serving router: splits requests between champion and canary, answers them and logs every answer."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.metrics import Sample
from stationkeeper.deploy.core.split import BUCKETS, to_canary
from stationkeeper.deploy.router.answer_counts import AnswerCounts
from stationkeeper.deploy.router.answers import Answer, Arm, event_values
from stationkeeper.deploy.router.follower import RolloutsFollower
from stationkeeper.deploy.router.prediction_log import PredictionLog
from stationkeeper.deploy.router.refusals import Refusal, Refused
from stationkeeper.deploy.router.requests import Rows
from stationkeeper.deploy.router.traffic import Traffic, TrafficTable
from stationkeeper.deploy.settings import ServeSettings
from stationkeeper.registry import Answers, CardError, ServedModel
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.ports import Reader

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Served:
    """A request's answers in the order of its rows, and the future that says they are in the log."""

    answers: list[Answer]
    logged: Future[None]


@dataclass(frozen=True, slots=True)
class Scored:
    """Answers in the order of their rows, each arm's time (ms), and each arm's share while there are two."""

    answers: list[Answer]
    latency_ms: dict[Arm, float]
    probability: dict[Arm, float] | None


class ArmScoring:
    """Scores rows by the arm that answers them; an absent feature is refused or null, as ``serve.missing`` says."""

    def __init__(self, settings: ServeSettings) -> None:
        self._refuse_missing = settings.missing == "refuse"
        self._sticky = settings.sticky

    def scored(self, model: str, traffic: Traffic, rows: Rows, weight: int, *, shared: bool = False) -> Scored:
        """Return the answers of rows of which ``weight`` basis points go to the canary; raises ``Refused``.

        Rows of several callers are ``shared``: what a model raises is raised, where a caller's own rows would get null
        predictions.
        """
        start = time.perf_counter()
        answers: list[Answer | None] = [None] * len(rows)
        latency: dict[Arm, float] = {}
        for arm, served, picked in self._arms(traffic, self._canary_rows(rows, traffic, weight), len(rows)):
            got = self._arm(model, served, rows, picked, arm, shared=shared)
            latency[arm] = round((time.perf_counter() - start) * 1_000, 3)
            # The second arm's latency must not hold the first one's time: the arms are compared by it.
            start = time.perf_counter()
            order: Sequence[int] = range(len(rows)) if picked is None else picked
            for row, prediction, action in zip(order, got.predictions, got.actions, strict=True):
                answers[row] = Answer(rows.event_ids[row], prediction, served.version, arm, action)
        share = weight / BUCKETS
        probability: dict[Arm, float] | None = {"champion": 1 - share, "canary": share} if weight else None
        return Scored([one for one in answers if one is not None], latency, probability)

    def _canary_rows(self, rows: Rows, traffic: Traffic, weight: int) -> list[int]:
        if weight == 0:
            return []
        keys = rows.event_ids
        if self._sticky == "entity_id":
            # A row without an entity is its own unit; with an empty key all of those would go to one arm.
            keys = [entity or event for entity, event in zip(rows.entity_ids, rows.event_ids, strict=True)]
        picked: list[int] = to_canary(traffic.rollout.salt, keys, weight).nonzero()[0].tolist()
        return picked

    def _arms(
        self, traffic: Traffic, canary_rows: list[int], count: int
    ) -> list[tuple[Arm, ServedModel, list[int] | None]]:
        if not canary_rows or traffic.canary is None:
            return [("champion", traffic.champion, None)]
        if len(canary_rows) == count:
            return [("canary", traffic.canary, None)]
        taken = set(canary_rows)
        rest = [row for row in range(count) if row not in taken]
        return [("champion", traffic.champion, rest), ("canary", traffic.canary, canary_rows)]

    def _arm(
        self, model: str, served: ServedModel, rows: Rows, picked: list[int] | None, arm: Arm, *, shared: bool
    ) -> Answers:
        columns = {}
        for name in served.card.names:
            column = rows.column(name, picked)
            if column is None:
                # Only the champion's features are documented to callers: a canary that knows one more gets null, not
                # the callers an error.
                if arm == "champion" and self._refuse_missing:
                    where = f"instances[{rows.without(name)}].features.{name}"
                    raise Refused(
                        Refusal.MISSING_FEATURE, f"feature {name!r} is absent; send it, or null if unknown", where
                    )
                column = rows.padded(name, picked)
            columns[name] = column
        try:
            return served.answer(columns)
        except CardError as error:
            raise Refused(Refusal.WRONG_TYPE, str(error), f"features.{error.feature}") from None
        except Exception as error:
            if shared:
                raise
            _log.error(LogEvent.FATAL, model=model, version=served.version, error=str(error))
            count = len(rows) if picked is None else len(picked)
            return Answers([None] * count, [None] * count)


class Router:
    """Everything of ``serve`` but HTTP: split, score, log.

    ``topics`` names each model's predictions topic; ``rollouts`` is the compacted topic that decides; ``refused`` are
    models whose entry in the configuration is wrong: they are told so, and the others are served. Thread-safe:
    ``predict`` runs in the server's workers.
    """

    def __init__(
        self,
        settings: ServeSettings,
        topics: Mapping[str, str],
        rollouts: str,
        reader: Reader,
        log: PredictionLog,
        traffic: TrafficTable,
        refused: Sequence[str] = (),
    ) -> None:
        self.settings = settings
        self.left_alone = tuple(refused)
        self.traffic = traffic
        self._topics = dict(topics)
        self._follower = RolloutsFollower(reader, rollouts, tuple(topics), traffic)
        self._sink = log
        self._counts = AnswerCounts((*topics, *refused))
        self._scoring = ArmScoring(settings)

    @property
    def models(self) -> tuple[str, ...]:
        """The configured models."""
        return tuple(sorted(self._topics))

    def start(self) -> None:
        """Begin to follow the rollouts and to load models."""
        self.traffic.start()
        self._follower.start()

    def close(self) -> None:
        """Write what waits to be logged, stop following, let go.

        The log first: nobody is answered any more, each of the three may take five seconds and more, and answers are
        what a supervisor that loses patience would take along.
        """
        self._sink.close()
        self._follower.stop()
        self.traffic.close()
        self._follower.close()

    def readiness(self) -> list[str]:
        """Return why another server should be asked; empty when this one answers and logs what any server could.

        A model that no server can answer (without a champion, or with one that cannot be loaded) is told by its own
        readiness and metric: it would take the models beside it out of every load balancer.
        """
        reasons = {model: reason for model in self.models if (reason := self.missing(model)) is not None}
        # Before the log was read to its end nobody knows what is hopeless; a server that answers for none is no use.
        alone = self._follower.problem is None and len(reasons) < len(self.models)
        problems = [
            f"model {model}: {reason}"
            for model, reason in reasons.items()
            if not (alone and self.traffic.hopeless(model))
        ]
        unlogged = self._sink.problem()
        return [*problems, unlogged] if unlogged else problems

    def missing(self, model: str) -> str | None:
        """Return why a configured model cannot be answered, None where its champion is in memory."""
        # The traffic table's word comes last: it only knows the records read so far.
        missing = self.traffic.missing(model)
        # Before the end of the topic was reached nobody knows whether a champion is still to come.
        return missing and (self._follower.problem or missing)

    def card(self, model: str) -> ServedModel:
        """Return the champion of a model; raises ``Refused``."""
        return self._traffic(model).champion

    def one_version(self, model: str) -> bool:
        """Return whether all rows of a model go to its champion now."""
        traffic = self.traffic.get(model)
        return traffic is not None and traffic.weight_bp(self.traffic.now_ms()) == 0

    def predict(self, model: str, rows: Rows) -> Served:
        """Answer rows and hand them to the log; raises ``Refused``.

        Rows of the canary's entities go to the canary; a feature that only the canary knows is null to it, because
        the champion's card is what callers were told.
        """
        traffic = self._traffic(model)
        self._admit(rows)
        # Read once a request: a lease that lapses between two rows would give them different splits and probabilities.
        weight = traffic.weight_bp(self.traffic.now_ms())
        return self._log(model, rows, self._scoring.scored(model, traffic, rows, weight))

    def predict_together(self, model: str, requests: Sequence[Rows]) -> list[Served | Exception]:
        """Score several requests by one call of the champion and log each by itself; an exception is that one's alone.

        Raises, with nothing logged, when any of them cannot be answered this way, whosever fault it is.
        """
        traffic = self._traffic(model)
        if traffic.weight_bp(self.traffic.now_ms()):
            raise Refused(Refusal.NOT_READY, f"model {model} is compared with a canary; ask again")
        for rows in requests:
            self._admit(rows)
        scored = self._scoring.scored(model, traffic, Rows.joined(requests), 0, shared=True)
        replies: list[Served | Exception] = []
        begin = 0
        for rows in requests:
            end = begin + len(rows)
            try:
                replies.append(self._log(model, rows, replace(scored, answers=scored.answers[begin:end])))
            except Exception as error:  # noqa: BLE001 - others are in the log already: it is this request's answer
                replies.append(error)
            begin = end
        return replies

    def answered(self, model: str, served: Served, seconds: float) -> None:
        """Count answers that go out to their caller, so many seconds after the request came."""
        self._counts.answered(model, served.answers, seconds)

    def refused(self, model: str, reason: Refusal) -> None:
        """Count a refusal."""
        self._counts.refused(model, reason)

    def samples(self) -> list[Sample]:
        """Return served, refused and unlogged counts, weights and champions."""
        found = self._counts.samples()
        # The log counts by topic, the metric is by model: models that share a topic have one count, under the last.
        models = {topic: model for model, topic in self._topics.items()}
        for (topic, reason), count in sorted(self._sink.unlogged().items()):
            found.append(Sample("stationkeeper_predictions_unlogged_total", (models[topic], reason), count))
        # Of one without a record nobody says that it is to be served here: a team's own server may have it.
        named = {model: self.traffic.get(model) is not None for model in self.traffic.known()}
        named |= dict.fromkeys(self.left_alone, False)
        found += [Sample("stationkeeper_model_served", (model,), float(one)) for model, one in sorted(named.items())]
        for model in self.traffic.known():
            applied = self.traffic.get(model)
            if applied is None:
                continue
            found.append(Sample("stationkeeper_champion_info", (model, applied.champion.version), 1))
            if applied.canary is not None:
                ratio = applied.weight_bp(self.traffic.now_ms()) / BUCKETS
                found.append(Sample("stationkeeper_canary_weight_ratio", (model, applied.canary.version), ratio))
        return found

    def status(self) -> dict[str, Any]:
        """Return the splits, the counts and what is wrong, as JSON."""
        reasons, missing = self.readiness(), {model: self.missing(model) for model in self.models}
        return {
            "role": "serve",
            "ready": not reasons,
            "reasons": reasons,
            "refused": list(self.left_alone),
            "missing": {model: reason for model, reason in missing.items() if reason is not None},
            "models": [self.traffic.status(model) for model in self.traffic.known()],
            "served": self._counts.status(),
            "pending": self._sink.pending(),
        }

    def _traffic(self, model: str) -> Traffic:
        if model in self.left_alone:
            # Not what is wrong: the text may hold what stands in the configuration, and callers are strangers.
            why = "its entry in the configuration is refused; the log of serve and stationkeeper check say why"
            raise Refused(Refusal.NOT_READY, f"model {model}: {why}")
        if model not in self._topics:
            known = ", ".join(sorted(self._topics)) or "none"
            raise Refused(Refusal.UNKNOWN_MODEL, f"model {model!r} is not configured; known: {known}", "model")
        traffic = self.traffic.get(model)
        if traffic is None:
            raise Refused(Refusal.NOT_READY, f"model {model}: {self.missing(model) or 'loading, ask again'}")
        return traffic

    def _admit(self, rows: Rows) -> None:
        if not len(rows):
            raise Refused(Refusal.NO_ROWS, "the request has no rows; send at least one", "instances")
        if len(rows) > self.settings.max_rows:
            limit = self.settings.max_rows
            raise Refused(
                Refusal.TOO_MANY_ROWS, f"{len(rows)} rows, at most {limit}; send smaller batches", "instances"
            )
        # Asked before scoring: while the log is stuck a model's work would be thrown away with each refusal.
        if self.settings.ack == "produced" and (problem := self._sink.problem()):
            raise Refused(Refusal.NOT_LOGGED, f"{problem}; send the same event_id again")

    def _log(self, model: str, rows: Rows, scored: Scored) -> Served:
        values = event_values(model, rows, scored.answers, scored.latency_ms, scored.probability)
        try:
            # The event id is the key, so that an id that is sent again meets its first in one partition, where ids are
            # counted once.
            logged = self._sink.send(self._topics[model], [one.encode() for one in rows.event_ids], values)
        except Retryable as error:
            if self.settings.ack == "produced":
                raise Refused(Refusal.NOT_LOGGED, f"{error}; send the same event_id again") from error
            # The log has counted what it could not take; the caller gets the answer.
            logged = Future()
            logged.set_exception(error)
        return Served(scored.answers, logged)
