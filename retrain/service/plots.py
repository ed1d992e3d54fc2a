"""Pictures of a training for whoever opens its run: how right it is, and the change that it was made for."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.retrain.snapshot import TIME
from stationkeeper.retrain.training.job import HELD_OUT_FILE, TrainingJob, TrainingResult

# Cells of the reliability plot, tenths of the score: 900 held-out rows (data.min_rows times the holdout) are 90 each
# where scores are even, known to 10 points at worst; twice as many are mostly noise, half hide a bend.
_BINS = 10
# Bars of the drift plot, and values of a text feature: what is read at a glance.
_BARS = 20
# A screenful each, sharp enough to be read in MLflow's own window.
_INCHES, _DPI = (6.0, 4.0), 100
# Letters of a value below its bars: more run into the next ones.
_TICK = 20

Floats = npt.NDArray[np.float64]


def write_plots(
    job: TrainingJob, result: TrainingResult, directory: Path, rows: pl.DataFrame | None, subject: str
) -> list[Path]:
    """Write PNG files into ``directory`` and return them: none of what the training or the snapshot cannot show.

    Of a binary model reliability, precision-recall and confusion on rows held out; of ``rows`` (the snapshot) the
    ``subject`` that asked, before and after the onset, unless its values are sensitive.
    """
    drawn = []
    held_out = directory / HELD_OUT_FILE
    if result.threshold is not None and held_out.exists():
        scored = pl.read_parquet(held_out).drop_nulls("label")
        labels, scores = scored["label"].to_numpy() == 1.0, scored["challenger"].to_numpy()
        if labels.any() and not labels.all():
            threshold = result.threshold.value
            drawn.append(_saved(directory / "reliability.png", _reliability(labels, scores)))
            drawn.append(_saved(directory / "precision-recall.png", _precision_recall(labels, scores, threshold)))
            drawn.append(_saved(directory / "confusion.png", _confusion(labels, scores >= threshold)))
    shown = rows is not None and subject in rows.columns and subject not in {*job.sensitive, *job.protected}
    if rows is not None and shown and job.onset_ms is not None:
        before, after = rows.filter(pl.col(TIME) < job.onset_ms), rows.filter(pl.col(TIME) >= job.onset_ms)
        if len(before) and len(after):
            drawn.append(_saved(directory / "drift.png", _drift(before[subject], after[subject])))
    return drawn


def reliability(labels: npt.NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """Return the mean score and the share of positives of each tenth of the score that has rows.

    By hand: scores .11, .13, .91, of which the last is positive: (.12, .91) and (0, 1).
    """
    bins = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    rows = np.bincount(bins, minlength=_BINS)
    used = rows > 0
    mean = np.bincount(bins, weights=scores, minlength=_BINS)[used] / rows[used]
    return mean, np.bincount(bins, weights=labels, minlength=_BINS)[used] / rows[used]


def precision_recall(labels: npt.NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """Return precision and recall at each different score as threshold, from the highest down.

    By hand: scores .9, .8, .8, labels 1, 0, 1: precision (1, 2/3), recall (1/2, 1).
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    # Rows of one score are one threshold: only its last row counts.
    last = np.append(np.diff(scores[order]) != 0, True)
    return hits[last] / (np.flatnonzero(last) + 1), hits[last] / max(int(labels.sum()), 1)


def _axes(title: str, x: str, y: str) -> tuple[Any, Any]:
    # Figure and not pyplot: no state of the process, no display, safe in a thread.
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="tight")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _saved(path: Path, figure: Any) -> Path:
    figure.savefig(path, format="png")
    return path


def _reliability(labels: npt.NDArray[np.bool_], scores: Floats) -> Any:
    figure, axes = _axes(f"Reliability on {len(labels)} rows held out", "mean score", "share of positives")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.plot(*reliability(labels, scores), marker="o")
    return figure


def _precision_recall(labels: npt.NDArray[np.bool_], scores: Floats, threshold: float) -> Any:
    precision, recall = precision_recall(labels, scores)
    figure, axes = _axes(f"Precision and recall on {len(labels)} rows held out", "recall", "precision")
    axes.plot(recall, precision)
    flagged = scores >= threshold
    if flagged.any():
        axes.plot(labels[flagged].sum() / labels.sum(), labels[flagged].mean(), "o", label=f"threshold {threshold:.3g}")
        axes.legend()
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    return figure


def _confusion(labels: npt.NDArray[np.bool_], flagged: npt.NDArray[np.bool_]) -> Any:
    table = np.array([[((labels == truth) & (flagged == said)).sum() for said in (False, True)] for truth in (0, 1)])
    figure, axes = _axes(f"Decisions on {len(labels)} rows held out", "decided", "true")
    axes.imshow(np.sqrt(table), cmap="Blues")
    axes.set(xticks=[0, 1], yticks=[0, 1], xticklabels=["negative", "positive"], yticklabels=["negative", "positive"])
    for (row, column), count in np.ndenumerate(table):
        axes.text(column, row, f"{count}", ha="center", va="center")
    return figure


def _drift(before: pl.Series, after: pl.Series) -> Any:
    name = _plain(before.name)
    figure, axes = _axes(f"{name}: before and after the onset", name, "share of the rows")
    if before.dtype.is_numeric():
        both = np.concatenate([_numbers(before), _numbers(after)])
        # Without the outermost half per cent of each side, or one absurd value leaves a single bar.
        low, high = (float(edge) for edge in np.quantile(both, [0.005, 0.995])) if len(both) else (0.0, 1.0)
        edges = np.linspace(low, high, _BARS + 1)
        for when, series in (("before", before), ("after", after)):
            values = _numbers(series)
            axes.hist(values, edges, weights=np.full(len(values), 1 / max(len(series), 1)), alpha=0.6, label=when)
    else:
        # Under a name of our own: polars refuses to count a feature that is called as the counts are.
        texts = [series.cast(pl.String).fill_null("(missing)").alias("text") for series in (before, after)]
        top = pl.concat(texts).value_counts(sort=True)[:_BARS].to_series(0).to_list()
        for place, (when, series) in enumerate(zip(("before", "after"), texts, strict=True)):
            counts = dict(series.value_counts().iter_rows())
            shares = [counts.get(value, 0) / len(series) for value in top]
            axes.bar(np.arange(len(top)) + 0.4 * place, shares, 0.4, label=when)
        axes.set_xticks(
            np.arange(len(top)) + 0.2, [_plain(str(value)[:_TICK]) for value in top], rotation=45, ha="right"
        )
    axes.legend()
    return figure


def _numbers(series: pl.Series) -> Floats:
    # A missing number is null or NaN; either would leave the axis without ends.
    return series.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()


def _plain(text: str) -> str:
    # Between two dollars matplotlib reads mathematics, and refuses what is none.
    return text.replace("$", r"\$")
