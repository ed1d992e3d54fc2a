"""``check`` says which reference each model has, and how far one without order of time has been adopted."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stationkeeper.check.baselines import baselines, known_references
from stationkeeper.explain.lineage import read_references
from stationkeeper.monitor.core.adoption.adopt import Timeline, adopt
from stationkeeper.monitor.core.reference import profile
from stationkeeper.monitor.profiling import profile as profile_frame
from stationkeeper.monitor.profiling import subject_columns
from stationkeeper.profiling.from_history import _references
from stationkeeper.streams.memory.ports import MemoryReader
from tests.monitor.rig import START, TOPICS, Rig, fraud, predictions, reference, rollout, table


def said(rig: Rig) -> tuple[bool, str]:
    reader = MemoryReader(rig.log)
    (found,) = baselines(known_references(reader, TOPICS), reader, TOPICS, rig.models)
    return found.known, found.words


@pytest.mark.parametrize(
    ("settings", "minutes", "words"),
    [
        ({"adoption": "14d"}, 0, "without order of time: its first 14 days of live panes teach it"),
        ({"adoption": "14d"}, 30, "without order of time; adopting: 0 of 14 days, until then only quality pages"),
        ({"adoption": "2h"}, 30, "without order of time; adopting: 0.5 of 2 hours, until then"),
        ({"adoption": "20m"}, 30, "without order of time: adopted from 1,740 live rows"),
        ({"adoption": "0d"}, 30, "judged at once, as if rows were independent (adoption: 0d)"),
    ],
)
def test_progress_is_read_from_the_log(settings: dict[str, Any], minutes: int, words: str):
    rig = Rig({"fraud": fraud(**settings)})
    rig.put_reference(reference("1"))
    rig.send("scores", predictions(minutes + 2, 60) if minutes else [])
    rig.turn(6)
    known, text = said(rig)
    assert known
    assert text.startswith("version 1, 5,000 rows of training, ")
    assert words in text


def test_a_reference_with_order_of_time_and_a_champion_without_any():
    rig = Rig({"fraud": fraud(adoption="14d")})
    assert said(rig) == (False, "no reference: drift is unknown; stationkeeper profile FILE --publish gives one")
    columns = table(5_000)
    made = profile(columns, model="fraud", version="1", prediction="score", ordered=True)
    rig.put_reference(adopt(made, subject_columns(made, columns, "score"), Timeline.of_rows(5_000, 50)))
    assert said(rig) == (True, "version 1, 5,000 rows of training, in order of time: judged at once")
    rig.put_rollout(rollout("2"))
    assert said(rig)[1].startswith("no reference of its champion 2: drift is unknown")


def test_hours_by_another_clock_than_the_models_are_told():
    rig = Rig({"fraud": fraud(timezone="Europe/Berlin")})
    columns = {**table(21 * 24 * 20), "time": START + np.arange(21 * 24 * 20) * 180_000}
    columns["amount"] = columns["amount"] + 30.0 * (columns["time"] // 3_600_000 % 24 < 12)
    made = profile_frame(columns, model="fraud", version="1", prediction="score", time="time", pane="1h")
    assert made.has_hours
    rig.put_reference(made)
    assert said(rig)[1].endswith(
        "; its hours are those of UTC: profile it again (--timezone Europe/Berlin) for those of the model's timezone"
    )
    rig.put_reference(replace(made, timezone="Europe/Berlin"))
    assert said(rig)[1].endswith("judged at once")


def test_a_reference_of_another_that_cannot_be_read_hides_nothing():
    rig = Rig({"fraud": fraud(adoption="14d")})
    rig.put_reference(reference("1"))
    bad = {b"\xff\xfe": b"\xff", b"credit/1": b"{not json", b"../../etc/1": b"{}"}
    rig.log.produce(TOPICS.references.name, [*bad.values()], keys=[*bad])
    rig.log.produce(TOPICS.rollouts.name, [b"nonsense"], keys=[b"\xff"])
    known, text = said(rig)
    assert (known, text.startswith("version 1, 5,000 rows")) == (True, True)
    assert list(read_references(MemoryReader(rig.log), TOPICS, "fraud")) == [reference("1").digest]
    assert _references(MemoryReader(rig.log), TOPICS, "fraud")[0].keys() == {"1"}
