"""Which rows to learn from after a change: average precision of every window, and of the one a retraining chooses.

``python -m benchmarks windows [--seeds 20] [--labels 1500 6000 25000] [--broken]``. Worlds are the fraud demo's by
seed (`stationkeeper demo fraud --seed N`): two weeks of history, and so many labelled rows since the new payment method
came. Judged on 20 000 later rows or more. The bar: on average over seeds the chosen window is within .005 of the best
fixed rule. ``--broken`` asks what training on broken data would cost: after the change one number is sent as 0, and
the model is judged on rows in which it is mended; a retraining refuses such rows.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score

from stationkeeper.demo.card_fraud import START_MS, FraudScenario, frame_of
from stationkeeper.demo.fraud import FraudStory, generate
from stationkeeper.monitor.settings import HOUR_MS
from stationkeeper.registry import ModelTask
from stationkeeper.retrain.bootstrap import training_rows
from stationkeeper.retrain.core.plan import LabelStatistics, TrainingWindow, WindowKind, candidate_windows
from stationkeeper.retrain.core.split import split_rows
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot import TrainingTable
from stationkeeper.retrain.training.job import TrainingJob
from stationkeeper.retrain.training.trainer import load_trainer
from stationkeeper.retrain.training.training import WindowFits

# At 60 payments a minute about 21 600 rows, of which 3 % or more are fraud: the error of an average precision is below
# a hundredth, and all windows share it.
TEST_HOURS = 6
MOST = 0.005
CHOSEN, KEPT = "chosen", "not retrained"
# The number that tells most about a fraud: without it the loss of a model taught that it is nothing shows.
ZEROED = "amount_ratio"


def world(seed: int, labels: int, *, broken: bool) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Return the labelled rows to learn from, the rows to be judged on, and when the change began (ms)."""
    story = FraudStory.drawn(seed)
    onset = START_MS + round(story.onset_hours * HOUR_MS)
    # From the whole hour of the change; at 60 a minute, with an hour more for the chance in how many come.
    first = onset // HOUR_MS * HOUR_MS
    hours = labels // 3_600 + 2 + TEST_HOURS
    live = frame_of(generate(story, first, hours, 60.0, onset_ms=onset)).sort("time", "event_id")
    scenario, since = FraudScenario(story), live.filter(pl.col("time") >= onset)
    columns = scenario.training().columns
    new, later = since.head(labels).select(columns), since.slice(labels).select(columns)
    if broken:
        new = new.with_columns(pl.lit(0.0).alias(ZEROED))
    return pl.concat([scenario.training(), new]), later, onset


def measure(seed: int, labels: int, *, broken: bool) -> dict[str, float]:
    """Return the average precision on later rows of each window, of the chosen and, if ``broken``, of no retraining."""
    settings = RetrainSettings()
    rows, later, onset = world(seed, labels, broken=broken)
    table = TrainingTable.of(training_rows(rows), ModelTask.BINARY, "true")
    test = TrainingTable.of(training_rows(later), ModelTask.BINARY, "true")
    before = int((table.times < onset).sum())
    statistics = LabelStatistics(0, 0, before, len(table.times) - before, 0)
    windows = candidate_windows(settings.plan_rules(), statistics)
    job = TrainingJob.of(settings, model="fraud", snapshot=Path(), digest="", windows=windows, onset_ms=onset)
    split = split_rows(table.times, onset, job.holdout, job.validation)
    fits = WindowFits(
        job, load_trainer(job.trainer, job.parameters), table, np.arange(len(rows)), split, lambda *_: None
    )
    losses = fits.backtest(windows)
    found = {
        window.kind.value: float(average_precision_score(test.labels, fits.final(window).score(test.features)))
        for window in windows
    }
    found[CHOSEN] = found[min(losses, key=lambda one: losses[one]).kind.value]
    print(f"seed {seed}, {labels} labels", file=sys.stderr, flush=True)
    if not broken:
        return found
    old = split_rows(table.times[:before], int(table.times[0]), 0.2, 0.0)
    kept = WindowFits(job, fits.trainer, table, np.arange(before), old, lambda *_: None)
    model = kept.final(TrainingWindow(WindowKind.ALL))
    return found | {KEPT: float(average_precision_score(test.labels, model.score(test.features)))}


def main() -> int:
    """Print the tables; 1 where the chosen window misses the bar at some number of labels."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks windows", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--labels", type=int, nargs="+", default=[1_500, 6_000, 25_000])
    parser.add_argument("--broken", action="store_true", help="send one number as 0 since the change")
    chosen = parser.parse_args()
    held = True
    for labels in chosen.labels:
        seeds = range(chosen.first, chosen.first + chosen.seeds)
        tables = [measure(seed, labels, broken=chosen.broken) for seed in seeds]
        # A window that not every seed has (the last rows, where they are all) is no rule to be compared with.
        names = [name for name in tables[0] if all(name in one for one in tables)]
        means = {name: float(np.mean([one[name] for one in tables])) for name in names}
        worst = {name: min(one[name] for one in tables) for name in names}
        print(f"\n{labels} labels since the change, {chosen.seeds} seeds: average precision, mean (worst)\n")
        for name in sorted(names, key=lambda one: -means[one]):
            print(f"- {name}: {means[name]:.4f} ({worst[name]:.4f})")
        if chosen.broken:
            print(f"a retraining on these rows would cost {means[KEPT] - means[CHOSEN]:+.4f}; the loop refuses it")
            continue
        fixed = max((name for name in names if name not in (CHOSEN, KEPT)), key=lambda one: means[one])
        short = means[fixed] - means[CHOSEN]
        word = "held" if short <= MOST else "MISSED"
        held &= short <= MOST
        print(f"chosen against the best fixed rule, {fixed}: {-short:+.4f} (at most {MOST:g} below: {word})")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
