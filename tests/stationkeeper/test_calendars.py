"""The demo's closing table: what others would have come to is told from the run's own events, and never from later."""

import itertools
import json
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from stationkeeper.demo import calendars
from stationkeeper.demo.calendars import WEEK_MS, PolicyTable, hindsight, policy_table
from stationkeeper.demo.served import read_served
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.registry import FeatureKind, FeatureSpec
from stationkeeper.retrain.core.threshold import choose_threshold
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader

START = 1_000 * WEEK_MS
WEEKS, ROWS = 6, 40


class Newest:
    """A trainer whose model answers with the share of late rows among the last forty that it was given."""

    seen: ClassVar[list[int]] = []
    # Of how many known labels each threshold was chosen.
    cut: ClassVar[list[int]] = []

    def fit(self, data: Any) -> Any:
        self.seen.append(len(data.labels))
        share = float(data.labels[-ROWS:].mean())
        return SimpleNamespace(
            score=lambda features: np.full(len(features), share), to_onnx=lambda: None, to_skops=lambda: None
        )


def test_hindsight_is_the_cheapest_of_all_plans():
    rng = np.random.default_rng(3)
    for price in (0.0, 1.5, 4.0, 50.0):
        wrong = rng.integers(0, 9, (6, 6)).astype(float)

        def cost(trained: tuple[bool, ...], wrong: Any = wrong, price: float = price) -> float:
            version, total = 0, 0.0
            for period in range(6):
                if period and trained[period - 1]:
                    version, total = period, total + price
                total += wrong[version, period]
            return float(total)

        found = hindsight(wrong, price)
        told = sum(wrong[v, p] for p, v in enumerate(found)) + price * (len(set(found)) - 1)
        assert told == pytest.approx(min(cost(plan) for plan in itertools.product([False, True], repeat=5)))
    assert hindsight(np.array([[3.0]]), 1.0) == [0]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> PolicyTable:
    """Six weeks of forty flights; from the second on all are late, and the loop's version 2 says so from the fourth."""
    log = MemoryLog()
    for topic in ("asked", "landed"):
        log.create(topic)
    asked, landed = [], []
    for week, row in itertools.product(range(WEEKS), range(ROWS)):
        at = START + week * WEEK_MS + row * WEEK_MS // ROWS
        about = {"event_id": f"{week}-{row}", "model": "flights"}
        late = week > 0 or row % 2 == 0
        told = (
            {"version": "2", "prediction": 0.9, "action": "positive"}
            if week > 2
            else {"version": "1", "prediction": 0.2}
        )
        asked.append({"kind": "prediction", "time": at, "features": {"x": 1.0}, "action": "negative"} | about | told)
        # The labels of a week's last half come in the week after.
        landed.append({"kind": "label", "time": at + WEEK_MS // 2, "label": late} | about)
    log.produce("asked", [json.dumps(one).encode() for one in asked])
    log.produce("landed", [json.dumps(one).encode() for one in landed])
    model = ModelSettings.model_validate(
        {"name": "flights", "predictions": "asked", "labels": "landed", "requests": {"when": "pays", "cost": 10}}
    )
    specs = (FeatureSpec(name="x", kind=FeatureKind.NUMERIC),)
    card = SimpleNamespace(features=specs, names=("x",), threshold=0.5)
    first: Any = SimpleNamespace(card=card, score=lambda features: np.full(len(features), 0.2))
    training = pl.DataFrame({"time": [0, 1], "x": [1.0, 1.0], "label": [True, False]})
    reader = MemoryReader(log)
    Newest.seen.clear()
    Newest.cut.clear()

    def counted(labels: Any, *rest: Any) -> Any:
        Newest.cut.append(len(labels))
        return choose_threshold(labels, *rest)

    monkeypatch.setattr(calendars, "choose_threshold", counted)
    retraining = RetrainSettings(trainer=f"{__name__}:Newest")
    served = read_served(reader, model)
    found = policy_table(reader, model, retraining, served, first, training, START, 3)
    assert found is not None
    return found


def test_the_table_holds_what_was_served_and_what_others_would_have_come_to(told: PolicyTable):
    assert (told.events, told.weeks, told.price, told.promoted) == (WEEKS * ROWS, WEEKS, 10, 1)
    rows = {row.name: row for row in told.rows}
    assert list(rows) == ["never", "monthly", "ours", "oracle"]
    # Never: half of the first week and all after it. Ours: until the third week, and three trainings at ten each.
    assert rows["never"].wrong == pytest.approx((20 + 5 * 40) / 240)
    assert rows["ours"].wrong == pytest.approx((20 + 2 * 40) / 240)
    assert (rows["ours"].retrains, rows["ours"].cost) == (3, 130)
    assert rows["ours"].log_loss == pytest.approx(
        -(20 * np.log(0.8) + (20 + 80) * np.log(0.2) + 120 * np.log(0.9)) / 240
    )
    # Monthly trains at the beginning of the fifth week, when it knows three late weeks and a half.
    assert rows["monthly"].retrains == 1
    assert rows["monthly"].wrong == pytest.approx((20 + 3 * 40) / 240)
    assert rows["oracle"].cost == min(row.cost for row in told.rows)


def test_a_version_learns_only_from_labels_that_were_in(told: PolicyTable):
    # Two rows of before, and of each week the half whose labels came in it with the other half of the week before.
    known = [ROWS * week - ROWS // 2 for week in range(1, WEEKS)]
    assert Newest.seen == [2 + count for count in known]
    # And so is its threshold chosen.
    assert Newest.cut == known
