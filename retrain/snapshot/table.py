"""The training table: a snapshot's rows as features with kinds, labels as numbers, and what makes them unusable."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.registry import FeatureKind, FeatureSpec, ModelTask, Scorer
from stationkeeper.retrain.core.labels import misfit, positive_texts
from stationkeeper.retrain.core.measures import Flags
from stationkeeper.retrain.core.selection import Selected, select
from stationkeeper.retrain.snapshot.events import ACTION, DRAWN, EVENT_ID, LABEL, TIME
from stationkeeper.retrain.snapshot.snapshot import ACTED, RESERVED

MIN_ROWS = 50
"""Labelled rows below which no training begins: chosen as a floor against an empty window, not as evidence; what is
enough for a better model is ``data.min_rows`` and the gate's business."""


MOST_SEGMENTS = 20
"""Values up to which a feature makes segments by itself, chosen: each of them gets a share of the gate's error rate,
and a feature of a thousand values has few rows in each."""


WIDEST = 64
"""Letters of an action or of a segment's value that count, chosen as longer than a name: numpy gives each row the width
of the longest, and of a million rows one text of 10 000 letters would make 40 GB."""


class BadData(ValueError):
    """Rows that cannot be trained on; the message names the column or label and what to do."""


@dataclass(frozen=True, slots=True)
class TrainingTable:
    """All rows of a snapshot in time order: n rows, of which those with ``known`` have a label.

    ``labels`` is float64[n] (NaN where unknown; 1.0 for the positive class, of several the index in ``classes``);
    ``classes`` are the texts of the negative and the positive class, or of all of several in order. ``actions`` are
    what was done upon each answer, "" where no event tells, ``drawn`` its probability, NaN where none tells.
    """

    ids: pl.Series
    times: npt.NDArray[np.int64]
    features: pl.DataFrame
    specs: tuple[FeatureSpec, ...]
    labels: npt.NDArray[np.float64]
    known: Flags
    classes: tuple[str, ...]
    positive: str | None
    groups: pl.DataFrame
    others: pl.DataFrame
    actions: npt.NDArray[np.str_]
    drawn: npt.NDArray[np.float64]

    @classmethod
    def of(
        cls,
        frame: pl.DataFrame,
        task: ModelTask,
        positive: str,
        include: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        segments: tuple[tuple[str, ...] | None, tuple[str, ...], tuple[str, ...]] = ((), (), ()),
        others: tuple[str, ...] = (),
    ) -> Self:
        """Read a snapshot frame; raises ``BadData``.

        ``segments`` are the features that become ``groups``, whether models may use them or not: some (None takes all
        with few values), more that are protected, and which of them are sensitive; ``others`` are features that are
        kept beside those that models may use.
        """
        # By time and id, because rows of one millisecond come in any order from several partitions, and the split and
        # the seeded trainer go by position.
        rows = frame.sort(TIME, EVENT_ID)
        specs = _specs(rows, include, exclude)
        known, n = rows[LABEL].is_not_null().to_numpy(), len(rows)
        if int(known.sum()) < MIN_ROWS:
            raise BadData(f"{int(known.sum())} labelled rows; a model needs at least {MIN_ROWS}")
        classes: tuple[str, ...] = ()
        chosen: str | None = None
        if task is ModelTask.REGRESSION:
            labels = _numbers(rows[LABEL])
        elif task is ModelTask.MULTICLASS:
            labels, classes = _indices(rows)
        else:
            labels, classes, chosen = _classes(rows, positive)
        return cls(
            ids=rows[EVENT_ID],
            times=rows[TIME].to_numpy(),
            features=rows.select([spec.name for spec in specs]),
            specs=specs,
            labels=labels,
            known=known,
            classes=classes,
            positive=chosen,
            groups=_groups(rows, *segments),
            others=rows.select(name for name in others if name in _features(rows)),
            actions=rows[ACTION].fill_null("").str.slice(0, WIDEST).to_numpy().astype(str)
            if ACTION in rows.columns
            else np.full(n, ""),
            drawn=rows[DRAWN].fill_null(float("nan")).to_numpy() if DRAWN in rows.columns else np.full(n, np.nan),
        )

    def scores_by(self, model: Scorer, rows: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.float64]:
        """Return what a model answers on rows (all without): float64[n], or [n, k] in the order of ``classes``."""
        features = self.features if rows is None else self.features[rows]
        if model.card.task is not ModelTask.MULTICLASS:
            return model.score(features)
        found = model.class_scores(features)
        # A class that a model does not know has probability 0; one that no label has is no answer's own column.
        known = {name: found[:, place] for place, name in enumerate(model.card.classes)}
        return np.stack([known.get(name, np.zeros(len(found))) for name in self.classes], axis=1)

    def selected(
        self, onset_ms: int | None, ripe_until_ms: int | None, champion: npt.NDArray[np.float64] | None
    ) -> Selected | None:
        """Return which rows are labelled at all and what follows, None where all alike; see ``core.selection``.

        ``ripe_until_ms`` is the time of the youngest row whose label could have come; None where nobody knows.
        ``champion`` are its scores of all rows.
        """
        if ripe_until_ms is None:
            return None
        ripe = (self.times <= ripe_until_ms) & (self.times >= (self.times[0] if onset_ms is None else onset_ms))
        # Of several classes by how sure the answer is.
        scores = champion.max(axis=1) if champion is not None and champion.ndim > 1 else champion
        return select(self.known, ripe, self.actions, self.drawn, scores)

    def amounts(self, name: str) -> npt.NDArray[np.float64]:
        """Return one of ``others`` as float64[n], NaN where a row has no number or no event carries it."""
        if name not in self.others.columns:
            return np.full(len(self.ids), np.nan)
        return self.others[name].cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()

    def groups_at(self, chosen: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.str_]]:
        """Return the segment of each chosen row, as text, by dimension."""
        return {name: self.groups[name].to_numpy()[chosen].astype(str) for name in self.groups.columns}


