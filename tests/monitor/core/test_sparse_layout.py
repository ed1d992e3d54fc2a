"""The counts of many small groups without their zeros are the counts with them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.column import Categories, Column, Numbers, Status
from monitor.core.profile import profile

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


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(1, 12), st.sets(st.sampled_from("abcde")))
def test_sparse_counts_are_dense_counts(seed: int, n: int, groups: int, odd: set[str]) -> None:
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
    positions, counts, first = layout.sparse(columns, group, rows, skip=skip)
    found = np.zeros_like(dense)
    for at in range(groups):
        mine = slice(first[at], first[at + 1])
        assert len(set(positions[mine].tolist())) == len(positions[mine])
        found[at, positions[mine]] += counts[mine]
    np.testing.assert_array_equal(found, dense)
