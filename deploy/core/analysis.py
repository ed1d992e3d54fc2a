"""The comparison of two versions that somebody else's controller ramps: closed minutes in, a verdict out.

The evidence is that of our own rollouts, so it may be looked at as often as anyone likes. Weights are not needed: each
minute is compared by the share that it really had.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stationkeeper.deploy.core.comparison import applies, harm_limit, log_e, seen_ratio, weigh
from stationkeeper.deploy.core.minutes import Minute, arm
from stationkeeper.deploy.core.policy import Action, Policy
from stationkeeper.deploy.core.promotion import promote_limit, wanted
from stationkeeper.deploy.core.reasons import Because, Reason, because
from stationkeeper.deploy.core.rollout import harm_found
from stationkeeper.deploy.core.state import Controller, StepLog

# Labels are compared within the predictions of one hour: in it both arms' labels are alike old, and a ramp of minutes
# would leave too few of them to bet on. A day would compare a canary's young labels with a champion's old ones.
_LABEL_SPAN = 60 * 60_000


class Judgement(StrEnum):
    """What a controller does next, in the words of Argo Rollouts: go on, undo, or neither."""

    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True, slots=True)
class CanaryFinding:
    """A judgement with its reason, and the numbers of each guardrail."""

    judgement: Judgement
    because: Because
    champion: str | None = None
    canary: str | None = None
    since: int | None = None
    minutes: int = 0
    rows_champion: int = 0
    rows_canary: int = 0
    guardrails: Sequence[dict[str, Any]] = ()


def pair(minutes: Sequence[Minute], champion: str | None, canary: str | None) -> tuple[str | None, str | None]:
    """Return the two versions to compare; what is None is found.

    The canary is whichever version of the newest minute appeared last, of two that appeared together the one that had
    fewer rows then; the champion is the one with most rows beside it.
    """
    shared = [one for one in minutes if len(_known(one)) > 1]
    if not shared:
        return champion, canary
    newest, first = (
        _known(shared[-1]),
        {version: (one.start, -arm(one, version).rows) for one in reversed(minutes) for version in _known(one)},
    )
    if canary is None:
        canary = max((one for one in newest if one != champion), key=lambda one: first[one], default=None)
    if champion is None:
        rows = {version: arm(shared[-1], version).rows for version in newest if version != canary}
        champion = max(rows, key=lambda one: rows[one], default=None)
    return champion, canary


class CanaryComparison:
    """The evidence on one canary against its champion, minute by minute."""

    def __init__(self, champion: str, canary: str, policy: Policy) -> None:
        self.champion, self.canary = champion, canary
        self._policy = policy
        self._state, self._minutes, self._since = Controller(), 0, 0
        self._rows_a = self._rows_b = 0

    def add(self, minute: Minute) -> None:
        """Weigh a closed minute; one that is not newer than the last is left out."""
        if minute.end <= self._state.clock:
            return
        a, b = arm(minute, self.champion).rows, arm(minute, self.canary).rows
        state = self._state.model_copy(update={"clock": minute.end})
        if a and b:
            self._since = self._since or minute.start
            self._minutes += 1
            self._rows_a, self._rows_b = self._rows_a + a, self._rows_b + b
            hour = minute.start - minute.start % _LABEL_SPAN
            if not state.steps or state.steps[-1].started != hour:
                closed = state.with_step(ended=hour) if state.steps else state
                step = StepLog(weight_bp=0, started=hour, settled=hour)
                state = closed.model_copy(update={"steps": (*closed.steps, step)})
        if (a and b) or minute.outcomes:
            state = weigh(state, minute, self.champion, self.canary, self._policy)
        self._state = state

    def finding(self, *, labels: bool) -> CanaryFinding:
        """Return the verdict so far; ``labels`` says that success rests on labelled rows, too."""
        judgement, why = self._judged(labels=labels)
        return CanaryFinding(
            judgement,
            why,
            self.champion,
            self.canary,
            self._since or None,
            self._minutes,
            self._rows_a,
            self._rows_b,
            tuple(self._shown()),
        )

    def _judged(self, *, labels: bool) -> tuple[Judgement, Because]:
        state, policy = self._state, self._policy
        if not self._minutes:
            seen = "none"
            return Judgement.INCONCLUSIVE, because(
                Reason.NOT_COMPARED, champion=self.champion, canary=self.canary, seen=seen
            )
        harm = harm_found(state, policy)
        if harm:
            failed = harm[0] is Action.ROLL_BACK
            return Judgement.FAILED if failed else Judgement.INCONCLUSIVE, harm[1]
        if self._rows_b < policy.promote_rows:
            return Judgement.INCONCLUSIVE, because(Reason.TOO_FEW_ROWS, rows=self._rows_b, needed=policy.promote_rows)
        proofs = [one for one in wanted(state, policy) if labels or one.name != "wrong"]
        if not proofs:
            return Judgement.INCONCLUSIVE, because(Reason.NOTHING_TO_SHOW)
        least, limit = proofs[0], promote_limit(policy)
        numbers = {"guardrail": least.name, "e": _exp(least.log_e), "limit": _exp(limit), "margin": least.margin}
        if least.log_e < limit:
            why = because(Reason.NOT_YET_NONINFERIOR, risk=least.as_good, why="", **numbers)
            return Judgement.INCONCLUSIVE, why
        names = ", ".join(sorted(one.name for one in proofs))
        return Judgement.SUCCESSFUL, because(Reason.NONINFERIOR, guardrails=names, rows=self._rows_b, **numbers)

    def _shown(self) -> Iterator[dict[str, Any]]:
        calm = {one.name: one for one in wanted(self._state, self._policy)}
        for name, rail in self._policy.guardrails.items():
            if not applies(self._state, name):
                continue
            shown: dict[str, Any] = {
                "name": name.value,
                "action": rail.action.value,
                "harm": _exp(log_e(self._state, name, self._policy)),
                "harm_limit": _exp(harm_limit(self._policy)),
                "ratio": seen_ratio(self._state, name),
            }
            if name in calm:
                shown |= {"noninferior": _exp(calm[name].log_e), "noninferior_limit": _exp(promote_limit(self._policy))}
            yield shown


def nothing(reason: Because, champion: str | None = None, canary: str | None = None) -> CanaryFinding:
    """Return that there is nothing to judge by: no success, and no failure either."""
    return CanaryFinding(Judgement.INCONCLUSIVE, reason, champion, canary)


def _known(minute: Minute) -> list[str]:
    return [version for version, counts in minute.arms.items() if counts.rows]


def _exp(log_value: float) -> float:
    # Beyond, a float is infinite, which is no JSON.
    return math.exp(min(log_value, 700.0))
