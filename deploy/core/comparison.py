"""What a closed minute says about canary against champion: one e-process a guardrail, carried over the whole ramp."""

import math
from collections.abc import Iterator

import numpy as np

from stationkeeper.contracts.wire import LATENCY_BINS, SCORE_BINS, slower_bin, tolerated_bin
from stationkeeper.deploy.core.dispersion import MIDDLE, design_effect, gathered, scattered, shared_out
from stationkeeper.deploy.core.evidence import (
    CALM,
    CALM_RATIO,
    CALM_RATIOS,
    COIN_RATIOS,
    COINS,
    HARM,
    HARM_COIN_RATIOS,
    HARM_RATIOS,
    SLOW,
    TILTS,
    Arms,
    Floats,
    Mixture,
    Stakes,
    calm_bets,
    calm_sign_bets,
    log_bets,
    quiet,
    score_bets,
    sign_bets,
    slower_chance,
)
from stationkeeper.deploy.core.minutes import ArmCounts, Minute, OutcomeCounts, arm
from stationkeeper.deploy.core.policy import LABELLED, Guardrail, Policy
from stationkeeper.deploy.core.state import Controller, Pool, Spread

WRONG = "wrong"
"""Wrong decisions among labelled rows, or of a regression its losses: what labels must say before a promotion rests
on them, and before it is confirmed."""
CONFIRM = "confirm"
"""The e-process of the probation: wrong decisions again, against its wider margin."""
# A canary whose labelled decisions are wrong in fewer than one of a hundred is good enough without a ratio, which a
# hundredth of a per cent of errors would take months to tell; ten times as much would pass a canary that is wrong in
# every twelfth.
WRONG_FLOOR = 0.01
UNBOUNDED = "unbounded_loss"
"""The pool of losses without a bound (a regression's): the means of a stratum are compared like a coin."""
# Every third of the 32 shared bins: ten cuts see a shift anywhere; all 31 would spread the evidence three times
# thinner.
SCORE_CUTS = tuple(range(3, SCORE_BINS, 3))
_SHIFTS = Stakes.even(len(SCORE_CUTS) * TILTS.size)
# What the name of a guardrail's e-process for "no worse than its margin" ends with.
_CALM = ".noninferior"
# A pool of labelled rows bets once both arms have ten: fewer make a bet on noise, and waiting for more loses time.
MIN_POOL = 10
# The quantiles of the champion's latency beyond which slow answers are counted: the middle, the tail, the far tail.
QUANTILES = (0.5, 0.9, 0.99)
# Whose slow answers tell how far rows are slow together: the tail's, as all rows of a slow request are.
TAIL = 1
# Answers of the champion before its quantiles are taken: the 99th of a hundred is one answer.
MIN_TIMED = 100


# Counts that the monitor keeps by entity group, in the order of ``ArmCounts.groups`` after the rows.
_GROUPED = (Guardrail.ERRORS, Guardrail.DECISIONS)


def weigh(memory: Controller, minute: Minute, champion: str, canary: str, policy: Policy) -> Controller:
    """Return the memory after one closed minute: evidence, sums for people, pools of labelled rows.

    Errors, decisions, slow answers and scores compare the two arms of the minute; labelled rows are pooled by the step
    that predicted them, so that both arms' labels have matured alike, and bet once both arms have ``MIN_POOL``.
    """
    # Every minute bets, also while the rollout is held or the weight changes: a choice of minutes by what they show
    # would void the guarantee.
    ledger = _Ledger(memory, policy)
    a, b = arm(minute, champion), arm(minute, canary)
    ledger.compare(Guardrail.ERRORS, Pool(rows_a=a.rows, loss_a=a.errors, rows_b=b.rows, loss_b=b.errors))
    ledger.compare(Guardrail.DECISIONS, Pool(rows_a=a.rows, loss_a=a.positives, rows_b=b.rows, loss_b=b.positives))
    if _at_last(memory, policy):
        ledger.no_slower(a, b)
    ledger.slow(a, b)
    ledger.gather(a, b)
    ledger.bet(Guardrail.SCORES, score_bets(a.histogram(), b.histogram(), SCORE_CUTS))
    labels_b = memory.labels_b
    for outcome in minute.outcomes:
        # By the step that predicted the row: labels of one step are alike late for both arms.
        step = memory.step_at(outcome.start)
        if step is None or outcome.version not in {champion, canary}:
            continue
        labels_b += outcome.rows if outcome.version == canary else 0
        for name, rows, loss in _labelled(outcome):
            one = Pool(rows_a=rows, loss_a=loss) if outcome.version == champion else Pool(rows_b=rows, loss_b=loss)
            ledger.pool(f"{name}/{step}", one)
    ledger.drain()
    return memory.model_copy(
        update={
            "wealth": ledger.wealth,
            "sums": ledger.sums,
            "pools": ledger.pools,
            "groups": ledger.groups,
            "grouped": ledger.grouped,
            "spread": ledger.spread,
            "latencies": ledger.latencies,
            "split": ledger.split,
            "timed": ledger.timed,
            "labels_b": labels_b,
        }
    )


