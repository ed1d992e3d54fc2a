"""How long a rollout takes to decide at a model's traffic, failure rate and margins, before it begins."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stationkeeper.deploy.core.comparison import harm_limit
from stationkeeper.deploy.core.dispersion import LEAST, ROWS_TELL
from stationkeeper.deploy.core.evidence import (
    CALM,
    CALM_RATIO,
    HARM,
    HARM_RATIOS,
    Arms,
    Floats,
    Mixture,
    Stakes,
    calm_bets,
    log_bets,
    quiet,
)
from stationkeeper.deploy.core.moves import MINUTE
from stationkeeper.deploy.core.policy import IDLE_ROWS, Guardrail, Policy
from stationkeeper.deploy.core.promotion import promote_limit
from stationkeeper.deploy.core.split import BUCKETS

# Rollouts that a forecast plays: their median is within a tenth of that of thousands, and takes two seconds.
PLAYED = 101
# Standard deviation of entities' failure rates over their mean, and the squared one of how much they send, chosen as
# the benchmark's people: rates a half apart, and a tenth of the entities with most of the rows (lognormal, 1.5).
APART, HEAVY = 0.45, 8.5
# Far beyond what anybody lets a rollout run: by then the rows of an entity outweigh all that more of them could show. A
# tenth of it is short of what slow traffic takes, ten times as much lets who asks wait for many seconds.
LONG_MS = 90 * 24 * 60 * MINUTE


@dataclass(frozen=True, slots=True)
class Forecast:
    """Minutes of the declared clock until half of such rollouts have an answer; None where the deadline comes first.

    ``promoted`` is that of an equal canary, ``caught`` of one that fails ``ratio`` times as often.
    """

    promoted: int | None
    caught: int | None
    ratio: float
    deadline: int


def forecast(
    policy: Policy,
    per_minute: float,
    base: float,
    ratio: float,
    design_effect: float = 1.0,
    entities: int | None = None,
    *,
    by_request: bool = False,
) -> Forecast:
    """Forecast a rollout whose champion fails in ``base`` of its rows at ``per_minute`` rows a minute.

    Plays ``PLAYED`` rollouts with drawn failures through the bets that decide, always the same draws: the median of the
    time at which evidence first reaches its limit is not the time at which expected evidence does. ``design_effect`` is
    how many rows count as one. Of ``entities`` that keep their arm more and more rows do as time goes on
    (``_together``), so that with few of them no time is enough; where requests are split one by one (``by_request``)
    a handful only holds the first step until the rows show that. Within 30 % of the medians of
    benchmarks/rules/canary.py, to which a test holds it.
    """
    # Counts are drawn for spans and not for minutes: the evidence of a span is the sum of its minutes'.
    minutes = policy.max_ms // MINUTE
    kept = 0 if by_request else entities or 0
    told = ROWS_TELL if by_request and entities and handful(entities) else 0
    weights, last = _ramp(policy, per_minute, minutes, told)
    # Every minute at first, then steps of one per cent.
    ends = [1]
    while ends[-1] < minutes:
        ends.append(min(minutes, ends[-1] + max(1, ends[-1] // 100)))
    canary = np.diff(np.cumsum(weights)[np.array(ends) - 1], prepend=0.0) * per_minute
    champion = np.diff(np.array(ends), prepend=0) * per_minute - canary
    rail, counted = policy.guardrails[Guardrail.ERRORS], max(policy.design_effect, design_effect)

    def median(
        times: float, stakes: Stakes, bets: Callable[[Arms, bool], Floats], limit: float, since: int
    ) -> int | None:
        rng, found = np.random.default_rng(0), []
        for _ in range(PLAYED):
            lost_a = np.minimum(rng.poisson(champion * base), champion)
            lost_b = np.minimum(rng.poisson(canary * min(base * times, 1.0)), canary)
            mixture, at, rows, lost = Mixture(stakes), minutes + 1, 0.0, 0.0
            for end, *arms in zip(
                ends, champion.tolist(), lost_a.tolist(), canary.tolist(), lost_b.tolist(), strict=True
            ):
                one = Arms(*arms)
                mixture.bet(bets(one, quiet(rows, lost)))
                rows, lost = rows + one.rows_a + one.rows_b, lost + one.loss_a + one.loss_b
                effect = max(counted, _together(kept, rows, base)) if kept else counted
                if end >= since and mixture.log_e(effect) >= limit:
                    at = end
                    break
            found.append(at)
        middle = sorted(found)[PLAYED // 2]
        return middle if middle <= minutes else None

    def calm(arms: Arms, idle: bool) -> Floats:  # noqa: FBT001 - both take the same two
        return calm_bets(arms, policy.calm_margin(Guardrail.ERRORS), rail.floor, quiet=idle)

    def harm(arms: Arms, _idle: bool) -> Floats:  # noqa: FBT001 - both take the same two
        return log_bets(arms, rail.margin, HARM_RATIOS)

    promoted = median(1.0, CALM if rail.floor > 0.0 else CALM_RATIO, calm, promote_limit(policy), last)
    return Forecast(promoted, median(ratio, HARM, harm, harm_limit(policy), 0), ratio, minutes)


def in_time(policy: Policy, *given: Any, by_request: bool = False) -> Forecast:
    """Forecast the same with ninety days: what a deadline of hours cuts off says nothing of the entities."""
    return forecast(replace(policy, max_ms=max(policy.max_ms, LONG_MS)), *given, by_request=by_request)


def handful(entities: int) -> bool:
    """Return whether so many entities are a handful to the controller: both arms have each, and few send most.

    Split request by request they are forecast with a first step that is held until ``ROWS_TELL`` rows of the canary
    show it, as it is where each has hours of its own: an upper bound where they send alike all day. By hand: 100
    requests a minute, of which 5 % fail, of twenty tenants: minute 300; without that step minute 99, played 159.
    """
    return 2.0 * (entities / (1.0 + HEAVY) - 1.0) < LEAST


def _together(entities: int, rows: float, base: float) -> float:
    """Return how many of ``rows`` count as one: ``1 + (m - 1) rho``, of ``m`` rows each with a correlation ``rho``.

    Entities that send unequally count as fewer (Kish 1965). By hand: 20 people, 95 000 rows, 5 % fail: as many as 2.1
    of 45 125 rows each, ``rho = .45**2 * .05 / .95 = .0107``: 482 rows are one, so that all are 197.
    """
    each = rows * (1.0 + HEAVY) / entities
    return 1.0 + max(each - 1.0, 0.0) * APART**2 * base / (1.0 - base)


def _ramp(policy: Policy, per_minute: float, minutes: int, told: int = 0) -> tuple[Floats, int]:
    """Return the weight of each minute up to the deadline, and the minute after which the last step has passed.

    ``told``: rows of the canary without which the first step is held, and after which it begins again.
    """
    steps = [weight / BUCKETS for weight in policy.steps_bp]
    passed, rows, weights = 0, 0.0, list[float]()
    for place, weight in enumerate(steps):
        last = place == len(steps) - 1
        exposed = math.inf if last else per_minute * policy.step_ms / MINUTE * steps[place + 1]
        # The short step where its few rows come within it, else until they have. One more minute until traffic shows
        # the weight.
        few = min(IDLE_ROWS / (per_minute * weight), policy.step_ms / MINUTE)
        lasts = max(policy.lasts(exposed, IDLE_ROWS) / MINUTE, few) + 1
        if last:
            lasts = max(lasts, policy.min_rows / (per_minute * weight))
        else:
            lasts = max(lasts, (policy.rows_before(exposed) - rows) / (per_minute * weight))
        if last:
            lasts = max(lasts, (policy.promote_rows - rows) / (per_minute * weight))
        if not place and lasts * per_minute * weight < told:
            lasts += told / (per_minute * weight)
        whole = math.ceil(lasts)
        rows += whole * per_minute * weight
        passed += whole
        weights += [weight] * whole
        if len(weights) >= minutes:
            break
    return np.array((weights + [steps[-1]] * minutes)[:minutes]), passed
