from typing import Any, cast

from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.topics import PANES_PARTITIONS
from stationkeeper.monitor.judge.decisions import Decisions, Outbox, joined
from tests.monitor.judge.test_stage import pane
from tests.monitor.rig import TOPICS


def test_decisions_are_joined_in_order_and_late_records_close_no_pane():
    first = Decisions(history=cast("Any", ("a",)), verdicts=cast("Any", ("v1",)), closed=1)
    late = Decisions(history=cast("Any", ("b",)))
    last = Decisions(verdicts=cast("Any", ("v2",)), requests=cast("Any", ("r",)), closed=5)
    whole: Any = joined([first, late, last])
    assert (whole.history, whole.verdicts, whole.requests, whole.closed) == (("a", "b"), ("v1", "v2"), ("r",), 6)
    assert joined([]) == Decisions()


def test_an_outbox_tells_models_that_closed_from_those_that_only_got_late_records() -> None:
    outbox = Outbox()
    assert not outbox
    outbox.put("late", Decisions(history=(pane(0),)))
    outbox.put("closed", Decisions(closed=1))
    outbox.put("judged", Decisions(judged=True))
    outbox.moved.add(3)
    assert (outbox.closed, outbox.touched) == ({"closed", "judged"}, {"late", "closed", "judged"})
    (record,) = outbox.records(TOPICS)
    assert (record.topic, record.key, record.partition) == (
        TOPICS.history.name,
        b"late",
        partition_of("late", PANES_PARTITIONS),
    )
    outbox.clear()
    assert (bool(outbox), outbox.closed, list(outbox.records(TOPICS))) == (False, set(), [])
