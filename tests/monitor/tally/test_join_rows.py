"""What goes to the label join: the segments of an event arrive as they were, whatever producers call them."""

import json

from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.wire import OutcomeDelta, PaneDelta
from stationkeeper.monitor.tally.join_rows import apart, together
from stationkeeper.monitor.verify import verify
from stationkeeper.streams.memory.ports import MemoryReader
from tests.monitor.rig import TOPICS, Rig, fraud, labels, predictions, reference

segments = st.text(st.sampled_from("a=01\x1e\x1f"), min_size=1, max_size=6)


@given(st.lists(segments, max_size=4))
def test_segments_that_went_together_come_apart_as_they_were(names: list[str]) -> None:
    joined = ""
    for name in names:
        joined = together(joined, name)
    assert apart(joined) == tuple(names)


def test_a_segment_value_cannot_count_outcomes_of_another_segment() -> None:
    rig = Rig({"fraud": fraud(segments=["region", "country"])}, partitions=1)
    rig.put_reference(reference())
    forged = [
        json.dumps(json.loads(value) | {"segment": {"region": "a\x1fcountry=us" if i % 2 else "b"}}).encode()
        for i, value in enumerate(predictions(3, 20))
        if json.loads(value)["features"]["country"] != "us"
    ]
    rig.send("scores", forged)
    rig.turn(3)
    rig.send("outcomes", labels(range(60)))
    rig.turn(5)
    told = rig.records(TOPICS.panes.name)
    counted = {one.segment for one in told if isinstance(one, PaneDelta)}
    joined = {one.segment for one in told if isinstance(one, OutcomeDelta)}
    assert counted == joined
    assert joined == {"", "region=a\x1fcountry=us", "region=b", "country=de", "country=fr"}


def test_numbers_beyond_what_a_row_holds_are_counted_without_a_warning() -> None:
    """numpy's went to the error stream of a live monitor, in a form that no log reader knows."""
    rig = Rig({"fraud": fraud()}, partitions=1)
    rig.put_reference(reference())
    huge = [json.loads(value) | {"prediction": 1e300} for value in predictions(3, 20)]
    rig.send("scores", [json.dumps(one).encode() for one in huge])
    answers = [
        json.loads(value) | {"label": [1e300, -1e300, 1e20, "Infinity"][i % 4]}
        for i, value in enumerate(labels(range(60)))
    ]
    rig.send("outcomes", [json.dumps(one).encode() for one in answers])
    rig.turn(5)
    told = [one for one in rig.records(TOPICS.panes.name) if isinstance(one, OutcomeDelta)]
    assert sum(one.rows for one in told) == 60
    assert verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream").equal
