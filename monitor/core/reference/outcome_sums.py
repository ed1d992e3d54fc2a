"""Sums over predictions that met their label: from them every measure of performance follows, and sums add.

A sum lies at a position that never changes, so that those of two panes, joins or builds add. All are whole numbers: the
order of events, batches and restarts change nothing.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.column import Floats, Integers
from stationkeeper.contracts.wire import SCORE_BINS

Counts = npt.NDArray[np.int64]

RANK_CELLS = 512
"""Cells of the score for areas under curves, of equal width in log-odds and shared by all versions, so that the areas
of two versions compare. Each is .0156 wide at a score of .5 and 6 % of the score near 0. At half the error that binning
may make, which is shown with the area, doubles; at double so does what the judge keeps of each pane."""

# The shared score bins are .5 wide in log-odds from -7.5 on: eight cells each, so that both tell of the same rows.
BIN_OF_CELL = np.clip(np.arange(RANK_CELLS) // 8 - 16, 0, SCORE_BINS - 1)

# Log-odds beyond which scores share the outer cells: 1.1e-7, where the float32 of the join's rows ends beside 1.
_MOST_ODDS = 16.0

ERROR_CELLS = 2 * SCORE_BINS
"""Cells of an absolute error: octaves from 2^-32 (2.3e-10) to 2^32 (4.3e9), whatever its unit. They fill the room of
the score bins by label, which a regression does not need. At half, errors in dollars of a bank or in metres of an atom
share an outer cell."""

# Sums within an octave are in 2^-20 of it: a millionth, as exact as the float32 values of the join are twice over, and
# 2^42 rows of them fit an int64. At half the digits, a sum would be wrong in the third.
_DIGITS = 20
_LEAST_OCTAVE = -32

MICRO = 1_000_000
"""Losses and scores of probabilities are summed in millionths: 9 million million rows fit an int64."""

# Scores are float32 in the join's rows; beyond their precision 0 and 1 stand for what is next to them, as in
# scikit-learn: a sure answer that is wrong then costs 15.9 nats and not infinitely many.
_SURE = float(np.finfo(np.float32).eps)

# A class is a number of 16 bits by a hash of its name: 30 classes share one in .7 %; a float32 holds it exactly.
CLASS_CODES = 1 << 16

# Where each sum lies; written to topics and state, so that none is ever moved or given away again.
ROWS, LOG_LOSS, SQUARE, LOG_LOSS_SQUARE = 0, 1, 2, 3
# Of the scores themselves, by shared bin; 4 to 7, and what follows up to 64, are kept for sums to come.
SCORES = slice(8, 8 + SCORE_BINS)
# Rows by rank cell and label; the next round number after it leaves room for twice the cells.
RANKED = slice(64, 64 + 2 * RANK_CELLS)
# Four sums an octave (`OutcomeSums.errors`).
ERRORS = slice(2_048, 2_048 + 4 * ERROR_CELLS)
# Three counts a class (`OutcomeSums.classes`); last, as they are the most.
CLASSES = slice(4_096, 4_096 + 3 * CLASS_CODES)

_ENTRY = np.dtype([("at", "<u4"), ("sum", "<i8")])


def class_code(key: str) -> int:
    """Return the number under which a class of several is joined and counted: 16 bits of its name's CRC-32."""
    return zlib.crc32(key.encode("utf-8", "surrogatepass")) % CLASS_CODES


