"""The reference: what a model version was trained on, as frozen cells and counts, in kilobytes and without rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from stationkeeper.contracts.column import Column, Floats, Integers
from stationkeeper.contracts.messages import SubjectType
from stationkeeper.contracts.times import UTC_ZONE
from stationkeeper.monitor.core.reference.cells import QUALITY, CategoricalCells, Cells, Counts, NumericCells, rank_grid
from stationkeeper.monitor.core.reference.layout import Layout
from stationkeeper.monitor.core.reference.outcome_sums import OutcomeSums
from stationkeeper.monitor.core.reference.pairs import Pair, pair_cells

SCHEMA_VERSION = 1
"""Version of the reference's JSON: it grows when an older release would misread a file, not for a field it may skip."""

TIMEZONE_VERSION = 3
"""Version of the JSON of a reference with local hours: an older release would take them for those of UTC."""

PAIRS_VERSION = 2
"""Version of the JSON of a reference with pairs: an older release would lay out its panes without them."""

HOURS_VERSION = 4
"""Version of the JSON of a reference whose counts by hour take one or two bytes: an older release expects four."""

HOURS_OF_WEEK = 168
"""Strata of a week, Monday 0:00 of the time zone first: day and night, working days and weekends are the rhythms that
most traffic has (STATISTICS.md, section 2.8)."""


class Kind(StrEnum):
    """How a subject's values are counted."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    BOOLEAN = "boolean"


class Task(StrEnum):
    """What the model predicts, which decides what a label means."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceSubject:
    """One feature, or the prediction: its cells and the reference's counts in them.

    ``counts`` is int64[cells.count], missing last; of a weighted reference it is scaled to the effective number of
    rows. ``quality`` is int64[7] as ``cells.QUALITY``; its ``unseen`` counts the odd rows whose value no even row has,
    an honest rate of new values on half of the rows. ``json_type`` is the type most values had. ``phi`` float64[L] is
    the variance inflation by direction and ``day_floor`` the natural day-to-day movement (TV): empty and None are
    unknown. ``phi_within_days`` float64[L] is the part of phi that the floor does not carry, that within days, where
    days move independently; else empty. ``strata`` int64[S, cells], or as few bytes each as a file holds, are counts by
    hour of the week (S = 168) or of the day (24), S = 0 where unknown. ``repeats`` is the longest run of one value in
    time order, 0 where unknown. ``grid`` int64[cells] is the coarse cell of each cell, missing alone in the last,
    ``rows`` the effective rows behind the counts and ``inflation`` the largest phi, at least 1. ``pair`` says of which
    two features a joint subject is.
    """

    name: str
    type: SubjectType
    kind: Kind
    cells: Cells
    counts: Counts
    quality: Counts
    json_type: str = ""
    importance: float = 1.0
    sensitive: bool = False
    high_cardinality: bool = False
    distinct: int = 0
    phi: Floats = field(default_factory=lambda: np.empty(0))
    day_floor: float | None = None
    phi_within_days: Floats = field(default_factory=lambda: np.empty(0))
    strata: Counts = field(default_factory=lambda: np.empty((0, 0), np.int64))
    repeats: int = 0
    _grid: Integers | None = field(init=False, default=None, repr=False)
    rows: int = field(init=False, repr=False)
    inflation: float = field(init=False, repr=False)
    pair: Pair | None = None

    def __post_init__(self) -> None:
        # Asked for some fifteen times by what is built from a subject.
        object.__setattr__(self, "rows", int(np.add.reduce(self.counts)))
        object.__setattr__(self, "inflation", max(1.0, *self.phi.tolist()) if len(self.phi) else 1.0)

    @property
    def grid(self) -> Integers:
        """The coarse cells: about twenty of near equal mass for a number, the cells themselves otherwise."""
        if self._grid is None:
            if isinstance(self.cells, NumericCells):
                cut_grids([self])
            else:
                object.__setattr__(self, "_grid", np.arange(self.cells.count))
        return np.arange(self.cells.count) if self._grid is None else self._grid

    def with_counts(self, counts: Counts, strata: Counts) -> "ReferenceSubject":
        """Return the subject with other counts in the same cells, coarse ones too: what was summed by them still fits.

        Cut anew, a number of few values gets another number of coarse cells.
        """
        made = replace(self, counts=counts, strata=strata)
        object.__setattr__(made, "_grid", self.grid)
        return made

    @property
    def coarse(self) -> int:
        """Number of coarse cells, missing among them."""
        # The grid rises by ones, and missing is alone in its last cell.
        return int(self.grid[-1]) + 1

    @property
    def missing_share(self) -> float:
        """Share of the reference without a usable value."""
        return float(self.counts[-1] / max(self.rows, 1))

    def cell_name(self, cell: int) -> str:
        """Return a cell as a person reads it: a range, a value, a hash bucket, or ``missing``."""
        if cell == self.cells.count - 1:
            return "missing"
        if isinstance(self.cells, CategoricalCells):
            values = self.cells.values
            if cell < len(values):
                return repr(values[cell])
            return f"other values (bucket {cell - len(values)})"
        return self._range_name(self.cells, cell)

    def _range_name(self, cells: NumericCells, cell: int) -> str:
        edges = cells.edges
        low = edges[cell - 1] if cell > 0 else -np.inf
        high = edges[cell] if cell < len(edges) else np.inf
        # A cell of one number: many rows had it, so its edges lie on both sides of it.
        if high == np.nextafter(low, np.inf):
            return f"= {high:.6g}"
        return f"in ({low:.6g}, {high:.6g}]"