def _at_last(memory: Controller, policy: Policy) -> bool:
    """Return whether the ramp is at its last weight, as far as it is ours.

    Below, an arm with a few rows of each large request is faster without being better; the last weight splits most
    evenly, and lasts as long as a step anyway.
    """
    weight = memory.steps[-1].weight_bp if memory.steps else 0
    # A ramp of somebody else's controller has no weights that we know.
    return weight == 0 or (memory.steps[-1].settled is not None and policy.next_weight(weight) is None)


class _Ledger:
    """The e-processes, sums and pools of a rollout while one minute is weighed."""

    def __init__(self, memory: Controller, policy: Policy) -> None:
        self.wealth, self.sums, self.pools = dict(memory.wealth), dict(memory.sums), dict(memory.pools)
        self.groups, self.spread, self.latencies = dict(memory.groups), dict(memory.spread), memory.latencies
        self.split, self.grouped, self.timed = memory.split, memory.grouped, memory.timed
        self._policy = policy

    def bet(self, name: str, log_factors: Floats) -> None:
        """Multiply one stratum in; evidence that another version of us kept differently begins again at one."""
        held = self.wealth.get(name, ())
        mixture = Mixture(stakes(name, log_factors.size), held if len(held) == log_factors.size else ())
        mixture.bet(log_factors)
        self.wealth[name] = tuple(mixture.wealth.tolist())

    def compare(self, name: str, pool: Pool) -> None:
        """Bet on the losses of one stratum and add it to what people see."""
        arms = Arms(pool.rows_a, min(pool.loss_a, pool.rows_a), pool.rows_b, min(pool.loss_b, pool.rows_b))
        policy, seen = self._policy, self.sums.get(name, Pool())
        # Of what came before this stratum, so that no bet knows its own.
        idle = quiet(seen.rows_a + seen.rows_b, seen.loss_a + seen.loss_b)
        # Wrong decisions are not a guardrail: they are only asked whether they show that the canary is no worse.
        if name == WRONG:
            self.bet(calm(WRONG), calm_bets(arms, policy.promote_margin, WRONG_FLOOR, quiet=idle))
            self.bet(CONFIRM, calm_bets(arms, policy.probation_margin, WRONG_FLOOR, quiet=idle))
        else:
            rail = policy.guardrails[Guardrail(name)]
            self.bet(name, log_bets(arms, rail.margin, HARM_RATIOS))
            if name not in LABELLED:
                margin = policy.calm_margin(Guardrail(name))
                self.bet(calm(name), calm_bets(arms, margin, rail.floor, quiet=idle))
        self._scatter(name, pool)
        self._show(name, pool)

    def _scatter(self, name: str, pool: Pool) -> None:
        """Note how far the canary's failures are from what their ratio so far expects."""
        self.spread[name] = scattered(self.spread.get(name, Spread()), pool)

    def slow(self, a: ArmCounts, b: ArmCounts) -> None:
        """Bet on slow answers: the canary's beyond margin times a quantile of the champion's, by three quantiles.

        If the canary is at most ``margin`` times as slow, it exceeds ``margin q`` no more often than the champion
        exceeds ``q``, whatever ``q``; it is counted from the first whole bin beyond (1.5 acts as 1.68), and only where
        it is ``slower_by_ms`` beyond ``q``, both of which make it still rarer. Quantiles are those of the champion's
        answers before this minute, so that no bet knows its own minute.
        """
        if a.latencies and b.latencies and sum(self.latencies) >= MIN_TIMED:
            before = np.cumsum(self.latencies)
            cuts = np.searchsorted(before, np.array(QUANTILES) * before[-1]) + 1
            rail = self._policy.guardrails[Guardrail.LATENCY]
            strata = [
                Arms(
                    a.timed,
                    sum(a.latencies[cut:]),
                    b.timed,
                    sum(b.latencies[slower_bin(cut, rail.margin, rail.slower_by_ms) :]),
                )
                for cut in cuts.tolist()
            ]
            self.bet(Guardrail.LATENCY, np.concatenate([log_bets(arms, 1.0, HARM_RATIOS) for arms in strata]))
            tail = strata[TAIL]
            middle = int(cuts[0])
            slow = Pool(rows_a=a.timed, loss_a=tail.loss_a, rows_b=b.timed, loss_b=tail.loss_b)
            self._scatter(Guardrail.LATENCY, slow)
            # Answers slower than the champion's middle, half of all, so that an hour has enough. The same bins of both
            # arms: the margin's would change their ratio whenever the champion's middle moves to
            # the next bin, and pass for scatter.
            half = sum(b.latencies[middle:])
            self._scatter(MIDDLE, Pool(rows_a=a.timed, loss_a=strata[0].loss_a, rows_b=b.timed, loss_b=half))
            self._show(Guardrail.LATENCY, slow)
            self.timed += 1
        if a.latencies:
            self.latencies = tuple((np.array(self.latencies or (0,) * LATENCY_BINS) + np.array(a.latencies)).tolist())

    def no_slower(self, a: ArmCounts, b: ArmCounts) -> None:
        """Bet on whether the canary's answers of one minute are slower than the wider margin allows: one coin a minute.

        Both arms of the same minute are ranked, so that a machine that is busy slows both and says nothing. A canary
        slower than the margin (2.25 acts as 2) is so in half of all minutes at least, however few rows either arm has
        (``slower_chance``), provided that one row is as slow in either arm: rows are independent within the minute, or
        share a request's latency with others of their arm alone and both arms have like parts of each request.
        """
        if sum(a.latencies) and sum(b.latencies):
            worse = slower_chance(a.latencies, b.latencies, self._tolerated())
            self.bet(calm(Guardrail.LATENCY), calm_sign_bets(worse, COIN_RATIOS))

    def _tolerated(self) -> list[int]:
        """Return, by bin of the champion, the bin of an answer that is as much slower as a promotion tolerates."""
        margin, rail = self._policy.calm_margin(Guardrail.LATENCY), self._policy.guardrails[Guardrail.LATENCY]
        return [tolerated_bin(one, margin, rail.slower_by_ms) for one in range(LATENCY_BINS)]

    def gather(self, a: ArmCounts, b: ArmCounts) -> None:
        """Add rows, errors and positives by entity group, where entities are known."""
        if not a.groups and not b.groups:
            return
        self.grouped += 1
        of_a, of_b = a.by_group(), b.by_group()
        self.split = shared_out(self.split, of_a[0], of_b[0])
        for name, mine_a, mine_b in zip(("rows", *_GROUPED), of_a, of_b, strict=True):
            self.groups[name] = gathered(self.groups.get(name), mine_a, mine_b)

    def coin(self, pool: Pool) -> None:
        """Bet on which arm of a pool has the higher mean loss: all that can be said of losses without a bound."""
        # A champion without any loss: a ratio beyond each margin, or 0 where the canary has none either. The number is
        # near the least that a float holds in full, 2e-308.
        policy, ratio = self._policy, (pool.loss_b / pool.rows_b) / max(pool.loss_a / pool.rows_a, 1e-300)
        self.bet(Guardrail.LOSS, sign_bets(ratio > policy.guardrails[Guardrail.LOSS].margin, HARM_COIN_RATIOS))
        self.bet(calm(WRONG), calm_sign_bets(ratio > policy.promote_margin, CALM_RATIOS))
        self.bet(CONFIRM, calm_sign_bets(ratio > policy.probation_margin, CALM_RATIOS))
        self._show(Guardrail.LOSS, pool)

    def pool(self, key: str, one: Pool) -> None:
        """Let labelled rows wait for those of the other arm."""
        self.pools[key] = _sum(self.pools.get(key, Pool()), one)

    def drain(self) -> None:
        """Bet every pool in which both arms have enough rows; that depends on counts only, never on outcomes."""
        for key in sorted(self.pools):
            pool = self.pools[key]
            if pool.rows_a < MIN_POOL or pool.rows_b < MIN_POOL:
                continue
            name = key.split("/", maxsplit=1)[0]
            if name == UNBOUNDED:
                self.coin(pool)
            else:
                self.compare(name, pool)
            del self.pools[key]

    def _show(self, name: str, pool: Pool) -> None:
        self.sums[name] = _sum(self.sums.get(name, Pool()), pool)


