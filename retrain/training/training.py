"""One training: the backtest chooses the window, the threshold is chosen out of fold, the final model is exported."""

import hashlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.contracts.messages import LearningCurve, Shadow
from stationkeeper.contracts.times import to_datetime
from stationkeeper.registry import ModelCard, ModelTask, Scorer, load_scorer
from stationkeeper.retrain.core.measures import Flags, Floats, class_loss_rows, log_loss_rows, performance
from stationkeeper.retrain.core.plan import TrainingWindow
from stationkeeper.retrain.core.selection import effective_rows
from stationkeeper.retrain.core.split import Split, blocked_folds, fit_room, split_rows, window_rows
from stationkeeper.retrain.core.threshold import Threshold, choose_threshold
from stationkeeper.retrain.snapshot import BadData, TrainingTable, digest_of, newest_rows
from stationkeeper.retrain.training.export import GOLDEN_ROWS, Exported, export, packages, schema_changes, serving_cost
from stationkeeper.retrain.training.job import ARTIFACT_DIRECTORY, PROGRESS_FILE, WEIGHT, TrainingJob, TrainingResult
from stationkeeper.retrain.training.scored_rows import OutOfFold, ScoredRows, decided
from stationkeeper.retrain.training.search import search
from stationkeeper.retrain.training.trainer import FittedModel, Trainer, TrainingData, load_trainer

FOLDS = 3
"""Parts of the rows after the change that are scored out of fold, chosen: each fit sees two thirds of them and the
threshold is chosen on all. More folds cost a fit each and see little more; two would see half."""

MAX_FRESH = 20_000
"""Rows beside the folds' own that each fold scores at most, chosen: twenty of them are the highest thousandth, and
no slow trainer answers a month of rows three times over."""
BACKTEST_SHARE = 0.3
"""Share of ``max_rows`` that each window's backtest learns from: enough to rank windows, not to serve.
Half of it ranks by noise more often, twice of it takes twice the time for each of four windows."""
BUSY_MS = 30 * 60_000
"""Over how long the busiest traffic is counted: a step of the shipped ramp, whose length it decides on."""
MIN_PRECISION_ALERTS = 30
"""Alerts before the change below which the champion's precision there is no target, chosen: its standard error
is then above 9 points at a precision of one half."""

Positions = npt.NDArray[np.int64]


