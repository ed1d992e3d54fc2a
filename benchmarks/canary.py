"""How often canary rules roll back an identical model, and catch a worse one: ours beside what others do.

``python -m benchmarks canary --runs 1000``. The ramp is 1, 5, 25, 50 %, 30 minutes each, 1 000 requests a minute
whose error rate swings by half over the day. ``e-process`` is ``deploy.core.evidence``; ``restarted`` begins it anew at
each step; ``z-test`` looks at the pooled counts every minute at 5 %; ``threshold`` rolls back on the tenth minute in
which the canary's success rate was under 99 %, as in the documented example of a widely used controller.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stationkeeper.deploy.core.evidence import HARM_RATIOS, Arms, Mixture, log_bets

STEPS, MINUTES, ROWS, ALPHA = (0.01, 0.05, 0.25, 0.5), 30, 1_000, 0.05
CASES = ((0.002, 1.0), (0.008, 1.0), (0.012, 1.0), (0.1, 1.0), (0.002, 3.0), (0.008, 2.0), (0.1, 1.5))


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of both arms and the step it belongs to."""

    step: int
    arms: Arms


Rule = Callable[[list[Minute]], int | None]


def ramp(rng: np.random.Generator, base: float, ratio: float) -> list[Minute]:
    """Draw the ramp: a canary whose error rate is ``ratio`` times the champion's."""
    out = []
    for minute in range(len(STEPS) * MINUTES):
        step = minute // MINUTES
        rate = base * (1 + 0.5 * math.sin(minute / 20))
        b = int(rng.binomial(ROWS, STEPS[step]))
        errors = int(rng.binomial(ROWS - b, rate)), int(rng.binomial(b, min(rate * ratio, 1.0)))
        out.append(Minute(step, Arms(ROWS - b, errors[0], b, errors[1])))
    return out


def e_process(minutes: list[Minute], *, restart: bool = False) -> int | None:
    """Return the minute of the rollback by our rule."""
    mixture = Mixture(HARM_RATIOS.size)
    for at, (before, now) in enumerate(pairwise([minutes[0], *minutes]), 1):
        if restart and now.step != before.step:
            mixture = Mixture(HARM_RATIOS.size)
        mixture.bet(log_bets(now.arms, 1.0, HARM_RATIOS))
        if mixture.log_e() >= -math.log(ALPHA):
            return at
    return None


def restarted(minutes: list[Minute]) -> int | None:
    """Return the minute of the rollback when the evidence begins anew at each step."""
    return e_process(minutes, restart=True)


def z_test(minutes: list[Minute]) -> int | None:
    """Return the first minute in which the pooled rates differ at 5 %, one-sided, looked at every minute."""
    rows_a = loss_a = rows_b = loss_b = 0.0
    for at, minute in enumerate(minutes, 1):
        arms = minute.arms
        rows_a, loss_a = rows_a + arms.rows_a, loss_a + arms.loss_a
        rows_b, loss_b = rows_b + arms.rows_b, loss_b + arms.loss_b
        pooled = (loss_a + loss_b) / (rows_a + rows_b)
        spread = math.sqrt(max(pooled * (1 - pooled) * (1 / rows_a + 1 / max(rows_b, 1.0)), 1e-12))
        if loss_b >= 5 and (loss_b / rows_b - loss_a / rows_a) / spread > 1.645:
            return at
    return None


def threshold(minutes: list[Minute]) -> int | None:
    """Return the minute of the tenth failed check: success under 99 %."""
    failed = 0
    for at, minute in enumerate(minutes, 1):
        arms = minute.arms
        failed += arms.rows_b > 0 and arms.loss_b / arms.rows_b > 0.01
        if failed >= 10:
            return at
    return None


RULES: dict[str, Rule] = {"e-process": e_process, "restarted": restarted, "z-test": z_test, "threshold": threshold}


def measure(runs: int, seed: int) -> Iterator[str]:
    """Yield the table, line by line: share rolled back and the median minute of it."""
    yield f"{'error rate':>10} {'canary':>7}  " + "".join(f"{name:>22}" for name in RULES)
    for base, ratio in CASES:
        rng = np.random.default_rng(seed)
        played = [ramp(rng, base, ratio) for _ in range(runs)]
        cells = []
        for rule in RULES.values():
            found = [minute for minute in map(rule, played) if minute is not None]
            when = f", minute {np.median(found):.0f}" if found else ""
            cells.append(f"{f'{len(found) / runs:.1%}{when}':>22}")
        yield f"{base:>10.1%} {f'x{ratio:g}':>7}  " + "".join(cells)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for line in measure(given.runs, given.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
