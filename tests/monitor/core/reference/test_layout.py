"""Every way to count a batch gives the same counts: sorted, searched, and row by row."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.contracts.column import Categories, Column, Numbers, Status
from stationkeeper.monitor.core.reference import CellRows, profile

RNG = np.random.default_rng(5)
REFERENCE = profile(
    {
        "amount": np.round(RNG.normal(size=400), 3),
        "country": RNG.choice(["de", "fr", "us"], 400),
        "flag": RNG.random(400) < 0.5,
        "score": RNG.random(400),
    },
    prediction="score",
    salt="s",
)
STATUSES = [0, 0, 0, *(int(status) for status in Status)]


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 7, 60, 700]),
    st.integers(1, 12),
    st.sets(st.sampled_from("abcde")),
)
def test_marks_of_rows_sum_to_the_counts_of_their_groups(seed: int, n: int, groups: int, odd: set[str]) -> None:
    rng = np.random.default_rng(seed)
    layout = REFERENCE.layout
    group = rng.integers(0, groups, n)
    rows = np.bincount(group, minlength=groups)
    values = rng.normal(0.0, 3.0, n)
    status = rng.choice(STATUSES, n).astype(np.int8)
    columns: dict[str, Column] = {
        "amount": Numbers(np.where(status == 0, values, np.nan), status) if "a" in odd else Numbers(values),
        "country": Categories(rng.integers(-1 if "b" in odd else 0, 3, n), ("de", "us", "new")),
        "score": Numbers(np.where(rng.random(n) < 0.2, np.inf, rng.random(n)) if "d" in odd else rng.random(n)),
    }
    if "c" in odd:
        columns["flag"] = Numbers(rng.integers(0, 3, n).astype(np.float64))
    if "e" in odd:
        columns["unheard"] = Numbers(values, status)
    skip = frozenset({"flag"}) if seed % 2 else frozenset()
    dense = layout.tally(columns, group, rows, skip=skip)
    found = np.zeros_like(dense)
    for which, position in layout.marks(columns, skip=skip):
        np.add.at(found, (group[which], position), 1)
    np.testing.assert_array_equal(found, dense)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_sorted_numbers_count_as_searched_ones(seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    layout = REFERENCE.layout
    edges = layout["amount"].cells.edges  # type: ignore[union-attr]
    # Values on the edges, beside them, and far outside are where the two ways could part.
    values = rng.choice(np.concatenate([edges, np.nextafter(edges, np.inf), [0.0, -1e9, 1e9, 5e-324]]), 40 * groups)
    values = np.concatenate([values, rng.normal(size=60 * groups)])
    group = rng.permutation(np.arange(len(values)) % groups)
    rows = np.bincount(group, minlength=groups)
    clean = layout.tally({"amount": Numbers(values)}, group, rows)
    searched = layout.tally({"amount": Numbers(values, np.zeros(len(values), np.int8))}, group, rows)
    np.testing.assert_array_equal(clean, searched)
    assert clean[:, layout["amount"].histogram].sum() == len(values)


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
