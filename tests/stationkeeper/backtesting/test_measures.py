"""A backtest measures and judges what a model answers: several classes and numbers as well as two answers."""

import io

import numpy as np
import pytest

from stationkeeper.backtesting.replay import ReplaySettings
from stationkeeper.backtesting.run import run
from stationkeeper.backtesting.table import Table
from stationkeeper.monitor.core.budget import parse_budget

ROWS, REFERENCE, PANE = 4_000, 1_500, 50


def settings() -> ReplaySettings:
    return ReplaySettings(parse_budget("1 per 100000 rows"), pane=PANE, window=500, reference_rows=REFERENCE)


def table(guess: np.ndarray, truth: np.ndarray, times: np.ndarray | None = None) -> Table:
    columns = {"guess": guess, "truth": truth}
    return Table(columns, np.arange(len(guess)), times, prediction="guess", label="truth")


def test_errors_that_grow_are_paged_and_measured():
    rng = np.random.default_rng(1)
    truth = rng.gamma(2.0, 100.0, ROWS)
    size = np.where(np.arange(ROWS) < 2_500, 20.0, 50.0)
    guess = truth + rng.laplace(0.0, 1.0, ROWS) * size
    err = io.StringIO()
    found = run(table(guess, truth), settings(), err=err, course=True)
    pages = [one for one in found.verdicts if one.level == "page" and one.subject.name == "absolute_error"]
    assert [one.cause for one in pages] == ["error_size"]
    assert pages[0].row is not None
    assert 2_500 < pages[0].row < 3_000
    measures = found.replay.summary.measures
    assert measures["mae"].value == pytest.approx(np.abs(guess - truth)[REFERENCE:].mean(), rel=1e-5)
    assert f"mae: {measures['mae'].value:.4g}" in err.getvalue()
    assert found.course is not None
    assert {one["measure"] for one in found.course.performance} == {"mae", "rmse", "bias", "quantile_loss"}


def test_several_classes_have_their_recall():
    rng = np.random.default_rng(2)
    names = np.array(["bird", "cat", "dog"])
    truth = rng.choice(names, ROWS)
    guess = np.where(rng.random(ROWS) < 0.8, truth, rng.choice(names, ROWS))
    found = run(table(guess, truth), settings())
    measures = found.replay.summary.measures
    judged = slice(REFERENCE, REFERENCE + measures["accuracy"].rows)
    assert measures["accuracy"].value == pytest.approx((guess == truth)[judged].mean())
    assert measures["recall of cat"].value == pytest.approx((guess == "cat")[judged][truth[judged] == "cat"].mean())