def error_cell(error: Floats) -> Integers:
    """Return the octave of each absolute error: .5 lies in cell 31, 1 in 32, 3 in 33, 0 in the first."""
    exponent = np.frexp(np.abs(error))[1].astype(np.int64)
    cell = np.where(error == 0, 0, exponent - 1 - _LEAST_OCTAVE)
    return np.asarray(np.clip(cell, 0, ERROR_CELLS - 1), np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class OutcomeSums:
    """Sums that are not zero: ``at`` int64[n] their positions in order, ``sum`` int64[n]. ``a + b`` adds."""

    at: Integers
    sum: Integers

    @classmethod
    def none(cls) -> "OutcomeSums":
        """Return the sums over no row."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    @classmethod
    def of(cls, at: Integers, values: Integers) -> "OutcomeSums":
        """Add up ``values`` by position; O(n log n)."""
        if not len(at):
            return cls.none()
        order = np.argsort(at, kind="stable")
        ranked, found = at[order], values[order]
        first = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
        total = np.add.reduceat(found, first)
        used = total != 0
        return cls(ranked[first][used], total[used])

    def __add__(self, other: "OutcomeSums") -> "OutcomeSums":
        if not len(self.at) or not len(other.at):
            return self if len(self.at) else other
        return total([self, other])

    def one(self, at: int) -> int:
        """Return the sum at one position."""
        place = int(np.searchsorted(self.at, at))
        return int(self.sum[place]) if place < len(self.at) and self.at[place] == at else 0

    def part(self, where: slice) -> Counts:
        """Return the sums of a stretch of positions, int64[its length]."""
        low, high = np.searchsorted(self.at, [where.start, where.stop])
        out = np.zeros(where.stop - where.start, np.int64)
        out[self.at[low:high] - where.start] = self.sum[low:high]
        return out

    @property
    def ranked(self) -> Counts:
        """Rows by cell of the score and label, int64[RANK_CELLS, 2]."""
        return self.part(RANKED).reshape(RANK_CELLS, 2)

    @property
    def errors(self) -> Counts:
        """Of numbers by octave of the error, int64[64, 4]: rows, and sums of |e|, e and e^2 in 2^-20 of the octave."""
        return self.part(ERRORS).reshape(ERROR_CELLS, 4)

    @property
    def classes(self) -> dict[int, tuple[int, int, int]]:
        """Of several classes by code: rows that are both, that were predicted, that are true."""
        low, high = np.searchsorted(self.at, [CLASSES.start, CLASSES.stop])
        out: dict[int, list[int]] = {}
        for at, value in zip((self.at[low:high] - CLASSES.start).tolist(), self.sum[low:high].tolist(), strict=True):
            out.setdefault(at // 3, [0, 0, 0])[at % 3] = value
        return {code: (three[0], three[1], three[2]) for code, three in out.items()}

    @property
    def several(self) -> bool:
        """Whether rows are of one of several classes."""
        return bool(len(self.at)) and int(self.at[-1]) >= CLASSES.start

    def without_curves(self) -> "OutcomeSums":
        """Return the sums without those of scores by cell and bin, most of which each pane and segment would keep."""
        kept = (self.at < SCORES.start) | (self.at >= RANKED.stop)
        return OutcomeSums(self.at[kept], self.sum[kept])

    def pack(self) -> bytes:
        """Return the sums as the bytes that a record carries, 12 for each; b"" for none."""
        out = np.empty(len(self.at), _ENTRY)
        out["at"], out["sum"] = self.at, self.sum
        return out.tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> "OutcomeSums":
        """Return what ``pack`` was called on."""
        entries = np.frombuffer(data, _ENTRY)
        return cls(entries["at"].astype(np.int64), entries["sum"].astype(np.int64))


def total(sums: Iterable[OutcomeSums]) -> OutcomeSums:
    """Return the sum of any number of sums; O(n log n) once for all."""
    each = list(sums)
    if not each:
        return OutcomeSums.none()
    return OutcomeSums.of(np.concatenate([one.at for one in each]), np.concatenate([one.sum for one in each]))


def scores_by_group(
    score: Floats, positive: Integers, group: Integers, n: int, weight: Floats | None = None
) -> list[OutcomeSums]:
    """Return for each of ``n`` groups the sums of rows with a score and a label of 0 or 1: all [rows].

    Rows without a score, or with one beyond 0 and 1, count nowhere: those are no probabilities. By hand: a score of .9
    with label 0 adds a log loss of -log .1 = 2.303 and a square of .81. ``weight`` is how often a row counts.
    """
    known = (score >= 0) & (score <= 1)
    add = _Adder(group[known], n, None if weight is None else weight[known])
    score, positive = score[known], positive[known]
    sure = np.clip(score, _SURE, 1 - _SURE)
    yes, no = np.log(sure), np.log1p(-sure)
    cell = np.clip((yes - no + _MOST_ODDS) * (RANK_CELLS / (2 * _MOST_ODDS)), 0, RANK_CELLS - 1).astype(np.int64)
    loss = -np.where(positive > 0, yes, no)
    out = np.zeros((n, RANKED.stop), np.int64)
    out[:, ROWS] = add.up(np.ones(len(score)))
    for place, value in ((LOG_LOSS, loss), (SQUARE, (score - positive) ** 2), (LOG_LOSS_SQUARE, loss**2)):
        out[:, place] = add.up(value * MICRO)
    out[:, SCORES] = add.up(score * MICRO, BIN_OF_CELL[cell], SCORE_BINS)
    out[:, RANKED] = add.up(np.ones(len(score)), cell * 2 + positive, 2 * RANK_CELLS)
    return _split_rows(out, 0)


def errors_by_group(error: Floats, group: Integers, n: int, weight: Floats | None = None) -> list[OutcomeSums]:
    """Return for each of ``n`` groups the sums of errors, prediction less label [rows]; NaN counts nowhere.

    By hand: errors of 3 and -1 have octaves 33 and 32, |e| sums of 1.5 and 1 of theirs, in 2^-20.
    """
    known = np.isfinite(error)
    add = _Adder(group[known], n, None if weight is None else weight[known])
    error = error[known]
    cell = error_cell(error)
    # What the outer octaves cannot hold is taken for their edge.
    most = np.ldexp(1.0, ERROR_CELLS + _LEAST_OCTAVE)
    share = np.ldexp(np.clip(error, -most, most), -(cell + _LEAST_OCTAVE).astype(np.int32))
    out = np.zeros((n, ERROR_CELLS, 4), np.int64)
    for column, value in enumerate((None, np.abs(share), share, share**2)):
        exact = np.ones(len(cell)) if value is None else value * (1 << _DIGITS)
        out[:, :, column] = add.up(exact, cell, ERROR_CELLS)
    return _split_rows(out.reshape(n, -1), ERRORS.start)


def classes_by_group(predicted: Integers, label: Integers, group: Integers, n: int) -> list[OutcomeSums]:
    """Return for each of ``n`` groups the counts by class code (``class_code``), predicted and true [rows]."""
    width = 3 * CLASS_CODES
    both = predicted == label
    places = [(group * width + predicted * 3)[both], group * width + predicted * 3 + 1, group * width + label * 3 + 2]
    at = np.concatenate(places)
    return _split(OutcomeSums.of(at, np.ones(len(at), np.int64)), width, n, CLASSES.start)


def error_scale() -> tuple[Floats, Floats]:
    """Return the values that one counts for in ``OutcomeSums.errors``: of |e| and of e^2, by octave, float64[64]."""
    octave = np.ldexp(1.0, np.arange(ERROR_CELLS) + _LEAST_OCTAVE)
    return octave * 2.0**-_DIGITS, octave**2 * 2.0**-_DIGITS


OCTAVE_MIDDLE = 0.75
"""The middle of an octave over its upper edge: from half of it to the whole."""


def error_middles() -> Floats:
    """Return the middle of each cell of an absolute error, float64[64]."""
    return OCTAVE_MIDDLE * error_tops()


def error_tops() -> Floats:
    """Return the upper edge of each cell of an absolute error, float64[64]."""
    return np.ldexp(1.0, np.arange(1, ERROR_CELLS + 1) + _LEAST_OCTAVE)


class _Adder:
    """Adds values up by group and place, as whole numbers whatever their order."""

    def __init__(self, group: Integers, n: int, weight: Floats | None = None) -> None:
        self._group, self._n, self._weight = group, n, weight

    def up(self, values: Floats, place: Integers | int = 0, places: int = 1) -> Counts:
        """Return int64[n, places], or int64[n] of one place."""
        # A float64 adds whole numbers exactly up to 2^53, which no batch of events reaches. Rows with weights come
        # once, in one order, and of small weights not each is to be rounded away.
        exact = np.rint(values) if self._weight is None else values * self._weight
        found = np.bincount(self._group * places + place, weights=exact, minlength=self._n * places)
        whole = np.rint(found).astype(np.int64)
        return whole if places == 1 else whole.reshape(self._n, places)


def _split_rows(table: Counts, start: int) -> list[OutcomeSums]:
    out = []
    for row in table:
        used = np.flatnonzero(row)
        out.append(OutcomeSums(used + start, row[used]))
    return out


def _split(sums: OutcomeSums, width: int, n: int, start: int) -> list[OutcomeSums]:
    """Cut sums whose positions are ``group * width + place`` into those of each group, which begin at ``start``."""
    edges = np.searchsorted(sums.at, np.arange(n + 1) * width)
    return [
        OutcomeSums(sums.at[low:high] - group * width + start, sums.sum[low:high])
        for group, (low, high) in enumerate(pairwise(edges))
    ]
