"""A search tries what was given first, stops before its budget, and comes out alike wherever there is time enough."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.training.job import TrainingResult
from stationkeeper.retrain.training.process import TrainingProcess
from stationkeeper.retrain.training.search import MOST_COMBINATIONS, search
from tests.retrain.training.test_training import job_of, wait

SPACE = {"leaves": (7, 15, 31), "rate": (0.03, 0.1)}
GIVEN = {"trees": 100, "leaves": 15, "rate": 0.1}


def seconds(step: float) -> Iterator[float]:
    at = 0.0
    while True:
        yield at
        at += step


def run(budget: float, seed: int = 1, space: Mapping[str, Any] = SPACE, step: float = 1.0) -> tuple[Any, list[Any]]:
    asked: list[Any] = []

    def loss(parameters: Mapping[str, Any]) -> float:
        asked.append(dict(parameters))
        return float(abs(parameters["leaves"] - 31) + parameters["rate"])

    ticks = seconds(step)
    found = search(GIVEN, space, loss, seed=seed, budget_s=budget, clock=lambda: next(ticks))
    return found, asked


def test_within_its_budget_each_combination_is_tried_once_and_the_best_wins():
    found, asked = run(1_000.0)
    assert asked[0] == GIVEN
    assert len(asked) == found.tried == 6 == found.possible
    assert len({str(sorted(one.items())) for one in asked}) == 6
    assert found.parameters == {"trees": 100, "leaves": 31, "rate": 0.03}
    assert (found.given_loss, found.best_loss) == (pytest.approx(16.1), pytest.approx(0.03))


def test_the_order_follows_from_the_seed_and_the_budget_ends_it():
    assert run(1_000.0)[1] == run(1_000.0)[1]
    assert run(1_000.0)[1] != run(1_000.0, seed=2)[1]
    # The clock goes on by one at each look: the fourth fit would end past four seconds.
    few, asked = run(4.0)
    assert asked == run(1_000.0)[1][: few.tried]
    assert 1 < few.tried < 6
    none, _ = run(0.5)
    assert (none.tried, none.parameters) == (1, GIVEN), "what was given is tried whatever the budget"


def test_what_was_given_wins_where_nothing_is_better_and_many_combinations_are_drawn():
    found = search(GIVEN, SPACE, lambda _: 1.0, seed=1, budget_s=9.0, clock=lambda: 0.0)
    assert found.parameters == GIVEN
    many = {f"p{place}": tuple(range(30)) for place in range(4)}
    drawn = search({}, many, lambda one: float(one.get("p0", 99)), seed=1, budget_s=9.0, clock=lambda: 0.0)
    assert drawn.possible == 30**4 > MOST_COMBINATIONS
    assert drawn.parameters["p0"] == 0


def test_parameters_that_fail_lose_to_all_others_and_are_named():
    def loss(parameters: Mapping[str, Any]) -> float:
        if parameters["a"] == 3:
            raise ValueError("a must not be 3")
        return {1: float("nan"), 2: 0.5, 4: float("inf"), 5: 0.1}[parameters["a"]]

    found = search({"a": 1}, {"a": (2, 3, 4, 5)}, loss, seed=0, budget_s=9.0, clock=lambda: 0.0)
    assert (found.parameters, found.best_loss, found.tried) == ({"a": 5}, 0.1, 5)
    # NaN of what was given: it is neither above nor below any other.
    assert found.given_loss == float("inf")
    assert sorted((one["a"], why) for one, why in found.failed) == [
        (1, "the loss is no finite number"),
        (3, "ValueError: a must not be 3"),
        (4, "the loss is no finite number"),
    ]
    numbers = found.numbers()
    assert numbers["search.failed"] == 3
    assert {"search.failed.a:1", "search.failed.a:3", "search.failed.a:4"} <= numbers.keys()
    assert "search.loss_given" not in numbers, "a result holds finite numbers only"


def test_where_every_fit_fails_the_given_parameters_stay():
    def loss(_: Mapping[str, Any]) -> float:
        raise MemoryError

    found = search({"a": 1}, {"a": ("x{y}", 2)}, loss, seed=0, budget_s=9.0, clock=lambda: 0.0)
    assert (found.parameters, len(found.failed)) == ({"a": 1}, 3)
    assert found.numbers()["search.failed.a:x_y_"] == 1


def test_one_impossible_value_does_not_end_the_retraining(tmp_path: Path):
    job = job_of(tmp_path).model_copy(update={"space": {"inverse_penalty": (-1.0, 1.0)}, "search_s": 600.0})
    job = job.model_copy(update={"parameters": {"inverse_penalty": 1e-6}})
    found = wait(TrainingProcess.start(job, tmp_path / "searched", 600), 600)
    assert isinstance(found, TrainingResult)
    assert found.parameters is not None
    assert found.parameters["inverse_penalty"] == 1.0
    assert found.metrics["search.failed"] == found.metrics["search.failed.inverse_penalty:-1.0"] == 1


def test_a_training_searches_and_says_what_it_chose(tmp_path: Path):
    job = job_of(tmp_path).model_copy(update={"space": {"inverse_penalty": (1e-6, 1.0, 10.0)}, "search_s": 600.0})
    job = job.model_copy(update={"parameters": {"inverse_penalty": 1e-6}})
    found = wait(TrainingProcess.start(job, tmp_path / "searched", 600), 600)
    assert isinstance(found, TrainingResult)
    assert found.parameters is not None
    assert found.parameters["inverse_penalty"] in (1.0, 10.0)
    assert found.metrics["search.tried"] == found.metrics["search.possible"] == 3
    assert found.metrics["search.loss_best"] < found.metrics["search.loss_given"]
    # Trained again with what was chosen, in the window that the given ones chose, it is the same model.
    windows = tuple(one for one in job.windows if one.kind is found.window)
    chosen = job.model_copy(update={"parameters": found.parameters, "space": {}, "windows": windows})
    again = wait(TrainingProcess.start(chosen, tmp_path / "again", 600), 600)
    assert isinstance(again, TrainingResult)
    assert again.onnx_sha256 == found.onnx_sha256


def test_a_search_that_cannot_be_is_refused_by_name():
    with pytest.raises(ValidationError, match="leaves: no value to try"):
        RetrainSettings.model_validate({"search": {"space": {"leaves": []}}})
    with pytest.raises(ValidationError, match=r"search\.budget 2h leaves nothing of training\.timeout 1h"):
        RetrainSettings.model_validate({"search": {"space": {"leaves": [3]}, "budget": "2h"}})
