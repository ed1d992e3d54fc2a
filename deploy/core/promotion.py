"""What a promotion and its confirmation rest on: evidence of non-inferiority, from whom it comes, what it lacks."""

import math
from dataclasses import dataclass

from stationkeeper.contracts.messages import GateOutcome
from stationkeeper.deploy.core.comparison import CONFIRM, WRONG, calm, log_e
from stationkeeper.deploy.core.evidence import as_good
from stationkeeper.deploy.core.policy import LABELLED, Action, Guardrail, Policy
from stationkeeper.deploy.core.queries import unanswered
from stationkeeper.deploy.core.state import Controller, Pool

# What a person is told to accept: a canary that fails twice as often is the least that nobody would want, and what the
# benchmark and the peers' examples are tried with.
TWICE = 2.0


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing to be shown: the e-value of "no worse than ``margin``", and what was seen of it."""

    name: str
    log_e: float
    margin: float
    seen: Pool

    @property
    def as_good(self) -> float:
        """Return how likely a canary that is twice as bad looks as good."""
        return as_good(self.seen.rows_a, self.seen.loss_a, self.seen.rows_b, self.seen.loss_b, TWICE)


def wanted(state: Controller, policy: Policy) -> list[Proof]:
    """Return what a promotion has to show, the least shown first.

    Each guardrail of unlabelled rows that acts; a shift of scores has no margin and is left out. Labels too, unless
    the gate judged them on logged rows and the target serves the model that it judged.
    """
    names = [
        name
        for name, rail in policy.guardrails.items()
        if rail.action is not Action.INFORM and name not in LABELLED and name is not Guardrail.SCORES
    ]
    found = [_proof(state, policy, name, calm(name), policy.calm_margin(name)) for name in names]
    if why_labels(state, policy):
        found.append(_proof(state, policy, WRONG, calm(WRONG), policy.promote_margin))
    # The least shown first: it is what people are told to wait for, and all must reach the limit.
    return sorted(found, key=lambda proof: proof.log_e)


def confirmation(state: Controller, policy: Policy) -> Proof | None:
    """Return what a confirmation still has to show by ripe labels; None when shown, or where none are expected."""
    # A process of its own: against the wider margin, as a promotion asked for the narrower one on other evidence.
    proof = _proof(state, policy, WRONG, CONFIRM, policy.probation_margin)
    return proof if policy.labels_expected and proof.log_e < promote_limit(policy) else None


def why_labels(state: Controller, policy: Policy) -> str:
    """Return why a promotion waits for labels of its own, empty where the gate's count for them."""
    if policy.promote_on_labels:
        return "promote_on is labels"
    if state.gate != GateOutcome.PASS:
        return "the gate had no evidence"
    return "" if state.proven else "no target shows that it serves the model that the gate scored"


def risks(state: Controller, policy: Policy) -> list[str]:
    """Return, in words, what a person accepts who promotes now: what is not shown, and how likely it hides harm."""
    found = [
        f"{proof.name}: a canary twice as bad would pass in {proof.as_good:.0%}"
        for proof in wanted(state, policy)
        if proof.log_e < promote_limit(policy)
    ]
    waited = unanswered(state, policy) if state.steps else None
    return [*found, waited.text] if waited else found


def promote_limit(policy: Policy) -> float:
    """Return the log e-value that shows non-inferiority; all must show it, so none has to share the error."""
    return -math.log(policy.promote_alpha)


def _proof(state: Controller, policy: Policy, name: str, process: str, margin: float) -> Proof:
    return Proof(name, log_e(state, process, policy), margin, state.sums.get(name, Pool()))
