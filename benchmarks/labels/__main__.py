"""More positives of the same kind, beside moved inputs: what is named, after how long, and what quiet months say.

``python -m benchmarks labels``. A binary model with nine inputs at 100 rows an hour in panes of a quarter of an
hour, under the default budget of one false page in 30 days: 28 % positives become 40 % while each class looks as it
did; or an input moves by .7 sd while P(y | x) stays. No label is read: scores and inputs alone. Each is watched for
four days, by the watch as it is and by one whose reference has no labels, so that the scores' cells are all it has.
"""

from dataclasses import replace

import numpy as np

from stationkeeper.contracts.column import Column, Numbers
from stationkeeper.contracts.messages import Level
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import PREDICTION, Reference
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.profiling import profile

INPUTS, ROWS_AN_HOUR, PANE, HOUR, DAYS = 9, 100, 900_000, 3_600_000, 4
SEEDS = 5
# Months without any change; Poisson's 95 % limit of 3 is 6.
MONTHS = 3
_LIMIT = 6
# How far the first three inputs of a positive lie above those of a negative, in sd: an AUC of about .8.
_APART = np.array([1.0, 0.6, 0.4])

Columns = dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]


def draw(rng: np.random.Generator, rows: int, positives: float = 0.28, shift: float = 0.0) -> Columns:
    """Return rows with their score and label; ``shift`` moves the first input, and the labels with what it means."""
    x = rng.normal(size=(INPUTS, rows))
    x[:3] += _APART[:, None] * (rng.random(rows) < positives)
    x[0] += shift
    score = 1 / (1 + np.exp(-(_APART @ x[:3] - 0.5 * _APART @ _APART + np.log(0.28 / 0.72))))
    # P(y | x) is the score itself where the share of positives is the reference's.
    return {
        **{f"x{i}": column for i, column in enumerate(x)},
        "score": score,
        "label": 1.0 * (rng.random(rows) < score),
    }


def watch(reference: Reference, seed: int, days: int, **law: float) -> tuple[list[float], list[str], float]:
    """Return hours and causes of what warns or pages in ``days`` of a law, and hours until a label shift is named."""
    rng, watched, named = np.random.default_rng([seed, 1]), Watch(reference), np.inf
    hours, said = list[float](), list[str]()
    many = days * 24 * HOUR // PANE
    rows = rng.poisson(ROWS_AN_HOUR * PANE / HOUR, many)
    group = np.repeat(np.arange(many), rows)
    drawn = draw(rng, len(group), **law)
    columns: dict[str, Column] = {f"x{i}": Numbers(drawn[f"x{i}"]) for i in range(INPUTS)}
    columns[PREDICTION] = Numbers(drawn["score"])
    for at, vector in enumerate(reference.layout.tally(columns, group, rows)):
        pane = Pane(at * PANE, PANE, int(rows[at]), vector)
        for verdict in watched.step(pane).verdicts:
            if verdict.cause == "label_shift":
                named = min(named, pane.end / HOUR)
            if verdict.level in (Level.PAGE, Level.WARN):
                hours.append(pane.end / HOUR)
                said.append(f"{verdict.level}: {verdict.reason}")
    return hours, said, named


def main() -> None:
    """Print delays and names of both sides, then the quiet months."""
    made = []
    for seed in range(SEEDS):
        whole = profile(draw(np.random.default_rng([seed, 0]), 10_000), prediction="score", label="label", ordered=True)
        made.append({"with the classes' scores": whole, "cells alone": replace(whole, labels=None)})
    print("| law | side | first warning or page, hours (median, worst) | named label shift, hours | it says |")
    print("|---|---|---|---|---|")
    for name, law in {"28 to 40 % positives": {"positives": 0.4}, "x0 + .7 sd": {"shift": 0.7}}.items():
        for side in made[0]:
            found = [watch(one[side], seed, DAYS, **law) for seed, one in enumerate(made)]
            first = np.array([hours[0] if hours else np.inf for hours, _, _ in found])
            named = np.array([when for _, _, when in found])
            text = found[0][1][0] if found[0][1] else "nothing"
            print(
                f"| {name} | {side} | {np.median(first):.1f}, {first.max():.1f} | "
                f"{np.median(named):.1f}, {named.max():.1f} | {text} |",
                flush=True,
            )
    for side, reference in made[0].items():
        said = [line for seed in range(MONTHS) for line in watch(reference, 100 + seed, 30)[1]]
        pages = sum(line.startswith("page") for line in said)
        print(f"{MONTHS} months, {side}: {pages} pages (limit {_LIMIT}), {len(said) - pages} warnings", flush=True)


if __name__ == "__main__":
    main()
