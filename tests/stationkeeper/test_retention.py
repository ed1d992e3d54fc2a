"""``check`` compares how long topics keep records with what is read back from them, and says what would be lost."""

import uuid
from dataclasses import replace
from typing import Any

import pytest

from stationkeeper.check.checks import clock_warnings, retention_warnings, run_checks
from stationkeeper.config import Config
from stationkeeper.contracts.topics import DAY_MS, Topic
from stationkeeper.process.wiring import topics_of
from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.kafka.topics import admin_client, create, input_topic

LONG = {"retention.ms": str(400 * DAY_MS), "retention.bytes": "-1", "cleanup.policy": "delete"}


def config(**more: Any) -> Config:
    model = {"predictions": "p", "labels": "l", "label_horizon": "30d", "retrain": {"data": {"history": "60d"}}}
    return Config.parse({"models": {"fraud": model | more}})


def warnings(settings: Config, **changed: dict[str, str]) -> dict[str, str]:
    joins = replace(topics_of(settings).joins, name="joins")
    topics = {"p": LONG, "l": LONG, "joins": LONG}
    kept = {name: found | changed.get(name, {}) for name, found in topics.items()}
    return {check.what: check.detail for check in retention_warnings(settings, kept, joins)}


def test_what_is_kept_long_enough_is_not_spoken_of() -> None:
    assert warnings(config()) == {}
    assert warnings(config(), p={"retention.ms": "-1"}) == {}


def test_predictions_shorter_than_the_label_horizon_cannot_be_trained_on() -> None:
    said = warnings(config(), p={"retention.ms": str(6 * DAY_MS)})
    assert list(said) == ["retention of p"]
    assert said["retention of p"].startswith("keeps 6d of predictions. labels of fraud count for up to 30d")
    assert "trains on up to 60d (retrain.data.history)" in said["retention of p"]
    said = warnings(config(retrain=None), p={"retention.ms": str(6 * DAY_MS)})
    assert "label_horizon" in said["retention of p"]
    assert "retrain" not in said["retention of p"]
    assert warnings(config(retrain=None, labels=None), p={"retention.ms": str(6 * DAY_MS)}) == {}


def test_labels_shorter_than_the_history_and_joins_shorter_than_the_horizon_are_named() -> None:
    said = warnings(config(), l={"retention.ms": str(45 * DAY_MS)}, joins={"retention.ms": str(10 * DAY_MS)})
    assert list(said) == ["retention of l", "retention of joins"]
    assert f"Raise retention.ms to {30 * DAY_MS * 17 // 16}," in said["retention of joins"]
    assert "retention of joins" in warnings(config(), joins={"retention.ms": str(30 * DAY_MS)})


def test_a_cut_by_size_or_key_is_named() -> None:
    said = warnings(config(), p={"retention.bytes": "1000000"}, l={"cleanup.policy": "compact,delete"})
    assert list(said) == ["cleanup of l", "retention of p"]
    assert "1,000,000 bytes" in said["retention of p"]


def test_stamps_of_producers_are_named_where_the_clock_is_the_wall() -> None:
    kept = {"p": LONG | {"message.timestamp.type": "CreateTime"}, "l": {"message.timestamp.type": "LogAppendTime"}}
    (said,) = clock_warnings(config(), kept)
    assert (said.what, said.outcome) == ("clock of p", "warning")
    assert said.detail.endswith("Set message.timestamp.type=LogAppendTime")
    replayed = Config.parse({"clock": "stream", "models": {"fraud": {"predictions": "p", "labels": "l"}}})
    assert list(clock_warnings(replayed, kept)) == []
    assert list(clock_warnings(config(), {})) == []


@pytest.mark.broker
def test_the_brokers_own_configuration_is_what_is_compared(kafka: FoundBroker) -> None:
    prefix = f"r{uuid.uuid4().hex[:8]}"
    model = {"predictions": f"{prefix}.p", "labels": f"{prefix}.l", "label_horizon": "30d"}
    settings = Config.parse({"kafka": {"bootstrap": kafka.bootstrap, "prefix": prefix}, "models": {"fraud": model}})
    joins: Topic = replace(topics_of(settings).joins, retention_ms=5 * DAY_MS)
    state = replace(topics_of(settings).judge_state, cleanup="delete")
    short = input_topic(f"{prefix}.p", partitions=1, retention_ms=2 * DAY_MS)
    with admin_client(settings.kafka) as admin:
        create(admin, [joins, state, short, input_topic(f"{prefix}.l", partitions=1)], settings.kafka)
    found = {check.what: check for check in run_checks(settings)}
    assert found[f"retention of {prefix}.p"].detail.startswith("keeps 2d of predictions")
    assert found[f"retention of {joins.name}"].detail.startswith("keeps 5d, labels count for up to 30d")
    assert f"retention of {prefix}.l" not in found
    assert found[f"settings of {state.name}"].detail.startswith("has cleanup.policy=delete, segment.bytes=")
    assert found[f"settings of {state.name}"].detail.endswith(
        "Set cleanup.policy=compact, segment.bytes=8388608, min.cleanable.dirty.ratio=0.1"
    )
    assert [what for what in found if what.startswith("settings of")] == [f"settings of {state.name}"]
    assert not any(what.startswith("clock of") for what in found)
