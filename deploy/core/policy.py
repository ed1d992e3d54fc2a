"""What a rollout is judged by, as plain values: steps, guardrails, limits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

# Rows that a weight may expose for each that was seen before: what the shipped ramp (1, 5, 25 %) does, so that at any
# traffic its own half hours are enough. With a fixed number alone a canary of 65 requests a minute waited twice the
# step at 5 %, and one of 134 three hours at 1 % where one of 133 went on. Of n rows without harm 3/n may still be
# harmful (95 %), so that at most fifteen rows of the next step are, at the traffic of this one.
GROWTH = 5
# How long a weight lasts where even at the busiest hour that was logged the next one exposes no more rows than a step
# may without being asked. Half an hour there shows some twenty rows, which the next weight shows in six minutes, while
# the old model answers all others.
IDLE_MS = 5 * 60_000
# Rows of the canary without which such a step lasts its whole time: that a version answers nothing, or only errors, is
# seen in a handful. By time alone one of a request a minute had half of all requests after a quarter of an hour, and
# two times of ten had not answered once. Chosen.
IDLE_ROWS = 5


class Guardrail(StrEnum):
    """The comparisons of canary and champion; each has its own e-process.

    ``errors``: null predictions. ``decisions``: positive decisions. ``latency``: answers slower than margin times a
    quantile of the champion's, against the champion's own beyond it. ``loss``: the model's loss on labelled rows.
    ``precision``: wrong among labelled rows that were decided positive. ``recall``: missed among rows labelled
    positive. ``scores``: any shift of the score distribution, which is expected of a retrained model.
    """

    ERRORS = "errors"
    DECISIONS = "decisions"
    LATENCY = "latency"
    LOSS = "loss"
    PRECISION = "precision"
    RECALL = "recall"
    SCORES = "scores"


LABELLED = frozenset({Guardrail.LOSS, Guardrail.PRECISION, Guardrail.RECALL})


class Action(StrEnum):
    """What evidence of harm does."""

    ROLL_BACK = "roll_back"
    HOLD = "hold"
    INFORM = "inform"


class TimeoutAction(StrEnum):
    """What happens when the longest duration passed without an answer; a promotion without one is a person's."""

    ROLL_BACK = "roll_back"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class GuardrailPolicy:
    """What harm does, and the ratio of bad rates (canary over champion) up to which there is none.

    A canary whose bad rate is below ``floor`` is good enough whatever the ratio; 0 is no floor. An answer is slow only
    where it takes ``slower_by_ms`` longer besides (latency alone).
    """

    action: Action
    margin: float
    # No floor: a rate that is compared only by its ratio says nothing where neither arm fails.
    floor: float = 0.0
    # The ratio alone: what a policy without the field was judged by.
    slower_by_ms: int = 0


@dataclass(frozen=True, slots=True)
class QueryPolicy:
    """The bounds of one query's answer, how many in a row may not lie beyond them, and what that does.

    ``asks`` tells it from another query of the same name: an answer to that one is none to this.
    """

    action: Action
    failures: int
    at_most: float | None = None
    at_least: float | None = None
    asks: str = ""

    def words(self) -> str:
        """Return the bounds for people."""
        bounds = {"at least": self.at_least, "at most": self.at_most}
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)


@dataclass(frozen=True, slots=True)
class Policy:
    """One model's rollout rules: weights in basis points, times in milliseconds of the declared clock.

    A step ``lasts`` its time, and until the canary had ``rows_before`` what the next weight exposes. A promotion needs
    ``promote_rows`` over all steps and evidence of every guardrail that acts. ``labels_expected`` says that the
    model's labels come on a topic: then a promotion is confirmed by labels alone, within ``probation_margin``, at
    latest after ``probation_max_ms``. Until then the old champion keeps ``holdback_bp`` of the traffic. A
    candidate that changes more than ``most_flips`` of the logged decisions waits for a person. ``queries`` are asked of
    the team's Prometheus.
    """

    steps_bp: tuple[int, ...]
    step_ms: int
    min_rows: int
    promote_rows: int
    min_labels: int
    alpha: float
    promote_alpha: float
    promote_on_labels: bool
    promote_margin: float
    guardrails: Mapping[Guardrail, GuardrailPolicy]
    design_effect: float
    share_tolerance: float
    max_ms: int
    on_timeout: TimeoutAction
    approval: bool
    probation_rows: int
    probation_ms: int
    probation_margin: float
    probation_max_ms: int
    holdback_bp: int
    labels_expected: bool
    # No bound: what a policy without the field was judged by.
    most_flips: float | None = None
    queries: Mapping[str, QueryPolicy] = field(default_factory=dict)

    def next_weight(self, weight_bp: int) -> int | None:
        """Return the weight that follows one of the ramp, None at the last.

        By weight and not by the number of steps behind: the steps may have been edited since, and then the ramp goes on
        to the next that is configured now, e.g. from 5000 to 8000 where .5 became .8, and 2500 is last where none above
        it is left.
        """
        return next((step for step in self.steps_bp if step > weight_bp), None)

    def lasts(self, exposed: float, rows: float) -> int:
        """Return the milliseconds of a step with ``rows`` of the canary in it so far.

        Its next weight gives the canary at most ``exposed`` rows in one step.
        """
        idle = exposed <= self.min_rows and rows >= IDLE_ROWS
        return min(self.step_ms, IDLE_MS) if idle else self.step_ms

    def rows_before(self, exposed: float) -> int:
        """Return how many rows the canary must have had before a weight that gives it ``exposed`` rows in one step.

        A share of ``1 / GROWTH`` of what follows, ``min_rows`` at most; none where no more than ``min_rows`` follow.
        By hand, of 200: before 200 rows none, before 500 rows 100, before 1 000 rows and more 200.
        """
        return 0 if exposed <= self.min_rows else math.ceil(min(self.min_rows, exposed / GROWTH))

    def rail_alpha(self) -> float:
        """Return the error each acting guardrail may make: alpha split evenly over those that roll back or hold."""
        acting = sum(rail.action is not Action.INFORM for rail in self.guardrails.values())
        return self.alpha / max(acting, 1)

    def calm_margin(self, name: Guardrail) -> float:
        """Return the ratio below which a canary is no worse: ``promote_margin``, or the wider one of the guardrail.

        Of a latency, which scatters more than failures do, it is the product of both.
        """
        margin = self.guardrails[name].margin
        return margin * self.promote_margin if name is Guardrail.LATENCY else max(self.promote_margin, margin)