def cut_grids(subjects: Sequence[ReferenceSubject]) -> None:
    """Freeze the coarse cells of all numbers among the subjects in one array pass, as `rank_grid` cuts each."""
    numeric = [subject for subject in subjects if isinstance(subject.cells, NumericCells)]
    mass = np.zeros((len(numeric), max((len(subject.counts) - 1 for subject in numeric), default=0)))
    for row, subject in zip(mass, numeric, strict=True):
        row[: len(subject.counts) - 1] = subject.counts[:-1]
    grids = np.pad(rank_grid(mass), ((0, 0), (0, 1)))
    for row, subject in zip(grids, numeric, strict=True):
        grid = row[: len(subject.counts)]
        # Missing by itself: a rise of nulls must not hide in the cell of large numbers.
        grid[-1] = grid[-2] + 1
        object.__setattr__(subject, "_grid", grid)


@dataclass(frozen=True, slots=True, eq=False)
class TrafficProfile:
    """How many rows came: ``rows`` per hour of the week float64[168] (one value for all where unknown).

    ``size`` is the negative-binomial size of the rows of one pane, ``pane_ms`` the pane it was fitted on.
    """

    rows_per_hour: Floats
    size: float
    pane_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What is known with labels: by shared score bin int64[32, 2] (negative, positive) and int64[4] confusion.

    ``phi`` is the variance inflation of errors that come in clusters, 1 where unknown. ``sums`` are those from which
    measures are read; references of builds before them have none. Of numbers (``numeric``) the 64 counts of ``scored``
    are those by octave of the absolute error, and all rows count as right. Of several classes that answer with
    probabilities (``several``) ``scored`` is by the answer's own and by whether it was right (`judged`).
    """

    scored: Counts
    confusion: Counts
    phi: float = 1.0
    sums: OutcomeSums = field(default_factory=OutcomeSums.none)
    several: bool = False

    @property
    def numeric(self) -> bool:
        """Whether predictions and labels are numbers, of which the errors are known."""
        return bool(self.sums.errors.any())

    @property
    def rows(self) -> int:
        """Labelled rows."""
        return int(self.confusion.sum())

    @property
    def positives(self) -> float:
        """Share of positive labels."""
        return float((self.confusion[0] + self.confusion[2]) / max(self.rows, 1))

    @property
    def error_rate(self) -> float:
        """Share of rows whose decision was wrong."""
        return float((self.confusion[1] + self.confusion[2]) / max(self.rows, 1))


def isotonic(scored: Counts) -> tuple[Integers, Counts, Counts]:
    """Return the pool of each score bin, and positives and rows of each pool, whose share never falls with the score.

    ``scored`` is int64[bins, 2] (negative, positive). Neighbours in the wrong order are pooled (pool adjacent
    violators, Ayer and others 1955); a bin without rows joins the pool below it. By hand: shares of 1/4, 3/4 and 2/4
    in that order become 1/4 and 5/8.
    """
    # Whole numbers compared crosswise: shares as floats would pool or not by the last bit, and replays would differ.
    pools: list[list[int]] = []
    for negative, positive in scored.tolist():
        pools.append([1, positive, negative + positive])
        while len(pools) > 1 and (
            not pools[-1][2] or not pools[-2][2] or pools[-2][1] * pools[-1][2] > pools[-1][1] * pools[-2][2]
        ):
            last = pools.pop()
            pools[-1] = [one + other for one, other in zip(pools[-1], last, strict=True)]
    bins, positives, rows = (np.array(column, np.int64) for column in zip(*pools, strict=True))
    return np.repeat(np.arange(len(pools)), bins), positives, rows


@dataclass(frozen=True, eq=False)
class Reference:
    """A frozen reference of one model version; ``digest`` names its content, whatever model carries it.

    ``threshold`` turns a score into a decision; ``first`` and ``last`` are the time range (clock units) of the rows
    or None; ``source`` says where they came from (training, adoption, history). ``pairs`` are joint subjects, each of
    two features: they are judged as drift is, and have no quality of their own. ``timezone`` is the IANA name of the
    zone whose clock tells the hours of ``strata`` and traffic.
    """

    model: str
    version: str
    subjects: tuple[ReferenceSubject, ...]
    salt: str
    rows: int
    task: Task | None = None
    threshold: float = 0.5
    positive: str = "1"
    first: int | None = None
    last: int | None = None
    source: str = "training"
    traffic: TrafficProfile | None = None
    labels: Labels | None = None
    notes: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION
    pairs: tuple[ReferenceSubject, ...] = ()
    timezone: str = UTC_ZONE

    @cached_property
    def watched(self) -> tuple[ReferenceSubject, ...]:
        """All that is judged for drift: the subjects, then the pairs of them."""
        return (*self.subjects, *self.pairs)

    def with_watched(self, watched: Sequence[ReferenceSubject]) -> "Reference":
        """Return the reference with others in the place of ``watched``, in its order."""
        return replace(self, subjects=tuple(watched[: len(self.subjects)]), pairs=tuple(watched[len(self.subjects) :]))

    @cached_property
    def by_name(self) -> Mapping[str, ReferenceSubject]:
        """Subjects and pairs by name."""
        return {subject.name: subject for subject in self.watched}

    @cached_property
    def layout(self) -> Layout:
        """Where each subject stands in a pane's vector."""
        pairs = [
            (subject.name, subject.cells, subject.pair)
            for subject in self.pairs
            if subject.pair is not None and isinstance(subject.cells, CategoricalCells)
        ]
        return Layout(((subject.name, subject.cells) for subject in self.subjects), pairs)

    def with_pairs(self, columns: Mapping[str, Column]) -> dict[str, Column]:
        """Return columns of n rows by subject, with those of the pairs beside them."""
        rows = max(map(len, columns.values()), default=0)
        return {**columns, **self.layout.pair_counter.columns(columns, rows)}

    @property
    def features(self) -> tuple[ReferenceSubject, ...]:
        """The input subjects."""
        return tuple(subject for subject in self.subjects if subject.type is SubjectType.FEATURE)

    @property
    def prediction(self) -> ReferenceSubject | None:
        """The prediction's subject, if predictions were profiled."""
        return next((s for s in self.subjects if s.type is SubjectType.PREDICTION), None)

    @property
    def adopted(self) -> bool:
        """Whether dependence between rows is known: without it nothing but quality may page."""
        return any(len(subject.phi) for subject in self.subjects)

    @property
    def has_hours(self) -> bool:
        """Whether it knows hours apart: those of subjects, or of traffic."""
        traffic = self.traffic is not None and len(self.traffic.rows_per_hour) == HOURS_OF_WEEK
        return traffic or any(len(subject.strata) for subject in self.watched)

    @cached_property
    def digest(self) -> str:
        """Return ``ref-`` and 20 hex digits of the content without model, version and notes."""
        from stationkeeper.monitor.core.reference.reference_json import digest

        return digest(self)


