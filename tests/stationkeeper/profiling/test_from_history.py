"""A baseline from a model's own past: counts, dependence, traffic and labels of the period."""

import numpy as np
import pytest

from stationkeeper.contracts.messages import Level, VerdictKind
from stationkeeper.contracts.wire import PaneDelta
from stationkeeper.monitor.core.adoption.rebase import rebase
from stationkeeper.monitor.core.panes.pane import Pane
from stationkeeper.monitor.core.reference import dump, load
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.profiling.from_history import history_reference
from stationkeeper.streams.memory.ports import MemoryReader
from tests.monitor.rig import MINUTE, START, TOPICS, Rig, fraud, labels, predictions, reference


@pytest.fixture(scope="module")
def rig() -> Rig:
    rig = Rig({"fraud": fraud(label_maturity="5m")})
    rig.put_reference(reference("1"))
    rig.send("scores", predictions(60, 60, shift=0.7))
    rig.send("outcomes", labels(range(0, 3_000, 3)))
    rig.turn()
    return rig


def test_the_counts_are_those_of_the_period_and_the_order_teaches(rig: Rig):
    start, end = START + 10 * MINUTE, START + 50 * MINUTE
    made = history_reference(MemoryReader(rig.log), TOPICS, "fraud", start=start, end=end)
    inside = [
        record
        for record in rig.records(TOPICS.history.name)
        if isinstance(record, PaneDelta) and not record.segment and start <= record.start < end
    ]
    total = np.sum([record.vector() for record in inside], axis=0)
    for subject in made.subjects:
        np.testing.assert_array_equal(subject.counts, total[made.layout[subject.name].histogram])
    assert (made.first, made.last, made.source) == (start, end, "history")
    assert made.adopted
    assert made.digest != reference("1").digest
    assert made.traffic is not None
    assert made.traffic.rows_per_hour.mean() == pytest.approx(3_600, rel=0.01)
    assert made.labels is not None
    assert made.labels.rows == len(range(0, 3_000, 3)) - 10 * 60 // 3
    assert load(dump(made)).digest == made.digest
    assert "from 40 panes of production with 2400 rows" in made.notes


def test_a_published_baseline_takes_the_place_of_the_first_and_ends_its_page(rig: Rig):
    assert [v.kind for v in rig.verdicts() if v.level is Level.PAGE] == [VerdictKind.DATA_DRIFT]
    rig.put_reference(history_reference(MemoryReader(rig.log), TOPICS, "fraud", "1"))
    rig.turn(3)
    rig.send("scores", predictions(40, 60, first=3_600, start=START + 60 * MINUTE, shift=0.7))
    rig.turn()
    assert [v.kind for v in rig.verdicts() if v.level is Level.PAGE] == [VerdictKind.DATA_DRIFT]
    assert [v.kind for v in rig.verdicts()].count(VerdictKind.RECOVERED) == 1


def test_quality_of_the_period_is_normal_afterwards():
    made = reference("1")
    zeros = made.layout.zeros()
    place = made.layout["amount"]
    panes = []
    for minute in range(30):
        counts = zeros.copy()
        for subject in made.subjects:
            counts[made.layout[subject.name].histogram][:2] = 25
        counts[place.histogram.stop - 1] += 5
        counts[place.counter("null")] = 5
        panes.append(Pane(minute * MINUTE, MINUTE, 50, counts))
    learned = rebase(made, panes).by_name["amount"]
    assert (learned.quality[1], learned.rows) == (150, 30 * 55)
    assert Watch(rebase(made, panes)).period is None


def test_too_little_past_and_unknown_names_say_what_to_do(rig: Rig):
    reader = MemoryReader(rig.log)
    with pytest.raises(ValueError, match=r"5 panes with 300 rows are too little .*choose a longer period"):
        history_reference(reader, TOPICS, "fraud", "1", end=START + 5 * MINUTE)
    with pytest.raises(ValueError, match="no reference of version '9' in the log; versions: 1"):
        history_reference(reader, TOPICS, "fraud", "9")
    with pytest.raises(ValueError, match=r"holds no pane of fraud/1 .*stationkeeper report --model fraud"):
        history_reference(reader, TOPICS, "fraud", "1", start=START + 10_000 * MINUTE)
