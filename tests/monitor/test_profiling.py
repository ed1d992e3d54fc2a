"""``from monitor import profile`` in a notebook: one reference, whatever frame the rows are in."""

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from stationkeeper.monitor import profile
from stationkeeper.monitor.profiling import columns_of

ROWS = 2_000
START = np.datetime64("2026-01-01T00:00:00", "ms")


def rows() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "when": START + (np.arange(ROWS) * 60_000).astype("timedelta64[ms]"),
        "amount": np.where(rng.random(ROWS) < 0.1, np.nan, rng.gamma(2, 50, ROWS).round(4)),
        "count": rng.integers(0, 50, ROWS),
        "country": rng.choice(["de", "fr", "us"], ROWS).astype(object),
        "new": rng.random(ROWS) < 0.3,
        "score": rng.beta(1, 4, ROWS).round(6),
        "label": (rng.random(ROWS) < 0.2).astype(int),
    }


def frames() -> dict[str, Any]:
    data = rows()
    gaps = np.isnan(data["amount"])
    nullable = pd.DataFrame(data).astype({"count": "Int64", "country": "string", "new": "boolean", "amount": "Float64"})
    nullable.loc[gaps, "amount"] = pd.NA
    grouped = pd.DataFrame(data).astype({"country": "category"})
    grouped["when"] = grouped["when"].dt.tz_localize("UTC")
    polars = pl.DataFrame({**data, "country": pl.Series(list(data["country"]))}).with_columns(
        pl.col("amount").fill_nan(None)
    )
    names = [(name, "O" if name == "country" else values.dtype) for name, values in data.items()]
    structured = np.empty(ROWS, dtype=names)
    for name, values in data.items():
        structured[name] = values
    return {
        "dict of arrays": data,
        "dict of lists": {name: values.tolist() if name != "when" else values for name, values in data.items()},
        "pandas": pd.DataFrame(data),
        "pandas, nullable": nullable,
        "pandas, categories and zones": grouped,
        "polars": polars,
        "polars, categories": polars.with_columns(pl.col("country").cast(pl.Categorical)),
        "structured array": structured,
    }


@pytest.mark.parametrize("name", list(frames()))
def test_every_frame_gives_the_same_reference(name: str):
    wanted = profile(rows(), model="m", time="when", prediction="score", label="label")
    made = profile(frames()[name], model="m", time="when", prediction="score", label="label")
    assert made.digest == wanted.digest
    assert [subject.kind for subject in made.subjects] == [subject.kind for subject in wanted.subjects]
    assert made.by_name["amount"].counts[-1] == np.isnan(rows()["amount"]).sum()
    assert (made.first, made.last) == (wanted.first, wanted.last)
    assert made.adopted


def test_decimals_are_the_numbers_that_they_are():
    """What databases and Parquet give for money: watched as categories, a model's amounts were watched blind."""
    amounts = [Decimal("1.50"), None, Decimal("3.25")] * 10
    made = [pl.DataFrame({"a": pl.Series(amounts, dtype=pl.Decimal(10, 2))}), pd.DataFrame({"a": amounts})]
    for data in (*made, {"a": np.array(amounts, object)}):
        found = columns_of(data)["a"]
        assert found.dtype == np.float64
        assert np.nan_to_num(found[:3], nan=-1).tolist() == [1.5, -1.0, 3.25]


def test_a_plain_matrix_needs_names():
    matrix = np.random.default_rng(1).normal(0, 1, (100, 2))
    with pytest.raises(ValueError, match="has no column names; give a mapping such as"):
        profile(matrix)
    with pytest.raises(ValueError, match="a list is no frame; give a pandas, polars or pyarrow frame"):
        profile([1, 2, 3])


def test_a_rebalanced_set_is_undone_by_weight_or_prior_by_hand():
    """Ten rows, five of each class; in production one in ten is positive: weights 1.8 and .2.

    Kish: (5 x 1.8 + 5 x .2)^2 / (5 x 1.8^2 + 5 x .2^2) = 100 / 16.4 = 6.09, so 6 effective rows, and the value that
    goes with negatives holds .9 of them, 5.4, so 5 of the 6 once rounded.
    """
    data = {"kind": np.array(["a"] * 5 + ["b"] * 5, object), "label": np.array([0] * 5 + [1] * 5)}
    by_prior = profile(data, label="label", prior={"1": 0.1})
    by_weight = profile({**data, "w": np.array([1.8] * 5 + [0.2] * 5)}, label="label", weight="w")
    for made in (by_prior, by_weight):
        subject = made.by_name["kind"]
        counts = {subject.cell_name(i): int(n) for i, n in enumerate(subject.counts) if n}
        assert made.rows == subject.rows == 6
        assert counts == {"'a'": 5, "'b'": 1}
    assert by_prior.digest == by_weight.digest


def test_a_time_column_without_rows_is_refused_by_name():
    with pytest.raises(ValueError, match="time column 'at' has no rows"):
        profile({"x": np.zeros(0), "at": np.zeros(0, np.int64)}, time="at")


@pytest.mark.parametrize("pane", [0, -5, "0m"])
def test_a_pane_without_length_is_refused(pane: Any):
    data = {"x": np.arange(100.0), "at": np.arange(100) * 60_000}
    with pytest.raises(ValueError, match="must be above 0"):
        profile(data, time="at", pane=pane)
    if isinstance(pane, int):
        with pytest.raises(ValueError, match="must be above 0"):
            profile(data, ordered=True, pane=pane)