def _features(rows: pl.DataFrame) -> list[str]:
    return [name for name in rows.columns if name not in (*RESERVED, *ACTED)]


def _specs(rows: pl.DataFrame, include: tuple[str, ...], exclude: tuple[str, ...]) -> tuple[FeatureSpec, ...]:
    present = _features(rows)
    unknown = sorted(set(include) - set(present))
    if unknown:
        raise BadData(f"retrain.data.features names {unknown}, which no event carries; present: {', '.join(present)}")
    # A feature that is null in every row teaches nothing and gives a tree no split; it would still be asked of every
    # caller.
    wanted = [name for name in (include or present) if name not in exclude and rows[name].null_count() < len(rows)]
    if not wanted:
        raise BadData("no feature is left: the events carry none, or exclude names them all")
    return tuple(FeatureSpec(name=name, kind=_kind(rows.schema[name])) for name in wanted)


def _groups(
    rows: pl.DataFrame, segments: tuple[str, ...] | None, protected: tuple[str, ...], sensitive: tuple[str, ...]
) -> pl.DataFrame:
    present = _features(rows)
    if segments is None:
        few = [name for name in present if rows.schema[name] in (pl.String, pl.Boolean)]
        segments = tuple(name for name in few if 2 <= rows[name].n_unique() <= MOST_SEGMENTS)
    chosen = [name for name in present if name in (*segments, *protected)]
    # A missing value is a segment as well, and often the one that is treated worst.
    found = rows.select([pl.col(name).cast(pl.String).str.slice(0, WIDEST).fill_null("missing") for name in chosen])
    return found.with_columns(_ranks(found[name]) for name in chosen if name in sensitive)


def _ranks(values: pl.Series) -> pl.Series:
    """Return values as group 1, group 2 and so on, the most frequent first: what goes into reasons names none."""
    # Under a name of our own: polars refuses to count a feature that is called as the counts are.
    counts = values.alias("text").value_counts(name="rows").sort("rows", "text", descending=[True, False])
    names = {value: f"group {rank}" for rank, value in enumerate(counts["text"].to_list(), 1)}
    return values.replace_strict(names, return_dtype=pl.String)


def _kind(dtype: pl.DataType) -> FeatureKind:
    if dtype == pl.Boolean:
        return FeatureKind.BOOLEAN
    return FeatureKind.CATEGORICAL if dtype == pl.String else FeatureKind.NUMERIC


def _classes(rows: pl.DataFrame, positive: str) -> tuple[npt.NDArray[np.float64], tuple[str, ...], str]:
    counts = rows[LABEL].drop_nulls().value_counts().sort("count", LABEL, descending=[True, False])
    # Of several spellings of a class the most frequent is its name.
    texts: list[str] = counts[LABEL].to_list()
    fault = misfit(texts, positive, whole=True)
    if fault is not None:
        raise BadData(fault)
    yes = positive_texts(texts, positive)
    # Negative first: the trainer's second class is the positive one, as in the artifact's card.
    names = [next(text for text in texts if (text in yes) is wanted) for wanted in (False, True)]
    labels = rows[LABEL].is_in(list(yes)).cast(pl.Float64).fill_null(float("nan"))
    return labels.to_numpy(), (names[0], names[1]), names[1]


def _indices(rows: pl.DataFrame) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Return the index of each row's label among the sorted label texts; NaN where there is none."""
    classes: list[str] = rows[LABEL].drop_nulls().unique().sort().to_list()
    places = pl.DataFrame({LABEL: classes, "place": np.arange(len(classes), dtype=np.float64)})
    found = rows.select(LABEL).join(places, on=LABEL, how="left", maintain_order="left")["place"]
    return found.fill_null(float("nan")).to_numpy(), tuple(classes)


def _numbers(labels: pl.Series) -> npt.NDArray[np.float64]:
    numbers = labels.cast(pl.Float64, strict=False)
    # Refused instead of left out: a text among the labels of a regression is a wrong topic or mapping, not noise.
    bad = labels.filter(numbers.is_null() & labels.is_not_null())
    if len(bad):
        raise BadData(f"a regression needs numeric labels; {len(bad)} are not, the first is {bad[0]!r}")
    return numbers.fill_null(float("nan")).to_numpy()
