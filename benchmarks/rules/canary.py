"""How often canary rules roll back an equal model, promote a worse one, and when: the shipped controller beside others.

``python -m benchmarks canary --runs 1000 [--only NAME]``, 40 minutes on one core. Each cell plays that many rollouts
of one world through the controller's own core (``offer``, ``close_minute``) with the shipped policy: five guardrails,
the ramp 1, 5, 25, 50 %, promotion on non-inferiority, seven days at most. The gate passed and serving is proven; labels
come only in the cells of late labels, where they decide. ``flagger`` rolls back on the tenth minute with a success rate
under 99 % (its documented example),
``flagger 1`` on the first (the default of its code), ``argo`` on the fourth minute under 95 % (its documented example),
``z-test`` looks at the pooled counts each minute at 5 %, ``kayenta`` looks once, at the end, at the failure rates of
the ramp's minutes (Mann-Whitney, 98 %, tolerance .25); all promote at the end of the same ramp. A pane is one minute;
where traffic is thin, or a few people stay for ever, it is longer, so that a rollout has two thousand panes at most.
Worlds of people who stay take thirty times as long as others and play a fifth as many rollouts. ``forecast`` is what
``stationkeeper deployments plan`` prints of such a rollout.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scripts.docs.examples import EXAMPLES
from stationkeeper.contracts.messages import Candidate
from stationkeeper.contracts.wire import ENTITY_GROUPS, LATENCY_BINS, latency_bin
from stationkeeper.deploy.core.admission import note_proven, offer
from stationkeeper.deploy.core.evidence import Arms, Floats
from stationkeeper.deploy.core.forecast import forecast
from stationkeeper.deploy.core.minutes import ArmCounts, Minute, OutcomeCounts
from stationkeeper.deploy.core.moves import Phase, steady
from stationkeeper.deploy.core.policy import Policy
from stationkeeper.deploy.core.reasons import Reason, because
from stationkeeper.deploy.core.rollout import close_minute
from stationkeeper.deploy.core.state import memory
from stationkeeper.deploy.settings import RolloutSettings

MINUTE_MS = 60_000
"""Milliseconds of a minute."""
OFFICE, NIGHT = 9.0, 0.02
"""Hours of the day in which a tenant with hours sends, and what he sends outside of them beside it."""
MOST_PANES = 2_000
"""Panes of the longest rollout: seven days of one-minute panes would take ten times as long to play."""
LATENCY_MS, SPREAD = 8.0, 0.5
"""Median and log standard deviation of a latency: what the findings of November were tried with."""
VISIT_ROWS, CORRELATED = 8, 3 / 7
"""Rows of a visit and their correlation: a design effect of 1 + 7 * 3/7 = 4."""
POSITIVE = 0.02
"""Share of positive decisions of both arms."""
MANY = 1_000
"""People who stay of whom a rollout ends within hours, and is played by the minute."""
WITHIN = 1.3
"""How much later than its forecast a promotion still counts as within it: what a forecast may be off."""
FEWER = 5
"""By how much fewer rollouts are played of people who stay: a second each, at most seven days of panes."""
LATE_MINUTES = {True: 12 * 60, False: 60}
"""Minutes until the label of a positive row is known, and of any other: fraud is told later than its lack."""
KAYENTA_TOLERANCE, KAYENTA_Z = 0.25, 2.326
"""What its judge takes by default: a quarter of the estimated shift, beyond an interval of 98 %."""


@dataclass(frozen=True, slots=True)
class World:
    """One cell: requests a minute, the champion's failure rate, the canary's ratios, and how rows hang together.

    ``users`` are so many people of whom few send most (lognormal activity), each with a failure rate of its own (its
    standard deviation is .45 of the mean); they stay with their arm for ever, or with ``by_request`` each of their
    requests is split by itself, as gateways and clouds do. With ``hours`` each sends for nine hours of the day of his
    own, and a fiftieth as much in the others. ``alone``: the canary's ratio is that of who sends most, at all hours,
    and of nobody else. ``visits`` are people who come once, for
    eight rows that fail together (design effect 4). Neither: independent rows. ``bursts`` multiply both arms' rate by
    five for ten minutes of every hour. ``steps`` replace the ramp. With ``labels`` the rates are of wrong decisions
    and not of failures, and labels decide the promotion, late by their class.
    """

    name: str
    per_minute: float
    base: float
    ratio: float = 1.0
    slower: float = 1.0
    users: int = 0
    by_request: bool = False
    hours: bool = False
    alone: bool = False
    visits: bool = False
    bursts: bool = False
    labels: bool = False
    steps: tuple[float, ...] = ()

    def policy(self) -> Policy:
        """Return the shipped policy, with the ramp of this world."""
        if self.labels:
            return RolloutSettings(promote_on="labels").policy(labels_expected=True)
        return (RolloutSettings(steps=self.steps) if self.steps else RolloutSettings()).policy()


def worlds() -> Iterator[World]:
    """Yield the cells of docs/canary.md."""
    for per_minute, base in ((1_000, 0.001), (1_000, 0.008), (1_000, 0.05), (5_000, 0.008), (20, 0.008), (20, 0.05)):
        for ratio in (1.0, 2.0, 4.0):
            yield World(f"{per_minute}/min {base:.1%} x{ratio:g}", per_minute, base, ratio)
    for ratio in (3.0, 20.0):
        yield World(f"1000/min 0.8% x{ratio:g}", 1_000, 0.008, ratio)
    for ratio in (1.0, 2.0):
        yield World(f"at 10% 1000/min 0.8% x{ratio:g}", 1_000, 0.008, ratio, steps=(0.1,))
    for slower in (2.0, 3.0):
        yield World(f"1000/min 0.8% slower x{slower:g}", 1_000, 0.008, slower=slower)
    for ratio in (1.0, 2.0, 4.0):
        yield World(f"visits 1000/min 5.0% x{ratio:g}", 1_000, 0.05, ratio, visits=True)
    for users in (20, 200, 2_000):
        for ratio in (1.0, 2.0):
            yield World(f"{users} users 1000/min 5.0% x{ratio:g}", 1_000, 0.05, ratio, users=users)
    for ratio in (1.0, 2.0):
        yield World(f"20 users by request 1000/min 5.0% x{ratio:g}", 1_000, 0.05, ratio, users=20, by_request=True)
    for ratio in (1.0, 2.0):
        name = f"20 users by request with hours 100/min 5.0% x{ratio:g}"
        yield World(name, 100, 0.05, ratio, users=20, by_request=True, hours=True)
    name = "20 users by request with hours 100/min 5.0% x8 for one"
    yield World(name, 100, 0.05, 8.0, users=20, by_request=True, hours=True, alone=True)
    for ratio in (1.0, 2.0, 4.0):
        yield World(f"late labels 100/min 5.0% x{ratio:g}", 100, 0.05, ratio, labels=True)
    yield World("bursts 1000/min 0.8% x1", 1_000, 0.008, bursts=True)
    yield World("bursts 1000/min 0.8% x2", 1_000, 0.008, 2.0, bursts=True)


class Traffic:
    """Draws the panes of one rollout of a world at whatever weight the record shows."""

    def __init__(self, world: World, rng: np.random.Generator, minutes: int) -> None:
        self._world, self._rng, self._minutes = world, rng, minutes
        self._late: dict[int, list[OutcomeCounts]] = {}
        if world.users:
            activity = rng.lognormal(0.0, 1.5, world.users)
            self._rows: Floats = activity / activity.sum() * world.per_minute * minutes
            self._people(world.users, rng.gamma(5.0, 0.2, world.users) * world.base)
            self._opens = rng.uniform(0.0, 24.0, world.users)

    def _people(self, count: int, rates: Floats) -> None:
        self._rates = np.minimum(rates, 1.0)
        self._bucket, self._group = self._rng.random(count), self._rng.integers(0, ENTITY_GROUPS, count)

    def _sent(self, index: int) -> Floats:
        """Return how many rows each person is expected to send in the pane ``index``."""
        if not self._world.hours:
            return self._rows
        now = (index + 0.5) * self._minutes / 60.0
        # Of the day's mean: who sends in nine hours of it sends more in these.
        mean = (OFFICE + NIGHT * (24.0 - OFFICE)) / 24.0
        works = self._rows * np.where((now - self._opens) % 24.0 < OFFICE, 1.0, NIGHT) / mean
        most = self._world.alone & (self._rows == self._rows.max())
        sent: Floats = np.where(most, self._rows, works)
        return sent

    def pane(self, index: int, weight: float, *, canary: bool) -> Minute:
        """Return the pane ``index``."""
        world, rng = self._world, self._rng
        burst = 5.0 if world.bursts and index * self._minutes % 60 < 10 else 1.0
        arms: dict[str, ArmCounts] = {}
        if world.visits:
            count = int(rng.poisson(world.per_minute * self._minutes / VISIT_ROWS))
            # Beta rates whose variance is CORRELATED of the most that a share may have.
            more = 1.0 / CORRELATED - 1.0
            self._people(count, rng.beta(world.base * more, (1.0 - world.base) * more, count))
            self._rows = np.full(count, float(VISIT_ROWS))
        if world.users or world.visits:
            rows = rng.poisson(self._sent(index)) if world.users else self._rows.astype(np.int64)
            mine = rng.binomial(rows, weight) if world.by_request else rows * (self._bucket < weight)
            for version, sent, ratio in (("1", rows - mine, 1.0), ("2", mine, world.ratio)):
                worse = np.where(self._rows == self._rows.max(), ratio, 1.0) if world.alone else ratio
                errors = rng.binomial(sent, np.minimum(self._rates * burst * worse, 1.0))
                positives = rng.binomial(sent, POSITIVE)
                groups = [np.bincount(self._group, one, ENTITY_GROUPS).astype(int) for one in (sent, errors, positives)]
                arms[version] = self._arm(
                    int(sent.sum()), int(errors.sum()), int(positives.sum()), version, np.concatenate(groups)
                )
        else:
            total = int(rng.poisson(world.per_minute * self._minutes))
            b = int(rng.binomial(total, weight))
            for version, n, ratio in (("1", total - b, 1.0), ("2", b, world.ratio)):
                if world.labels and (canary or version == "1"):
                    self._label(index, version, n, min(world.base * ratio, 1.0))
                base = 0.0 if world.labels else world.base
                failed = int(rng.binomial(n, min(base * burst * ratio, 1.0)))
                arms[version] = self._arm(n, failed, int(rng.binomial(n, POSITIVE)), version, None)
        length = self._minutes * MINUTE_MS
        found = {version: one for version, one in arms.items() if one.rows and (canary or version == "1")}
        return Minute(start=index * length, length=length, arms=found, outcomes=tuple(self._late.pop(index, ())))

    def _label(self, index: int, version: str, rows: int, wrong: float) -> None:
        """Draw the labels of one pane's rows of a version, to be known when their class is."""
        for positive, share in ((True, POSITIVE), (False, 1.0 - POSITIVE)):
            n = int(self._rng.binomial(rows, share))
            bad = int(self._rng.binomial(n, wrong))
            if n:
                known = index + LATE_MINUTES[positive] // self._minutes
                counts = {"true_positives": (n - bad) * positive, "false_negatives": bad * positive}
                counts |= {"true_negatives": (n - bad) * (not positive), "false_positives": bad * (not positive)}
                start = index * self._minutes * MINUTE_MS
                one = OutcomeCounts(version=version, start=start, rows=n, loss=float(bad), **counts)
                self._late.setdefault(known, []).append(one)

    def _arm(self, rows: int, errors: int, positives: int, version: str, groups: "Floats | None") -> ArmCounts:
        slower = self._world.slower if version == "2" else 1.0
        bins = latency_bin(self._rng.lognormal(math.log(LATENCY_MS * slower), SPREAD, rows))
        return ArmCounts(
            rows=rows,
            errors=errors,
            positives=positives,
            timed=rows,
            latencies=tuple(np.bincount(bins, minlength=LATENCY_BINS).tolist()),
            groups=() if groups is None else tuple(groups.tolist()),
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """How a rollout ended: promoted, rolled back or undecided, after so many minutes."""

    how: str
    minutes: float


CANDIDATE = Candidate.model_validate(EXAMPLES[Candidate] | {"model": "m", "version": "2", "champion": "1"})
"""The documents' example as version 2 of the model that is played; a rollout reads no more of it."""


def shipped(world: World, rng: np.random.Generator, policy: Policy) -> Ended:
    """Play one rollout through the controller's core."""
    # A few people who stay have no answer for the whole seven days; two thousand end as soon as rows do.
    coarse = world.per_minute < 100 or (0 < world.users < MANY and not world.by_request) or world.labels
    minutes = max(1, math.ceil(policy.max_ms / MINUTE_MS / MOST_PANES)) if coarse else 1
    traffic = Traffic(world, rng, minutes)
    first = steady("m", "1", 0, because(Reason.ADOPTED, version="1", by="benchmark")).rollout
    # What a retraining tells of the traffic before: in these worlds it is as it stays.
    candidate = CANDIDATE.model_copy(update={"busiest": world.per_minute})
    rollout = note_proven(offer(first, candidate, policy, 0).rollout, "2")
    for index in range(policy.max_ms // (minutes * MINUTE_MS) + 2):
        moved = close_minute(rollout, traffic.pane(index, rollout.weight_bp / 10_000, canary=True), policy)
        rollout = moved.rollout
        if rollout.canary is None:
            code = moved.deployments[-1].evidence["code"]
            how = "promoted" if rollout.phase is Phase.PROBATION else "no answer" if code == Reason.TIMEOUT else "harm"
            return Ended(how, (index + 1) * minutes)
    return Ended("no answer", memory(rollout).clock / MINUTE_MS)


def flagger(arms: Arms, failed: int, limit: int = 10, success: float = 0.99) -> tuple[int, bool]:
    """Return the failed checks and whether the rollout ends: success under the bar for ``limit`` minutes."""
    failed += arms.rows_b > 0 and 1.0 - arms.loss_b / arms.rows_b < success
    return failed, failed >= limit


def z_test(arms: Arms) -> bool:
    """Return whether the pooled rates differ at 5 %, one-sided."""
    rows_a, loss_a, rows_b, loss_b = arms.rows_a, arms.loss_a, arms.rows_b, arms.loss_b
    pooled = (loss_a + loss_b) / max(rows_a + rows_b, 1)
    spread = math.sqrt(max(pooled * (1 - pooled) * (1 / max(rows_a, 1) + 1 / max(rows_b, 1)), 1e-12))
    return loss_b >= 5 and (loss_b / rows_b - loss_a / max(rows_a, 1)) / spread > 1.645


def kayenta(rates_a: list[float], rates_b: list[float]) -> bool:
    """Return whether the canary's minutes are high: the interval of their shift lies beyond a quarter of it.

    The shift is the median of all differences, its interval the order statistics that Mann-Whitney's test leaves.
    """
    differences = np.sort(np.subtract.outer(np.array(rates_b), np.array(rates_a)).ravel())
    a, b = len(rates_a), len(rates_b)
    low = int(a * b / 2 - KAYENTA_Z * math.sqrt(a * b * (a + b + 1) / 12))
    return low >= 0 and bool(differences[low] > KAYENTA_TOLERANCE * abs(float(np.median(differences))))


def peers(world: World, rng: np.random.Generator, policy: Policy) -> dict[str, Ended]:
    """Play the same ramp for the rules of others: each step its time, then promotion."""
    traffic, ended = Traffic(world, rng, 1), dict[str, Ended]()
    checks: dict[str, Callable[[Arms, int], tuple[int, bool]]] = {
        "flagger": flagger,
        "flagger 1": lambda arms, failed: flagger(arms, failed, limit=1),
        "argo": lambda arms, failed: flagger(arms, failed, limit=4, success=0.95),
    }
    failed = dict.fromkeys(checks, 0)
    pooled = Arms(0, 0, 0, 0)
    rates: tuple[list[float], list[float]] = ([], [])
    steps = policy.step_ms // MINUTE_MS
    for index in range(steps * len(policy.steps_bp)):
        pane = traffic.pane(index, policy.steps_bp[index // steps] / 10_000, canary=True)
        a, b = pane.arms.get("1", ArmCounts()), pane.arms.get("2", ArmCounts())
        pooled = Arms(
            pooled.rows_a + a.rows, pooled.loss_a + a.errors, pooled.rows_b + b.rows, pooled.loss_b + b.errors
        )
        if a.rows and b.rows:
            rates[0].append(a.errors / a.rows)
            rates[1].append(b.errors / b.rows)
        for name, check in checks.items():
            failed[name], over = check(Arms(a.rows, a.errors, b.rows, b.errors), failed[name])
            if over:
                ended.setdefault(name, Ended("harm", index + 1))
        if z_test(pooled):
            ended.setdefault("z-test", Ended("harm", index + 1))
    whole = steps * len(policy.steps_bp)
    if rates[0] and kayenta(*rates):
        ended["kayenta"] = Ended("harm", whole)
    return {name: ended.get(name, Ended("promoted", whole)) for name in (*checks, "z-test", "kayenta")}


def line(name: str, ended: list[Ended]) -> str:
    """Return one rule's cell: share promoted and rolled back with median minutes, the rest without an answer."""
    parts = []
    for how in ("promoted", "harm", "no answer"):
        found = [one.minutes for one in ended if one.how == how]
        when = f" (minute {np.median(found):.0f})" if found else ""
        parts.append(f"{how} {len(found) / len(ended):6.1%}{when:>14}")
    return f"    {name:<10} " + "  ".join(parts)


def measure(runs: int, seed: int, only: str, *, alone: bool) -> Iterator[str]:
    """Yield the table, cell by cell; ``alone`` leaves out the others' rules."""
    for world in worlds():
        if only not in world.name:
            continue
        policy, count = world.policy(), max(1, runs // FEWER if world.users else runs)
        effect = 4.0 if world.visits else 1.0
        asked = policy, world.per_minute, world.base, max(world.ratio, 2.0), effect, world.users or None
        told = forecast(*asked, by_request=world.by_request)
        # The forecast and the others' rules look at failures alone; where labels decide there is none.
        said = "" if world.labels else f"; forecast: x1 {told.promoted}, x{told.ratio:g} caught {told.caught}"
        yield f"{world.name}: {count} rollouts{said}"
        ours = [shipped(world, np.random.default_rng((seed, run)), policy) for run in range(count)]
        yield line("shipped", ours)
        if world.labels:
            continue
        if told.promoted and world.ratio == world.slower == 1.0:
            until = math.floor(told.promoted * WITHIN)
            within = sum(one.how == "promoted" and one.minutes <= until for one in ours)
            yield f"    promoted by minute {until}: {within / count:.1%}"
        if alone:
            continue
        others = [peers(world, np.random.default_rng((seed, run)), policy) for run in range(count)]
        for name in others[0]:
            yield line(name, [one[name] for one in others])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the names of the cells to play")
    parser.add_argument("--alone", action="store_true", help="leave out the rules of others, which change seldom")
    given = parser.parse_args()
    for row in measure(given.runs, given.seed, given.only, alone=given.alone):
        print(row, flush=True)


if __name__ == "__main__":
    main()
