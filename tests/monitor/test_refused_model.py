"""A model whose entry in the configuration is refused is left out alone, and goes on when the entry is right."""

import json
from typing import Any

import pytest

from stationkeeper.config import Config
from stationkeeper.events import EventReader, Form, RefusedModel, forms
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.monitor.verify import verify
from stationkeeper.streams.memory.ports import MemoryReader
from tests.monitor.rig import MINUTE, START, TOPICS, Rig, fraud, predictions, reference

REFUSED = RefusedModel("churn", "models.churn.window: wrong", {"prediction": frozenset({"scores"})})


def of_churn(values: list[bytes]) -> list[bytes]:
    events = [json.loads(value) for value in values]
    return [json.dumps({**one, "model": "churn", "event_id": f"c{one['event_id']}"}).encode() for one in events]


class Refusing(Rig):
    """A rig of two models on one topic that may begin without one of them."""

    def restart(self, *refused: RefusedModel) -> None:
        models = self.models
        try:
            self.models = {name: model for name, model in models.items() if name not in {one.name for one in refused}}
            for role in ("join", "judge"):
                self.start(role)
            stage: Any = self.start("tally").stage
            stage.__init__(self.models, TOPICS, clock="stream", refused=refused)
        finally:
            self.models = models

    def hour(self, number: int) -> None:
        fresh = predictions(60, 20, first=number * 10_000, start=START + number * 60 * MINUTE)
        both = [one for pair in zip(fresh, of_churn(fresh), strict=True) for one in pair]
        self.send("scores", both)
        self.turn(6)


def outcomes(rig: Rig) -> dict[str, int]:
    rows = rig.stage("tally").status()["conservation"]
    return {name: sum(row[name] for row in rows) for name in ("received", "tallied", "rejected", "dropped", "late")}


def test_its_events_on_a_shared_topic_are_dropped_and_counted_and_the_others_are_judged() -> None:
    churn = fraud(labels=None).model_copy(update={"name": "churn"})
    rig = Refusing({"fraud": fraud(), "churn": churn}, partitions=1)
    for model in ("fraud", "churn"):
        rig.put_reference(reference(model=model))
    rig.hour(0)
    before = outcomes(rig)
    assert before == {"received": 2_400, "tallied": 2_400, "rejected": 0, "dropped": 0, "late": 0}
    rig.restart(REFUSED)
    rig.hour(1)
    assert outcomes(rig) == {"received": 4_800, "tallied": 3_600, "rejected": 0, "dropped": 1_200, "late": 0}
    assert rig.read("scores.dlq") == []
    assert {model["model"] for model in rig.stage("judge").status()["models"]} == {"fraud"}
    rig.restart()
    rig.hour(2)
    assert outcomes(rig)["tallied"] == 6_000
    # What was left out in between is known of the log, so that a recount drops the same.
    found = verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream")
    assert (found.differences, found.complete) == ([], True)
    models = {model["model"]: model for model in rig.stage("judge").status()["models"]}
    assert models["churn"]["watermark"] == models["fraud"]["watermark"]
    # An hour that nobody counted is no drift.
    assert [one for one in rig.verdicts() if one.model == "churn"] == []


def test_a_topic_of_its_own_waits_uncommitted_and_is_read_from_there_afterwards() -> None:
    churn = fraud(labels=None, predictions="rates").model_copy(update={"name": "churn"})
    rig = Refusing({"fraud": fraud(), "churn": churn}, partitions=1)
    rig.put_reference(reference(model="churn"))
    rig.restart(RefusedModel("churn", "wrong", {"prediction": frozenset({"rates"})}))
    rig.send("rates", of_churn(predictions(60, 20)))
    rig.turn(6)
    assert outcomes(rig)["received"] == 0
    rig.restart()
    rig.turn(6)
    assert outcomes(rig) == {"received": 1_200, "tallied": 1_200, "rejected": 0, "dropped": 0, "late": 0}


FOREIGN = {"topic": "t", "map": {"event_id": "id", "time": "ts", "prediction": "p"}, "constants": {"version": "1"}}


def form(*refused: RefusedModel, **mapping: Any) -> Form:
    config = Config.parse({"models": {"a": {"predictions": {**FOREIGN, **mapping}}}})
    return forms(list(config.models.values()), refused)["t"]


