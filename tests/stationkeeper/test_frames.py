from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import stationkeeper as sk


def columns(rows: int = 4_000, seed: int = 1, shift: float = 0.0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return {
        "amount": rng.normal(shift, 1.0, rows),
        "method": rng.choice(["card", "wallet"], rows),
        "score": rng.uniform(size=rows),
    }


def changed() -> dict[str, np.ndarray[Any, Any]]:
    before, after = columns(), columns(seed=2, shift=1.0)
    return {name: np.concatenate([before[name], after[name]]) for name in before}


FRAMES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "dict": dict,
    "polars": pl.DataFrame,
    "pandas": pd.DataFrame,
    "pyarrow": pa.table,
}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_reference_is_the_same_whatever_frame_the_rows_are_in(kind: str):
    made = sk.profile(FRAMES[kind](columns()), model="fraud", prediction="score", ordered=True)
    again = sk.profile(columns(), model="fraud", prediction="score", ordered=True)
    assert made.digest == again.digest
    frame = made.to_frame()
    assert set(frame["subject"]) == {"amount", "method", "prediction"}
    assert frame["rows"].to_list() == [4_000] * 3


def test_a_reference_is_saved_and_loaded_whole(tmp_path: Path):
    made = sk.profile(columns(), ordered=True)
    read = sk.Reference.load(made.save(tmp_path / "reference.json"))
    assert (read.digest, read.frozen.rows) == (made.digest, 4_000)
    with pytest.raises(ValueError, match="reference"):
        sk.Reference.load(_written(tmp_path / "other.json", "{}"))


def test_a_frame_is_judged_as_the_verb_judges_a_file():
    found = sk.backtest(pl.DataFrame(changed()), reference_rows=3_000, prediction="score", renew="never")
    [page] = found.pages
    assert page["subject"] == "amount"
    assert 3_900 <= page["onset_row"] <= 4_100
    assert found.to_frame().filter(pl.col("level") == "page")["subject"].to_list() == ["amount"]
    assert found.rows == 8_000


def test_a_given_reference_and_a_report(tmp_path: Path):
    reference = sk.profile(columns(), ordered=True)
    found = sk.backtest(changed(), reference, renew="never", report=tmp_path / "report.html")
    assert found.pages
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_results_show_themselves_in_a_notebook_and_escape_what_they_show():
    reference = sk.profile({"<b>": np.random.default_rng(3).normal(size=500)}, ordered=True)
    assert "&lt;b&gt;" in reference._repr_html_()
    found = sk.backtest(changed(), reference_rows=3_000, renew="never")
    assert "<table>" in found._repr_html_()
    assert repr(found).startswith("<Backtest of 8000 rows: 1 pages")


def test_power_is_asked_of_the_reference():
    reference = sk.profile(columns(), ordered=True)
    assert reference.power() is None
    card = reference.power(rows_per_hour=1_000)
    assert card is not None
    assert "power card at 1000 rows an hour" in card.text()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sk.profile(3), "is no frame"),
        (lambda: sk.profile(np.zeros((3, 2))), "no column names"),
        (lambda: sk.backtest(columns(), reference_rows=100, time="when"), "when: the frame has no such column"),
        (lambda: sk.backtest(columns()), "needs --reference"),
    ],
)
def test_an_error_names_what_to_do(call: Callable[[], Any], said: str):
    with pytest.raises(ValueError, match=said):
        call()


def test_every_name_of_the_face_is_there_and_no_other():
    assert all(getattr(sk, name) is not None for name in sk.__all__)
    with pytest.raises(AttributeError, match="it offers BacktestResult"):
        sk.nothing  # noqa: B018


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