@dataclass(slots=True)
class Training:
    """The steps of one job; ``run`` does them in order and writes the artifact into ``directory``."""

    job: TrainingJob
    directory: Path
    seconds: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, Any] | None = None

    def run(self) -> TrainingResult:
        """Train, export and score; raises ``BadData``, ``ExportError``, ``TrainerError``."""
        with self._timed("read"):
            table = self._read()
            rows = np.flatnonzero(table.known)
            split = self._split(table, rows)
            champion = load_scorer(self.job.champion) if self.job.champion else None
            # All rows at once: threshold, gate and reference each want a part of them.
            champion_scores = table.scores_by(champion) if champion else None
            selected = table.selected(self.job.onset_ms, self.job.ripe_until_ms, champion_scores)
            weights = np.ones(len(rows)) if selected is None else selected.weights[rows]
        trainer = load_trainer(self.job.trainer, self.job.parameters)
        fits = WindowFits(self.job, trainer, table, rows, split, self._say, weights)
        with self._timed("backtest"):
            backtest = fits.backtest(self.job.windows)
            # Of equal losses the first: `all`, which forgets nothing.
            window = min(backtest, key=lambda one: backtest[one])
        if self.job.space:
            with self._timed("search"):
                fits.trainer, self.parameters = fits.search(window)
        with self._timed("curve"):
            curve = fits.curve(window) if champion and self.job.onset_ms is not None else None
        with self._timed("threshold"):
            out_of_fold = fits.out_of_fold(window)
            threshold = self._threshold(fits, out_of_fold.scores, champion, champion_scores)
        with self._timed("fit"):
            fitted = fits.final(window)
        with self._timed("export"):
            exported = self._export(fitted, table, threshold, fits.trainer)
        with self._timed("score"):
            pair = (champion_scores, table.scores_by(exported.model))
            scored = ScoredRows(self.job, self.directory, table, rows, split, pair, weights)
            held_out = scored.write_held_out()
            scored.write_honest(out_of_fold)
            cuts = (champion.card.threshold if champion else 0.5, exported.model.card.threshold)
            shadow = scored.write_shadow(cuts)
            selection = decided(selected, self.job.task, pair, cuts)
        told = self._result(fits, backtest, window, threshold, exported, held_out, champion, shadow, curve)
        return told.model_copy(update={"selection": selection})

    def _read(self) -> TrainingTable:
        job = self.job
        found = digest_of(job.snapshot)
        # Once more, in the child: the file may have changed since the parent looked, and the run is named by this
        # digest.
        if found != job.digest:
            raise BadData(f"the snapshot hashes to {found}, the job names {job.digest}")
        frame = newest_rows(job.snapshot, job.data_rows)
        return TrainingTable.of(
            frame,
            job.task,
            job.positive,
            job.features,
            job.exclude,
            (job.segments, job.protected, job.sensitive),
            () if job.amount is None else (job.amount,),
        )

    def _split(self, table: TrainingTable, rows: Positions) -> Split:
        times = table.times[rows]
        # A first champion knows of no change: every row is after it.
        onset = int(times[0]) if self.job.onset_ms is None else self.job.onset_ms
        split = split_rows(times, onset, self.job.holdout, self.job.validation, learnt_until=self.job.champion_until_ms)
        for name, mask in (("training", split.learn), ("validation", split.validation), ("held-out", split.holdout)):
            labels = table.labels[rows][mask]
            # With one window and one recipe nothing is chosen on them.
            if name == "validation" and len(self.job.windows) == 1 and not self.job.space:
                continue
            if len(labels) == 0 or (self.job.task is not ModelTask.REGRESSION and len(np.unique(labels)) < 2):
                raise BadData(f"the {len(labels)} {name} rows hold one label only; wait for more labels")
        return split

    def _threshold(
        self,
        fits: "WindowFits",
        out_of_fold: Floats,
        champion: Scorer | None,
        champion_scores: Floats | None,
    ) -> Threshold | None:
        if self.job.task is not ModelTask.BINARY:
            return None
        table, rows, split, each = fits.table, fits.rows, fits.split, fits.each
        labels = table.labels[rows] == 1.0
        target = None
        # The champion's precision at work: what it says of rows that it learnt from would flatter it.
        learnt_until = self.job.champion_until_ms
        before = ~split.after & (table.times[rows] > learnt_until if learnt_until is not None else True)
        if champion is not None and champion_scores is not None and before.any():
            found = performance(labels[before], champion_scores[rows][before], champion.card.threshold, each[before])
            # Without a target the threshold is that of the largest F1.
            target = found.precision if found.alerts >= MIN_PRECISION_ALERTS else None
        usable = ~np.isnan(out_of_fold)
        return choose_threshold(
            labels[usable],
            out_of_fold[usable],
            self.job.threshold_rule,
            precision=target,
            alert_rate=self.job.alert_rate,
            weights=each[usable],
        )

    def _export(
        self, fitted: FittedModel, table: TrainingTable, threshold: Threshold | None, trainer: Trainer
    ) -> Exported:
        card = ModelCard(
            model=self.job.model,
            task=self.job.task,
            features=table.specs,
            classes=table.classes,
            positive=table.positive,
            threshold=threshold.value if threshold else 0.5,
            # Set by the export, which alone knows the bytes; a card must have one to be a card.
            onnx_sha256="0" * 64,
            request=self.job.request,
            snapshot=self.job.digest,
            trainer=self.job.trainer,
            notes={"code": code_digest(trainer), "seed": self.job.seed},
        )
        golden = table.features.sample(min(GOLDEN_ROWS, len(table.features)), seed=self.job.seed)
        return export(fitted, card, golden, self.directory / ARTIFACT_DIRECTORY)

    def _result(
        self,
        fits: "WindowFits",
        backtest: dict[TrainingWindow, float],
        window: TrainingWindow,
        threshold: Threshold | None,
        exported: Exported,
        held_out: pl.DataFrame,
        champion: Scorer | None,
        shadow: Shadow | None,
        curve: LearningCurve | None,
    ) -> TrainingResult:
        after = held_out.filter(pl.col("after"))
        return TrainingResult(
            window=window.kind,
            backtest={one.kind.value: round(loss, 6) for one, loss in backtest.items()},
            threshold=threshold,
            champion_threshold=champion.card.threshold if champion else None,
            performance=_measures(after, self.job.task, threshold.value if threshold else None),
            rows=len(fits.rows),
            rows_after=int(fits.split.after.sum()),
            rows_held_out=len(held_out),
            features=len(fits.table.specs),
            parity=exported.parity,
            onnx_sha256=exported.model.card.onnx_sha256,
            onnx_bytes=(self.directory / ARTIFACT_DIRECTORY / "model.onnx").stat().st_size,
            trainer=self.job.trainer,
            code=code_digest(fits.trainer),
            seconds={name: round(value, 3) for name, value in self.seconds.items()},
            packages=packages(),
            metrics=fits.metrics,
            parameters=self.parameters,
            serving=serving_cost(self.directory / ARTIFACT_DIRECTORY, fits.table.features),
            changed_inputs=schema_changes(champion.card.features, fits.table.specs) if champion else (),
            shadow=shadow,
            curve=curve,
            busiest=busiest(fits.table.times),
        )

    def _say(self, share: float, text: str) -> None:
        """Write down what is being done, whole or not at all; see ``process.progress``."""
        part = self.directory / (PROGRESS_FILE + ".part")
        part.write_text(json.dumps({"share": round(share, 3), "text": text}))
        part.replace(self.directory / PROGRESS_FILE)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[step] = time.perf_counter() - start


