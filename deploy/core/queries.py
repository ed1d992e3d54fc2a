"""Guardrails that the team asks of its own Prometheus: answers in, and what they say of the canary out.

An answer within its bounds is Successful, one beyond them Failed; no number is Inconclusive, no answer an Error. The
last two are neither success nor failure: the weight waits, and the deadline of the rollout decides.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from stationkeeper.deploy.core.policy import Action, Policy, QueryPolicy
from stationkeeper.deploy.core.reasons import Because, Reason, because
from stationkeeper.deploy.core.state import Controller, LastAnswer

# Minutes that may close after an answer until it is none. It comes once a minute, and after up to two where each query
# takes its timeout; a backlog closes more of them than it takes in answers. By minutes and not by a clock: where they
# close each half hour, or hours of a replayed stream in a second, no age in milliseconds says whether one was missed.
_FRESH_MINUTES = 3
# Milliseconds of the wall clock after which nobody had asked for as long as an answer would have lasted.
UNASKED_MS = _FRESH_MINUTES * 60_000


class QueryOutcome(StrEnum):
    """What one answer says, in the words of Argo Rollouts."""

    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """A number, or why there is none: ``error`` where nobody answered, else the answer held no single number.

    ``asker`` and ``turn`` say which question it answers: of one asker the turns rise. Without them it is none that
    could be given twice.
    """

    value: float | None
    error: str = ""
    asker: str = ""
    turn: int = 0

    def follows(self, last: LastAnswer) -> bool:
        """Return whether it is not counted yet. It is given again where a commit's own answer was lost.

        By turns and not by a clock, which a host may set back: for that long no failure would count. Of a process that
        was replaced nothing is given again.
        """
        return not self.asker or self.asker != last.asker or self.turn > last.turn


def outcome(answer: QueryAnswer, query: QueryPolicy) -> QueryOutcome:
    """Return what an answer says. By hand: .02 where ``at_most`` is .01 is Failed, NaN (0 / 0) Inconclusive."""
    if answer.error:
        return QueryOutcome.ERROR
    if answer.value is None or math.isnan(answer.value):
        return QueryOutcome.INCONCLUSIVE
    low = -math.inf if query.at_least is None else query.at_least
    high = math.inf if query.at_most is None else query.at_most
    return QueryOutcome.SUCCESSFUL if low <= answer.value <= high else QueryOutcome.FAILED


def noted(state: Controller, policy: Policy, answers: Mapping[str, QueryAnswer]) -> Controller:
    """Return the memory with answers to queries of the policy; a query that left it is left out."""
    asked = dict(state.asked)
    for name, answer in answers.items():
        query = policy.queries.get(name)
        if query is None:
            continue
        said, before = outcome(answer, query), _answer(state, name, query) or LastAnswer()
        if not answer.follows(before):
            continue
        # What could not be measured adds to no row of failures and ends it only where it comes again and again; minutes
        # that close do neither, as a backlog closes hundreds between two answers that are a minute apart.
        unmeasured = before.unmeasured + 1 if said in {QueryOutcome.INCONCLUSIVE, QueryOutcome.ERROR} else 0
        failed = before.failed if unmeasured <= _FRESH_MINUTES else 0
        if said is QueryOutcome.FAILED:
            failed += 1
        elif said is QueryOutcome.SUCCESSFUL:
            failed = 0
        # Infinite is no JSON number: it is told in words.
        finite = answer.value is not None and math.isfinite(answer.value)
        shown = answer.value if finite else None
        words = answer.error or ("no single number" if answer.value is None else f"{answer.value:g}")
        asked[name] = LastAnswer(
            outcome=said.value,
            value=shown,
            said=words,
            failed=failed,
            unmeasured=unmeasured,
            at=state.clock,
            asks=query.asks,
            asker=answer.asker,
            turn=answer.turn,
        )
    return state.model_copy(update={"asked": asked})


def aged(state: Controller) -> Controller:
    """Return the memory with one minute more closed since its answers."""
    asked = {name: last.model_copy(update={"closed": last.closed + 1}) for name, last in state.asked.items()}
    return state.model_copy(update={"asked": asked}) if asked else state


def resumed(state: Controller) -> Controller:
    """Return the memory as one goes on from it who does not know for how long nobody asked.

    No answer says anything of now, and failures of before stand in no row with one of now: it may have been a night.
    """
    old = {"closed": _FRESH_MINUTES + 1, "failed": 0}
    return state.model_copy(update={"asked": {name: last.model_copy(update=old) for name, last in state.asked.items()}})


def _answer(state: Controller, name: str, query: QueryPolicy) -> LastAnswer | None:
    """Return the last answer to this very query: one by the same name may have had another address or other bounds."""
    last = state.asked.get(name)
    return last if last is not None and last.asks == query.asks else None


def failing(state: Controller, policy: Policy) -> Iterator[tuple[Action, Because]]:
    """Yield each acting query that failed as often in a row as it may not, with what it does."""
    for name, query in policy.queries.items():
        last = _answer(state, name, query)
        # However many minutes closed since: in a backlog a canary that is held would go on after each answer, and be
        # held again at the next.
        if last is None or query.action is Action.INFORM or last.failed < query.failures:
            continue
        numbers = {"query": name, "said": last.said, "bounds": query.words(), "failed": last.failed}
        yield query.action, because(Reason.QUERY_FAILED, **numbers)


def unanswered(state: Controller, policy: Policy) -> Because | None:
    """Return which acting query has not been Successful in this step, None when all were at their last answer."""
    since = state.steps[-1].settled or 0
    for name, query in policy.queries.items():
        if query.action is Action.INFORM:
            continue
        last = _answer(state, name, query)
        # An answer from before traffic showed the weight, or of that minute, says nothing of it.
        if last is None or last.at <= since or last.closed > _FRESH_MINUTES:
            return because(Reason.QUERY_WAITED, query=name, outcome="nothing yet", said=f"wanted: {query.words()}")
        if last.outcome != QueryOutcome.SUCCESSFUL:
            return because(Reason.QUERY_WAITED, query=name, outcome=last.outcome, said=last.said)
    return None


def shown(name: str, query: QueryPolicy, state: Controller) -> dict[str, str]:
    """Return a query as a guardrail of the status, in words."""
    last = _answer(state, name, query)
    does = "informs" if query.action is Action.INFORM else f"{query.action.value} after {query.failures} in a row"
    said = f"{last.outcome}: {last.said}, {last.failed} failed in a row" if last else "not answered yet"
    return {"name": f"query {name}", "reason": f"{said}; wanted {query.words()}; {does}"}
