"""The suite for trainers, over ours and over some that break one rule each."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.plugins import NotConforming, PluginGroup, plugin_names
from stationkeeper.registry import ModelTask
from stationkeeper.retrain.training.conformance import check_trainer
from stationkeeper.retrain.training.estimators import LogisticRegression
from stationkeeper.retrain.training.trainer import FittedModel, OnnxModel, load_trainer


def test_ours_are_offered_as_entry_points():
    assert {"gradient-boosting", "lightgbm", "logistic-regression"} <= set(plugin_names(PluginGroup.TRAINERS))


@pytest.mark.parametrize("name", ["gradient-boosting", "lightgbm", "logistic-regression"])
def test_ours_conform(name: str):
    check_trainer(lambda: load_trainer(name), tuple(ModelTask))


class Nothing:
    """No trainer at all."""


class Unseeded(LogisticRegression):
    def fit(self, data):
        labels = np.where(np.random.default_rng().random(len(data.labels)) < 0.1, 1.0 - data.labels, data.labels)
        return super().fit(replace(data, labels=labels))


class Unweighted(LogisticRegression):
    def fit(self, data):
        return super().fit(replace(data, weights=np.ones(len(data.weights))))


class Careless(LogisticRegression):
    def fit(self, data):
        data.weights[0] = 2.0
        return super().fit(data)


class Backwards(LogisticRegression):
    def fit(self, data):
        return super().fit(replace(data, labels=1.0 - data.labels))


@dataclass(frozen=True)
class Fitted:
    inner: FittedModel
    shape: Any = None

    def score(self, features):
        scores = self.inner.score(features)
        return scores * 100 if self.shape == "percent" else scores.reshape(-1, 1) if self.shape == "column" else scores

    def to_onnx(self) -> OnnxModel:
        raise RuntimeError("no converter")

    def to_skops(self) -> bytes | None:
        return None


@dataclass(frozen=True)
class Wrapped:
    shape: Any = None

    def fit(self, data):
        return Fitted(LogisticRegression().fit(data), self.shape)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (Nothing, "no method fit"),
        (Unseeded, "use data.seed"),
        (Unweighted, "ignores data.weights"),
        (Careless, "changes the data"),
        (Backwards, "hardly follow the labels"),
        (lambda: Wrapped("percent"), "within 0 and 1"),
        (lambda: Wrapped("column"), "shape"),
        (Wrapped, "no converter"),
    ],
)
def test_a_broken_trainer_is_told_which_rule_it_breaks(make: Any, rule: str):
    with pytest.raises(NotConforming, match=rule):
        check_trainer(make)