@dataclass(slots=True)
class WindowFits:
    """The fits of one training, each on the rows of a window that it may see (``benchmarks.windows`` compares them).

    ``weights`` float64[rows] say for how many rows each labelled one stands, None where each stands for itself.
    """

    job: TrainingJob
    trainer: Trainer
    table: TrainingTable
    rows: Positions
    split: Split
    say: Callable[[float, str], None]
    weights: Floats | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    searched: dict[str, float] = field(default_factory=dict)
    _begun: int = 0

    @property
    def each(self) -> Floats:
        """For how many rows each labelled one stands."""
        return np.ones(len(self.rows)) if self.weights is None else self.weights

    def backtest(self, windows: Sequence[TrainingWindow]) -> dict[TrainingWindow, float]:
        """Return the loss of each window on the validation rows, which come after all it learnt from."""
        if len(windows) == 1:
            return {windows[0]: 0.0}
        return {window: self._validated(window, self.trainer) for window in windows}

    def search(self, window: TrainingWindow) -> tuple[Trainer, dict[str, Any]]:
        """Return the trainer of the least loss on the validation rows, within the job's time, and its parameters."""
        job = self.job

        def loss(parameters: Mapping[str, Any]) -> float:
            return self._validated(window, load_trainer(job.trainer, parameters))

        found = search(job.parameters, job.space, loss, seed=job.seed, budget_s=job.search_s, clock=time.monotonic)
        # Beside the trainer's own: what was tried is known to whoever reads the run.
        self.searched = found.numbers()
        for parameters, why in found.failed:
            # This process's errors are the run's log.
            sys.stderr.write(f"search: {parameters} failed: {why}\n")
        return load_trainer(job.trainer, found.parameters), found.parameters

    def _validated(self, window: TrainingWindow, trainer: Trainer) -> float:
        """The loss on the validation rows of a fit on what came before them."""
        fitted = self._fit(window, self.split.learn, round(BACKTEST_SHARE * self.job.max_rows), trainer)
        losses = self._losses(fitted, self.rows[self.split.validation])
        return float(np.average(losses, weights=self.each[self.split.validation]))

    def curve(self, window: TrainingWindow) -> LearningCurve | None:
        """Return how the loss falls from a quarter of the rows since the change to all of them; None of too few.

        None as well where they are more than one fit may take: no training would learn from four times as many. On all
        later rows, held out ones too: nothing of this training is chosen by it.
        """
        new, later = np.flatnonzero(self.split.learn & self.split.after), self.split.validation | self.split.holdout
        few, limit = self.split.learn.copy(), round(BACKTEST_SHARE * self.job.max_rows)
        # As cheap as a window's backtest where that takes all of them; capped, both fits would learn from as many, and
        # the curve would say that rows bring nothing.
        if not self._takes(window, new, limit):
            limit = self.job.max_rows
            if not self._takes(window, new, limit):
                # Progress counts its two fits beforehand.
                self._begun += 2
                return None
        # At random and not the oldest: what is asked is what their number brings, not how old they are.
        few[np.random.default_rng(self.job.seed).permutation(new)[len(new) // 4 :]] = False
        try:
            pair = [self._losses(self._fit(window, one, limit), self.rows[later]) for one in (few, self.split.learn)]
        except BadData:
            # A quarter that holds one class says nothing, and is no reason to give up the training.
            return None
        saved, each = pair[0] - pair[1], self.each[later]
        times = self.table.times[self.rows]
        return LearningCurve(
            onset=to_datetime(self.job.onset_ms or int(times[0])),
            until=to_datetime(int(times[-1])),
            rows=int(self.split.after.sum()),
            loss=round(float(np.average(pair[1], weights=each)), 6),
            quarter=round(float(np.average(pair[0], weights=each)), 6),
            error=round(float(saved.std() / effective_rows(each) ** 0.5), 6),
            most=self._most(window),
        )

    def _most(self, window: TrainingWindow) -> int:
        """Return how many labelled rows since the change a later training could use: it reads and learns from no more.

        As many as fill what a fit of this window takes of them, those that it may not learn from (held out) included.
        """
        job, usable, after = self.job, self.split.learn | self.split.validation, self.split.after
        room = fit_room(window, int((usable & ~after).sum()), job.max_rows)
        return min(job.data_rows, round(room * int(after.sum()) / max(int((usable & after).sum()), 1)))

    def _takes(self, window: TrainingWindow, new: Positions, limit: int) -> bool:
        """Return whether a fit on ``limit`` rows learns from all of the ``new`` ones."""
        rng = np.random.default_rng(self.job.seed)
        taken, _ = window_rows(window, self.split.learn, self.split.after, limit, rng)
        return int(self.split.after[taken].sum()) == len(new)

    def out_of_fold(self, window: TrainingWindow) -> OutOfFold:
        """Return scores of rows after the change, each by a model that has not seen its run of rows; NaN elsewhere."""
        allowed = self.split.learn | self.split.validation
        several = self.job.task is ModelTask.MULTICLASS
        scores = np.full((len(self.rows), len(self.table.classes)) if several else len(self.rows), np.nan)
        candidates, fresh, beside = np.flatnonzero(allowed & self.split.after), self._fresh(), []
        for part in blocked_folds(candidates, FOLDS):
            usable = allowed.copy()
            usable[part] = False
            # Half of the rows of the final model, chosen: these three fits then cost as much as one and a half of that.
            fitted = self._fit(window, usable, self.job.max_rows // 2)
            scores[part] = fitted.score(self.table.features[self.rows[part]])
            if len(fresh):
                beside.append(fitted.score(self.table.features[fresh]))
        return OutOfFold(scores, fresh, np.array(beside))

    def _fresh(self) -> Positions:
        """Positions in the table of rows since the change that no model learns from, with a label or without."""
        if self.job.task is not ModelTask.BINARY or self.job.onset_ms is None:
            return np.empty(0, np.int64)
        fresh = self.table.times >= self.job.onset_ms
        fresh[self.rows[self.split.learn | self.split.validation]] = False
        found = np.flatnonzero(fresh)
        return found[:: len(found) // MAX_FRESH + 1]

    def final(self, window: TrainingWindow) -> FittedModel:
        """Return the model of everything that is not held out."""
        fitted = self._fit(window, self.split.learn | self.split.validation, self.job.max_rows)
        self.metrics = dict(getattr(fitted, "metrics", {})) | self.searched
        return fitted

    def _fit(self, window: TrainingWindow, usable: Flags, limit: int, trainer: Trainer | None = None) -> FittedModel:
        # A generator for each fit and not one for all: a window's rows must not depend on how many fits came before.
        rng = np.random.default_rng(self.job.seed)
        chosen, weights = window_rows(window, usable, self.split.after, limit, rng)
        positions = self.rows[chosen]
        labels = self.table.labels[positions]
        if self.job.task is not ModelTask.REGRESSION and len(np.unique(labels)) < 2:
            raise BadData(f"the {len(labels)} rows of window {window.kind.value} hold one label only")
        windows = len(self.job.windows)
        curve = 0 if self.job.champion is None or self.job.onset_ms is None else 2
        count, begun = (windows if windows > 1 else 0) + curve + FOLDS + 1, self._begun
        self._begun += 1

        def say(share: float | None, text: str) -> None:
            # A search makes more fits than anybody can tell before.
            words = f"fit {begun + 1} of {count}, {len(labels)} rows"
            if self.job.space:
                words = f"fit {begun + 1}, {len(labels)} rows"
            self.say(min((begun + (share or 0.0)) / count, 1.0), f"{words}: {text}" if text else words)

        say(None, "")
        data = TrainingData(
            features=self.table.features[positions],
            specs=self.table.specs,
            labels=labels,
            weights=weights * self.each[chosen],
            task=self.job.task,
            seed=self.job.seed,
            threads=self.job.threads,
            memory_bytes=self.job.memory_bytes,
            seconds=self.job.timeout_s,
            progress=say,
            classes=self.table.classes,
        )
        return (trainer or self.trainer).fit(data)

    def _losses(self, fitted: FittedModel, positions: Positions) -> Floats:
        scores, labels = fitted.score(self.table.features[positions]), self.table.labels[positions]
        if self.job.task is ModelTask.BINARY:
            return log_loss_rows(labels == 1.0, scores)
        if self.job.task is ModelTask.MULTICLASS:
            return class_loss_rows(labels.astype(np.int64), scores)
        return np.asarray(np.abs(scores - labels), dtype=np.float64)


def busiest(times: npt.NDArray[np.int64]) -> float:
    """Return the rows a minute of the busiest half hour (of the clock) among ``times`` in ms, at least one."""
    return float(np.unique(times // BUSY_MS, return_counts=True)[1].max() / (BUSY_MS / 60_000))


def code_digest(trainer: Trainer) -> str:
    """Return the SHA-256 of the source of the module that holds the trainer, so that a run names its code."""
    module = inspect.getmodule(type(trainer))
    try:
        source = inspect.getsource(module) if module else ""
    except OSError:
        source = ""
    return hashlib.sha256(source.encode()).hexdigest()


def _measures(held_out: pl.DataFrame, task: ModelTask, threshold: float | None) -> dict[str, float]:
    labels, scores, each = (held_out[name].to_numpy() for name in ("label", "challenger", WEIGHT))
    if task is ModelTask.MULTICLASS:
        places = labels.astype(np.int64)
        right = float(np.average(scores.argmax(axis=1) == places, weights=each))
        return {"accuracy": right, "log_loss": float(np.average(class_loss_rows(places, scores), weights=each))}
    if threshold is None:
        return {"mean_absolute_error": float(np.average(np.abs(labels - scores), weights=each))}
    return {name: float(value) for name, value in performance(labels == 1.0, scores, threshold, each).numbers().items()}
