from stationkeeper.contracts.wire import Progress
from stationkeeper.monitor.judge.watermark import DecisionDelay, PartitionCounts, Progresses


def _buckets(delay):
    sample = delay.sample("judge")
    return dict(sample.buckets), sample.sum


def test_panes_count_by_how_long_they_waited_for_the_commit():
    now = [10.0]
    delay = DecisionDelay(lambda: now[0])
    delay.closed(2)
    now[0] = 10.3
    delay.closed(1)
    now[0] = 10.4
    delay.committed()
    buckets, total = _buckets(delay)
    # Two panes waited 0.4 s and one 0.1 s, which falls in the bucket up to 0.25 for its last digit.
    assert (buckets[0.05], buckets[0.25], buckets[0.5], buckets[float("inf")]) == (0, 1, 3, 3)
    assert abs(total - 0.9) < 1e-9
    delay.committed()
    assert _buckets(delay)[0][float("inf")] == 3


def test_panes_of_a_given_up_transaction_do_not_count():
    now = [0.0]
    delay = DecisionDelay(lambda: now[0])
    delay.closed(5)
    delay.forget()
    delay.committed()
    assert _buckets(delay)[0][float("inf")] == 0


def test_partitions_are_counted_at_an_assignment_and_once_a_minute():
    asked: list[str] = []

    def ask(topic):
        asked.append(topic)
        return len(asked)

    counts = PartitionCounts(["b", "a", "b"], ask)
    assert dict(counts) == {}
    counts.refresh()
    assert dict(counts) == {"a": 1, "b": 2}
    # The first flush follows an assignment, which has just asked.
    for now in (0, 59_999):
        counts.keep_fresh(now)
    assert asked == ["a", "b"]
    counts.keep_fresh(60_000)
    assert dict(counts) == {"a": 3, "b": 4}
    # The host's clock was set back.
    counts.keep_fresh(-3_600_000)
    assert dict(counts) == {"a": 5, "b": 6}
    counts.keep_fresh(-3_600_000 + 59_999)
    assert dict(counts) == {"a": 5, "b": 6}


def test_without_a_way_to_ask_those_count_that_spoke():
    counts = PartitionCounts(["a"], None)
    counts.refresh()
    assert "a" not in counts
    progresses = Progresses(counts)
    assert progresses.watermark({("a", "prediction")}, 0) is None
    progresses.put(Progress("a", 0, "prediction", 1, 70, idle=False))
    assert progresses.watermark({("a", "prediction")}, 10) == 60
    again = Progresses()
    again.restore([["a", 0, "prediction", 1, 70, False]])
    assert again.state() == progresses.state()
