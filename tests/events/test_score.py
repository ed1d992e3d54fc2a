"""What a version decided and what came true, from every kind of prediction and label."""

import json
from typing import Any

import numpy as np
import pytest

from stationkeeper.events import EventReader, Events, decide, outcomes, own_form


def events(kind: str, values: list[Any]) -> Events:
    base = {"kind": kind, "event_id": "e", "time": 5, "model": "m", "version": "1"}
    (found,) = EventReader(own_form((kind,))).read([json.dumps(base | {kind: v}).encode() for v in values]).events  # type: ignore[arg-type]
    return found


def test_a_number_is_positive_from_the_threshold_and_a_class_by_its_name() -> None:
    score, positive, missing = decide(events("prediction", [0.2, 0.5, None]), 0.5, "1")
    assert (score[:2].tolist(), positive.tolist(), missing.tolist()) == (
        [0.2, 0.5],
        [False, True, False],
        [False] * 2 + [True],
    )
    score, positive, missing = decide(events("prediction", ["fraud", "ok", None, 0.7]), 0.5, "fraud")
    assert np.nan_to_num(score, nan=-1).tolist() == [1.0, 0.0, -1.0, 0.7]
    assert positive.tolist() == [True, False, False, True]
    assert missing.tolist() == [False, False, True, False]


def test_shares_of_classes_become_the_positive_one_or_the_likeliest_class() -> None:
    score, _, _ = decide(events("prediction", [{"0": 0.3, "1": 0.7}]), 0.5, "1")
    assert score.tolist() == [0.7]
    _, positive, _ = decide(events("prediction", [{"a": 0.3, "b": 0.7}]), 0.5, "b")
    assert positive.tolist() == [True]


def test_a_word_for_a_missing_value_is_no_number_among_labels_and_may_be_a_class() -> None:
    assert np.isnan(outcomes(events("label", ["NA", "1", "null"]), "1")).tolist() == [True, False, True]
    assert outcomes(events("label", ["none", "fraud"]), "fraud").tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("labels", "positive", "found"),
    [
        ([True, False, 1, 0], "1", [1.0, 0.0, 1.0, 0.0]),
        (["yes", "no"], "yes", [1.0, 0.0]),
        ([3.5, 0.25], "1", [3.5, 0.25]),
        (["paid"], "1", [0.0]),
    ],
)
def test_a_label_is_one_for_the_positive_class_and_a_measured_value_as_it_is(
    labels: list[Any], positive: str, found: list[float]
) -> None:
    assert outcomes(events("label", labels), positive).tolist() == found
