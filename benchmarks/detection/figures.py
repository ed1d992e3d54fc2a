"""The pictures of docs/statistics.md: delay against false alarms, the evidence of one shift, and what can be seen."""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.detection import peers
from benchmarks.detection.engine import Setting, delays, length_at, quiet_peaks
from benchmarks.detection.plot import Axis, Line, draw
from benchmarks.detection.world import PRODUCTION_PANES, Floats, World

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "figures"
LENGTHS = (1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0)
SHIFT = 0.25
SCALE = 1.5
RULES = (("KS, window 500", peers.ks_distance, 1), ("W1, window 500", peers.normed_wasserstein, 2))
WIDTH = 500


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection.figures", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--replicates", type=int, default=200)
    arguments = parser.parse_args()
    pictures = {
        "detection-delay": lambda: delay_against_alarms(arguments.replicates),
        "detection-evidence": evidence_of_a_shift,
        "detection-power": lambda: power_curve(min(arguments.replicates, 100)),
    }
    for name, made in pictures.items():
        path = arguments.folder / f"{name}.svg"
        path.write_text(made(), encoding="utf-8")
        print(path, flush=True)


def delay_against_alarms(replicates: int) -> str:
    """Median delay after a shift of .25 sd (thick and thin lines) at each run length between false alarms."""
    setting = Setting("figure", pane=10, replicates=replicates, seed=17)
    peaks = quiet_peaks(setting, 30_000, ("conformal",))["conformal"]
    grid = np.linspace(3, 13, 401)
    run = np.array([length_at(peaks, level, setting.pane) for level in grid])
    levels = [float(grid[int(np.argmax(run >= asked))]) for asked in LENGTHS]
    found = delays(setting, {"conformal": levels}, float(setting.pane), 1000, 4_000, only=(".25", "sd x1.5"))
    mine = [[float(np.median(column)) for column in one] for one in found["conformal"]]
    lines = [
        Line("Stationkeeper, .25 sd", [(a, d[0]) for a, d in zip(LENGTHS, mine, strict=True)], 0),
        Line("Stationkeeper, sd x1.5", [(a, d[1]) for a, d in zip(LENGTHS, mine, strict=True)], 0),
    ]
    for name, statistic, colour in RULES:
        rng = np.random.default_rng(500)
        reference = np.sort(rng.standard_normal((replicates, peers.N_REF)), axis=1)
        quiet = np.concatenate(
            [statistic(peers.window(rng, replicates, WIDTH), reference) for _ in range(4_000 // replicates + 20)]
        )
        for change, mean, sd in ((".25 sd", SHIFT, 1.0), ("sd x1.5", 0.0, SCALE)):
            points = []
            for asked in LENGTHS:
                level = float(np.quantile(quiet, 1 - WIDTH / asked))
                wait = peers.window_delay(rng, statistic, reference, WIDTH, level, mean, sd)
                points.append((asked, float(np.median(wait))))
            lines.append(Line(f"{name}, {change}", points, colour + (2 if sd != 1.0 else 0)))
    return draw(
        "How long until a change is found, at the same rate of false alarms",
        Axis("events between false alarms", LENGTHS[0], LENGTHS[-1], LENGTHS, log=True),
        Axis("median events until found", 0, 700, range(0, 701, 100)),
        lines,
    )


def evidence_of_a_shift() -> str:
    """Log e-value of both arms over panes of 50 events; the mean moves by a quarter of a deviation at pane 40."""
    world = World(1, 10_000, seed=4, delta=0.02)
    quiet, changed = world.shares(), world.shares(SHIFT)
    paths: dict[str, list[tuple[float, float]]] = {"conformal ranks": [], "fixed reference": []}
    limit = float(np.log(2 * PRODUCTION_PANES))
    for t in range(110):
        scores = world.step(world.draw(quiet if t < 40 else changed, 50), 1.0)
        paths["conformal ranks"].append((t, float(scores.conformal[0])))
        paths["fixed reference"].append((t, float(scores.fixed[0])))
    return draw(
        "Evidence for one feature whose mean moves by 0.25 sd",
        Axis("pane of 50 events", 0, 110, range(0, 111, 20)),
        Axis("log e-value", -2, 24, range(0, 25, 4)),
        [Line(name, points, colour) for colour, (name, points) in enumerate(paths.items())],
        [("y", "page: 1 false page in 30 days for 300 features", limit), ("x", "change", 40.0)],
    )


def power_curve(replicates: int) -> str:
    """Share of shifts found within an hour and a day at the production budget, 50 events a minute."""
    sizes = np.array([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5])
    share: dict[str, list[tuple[float, float]]] = {"within an hour": [], "within six hours": []}
    for size in sizes.tolist():
        world = World(replicates, 10_000, seed=6, delta=0.02)
        quiet, changed = world.shares(), world.shares(size)
        first: Floats = np.full(replicates, np.inf)
        for t in range(20 + 360):
            scores = world.step(world.draw(quiet if t < 20 else changed, 50), 1.0)
            hit = (scores.leading >= np.log(2 * PRODUCTION_PANES)) & np.isinf(first)
            first[hit] = t - 19
            if np.isfinite(first).all():
                break
        share["within an hour"].append((size, float((first <= 60).mean())))
        share["within six hours"].append((size, float(np.isfinite(first).mean())))
    return draw(
        "What is found: 300 features, one false page in 30 days, 50 events a minute",
        Axis("shift of the mean, standard deviations", 0.0, 0.5, (0, 0.1, 0.2, 0.3, 0.4, 0.5)),
        Axis("share found", 0, 1, (0, 0.25, 0.5, 0.75, 1)),
        [Line(name, points, colour) for colour, (name, points) in enumerate(share.items())],
    )


if __name__ == "__main__":
    main()