def joint_subject(
    pair: Pair, cells: Mapping[str, Cells], counts: Counts | None = None, **learned: Any
) -> ReferenceSubject:
    """Return the joint subject of two features whose cells are given by name, with ``counts`` int64[17] or zeros.

    ``learned`` are fields of `ReferenceSubject` that the order of rows taught.
    """
    first, second = pair.features
    joint = pair_cells(pair, (cells[first], cells[second]))
    return ReferenceSubject(
        name=f"{first} & {second}",
        type=SubjectType.JOINT,
        kind=Kind.CATEGORICAL,
        cells=joint,
        counts=np.zeros(joint.count, np.int64) if counts is None else counts,
        quality=np.zeros(len(QUALITY), np.int64),
        distinct=len(joint.values),
        pair=pair,
        **learned,
    )


def in_season(subjects: Sequence[ReferenceSubject], rows: Counts) -> list[ReferenceSubject]:
    """Return subjects with the counts of their strata mixed as ``rows`` int64[strata] came from them.

    The counts sum to the effective rows of the mixture, 1 / sum(w^2 / n) for shares w of strata of n rows. Without
    as many strata, or rows, a subject as it is. By hand: strata of 8 + 2 and 2 + 8 mixed one to one give 10 + 10.
    """
    # Those that rows came from alone: a window of an hour has one or two of 168.
    came = np.flatnonzero(rows)
    seasonal = [subject for subject in subjects if len(subject.strata) == len(rows)] if len(came) else []
    if not seasonal:
        return list(subjects)
    # All in one pass: alone, each takes as long as twenty together.
    cells = np.array([subject.strata.shape[1] for subject in seasonal])
    begins = np.cumsum(cells) - cells
    strata = np.concatenate([subject.strata[came] for subject in seasonal], axis=1, dtype=np.int64)
    sizes = np.maximum(np.add.reduceat(strata, begins, axis=1), 1)
    share = (rows[came] / rows.sum())[:, None]
    # Not the plain sum: a stratum of few rows that much traffic comes from makes the whole uncertain.
    weights = share / sizes / (share**2 / sizes).sum(axis=0)
    mixed = np.round((strata * np.repeat(weights, cells, axis=1)).sum(axis=0)).astype(np.int64)
    made = [replace(subject, counts=mine) for subject, mine in zip(seasonal, np.split(mixed, begins[1:]), strict=True)]
    cut_grids(made)
    by_name = {subject.name: subject for subject in made}
    return [by_name.get(subject.name, subject) for subject in subjects]
