"""What each record that comes in does to the rollouts: candidates, approvals, verdicts and closed minutes."""

from collections.abc import Callable

from stationkeeper.contracts.messages import Approval, Candidate, Verdict
from stationkeeper.contracts.times import to_ms
from stationkeeper.contracts.topics import Topics
from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, PaneDelta, decode
from stationkeeper.deploy.controller.origins import Origins
from stationkeeper.deploy.controller.rollouts import Rollouts
from stationkeeper.deploy.core.admission import decide, disagreement, note_verdict, offer, queue, refuse_unknown
from stationkeeper.deploy.core.moves import Phase, Transition
from stationkeeper.deploy.core.reasons import Reason, because
from stationkeeper.deploy.core.state import memory

Known = Callable[[str], bool]


class DeployInputs:
    """Reads one record of an input topic and moves the rollout of its model; what is not about a rollout is left out.

    A record that cannot be read raises ``ValidationError`` or ``WireError`` before anything has moved. One that the
    model's own record says is taken in moves nothing: where a broker has lost the group's offsets they come again, and
    a minute would count twice, a word to take the canary back would take the champion back as well.
    """

    def __init__(self, topics: Topics, rollouts: Rollouts, origins: Origins) -> None:
        self._rollouts = rollouts
        self._origins = origins
        self._readers: dict[str, Callable[[bytes, Known], None]] = {
            topics.candidates.name: self._candidate,
            topics.history.name: self._history,
            topics.verdicts.name: self._verdict,
            topics.approvals.name: self._approval,
        }

    def read(self, topic: str, value: bytes, known: Known) -> bool:
        """Take in a record; ``known`` tells of a model whether its own record holds this one; returns if any did."""
        told: list[bool] = []

        def asked(model: str) -> bool:
            told.append(known(model))
            return told[-1]

        self._readers[topic](value, asked)
        return any(told)

    def _candidate(self, value: bytes, known: Known) -> None:
        candidate = Candidate.decode(value)
        if known(candidate.model):
            return
        rollout, policy = self._rollouts.records.get(candidate.model), self._rollouts.policies.get(candidate.model)
        if rollout is not None and candidate.model in self._rollouts.refused:
            why = because(Reason.ENTRY_REFUSED, what=f"candidate {candidate.id} waits", model=candidate.model)
            self._rollouts.apply(candidate.model, queue(rollout, candidate, to_ms(candidate.time), why))
            return
        if rollout is None or policy is None:
            # A wrong entry is one all the same: who is told to add it would look for what is there.
            configured = policy is not None or candidate.model in self._rollouts.refused
            self._rollouts.audit.append(refuse_unknown(candidate, configured=configured))
            return
        clock, offered = self._rollouts.clock(candidate.model), to_ms(candidate.time)
        # Beyond one step the candidate's time says little of this stream (a backlog, another clock): the stream's own
        # stays.
        if clock is not None and 0 < offered - clock <= policy.step_ms:
            # Minutes close behind the stream: the canary does not start before its gate was passed.
            clock = offered
        lookup = self._origins.of(candidate)
        now = clock or memory(rollout).clock
        if not lookup.known:
            why = because(Reason.AWAITING_REGISTRY, candidate=candidate.id, version=candidate.version)
            moved = queue(rollout, candidate, now or offered, why)
        # On the stream clock and before the first minute nobody knows the time: the candidate waits for one, unless it
        # is to be refused, which needs no clock.
        elif clock is None and rollout.phase is Phase.STEADY and disagreement(candidate, lookup.origin) is None:
            why = because(Reason.AWAITING_MINUTE, candidate=candidate.id)
            moved = queue(rollout, candidate, offered, why)
        else:
            moved = offer(rollout, candidate, policy, now or offered, lookup.origin)
        self._rollouts.apply(candidate.model, moved)

    def _approval(self, value: bytes, known: Known) -> None:
        approval = Approval.decode(value)
        rollout, model = self._rollouts.records.get(approval.model), approval.model
        if approval.target != "rollout" or rollout is None or known(model):
            return
        missing = because(Reason.NOT_CONFIGURED, model=model)
        if model in self._rollouts.refused:
            missing = because(Reason.ENTRY_REFUSED, what=f"{approval.decision} is refused", model=model)
        policy = self._rollouts.policies.get(model, missing)
        clock = self._rollouts.clock(model) or memory(rollout).clock or to_ms(approval.time)
        self._rollouts.advance(model, decide(rollout, approval, policy, clock), clock)

    def _verdict(self, value: bytes, known: Known) -> None:
        verdict = Verdict.decode(value)
        rollout = self._rollouts.records.get(verdict.model)
        if rollout is not None and not known(verdict.model):
            self._rollouts.apply(verdict.model, Transition(note_verdict(rollout, verdict)))

    def _history(self, value: bytes, known: Known) -> None:
        for record in decode(value):
            if not isinstance(record, ArmDelta | OutcomeDelta | PaneDelta) or known(record.model):
                continue
            if record.model in self._rollouts.policies:
                self._rollouts.minute(record)
