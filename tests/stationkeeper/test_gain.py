"""The gain over the unreplaced model is paired, and its interval tells noise from a difference."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stationkeeper.demo.gain import Gain, Paired, compare, measure_gain
from stationkeeper.demo.served import read_served
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.registry import FeatureKind, FeatureSpec
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader


def test_identical_models_have_no_gain_and_no_doubt() -> None:
    rng = np.random.default_rng(0)
    truth, flagged = rng.random(1_000) < 0.2, rng.random(1_000) < 0.3
    found = compare(truth, flagged, flagged)
    for one in (found.f1, found.wrong):
        assert (one.gained, one.low, one.high) == (0.0, 0.0, 0.0)
        assert one.old == one.new


def test_both_measures_by_hand() -> None:
    # Of each four events one is true. The old version finds it and flags another; the new one only finds every second.
    truth = np.tile([True, False, False, False], 80)
    old = np.tile([True, True, False, False], 80)
    new = np.tile([True, False, False, False, False, False, False, False], 40)
    found = compare(truth, old, new)
    # F1 = 2 tp / (2 tp + fp + fn): 2 * 80 / (160 + 80) and 2 * 40 / (80 + 40).
    assert found.f1.old == pytest.approx(2 / 3)
    assert found.f1.new == pytest.approx(2 / 3)
    assert (found.wrong.old, found.wrong.new, found.wrong.gained) == (0.25, 0.125, 0.125)


def test_the_interval_holds_the_mean_and_widens_when_neighbours_are_alike() -> None:
    rng = np.random.default_rng(1)
    truth = np.zeros(8_000, bool)
    independent = rng.random(8_000) < 0.06
    clustered = np.repeat(rng.random(80) < 0.06, 100)
    found = compare(truth, independent, truth).wrong
    assert found.low < independent.mean() < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * independent.std() / np.sqrt(8_000), rel=0.35)
    wide = compare(truth, clustered, truth).wrong
    assert wide.high - wide.low > 3 * (found.high - found.low)


def test_the_sentence_keeps_its_sign() -> None:
    f1 = Paired(old=0.75, new=0.745, gained=-0.005, low=-0.01, high=0.0)
    worse = Gain(events=1_000, blocks=40, f1=f1, wrong=Paired(old=0.10, new=0.12, gained=-0.02, low=-0.03, high=-0.01))
    assert "gained -0.0050 (-0.0100 to +0.0000)" in worse.sentence()
    assert "saved -2.00 points (-3.00 to -1.00)" in worse.sentence()


def test_the_old_version_answers_the_features_of_the_same_events_in_their_order() -> None:
    log = MemoryLog()
    for topic in ("scores", "outcomes"):
        log.create(topic)
    event = {"kind": "prediction", "model": "fraud", "version": "2", "prediction": 0.9}
    numbers = list(range(60))
    # The second event of an id is a duplicate, and the new version flags every third.
    asked = [
        event | {"event_id": f"e{i}", "time": 1_000 + i, "features": {"x": i, "c": "de" if i % 2 else None},
                 "action": "positive" if i % 3 == 0 else "negative"}
        for i in numbers
    ]  # fmt: skip
    log.produce("scores", [json.dumps(one).encode() for one in [*asked, asked[0] | {"action": "negative"}]])
    labels = [
        {"kind": "label", "event_id": f"e{i}", "time": 2_000, "model": "fraud", "label": i % 2 == 1} for i in numbers
    ]
    log.produce("outcomes", [json.dumps(one).encode() for one in reversed(labels)])
    model = ModelSettings.model_validate({"name": "fraud", "predictions": "scores", "labels": "outcomes"})
    served = read_served(MemoryReader(log), model)
    assert served["flagged"].to_list() == [i % 3 == 0 for i in numbers]
    assert served["label"].to_list() == [i % 2 == 1 for i in numbers]
    seen: list[dict[str, Any]] = []

    def answer(columns: dict[str, Any]) -> Any:
        seen.append(columns)
        return SimpleNamespace(actions=["positive" if c == "de" else "negative" for c in columns["c"]])

    specs = (FeatureSpec(name="x", kind=FeatureKind.NUMERIC), FeatureSpec(name="c", kind=FeatureKind.CATEGORICAL))
    old: Any = SimpleNamespace(card=SimpleNamespace(features=specs, names=("x", "c")), answer=answer)
    found = measure_gain(MemoryReader(log), model, served, old, 0, 10_000)
    assert [one["x"] for one in seen] == [[float(i) for i in numbers]]
    assert found is not None
    assert (found.events, found.wrong.old, found.wrong.new) == (60, 0.0, 0.5)
