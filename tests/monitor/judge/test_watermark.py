from stationkeeper.monitor.judge.watermark import DecisionDelay


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