def test_a_topic_of_two_does_not_become_ones_while_the_other_is_refused() -> None:
    record = json.dumps({"id": "1", "ts": START, "p": 0.5, "model": "b"}).encode()
    sharing = RefusedModel("b", "wrong", {"prediction": frozenset({"t"})})
    # Alone, a model has every record of another's making; beside one that shares the topic, those that name it.
    assert [one.owners for one in EventReader(form()).read([record]).events] == [(("a", "1"),)]
    assert form(RefusedModel("b", "wrong", {"prediction": frozenset({"u"})})).model == "a"
    reading = EventReader(form(sharing)).read([record])
    assert (reading.events, reading.rejected, reading.dropped) == ((), (), (0,))
    assert [one.owners for one in EventReader(form(sharing)).read([record.replace(b'"b"', b'"a"')]).events] == [
        (("a", "1"),)
    ]


UNKNOWN = RefusedModel("b", "its entry is empty")


def test_what_names_a_refused_model_is_no_other_models_event_though_nobody_knows_its_topics() -> None:
    def of(**fields: Any) -> bytes:
        return json.dumps({"id": "1", "ts": START, "p": 0.5, **fields}).encode()

    escaped = of(model="b").replace(b'"b"', rb'"\u0062"')
    nan = of(model="b", x=float("nan"))
    records = [of(model="a"), of(model="b"), of(), of(model="lorry"), escaped, nan, of(model={"b": 1}), of(model=["b"])]
    reading = EventReader(form(UNKNOWN)).read([*records, b"{b", of(model="b")[:-5]])
    (events,) = reading.events
    # Names of another's making say nothing: with one reader there is no question whose those are.
    assert (events.owners, events.rows.tolist()) == ((("a", "1"),), [0, 2, 3, 6, 7])
    assert (reading.dropped, [one.row for one in reading.rejected]) == ((1, 4, 5), [8, 9])
    assert reading.values[3] == records[3]


def test_a_mapping_that_takes_the_field_for_something_else_is_believed() -> None:
    record = json.dumps({"id": "1", "ts": START, "p": 0.5, "model": "b"}).encode()
    mapping = {**FOREIGN["map"], "features": {"make": "model"}}  # type: ignore[dict-item]
    assert EventReader(form(UNKNOWN, map=mapping)).read([record]).dropped == ()


@pytest.mark.parametrize("constant", ["a", "b"])
def test_a_topic_whose_mapping_names_the_model_is_that_models(constant: str) -> None:
    record = json.dumps({"id": "1", "ts": START, "p": 0.5, "model": "b"}).encode()
    read = EventReader(form(UNKNOWN, constants={"version": "1", "model": constant})).read([record])
    assert (len(read.events), read.dropped) == ((1, ()) if constant == "a" else (0, (0,)))


def test_a_path_or_constant_called_like_another_models_topic_makes_it_no_shared_one() -> None:
    other = {**FOREIGN, "topic": "u", "map": {**FOREIGN["map"], "features": {"x": "t"}}}  # type: ignore[dict-item]
    entry = {"window": "often", "predictions": {**other, "constants": {"version": "t", "segment": {"t": "t"}}}}
    config = Config.parse({"models": {"a": {"predictions": FOREIGN}, "b": entry}}, refuse=True)
    assert forms(list(config.models.values()), config.refused)["t"].model == "a"
    assert config.refused[0].kinds("u") == ["prediction"]


def test_kinds_that_only_the_refused_model_reads_are_dropped_and_not_rejected() -> None:
    churn = fraud(predictions="scores", labels="scores").model_copy(update={"name": "churn"})
    alone = fraud(labels=None)
    rig = Refusing({"fraud": alone, "churn": churn}, partitions=1)
    rig.put_reference(reference(model="fraud"))
    rig.restart(RefusedModel("churn", "its entry is empty"))
    ours = predictions(60, 20)
    label = {"kind": "label", "time": START, "model": "churn", "label": 1}
    labels = [json.dumps({**label, "event_id": str(number)}).encode() for number in range(1_200)]
    # One of ours is wrong: it stays a dead letter, in its place among those that are left out.
    rig.send("scores", [one for pair in zip(labels, [b"{", *ours[1:]], strict=True) for one in pair])
    rig.turn(6)
    assert outcomes(rig) == {"received": 2_400, "tallied": 1_199, "rejected": 1, "dropped": 1_200, "late": 0}
    assert len(rig.read("scores.dlq")) == 1
    rig.restart()
    rig.turn(2)
    found = verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream")
    assert (found.differences, found.complete) == ([], True)


@pytest.mark.parametrize("kinds", [["prediction"], ["prediction", "label"], ["label"]])
def test_the_kinds_of_a_topic_are_those_that_it_had_with_the_refused_model(kinds: list[Any]) -> None:
    other = RefusedModel("b", "wrong", dict.fromkeys(kinds, frozenset({"t"})))
    assert set(form(other).kinds) == {"prediction", *kinds}
    assert Tally(Config.parse({"models": {"a": {"predictions": FOREIGN}}}).models, TOPICS, refused=[other]).inputs == (
        "t",
    )
