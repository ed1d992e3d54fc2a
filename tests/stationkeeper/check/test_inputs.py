"""``check`` reads the newest records of each input by itself; ``--sample`` prints them too."""

import json

from stationkeeper.check.baselines import known_references
from stationkeeper.check.finding import SetupCheck
from stationkeeper.check.inputs import check_inputs
from stationkeeper.config import Config
from stationkeeper.streams.memory.ports import MemoryReader
from tests.monitor.rig import TOPICS, Rig, fraud, predictions, reference


def asked(rig: Rig, sample: int) -> dict[str, SetupCheck]:
    reader = MemoryReader(rig.log)
    config = Config.parse({"clock": "stream", "models": {"fraud": {"predictions": "scores"}}})
    return {found.what: found for found in check_inputs(config, reader, known_references(reader, TOPICS), sample)}


def test_events_are_set_beside_the_reference_with_and_without_a_sample_to_print() -> None:
    rig = Rig({"fraud": fraud()})
    rig.put_reference(reference("1"))
    rig.send("scores", predictions(5, 60))
    for sample in (0, 4):
        found = asked(rig, sample)
        assert found["topic scores"].detail.startswith("300 mapped, failed: none (the newest of 300 records in ")
        assert len(found["topic scores"].lines) == sample
        assert found["events of fraud"].outcome == "ok"
        assert found["events of fraud"].detail == "300 events beside the reference of version 1: alike"


def test_a_mismatch_fails_and_a_model_without_a_reference_is_looked_at_too() -> None:
    rig = Rig({"fraud": fraud()})
    odd = [json.loads(value) | {"prediction": None, "version": "9"} for value in predictions(2, 60)]
    rig.send("scores", [json.dumps(value).encode() for value in odd])
    alone = asked(rig, 0)["events of fraud"]
    assert alone.failed
    assert alone.detail == "120 events beside no reference yet: 1 difference"
    rig.put_reference(reference("1"))
    both = asked(rig, 0)["events of fraud"]
    assert len(both.lines) == 2
    assert "predictions are of version '9', references are of 1" in both.lines[1]
