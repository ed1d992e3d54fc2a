"""The pictures of docs/concepts.md: when labels are judged, what a move costs, and what tells three changes apart.

``python -m benchmarks.concept.figures`` writes them; each is the output of the shipped code on rows drawn here.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.detection.plot import Axis, Line, draw
from stationkeeper.contracts.labels.delay import complete_share
from stationkeeper.contracts.wire import SCORE_BINS, score_bin
from stationkeeper.monitor.core.incidents import harm_by_labels, harm_by_scores
from stationkeeper.monitor.core.performance import LabelDelays, every_measure, split_errors
from stationkeeper.monitor.core.reference import Labels, OutcomeSums, Task, labels_of

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "figures"
HOUR, DAY = 3_600_000, 86_400_000
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# The mission's own story: a fraud is reported after two days on average, a payment counts as good after ten.
FRAUDS, MEAN_MS, GOOD_MS = 0.05, 48 * HOUR, 10 * DAY
WATCHED_DAYS, AN_HOUR, SHOWN_DAYS = 30, 200, 14
# How far the inputs of a positive lie above those of a negative, in sd; the model has no use for the third.
APART = np.array([1.2, 0.6, 0.0])
POSITIVES, ROWS = 0.28, 20_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.concept.figures", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    for name, made in {
        "label-maturity": label_maturity,
        "harm-before-novelty": harm_before_novelty,
        "three-changes": three_changes,
    }.items():
        path = folder / f"{name}.svg"
        path.write_text(made(), encoding="utf-8")
        print(path, flush=True)


def label_maturity() -> str:
    """Share of each class's labels known by age, as learned from a month of labels, and when they are judged."""
    rng = np.random.default_rng(3)
    horizon = WATCHED_DAYS * DAY
    delays, now = LabelDelays(HOUR, horizon), WATCHED_DAYS * DAY
    for start in range(0, now, HOUR):
        frauds = int(rng.binomial(AN_HOUR, FRAUDS))
        scores: npt.NDArray[np.int64] = np.zeros(SCORE_BINS, np.int64)
        scores[20], scores[4] = frauds, AN_HOUR - frauds
        delays.predicted(start, AN_HOUR, scores)
        for at, positive, late in (
            (20, 1, rng.exponential(MEAN_MS, frauds)),
            (4, 0, np.full(AN_HOUR - frauds, GOOD_MS)),
        ):
            came, counts = np.unique(late[start + late < now] // HOUR * HOUR, return_counts=True)
            for delay, rows in zip(came.tolist(), counts.tolist(), strict=True):
                scored = np.zeros((SCORE_BINS, 2), np.int64)
                scored[at, positive] = rows
                delays.known(start, int(delay), rows, scored)
    delays.advance(now)
    found = delays.maturity(now, 6 * HOUR, FRAUDS)
    age = found.age
    if age is None:
        raise RuntimeError("a month has not taught when labels are in; the picture would say nothing")
    kept, ages = delays.state(), len(delays.edges)
    seen = (now - (kept.index + 1) * kept.length)[:, None] >= delays.edges
    # As it is kept: predictions, then labels of every kind, negatives and positives by delay.
    counts = kept.counts[:, 1 : 1 + 3 * ages].astype(np.int64).reshape(-1, 3, ages)
    _, good, fraud = complete_share(counts, seen[:, None].astype(np.int64))
    came = (np.cumsum(counts, -1) * seen[:, None]).sum(0)
    shares = {
        "frauds, as learned": fraud,
        "good ones, as learned": good,
        "frauds among known": came[2] / np.maximum(came[1] + came[2], 1),
    }
    days = delays.edges / DAY
    lines = [Line(name, stepped(days, share), colour) for colour, (name, share) in enumerate(shares.items())]
    truth = [(day, 1 - float(np.exp(-day * DAY / MEAN_MS))) for day in np.linspace(0, SHOWN_DAYS, 57).tolist()]
    lines.append(Line("frauds, in truth", truth, 4))
    print(f"judged at {age / DAY:.2f} days; of the slower class {found.expected:.1%} is known at six hours", flush=True)
    return draw(
        "Labels come by class; they are judged when both are in",
        Axis("age of the prediction, days", 0, SHOWN_DAYS, range(0, SHOWN_DAYS + 1, 2)),
        Axis("share", 0, 1, (0, 0.25, 0.5, 0.75, 1)),
        lines,
        [("x", "label_maturity: 6h", 0.25), ("x", "judged here", age / DAY)],
    )


def stepped(days: Floats, share: Floats) -> list[tuple[float, float]]:
    """Return the corners of what is known of an age until the next one tells more."""
    shown = [(day, value) for day, value in zip(days.tolist(), share.tolist(), strict=True) if day <= SHOWN_DAYS]
    ends = [day for day, _ in shown[1:]] + [float(SHOWN_DAYS)]
    return [corner for (day, value), end in zip(shown, ends, strict=True) for corner in ((day, value), (end, value))]


def world(
    rng: np.random.Generator,
    rows: int,
    moved: tuple[float, ...] = (),
    positives: float = POSITIVES,
    turned: float = 0.0,
) -> tuple[Floats, Flags]:
    """Return scores and truths; inputs ``moved`` by so much keep P(y | x), ``turned`` is the share it turns round."""
    x = rng.normal(size=(3, rows)) + APART[:, None] * (rng.random(rows) < positives)
    shift = np.zeros(3)
    shift[: len(moved)] = moved
    odds = APART @ (x + shift[:, None]) - 0.5 * APART @ APART
    score = 1 / (1 + np.exp(-odds - np.log(POSITIVES / (1 - POSITIVES))))
    real = 1 / (1 + np.exp(-odds - np.log(positives / (1 - positives))))
    truth = rng.random(rows) < real
    return score, truth ^ ((score >= 0.5) & (rng.random(rows) < turned))


def known(score: Floats, truth: Flags) -> Labels:
    """Return labelled rows as a reference has them."""
    return labels_of(score, truth.astype(float), Task.BINARY, 0.5, "1")


def harm_before_novelty() -> str:
    """Points of accuracy that a move of one input costs, by labels and by scores alone; of one used, and one not."""
    rng = np.random.default_rng(5)
    reference = known(*world(rng, ROWS))
    usual = every_measure(None, reference.confusion, OutcomeSums.none())
    shifts = np.linspace(0.0, 1.5, 7)
    told: dict[str, list[tuple[float, float]]] = {
        "used, by labels later": [],
        "used, by scores now": [],
        "its interval, above": [],
        "its interval, below": [],
        "unused, by scores now": [],
    }
    for shift in shifts.tolist():
        score, truth = world(rng, ROWS, (shift,))
        found = harm_by_scores(np.bincount(score_bin(score), minlength=SCORE_BINS), reference, 0.5)
        measured = harm_by_labels(every_measure(None, known(score, truth).confusion, OutcomeSums.none()), usual)
        other, _ = world(rng, ROWS, (0.0, 0.0, shift))
        nothing = harm_by_scores(np.bincount(score_bin(other), minlength=SCORE_BINS), reference, 0.5)
        if found is None or measured is None or nothing is None:
            raise RuntimeError(f"nothing is estimated of a shift of {shift}")
        points = (measured.lost, found.lost, found.high, found.low, nothing.lost)
        for line, value in zip(told.values(), points, strict=True):
            line.append((shift, 100 * value))
    colours = (1, 0, 4, 4, 2)
    return draw(
        "Two inputs move alike; one costs",
        Axis("move of the input, standard deviations", 0, 1.5, (0, 0.5, 1, 1.5)),
        Axis("points of accuracy lost", -2, 8, range(-2, 9, 2)),
        [
            *(Line(name, points, colour) for colour, (name, points) in zip(colours, told.items(), strict=True)),
            Line("harm.tolerance, a point", [(0.0, 1.0), (1.5, 1.0)], 3),
        ],
    )


def three_changes() -> str:
    """What a score stands for on the reference, after moved inputs, after more positives, and after another concept."""
    rng = np.random.default_rng(7)
    reference = known(*world(rng, ROWS))
    worlds = {
        "reference": world(rng, ROWS),
        "inputs move": world(rng, ROWS, (0.8,)),
        "more positives": world(rng, ROWS, positives=0.45),
        "concept": world(rng, ROWS, turned=0.3),
    }
    lines = []
    for colour, (name, (score, truth)) in enumerate(worlds.items()):
        now = known(score, truth)
        split = split_errors(now.scored, reference, now.error_rate, 0.5)
        if split is None:
            raise RuntimeError(f"{name}: nothing tells mix and concept apart")
        concept = f"concept {100 * split.concept:+.1f} ({100 * split.low:+.1f} to {100 * split.high:+.1f})"
        print(f"{name}: mix {100 * split.mix:+.1f} points, {concept}", flush=True)
        cells = np.clip((score * 10).astype(int), 0, 9)
        points = [
            (float(score[cells == at].mean()), float(truth[cells == at].mean()))
            for at in range(10)
            if np.count_nonzero(cells == at) >= 100
        ]
        lines.append(Line(name, points, colour))
    return draw(
        "What a score stands for tells three changes apart",
        Axis("score", 0, 1, (0, 0.25, 0.5, 0.75, 1)),
        Axis("share of positives among labelled rows", 0, 1, (0, 0.25, 0.5, 0.75, 1)),
        lines,
    )


if __name__ == "__main__":
    main()
