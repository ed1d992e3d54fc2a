"""The one request policy: after which incident a model asks for retraining, how often, and what holds it back.

The trainer that takes a request up adds nothing to this: it keeps a request from running twice, asks for evidence and
stops after repeated failure (`retrain.core.plan`). Whoever asks by hand, through ``requests``, is not bound by it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stationkeeper.contracts.identity import request_id
from stationkeeper.contracts.messages import RetrainRequest, Rollout, RolloutPhase, Verdict, VerdictKind
from stationkeeper.contracts.state import State, replaced
from stationkeeper.contracts.times import format_duration, to_datetime
from stationkeeper.monitor.core.incidents.incident import Incident
from stationkeeper.monitor.core.incidents.verdict import onset_of
from stationkeeper.monitor.core.reasons import Cause

# What a new model can mend. Broken data and skew between training and serving it would only learn.
CURABLE = frozenset(
    {VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT, VerdictKind.PERFORMANCE, VerdictKind.CONCEPT_DRIFT}
)

# What is new and need not be worse.
NOVELTY = frozenset({VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT})

# An incident that was held back is looked at again after half an hour of one-minute panes: often enough to use the end
# of a cooldown or a rollout, seldom enough that the count of refusals stays readable.
RETRY_PANES = 30

# Answers kept for the status page and against asking twice: a model has a few incidents a month, so this is years of
# them, in some 20 kB of state.
KEPT = 100

# A request that led to no rollout within a day is taken for lost or refused, and no longer holds others back: an
# honest one trains within hours, and waiting for ever would end retraining with one lost message.
LOST_AFTER_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class IncidentHarm:
    """What an incident costs as a request carries it, and why that is no reason to ask, "" where it is one."""

    holds_back: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


# Where nobody weighs harm, as in what asks by age, nothing holds back.
UNWEIGHED = IncidentHarm()


@dataclass(frozen=True, slots=True)
class RequestRules:
    """``cooldown`` after any request, at most ``most`` in ``period``; a pane is ``pane`` long; times in ms.

    ``when`` says which incidents ask: with ``drift`` all that a new model may cure; with ``harm`` and ``pays`` drift of
    inputs and predictions only where the caller found what it costs (`consider`); with ``schedule`` none.
    """

    # The values of ``monitor.settings``, where their reasons stand; whoever has settings hands all of them over.
    cooldown: int = 6 * 3_600_000
    most: int = 4
    period: int = 7 * 86_400_000
    enabled: bool = True
    # The pane's default length, a minute.
    pane: int = 60_000
    when: Literal["drift", "harm", "pays", "schedule"] = "drift"


class RequestAnswer(State, frozen=True, array_like=True):
    """What became of an incident: ``again`` is when it may ask once more, 0 for never, and ``verdict`` with what.

    ``same_cause`` is set where an incident that began with this one has asked for both. Older builds stored these by
    position, so new fields come last.
    """

    outcome: Literal["published", "suppressed"]
    reason: str
    request: str = ""
    again: int = 0
    verdict: str = ""
    same_cause: bool = False


class RequestTimes(State, frozen=True):
    """When requests were made, and the incidents that have theirs, the latest last."""

    asked: list[int] = []
    answered: list[str] = []


class RequestPolicyState(State, frozen=True):
    """What a policy keeps between runs; ``message`` is the outstanding request, so that it can be withdrawn."""

    desk: RequestTimes
    asked: dict[str, RequestAnswer]
    counts: dict[str, int]
    outstanding: tuple[str, int] | None = None
    message: str = ""


class RequestPolicy:
    """One model's requests: at most one an incident ever, by cooldown, budget and what is in work; `now` in ms."""

    def __init__(self, rules: RequestRules) -> None:
        self._rules = rules
        self._times: list[int] = []
        self._answered: list[str] = []
        self._outstanding: tuple[str, int] | None = None
        self._message = ""
        self._answers: dict[str, RequestAnswer] = {}
        self.counts: dict[str, int] = {}

    def answer(self, incident: str) -> RequestAnswer | None:
        """Return what became of an incident, None where it never asked."""
        return self._answers.get(incident)

    def _answer(self, incident: str, answer: RequestAnswer) -> None:
        """Keep an answer as the latest, and the latest ``KEPT`` of them: here, so that a restart forgets no other."""
        self._answers.pop(incident, None)
        self._answers[incident] = answer
        while len(self._answers) > KEPT:
            del self._answers[next(iter(self._answers))]

    def note_same_cause(self, incident: Incident, cause: Incident) -> None:
        """Note that an incident began with another one, which asks for both."""
        reason = f"began with {cause.id}: one cause, one request"
        self._answer(incident.id, RequestAnswer(outcome="suppressed", reason=reason, same_cause=True))

    def consider(
        self,
        incident: Incident,
        verdict: Verdict,
        *,
        now: int,
        rollout: Rollout | None = None,
        harm: IncidentHarm = UNWEIGHED,
        broken: str = "",
    ) -> RetrainRequest | None:
        """Return the request of an incident, or None with the reason kept as its answer.

        ``rollout`` is the model's state in production: while a version moves out, nothing is asked for. ``broken`` is
        why no model may be trained now, that of another incident which is about broken data.
        """
        if not self._rules.enabled:
            off = "requests.enabled is false for this model"
            self._answer(incident.id, RequestAnswer(outcome="suppressed", reason=off))
            return None
        reason = self._refusal(incident, now, rollout, harm, broken)
        outcome: Literal["published", "suppressed"] = "suppressed" if reason else "published"
        known = self._answers.get(incident.id)
        if known is None or known.outcome != outcome:
            self.counts[outcome] = self.counts.get(outcome, 0) + 1
        if reason:
            # Broken data stay broken for this incident: it never asks.
            again = 0 if incident.refusal else now + RETRY_PANES * self._rules.pane
            told = verdict.encode().decode()
            self._answer(incident.id, RequestAnswer(outcome=outcome, reason=reason, again=again, verdict=told))
            return None
        request = _request(incident, verdict, now, harm)
        self._times.append(now)
        self._answered = [*self._answered, incident.id][-KEPT:]
        self._answer(incident.id, RequestAnswer(outcome=outcome, reason="published", request=request.id))
        self._message = request.encode().decode()
        self._outstanding = (request.id, now)
        return request

    def consider_again(
        self,
        incidents: Iterable[Incident],
        *,
        now: int,
        rollout: Rollout | None = None,
        harm: Callable[[Incident], IncidentHarm] = lambda _: UNWEIGHED,
        broken: str = "",
    ) -> list[RetrainRequest]:
        """Return the requests of open incidents that were held back and may ask now; ``harm`` weighs each of them."""
        found = []
        for incident in incidents:
            known = self._answers.get(incident.id)
            if known is None or not known.again or now < known.again:
                continue
            opening = Verdict.decode(known.verdict.encode())
            weighed = harm(incident)
            request = self.consider(incident, opening, now=now, rollout=rollout, harm=weighed, broken=broken)
            found += [] if request is None else [request]
        return found

    def withdraw(
        self, why: str, incident: str | None = None, *, rollout: Rollout | None = None
    ) -> RetrainRequest | None:
        """Return the request that is in work, withdrawn: that of ``incident``, or any; None if there is none.

        It is the published one with the reason in ``withdrawn``: the trainer drops it unless it trains already. One
        whose candidate is in a ``rollout``, or came out of one, has nothing left to take back.
        """
        if self._outstanding is not None and rollout is not None and rollout.request == self._outstanding[0]:
            self._outstanding, self._message = None, ""
        asked = self._outstanding
        name = next((n for n, one in self._answers.items() if asked is not None and one.request == asked[0]), None)
        # Without a message a build asked that could not withdraw.
        if name is None or incident not in {None, name} or not self._message:
            return None
        request = RetrainRequest.decode(self._message.encode()).model_copy(update={"withdrawn": why})
        self._outstanding, self._message = None, ""
        self._answers[name] = replaced(self._answers[name], reason=f"withdrawn: {why}")
        self.counts["withdrawn"] = self.counts.get("withdrawn", 0) + 1
        return request

    def _refusal(self, incident: Incident, now: int, rollout: Rollout | None, harm: IncidentHarm, broken: str) -> str:
        """Why not, in the order in which a person wants to know it: what never changes comes first."""
        rules = self._rules
        if incident.refusal:
            return incident.refusal
        if incident.cause is Cause.FAIRNESS:
            # Nor does it hold others back: the next model may as well decide better.
            return "segments meet different decisions: a model trained on the same rows would decide alike; ask by hand"
        if incident.kind not in CURABLE:
            return f"{incident.kind} does not start a retraining; retraining starts on {', '.join(sorted(CURABLE))}"
        if rules.when == "schedule" and incident.cause is not Cause.SCHEDULE:
            return "requests.when is schedule: no incident asks"
        if rules.when in {"harm", "pays"} and harm.holds_back:
            return f"requests.when is {rules.when}: {harm.holds_back}"
        if broken:
            return broken
        if incident.id in self._answered:
            return "this incident has its request"
        return self._held_back(now, rollout, cools=incident.cause is not Cause.MORE_ROWS)

    def _held_back(self, now: int, rollout: Rollout | None, *, cools: bool) -> str:
        """What passes: work that goes on, the cooldown, the budget.

        A follow-up waits for no cooldown: what the request before it led to has been promoted and tested, and rows that
        are four times as many are what a cooldown waits for.
        """
        rules = self._rules
        if work := self._in_flight(now, rollout):
            return f"{work} is still in work; one retraining of a model at a time"
        if cools and self._times and now - self._times[-1] < rules.cooldown:
            left = rules.cooldown - (now - self._times[-1])
            return f"cooldown: {format_duration(left)} left of {format_duration(rules.cooldown)}"
        within = sum(now - time < rules.period for time in self._times)
        if within >= rules.most:
            return f"budget: {within} requests in the last {format_duration(rules.period)}, at most {rules.most}"
        return ""

    def _in_flight(self, now: int, rollout: Rollout | None) -> str:
        if rollout is not None and rollout.phase is not RolloutPhase.STEADY:
            return f"the rollout of version {rollout.canary or rollout.champion} ({rollout.phase.value})"
        if self._outstanding is None:
            return ""
        request, asked = self._outstanding
        if (rollout is not None and rollout.request == request) or now - asked > LOST_AFTER_MS:
            self._outstanding, self._message = None, ""
            return ""
        return f"request {request}"

    def state(self) -> RequestPolicyState:
        """Return what ``restore`` needs."""
        times = RequestTimes(asked=self._times[-KEPT:], answered=list(self._answered))
        return RequestPolicyState(
            desk=times,
            asked=dict(self._answers),
            counts=self.counts,
            outstanding=self._outstanding,
            message=self._message,
        )

    def restore(self, state: RequestPolicyState) -> None:
        """Go on from what ``state`` gave."""
        self._times, self._answered = list(state.desk.asked), list(state.desk.answered)
        self._answers, self.counts = dict(state.asked), dict(state.counts)
        self._outstanding, self._message = state.outstanding, state.message


def _request(incident: Incident, verdict: Verdict, now: int, harm: IncidentHarm) -> RetrainRequest:
    evidence: dict[str, Any] = {**verdict.evidence, "reason": incident.reason, **harm.evidence}
    return RetrainRequest(
        id=request_id(incident.model, incident.version, incident.id),
        time=to_datetime(now),
        model=incident.model,
        version=incident.version,
        incident=incident.id,
        verdict=verdict.id,
        kind=incident.kind,
        cause=incident.cause,
        onset=onset_of(incident.onset),
        subjects=incident.subjects,
        reference=verdict.reference,
        evidence={**evidence, "effect": verdict.effect, "rows": verdict.rows},
    )
