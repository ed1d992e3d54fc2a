from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.column import categories
from stationkeeper.monitor.core.reference import Task, check_positive, positive_class, profile


def of(*classes: Any) -> Any:
    return categories(np.array([*classes] * 200, object))


@pytest.mark.parametrize(
    ("classes", "positive"),
    [
        ((0, 1), "1"),
        ((0.0, 1.0), "1"),
        ((-1, 1), "1"),
        ((False, True), "true"),
        (("No", "Yes"), "Yes"),
        (("n", "y"), "y"),
        ((0,), "1"),
        ((False,), "true"),
        (("a", "b", "c"), "1"),
    ],
)
def test_a_class_that_its_spelling_tells_is_known(classes: tuple[Any, ...], positive: str) -> None:
    assert positive_class(of(*classes)) == (positive, "")


@pytest.mark.parametrize("classes", [("legit", "fraud"), (1, 2), ("good", "bad"), ("yes", "maybe"), ("A", "B")])
def test_no_class_is_guessed_by_the_alphabet_and_the_refusal_names_both(classes: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="which one are the scores about") as refused:
        positive_class(of(*classes))
    assert all(f"--positive {name}" in str(refused.value) for name in classes)


@pytest.mark.parametrize("positive", ["legit", "fraud"])
def test_scores_tell_which_class_they_are_about(positive: str) -> None:
    rng = np.random.default_rng(0)
    score = rng.beta(1, 3, 600)
    is_it = rng.random(600) < score
    other = "fraud" if positive == "legit" else "legit"
    labels = np.where(is_it, positive, other).astype(object)
    found, why = positive_class(categories(labels), score)
    assert found == positive
    assert "AUC 0." in why
    assert f"--positive {other}" in why
    made = profile({"score": score, "label": labels}, prediction="score", label="label")
    assert made.positive == positive
    assert why in made.notes
    assert made.labels is not None
    # The mean score of rows that are positive lies higher: nothing is read upside down.
    middle = np.arange(len(made.labels.scored)) @ made.labels.scored / made.labels.scored.sum(0)
    assert middle[1] > middle[0]


def test_scores_that_do_not_tell_are_asked_about() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="--positive bad or --positive good"):
        positive_class(of("good", "bad"), rng.random(400), Task.BINARY)


def test_a_positive_class_that_no_label_has_is_refused_and_one_that_is_told_obeyed() -> None:
    with pytest.raises(ValueError, match="labels are 'fraud', 'legit'; name one"):
        check_positive("frau", of("legit", "fraud"))
    check_positive("1", of(False, True))
    told = profile(
        {"score": np.linspace(0, 1, 100), "label": np.array(["bad", "good"] * 50, object)},
        prediction="score",
        label="label",
        positive="bad",
    )
    assert told.positive == "bad"
