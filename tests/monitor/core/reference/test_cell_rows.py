"""The cells of some subjects as rows of one array."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.monitor.core.reference import CellRows


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 5), st.booleans()), min_size=1, max_size=12), st.integers(0, 1), st.data())
def test_rows_are_the_cells_of_their_subjects(
    subjects: list[tuple[int, bool]], left_out: int, data: st.DataObject
) -> None:
    offsets = np.cumsum([0, *(size for size, _ in subjects)])
    chosen = np.flatnonzero([mine for _, mine in subjects])
    rows = CellRows(offsets, chosen, left_out)
    flat = np.arange(1, offsets[-1] + 1)
    found, real = rows.read(flat), rows.real()
    assert found.shape == real.shape == (len(chosen), rows.width)
    for i, subject in enumerate(chosen.tolist()):
        cells = flat[offsets[subject] : offsets[subject + 1] - left_out]
        np.testing.assert_array_equal(found[i, : len(cells)], cells)
        assert not found[i, len(cells) :].any()
        assert real[i].sum() == len(cells)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(chosen), max_size=len(chosen))), bool)
    np.testing.assert_array_equal(rows.only(mask).read(flat), found[mask])