def log_e(memory: Controller, name: str, policy: Policy) -> float:
    """Return the log e-value of a guardrail, of its ``calm`` or of ``CONFIRM``: 0 before its first bet."""
    wealth = memory.wealth.get(name)
    if not wealth:
        return 0.0
    staked = stakes(name, len(wealth))
    # Evidence of a version of us that kept other alternatives is none here.
    if len(staked.shares) != len(wealth):
        return 0.0
    # A coin a minute, and no row: rows that are slow together are one coin already.
    if name == calm(Guardrail.LATENCY):
        return Mixture(staked, wealth).log_e()
    harm = name in frozenset(Guardrail)
    effect = max(policy.design_effect, design_effect(memory, counted(name), harm=harm))
    return Mixture(staked, wealth).log_e(effect)


def stakes(name: str, size: int) -> Stakes:
    """Return what the alternatives of a process are staked; ``size`` of them tells non-inferiority without a floor."""
    if name == calm(Guardrail.LATENCY):
        return COINS
    if name == CONFIRM or name.endswith(_CALM):
        return CALM if size == len(CALM.shares) else CALM_RATIO
    return {Guardrail.SCORES.value: _SHIFTS, Guardrail.LATENCY.value: SLOW}.get(name, HARM)


def applies(memory: Controller, name: Guardrail) -> bool:
    """Return whether a guardrail can speak of the model: labels that are numbers have neither precision nor recall."""
    if name not in {Guardrail.PRECISION, Guardrail.RECALL}:
        return True
    # Labels of classes wait in a pool of either, empty ones too, until they bet.
    waits = {key.split("/", maxsplit=1)[0] for key in memory.pools}
    numbers = UNBOUNDED in waits or Guardrail.LOSS in memory.wealth
    return not numbers or name in memory.wealth or name in waits


