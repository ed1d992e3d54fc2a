"""The cells of some subjects out of a flat pane, as rows of one array."""

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


class CellRows:
    """Subjects of a plan whose cells stand one behind the other, read as [F, width] with zeros to the right.

    Neighbours of one size are read in one piece, so nothing is kept for each cell.
    """

    def __init__(self, offsets: Counts, subjects: NDArray[np.intp], left_out: int = 0) -> None:
        """``offsets`` as `DetectorPlan.offsets`; ``left_out`` cells at the end of each subject are not read."""
        self._offsets, self._subjects, self._left_out = offsets, subjects, left_out
        sizes = np.diff(offsets)[subjects]
        self.width = int(sizes.max(initial=left_out)) - left_out
        new = np.flatnonzero((np.diff(subjects, prepend=-2) != 1) | (np.diff(sizes, prepend=-1) != 0))
        ends = np.append(new, len(subjects))[1:]
        self._runs = [
            (first, last, int(offsets[subjects[first]]), int(sizes[first]))
            for first, last in zip(new.tolist(), ends.tolist(), strict=True)
        ]

    def read(self, flat: Counts) -> Counts:
        """Return the rows of a flat pane, int64[F, width]."""
        out = np.zeros((len(self._subjects), self.width), np.int64)
        for first, last, begin, size in self._runs:
            block = flat[begin : begin + (last - first) * size].reshape(-1, size)
            out[first:last, : size - self._left_out] = block[:, : size - self._left_out]
        return out

    def real(self) -> NDArray[np.bool_]:
        """Return which places hold a cell, bool[F, width]; the others are padding."""
        sizes = np.diff(self._offsets)[self._subjects] - self._left_out
        return np.asarray(np.arange(self.width)[None, :] < sizes[:, None], np.bool_)

    def only(self, mask: NDArray[np.bool_]) -> "CellRows":
        """Return the rows of the subjects in ``mask`` bool[F] alone, as wide as all."""
        made = CellRows(self._offsets, self._subjects[mask], self._left_out)
        made.width = self.width
        return made
