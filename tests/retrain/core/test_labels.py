"""Which label texts are two classes, and which can never be."""

import pytest

from stationkeeper.contracts.column import same_class
from stationkeeper.retrain.core.labels import misfit, negative_text, positive_texts


@pytest.mark.parametrize(
    ("texts", "positive", "yes", "never", "not_yet"),
    [
        ({"0", "1", "false"}, "true", {"1"}, False, False),
        ({"0", "1"}, "true", {"1"}, False, False),
        ({"True", "False"}, "1", {"True"}, False, False),
        ({"false", "1.0", "0"}, "false", {"false", "0"}, False, False),
        ({"legit", "fraud"}, "fraud", {"fraud"}, False, False),
        ({"legit", "fraud"}, "true", set(), True, True),
        ({"legit", "fraud", "unclear"}, "fraud", {"fraud"}, True, True),
        ({"0"}, "true", set(), False, True),
        ({"1"}, "true", {"1"}, False, True),
        (set(), "true", set(), False, True),
    ],
)
def test_labels_are_two_classes_or_say_why_not(texts, positive, yes, never, not_yet):
    assert positive_texts(texts, positive) == yes
    assert (misfit(texts, positive, whole=False) is not None) is never
    said = misfit(texts, positive, whole=True)
    assert (said is not None) is not_yet
    if said is not None:
        assert repr(positive) in said
        assert "Set positive:" in said


def test_truth_is_one_class_however_it_is_spelt_and_words_are_not():
    assert all(same_class(one, "1") for one in ("true", "True", "TRUE", "1.0"))
    assert all(same_class(one, "false") for one in ("0", "0.0", "False"))
    assert not same_class("yes", "true")
    assert not same_class("1", "0")
    assert same_class("yes", "yes")


@pytest.mark.parametrize(
    ("texts", "positive", "told"),
    [
        ({"fraud", "legit"}, "fraud", "legit"),
        ({"fraud"}, "fraud", "not fraud"),
        (set(), "true", "false"),
        ({"1", "true"}, "1", "false"),
        ({"0"}, "false", "true"),
    ],
)
def test_the_text_of_a_negative_that_nobody_tells_by_hand(texts: set[str], positive: str, told: str):
    assert negative_text(texts, positive) == told
    assert misfit({*texts, positive, told}, positive, whole=True) is None