def calm(name: str) -> str:
    """Return the name of a guardrail's e-process for "no worse than its margin"."""
    return f"{name}{_CALM}"


# Whose failures tell how far rows fail together: each guardrail's own where they are kept by entity. Labels are not
# kept so; the decisions that they judge are, and entities differ in these at least as much.
_LABEL_PROCESSES = (Guardrail.LOSS, Guardrail.PRECISION, Guardrail.RECALL, calm(WRONG), CONFIRM)
_COUNTED: dict[str, str] = {
    **{calm(name): name.value for name in Guardrail},
    **dict.fromkeys(_LABEL_PROCESSES, Guardrail.DECISIONS.value),
}


def counted(name: str) -> str:
    """Return whose failures tell how far the rows of a process fail together."""
    return _COUNTED.get(name, name)


def harm_limit(policy: Policy) -> float:
    """Return the log e-value at which a guardrail acts: log of one over its share of alpha."""
    return -math.log(policy.rail_alpha())


def _labelled(outcome: OutcomeCounts) -> Iterator[tuple[str, int, float]]:
    """Yield (guardrail, rows, loss) of labelled rows; only classes have losses in [0, 1], numbers compare by sign."""
    flagged = outcome.true_positives + outcome.false_positives
    positive = outcome.true_positives + outcome.false_negatives
    if flagged + outcome.false_negatives + outcome.true_negatives < outcome.rows:
        yield UNBOUNDED, outcome.rows, outcome.loss
        return
    yield Guardrail.LOSS, outcome.rows, outcome.loss
    yield Guardrail.PRECISION, flagged, float(outcome.false_positives)
    yield Guardrail.RECALL, positive, float(outcome.false_negatives)
    yield WRONG, outcome.rows, float(outcome.false_positives + outcome.false_negatives)


def _sum(one: Pool, other: Pool) -> Pool:
    return Pool(
        rows_a=one.rows_a + other.rows_a,
        loss_a=one.loss_a + other.loss_a,
        rows_b=one.rows_b + other.rows_b,
        loss_b=one.loss_b + other.loss_b,
    )


def seen_ratio(memory: Controller, name: str) -> float | None:
    """Return the canary's rate over the champion's so far, None while it cannot be told."""
    pool = memory.sums.get(name)
    if pool is None or not (pool.rows_a and pool.rows_b and pool.loss_a):
        return None
    return (pool.loss_b / pool.rows_b) / (pool.loss_a / pool.rows_a)
