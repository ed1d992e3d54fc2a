"""What no single feature shows: a relation that turns, a tail that is multiplied, a trace of nulls; and false alarms.

``python -m benchmarks joint``. Ten features (two go together at rho .6, one is heavy-tailed, one has .1 % nulls) at
1 000 rows an hour in panes of a quarter of an hour, under the default budget of one false page in 30 days. Each change
is planted after a quiet day and watched for two, by a reference with its pairs and by one that counts features alone.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from stationkeeper.contracts.column import Column, Numbers
from stationkeeper.contracts.messages import Level, Verdict
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import Reference, profile
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.profiling import profile as profile_frame

FEATURES, ROWS_AN_HOUR, PANE, HOUR = 10, 1_000, 900_000, 3_600_000
SEEDS = 5
# Months of independent rows without any change, for the count of false pages: Poisson's 95 % limit of 6 is 10.
MONTHS = 6
_LIMIT = 10

Columns = dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]


@dataclass(frozen=True, slots=True)
class Law:
    """What rows are drawn from; the defaults are the reference's."""

    rho: float = 0.6
    tail: float = 1.0
    nulls: float = 0.001
    shift: float = 0.0

    def draw(self, rng: np.random.Generator, rows: int) -> Columns:
        """Return ``rows`` rows by feature."""
        values = rng.normal(size=(FEATURES, rows))
        values[1] = self.rho * values[0] + np.sqrt(1 - self.rho**2) * values[1]
        values[0] += self.shift
        amount = np.exp(values[2])
        values[2] = np.where(amount > np.exp(2.326), amount * self.tail, amount)
        values[3, rng.random(rows) < self.nulls] = np.nan
        return {f"x{i}": column for i, column in enumerate(values)}


BEFORE = Law()
CHANGES = {
    "correlation +.6 to -.6": Law(rho=-0.6),
    "correlation +.6 to +.3": Law(rho=0.3),
    "top 1 % times ten": Law(tail=10.0),
    "nulls .1 % to .5 %": Law(nulls=0.005),
    "x0 + .25 sd (margins)": Law(shift=0.25),
}


def panes(reference: Reference, law: Law, rng: np.random.Generator, first: int, hours: int) -> Iterator[Pane]:
    """Yield the panes of ``hours`` hours from ``first`` (ms) on."""
    many = hours * HOUR // PANE
    rows = rng.poisson(ROWS_AN_HOUR * PANE / HOUR, many)
    group = np.repeat(np.arange(many), rows)
    columns: Mapping[str, Column] = {name: Numbers(values) for name, values in law.draw(rng, len(group)).items()}
    for at, vector in enumerate(reference.layout.tally(columns, group, rows)):
        yield Pane(first + at * PANE, PANE, int(rows[at]), vector)


@dataclass(slots=True)
class Said:
    """What one side said: hours to the first warning and page after the change, and its sentence."""

    warned: float = np.inf
    paged: float = np.inf
    sentence: str = ""
    false: int = 0
    pages: int = 0
    verdicts: list[Verdict] = field(default_factory=list)


def watch(reference: Reference, law: Law, seed: int) -> Said:
    """Watch a quiet day, then two of ``law``."""
    rng, found, watched = np.random.default_rng([seed, 1]), Said(), Watch(reference)
    for pane in panes(reference, BEFORE, rng, 0, 24):
        found.false += sum(verdict.level is Level.PAGE for verdict in watched.step(pane).verdicts)
    for pane in panes(reference, law, rng, 24 * HOUR, 48):
        after = pane.end / HOUR - 24
        for verdict in watched.step(pane).verdicts:
            if verdict.level is Level.PAGE:
                found.pages += 1
                found.sentence = found.sentence if np.isfinite(found.paged) else verdict.reason
                found.paged = min(found.paged, after)
            if verdict.level in (Level.PAGE, Level.WARN):
                found.sentence = found.sentence or verdict.reason
                found.warned = min(found.warned, after)
    return found


def quiet(reference: Reference, seed: int) -> tuple[int, int]:
    """Return the pages and warnings of 30 days in which nothing changes."""
    rng, watched, said = np.random.default_rng([seed, 2]), Watch(reference), {Level.PAGE: 0, Level.WARN: 0}
    for day in range(30):
        for pane in panes(reference, BEFORE, rng, 24 * day * HOUR, 24):
            for verdict in watched.step(pane).verdicts:
                if verdict.level in said:
                    said[verdict.level] += 1
    return said[Level.PAGE], said[Level.WARN]


def references(seed: int) -> dict[str, Reference]:
    """Return a reference of 10 000 rows in order, as it is and without pairs."""
    columns = BEFORE.draw(np.random.default_rng([seed, 0]), 10_000)
    return {
        "with pairs": profile_frame(columns, ordered=True),
        "features alone": profile_frame(columns, ordered=True, pairs=0),
    }


def cost(rows: int = 1_000, repeats: int = 200) -> dict[str, float]:
    """Return nanoseconds a row that counting a batch of ten features takes, with pairs and without."""
    rng = np.random.default_rng(3)
    columns = BEFORE.draw(rng, 10_000)
    batch = {name: Numbers(values[:rows]) for name, values in columns.items()}
    group, sizes, found = np.zeros(rows, np.int64), np.array([rows]), {}
    for name, pairs in (("with pairs", 32), ("features alone", 0)):
        layout = profile(columns, pairs=pairs).layout
        times = []
        for _ in range(repeats):
            begin = time.thread_time_ns()
            layout.tally(batch, group, sizes)
            times.append(time.thread_time_ns() - begin)
        found[name] = min(times) / rows
    return found


def main() -> None:
    """Print the delays of both sides, the false alarms of quiet months, and what counting costs."""
    print("| change | side | named, hours (median, worst) | paged, hours (median, worst) | what it says |")
    print("|---|---|---|---|---|")
    made = [references(seed) for seed in range(SEEDS)]
    for change, law in CHANGES.items():
        for side in ("with pairs", "features alone"):
            found = [watch(one[side], law, seed) for seed, one in enumerate(made)]
            warned, paged = (np.array([getattr(one, part) for one in found]) for part in ("warned", "paged"))
            delays = " | ".join(f"{np.median(part):.1f}, {part.max():.1f}" for part in (warned, paged))
            print(f"| {change} | {side} | {delays} | {found[0].sentence or 'nothing'} |", flush=True)
    for side in ("with pairs", "features alone"):
        pages, warnings = np.sum([quiet(made[0][side], seed) for seed in range(MONTHS)], axis=0)
        print(
            f"{MONTHS} months without change, {side}: {pages} pages (limit {_LIMIT}), {warnings} warnings", flush=True
        )
    print("counting, ns a row of ten features: " + ", ".join(f"{side} {ns:.0f}" for side, ns in cost().items()))


if __name__ == "__main__":
    main()
