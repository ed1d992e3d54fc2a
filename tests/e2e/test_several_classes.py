"""A model of three classes drifts, is retrained, passes the gate, is served and watched: the whole loop in memory."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.fraud_seeds.whole_loop import WholeLoop
from stationkeeper.contracts.messages import DeploymentAction, GateOutcome
from stationkeeper.demo.scenario import Chunk, LabelQueue, Plot

START = 1_767_571_200_000
MINUTE, HOUR = 60_000, 3_600_000
ONSET = START + 30 * MINUTE
CLASSES = np.array(["chair", "lamp", "table"])
TRUTH: dict[str, str] = {}


def values_of(loop: WholeLoop, topic: str) -> list[bytes]:
    return [value for part in loop.log.partitions(topic) for value in loop.log.at(part).values if value is not None]


def orders(n: int, begin: int, end: int, seed: int, *, changed: bool) -> pl.DataFrame:
    """Draw n parcels: what is in one follows from weight and length, until half of them come in another packing."""
    rng = np.random.default_rng(seed)
    weight, length = rng.normal(size=n), rng.normal(size=n)
    packing = np.where(rng.random(n) < (0.5 if changed else 0.0), "crate", rng.choice(["box", "bag"], n))
    angle = np.arctan2(weight, length) + np.where(packing == "crate", 2 * np.pi / 3, 0.0)
    place = (np.floor((angle + np.pi) / (2 * np.pi / 3) + rng.normal(0, 0.1, n)).astype(int)) % 3
    return pl.DataFrame(
        {
            "event_id": [f"parcel-{seed}-{row}" for row in range(n)],
            "entity_id": [f"sender-{one}" for one in rng.integers(0, 3_000, n)],
            "time": np.sort(rng.integers(begin, end, n)),
            "weight": weight,
            "length": length,
            "packing": packing,
            "label": CLASSES[place],
        }
    )


@dataclass(slots=True)
class Parcels:
    """Forty parcels a minute; half an hour in, crates come. What was in one is known ten minutes later."""

    name: str = "parcels"
    start_ms: int = START
    end_ms: int = START + 144 * MINUTE
    settings: Mapping[str, Any] = field(
        default_factory=lambda: {
            "retrain": {
                "task": "multiclass",
                "trainer": "gradient-boosting",
                "parameters": {"trees": 30},
                "labels": {"maturity": "10m"},
                "data": {"min_rows": 1_500},
            },
            "rollout": {"steps": [0.25, 0.5], "step_duration": "20m"},
        }
    )
    plot: Plot = Plot("Parcels", True, ONSET, "crates", HOUR)  # noqa: RUF009 - frozen

    def training(self) -> pl.DataFrame:
        rows = orders(3_000, START - 48 * HOUR, START, 1, changed=False)
        return rows.drop("event_id", "entity_id")

    def chunks(self) -> Iterator[Chunk]:
        queue = LabelQueue(pl.DataFrame(schema={"event_id": pl.String, "time": pl.Int64, "label": pl.String}))
        for number, begin in enumerate(range(self.start_ms, self.end_ms, MINUTE)):
            rows = orders(40, begin, begin + MINUTE, 10 + number, changed=begin >= ONSET)
            TRUTH.update(zip(rows["event_id"], rows["label"], strict=True))
            queue.put(rows.select("event_id", pl.col("time") + 10 * MINUTE, "label"))
            yield Chunk(begin + MINUTE, rows.drop("label"), queue.due(begin + MINUTE))


def test_a_model_of_three_classes_is_retrained_and_served(tmp_path: Path):
    loop = WholeLoop(Parcels(), tmp_path)
    history, _, _ = loop.play()
    assert [one.gate for one in history.candidates] == [GateOutcome.PASS]
    assert "accuracy" in history.candidates[0].gate_reason
    actions = [one.action for one in history.deployments]
    assert actions[:3] == [DeploymentAction.ADOPTED, DeploymentAction.STARTED, DeploymentAction.STEP]
    # Both versions answer with a probability a class while the canary is out, and the new one is more often right.
    right: dict[str, list[bool]] = {}
    for value in values_of(loop, "parcels-bench.predictions"):
        event = json.loads(value)
        if event["time"] >= ONSET + HOUR:
            assert set(event["prediction"]) == set(CLASSES)
            right.setdefault(event["version"], []).append(event["action"] == TRUTH[event["event_id"]])
    old, new = (np.mean(right[version]) for version in ("1", "2"))
    assert new > old + 0.2
    # The version's reference says that it answers with classes, so its performance is judged by their accuracy.
    found = [json.loads(value) for value in values_of(loop, loop.topics.references.name)]
    assert {(one["version"], one["task"]) for one in found} == {("1", "multiclass"), ("2", "multiclass")}
