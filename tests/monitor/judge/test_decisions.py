from typing import Any, cast

from stationkeeper.monitor.judge.decisions import Decisions, joined


def test_decisions_are_joined_in_order_and_late_records_close_no_pane():
    first = Decisions(history=cast("Any", ("a",)), verdicts=cast("Any", ("v1",)), closed=1)
    late = Decisions(history=cast("Any", ("b",)))
    last = Decisions(verdicts=cast("Any", ("v2",)), requests=cast("Any", ("r",)), closed=5)
    whole: Any = joined([first, late, last])
    assert (whole.history, whole.verdicts, whole.requests, whole.closed) == (("a", "b"), ("v1", "v2"), ("r",), 6)
    assert joined([]) == Decisions()
