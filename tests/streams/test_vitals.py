from stationkeeper.contracts.metrics import BY_NAME, Sample
from stationkeeper.streams.ports import Partition
from stationkeeper.streams.vitals import Vitals


def by_name(vitals):
    found: dict[str, list[Sample]] = {}
    for sample in vitals.samples():
        found.setdefault(sample.metric, []).append(sample)
    return found


def test_every_sample_is_a_metric_of_the_closed_list_with_its_labels():
    vitals = Vitals("tally")
    vitals.beat(5_000, 0.0)
    vitals.restored(0.5)
    vitals.measured({Partition("t", 0): 7})
    vitals.lost(Partition("t", 1), 3)
    vitals.flushed(0.02)
    vitals.aborted("broker gone")
    vitals.publish([Sample("stationkeeper_records_received_total", ("t", "0"), 9)], {"role": "tally"})
    found = by_name(vitals)
    for name, samples in found.items():
        assert all(len(sample.labels) == len(BY_NAME[name].labels) for sample in samples)
    assert found["stationkeeper_consumer_lag_records"][0].value == 7
    assert found["stationkeeper_stage_errors_total"][0].value == 1
    assert found["stationkeeper_restore_seconds"][0].value == 0.5
    assert found["stationkeeper_stage_heartbeat_timestamp_seconds"][0].value == 5.0
    assert found["stationkeeper_records_received_total"][0].value == 9


def test_what_was_lost_adds_up():
    vitals = Vitals("join")
    vitals.lost(Partition("t", 0), 3)
    vitals.lost(Partition("t", 0), 4)
    vitals.publish([], {})
    expired = by_name(vitals)["stationkeeper_records_expired_total"]
    assert {sample.labels: sample.value for sample in expired} == {("t", "0"): 7}


def test_the_histogram_of_flushes_is_cumulative():
    vitals = Vitals("tally")
    for seconds in (0.004, 0.02, 0.02, 99.0):
        vitals.flushed(seconds)
    vitals.publish([], {})
    (flush,) = by_name(vitals)["stationkeeper_flush_seconds"]
    buckets = dict(flush.buckets)
    assert (buckets[0.005], buckets[0.025], buckets[10.0], buckets[float("inf")]) == (1, 3, 3, 4)
    assert flush.sum == 99.044


def test_readiness_follows_the_last_thing_that_happened_and_liveness_the_heartbeat():
    vitals = Vitals("tally")
    assert (vitals.ready(), vitals.reasons()) == (False, ("starting",))
    assert not vitals.live(0.0, 5.0)
    vitals.beat(1_000, 1.0)
    assert vitals.ready_now()
    assert not vitals.ready_now()
    assert (vitals.ready(), vitals.reasons()) == (True, ())
    vitals.aborted("no broker answers")
    assert (vitals.ready(), vitals.reasons()) == (False, ("no broker answers",))
    assert vitals.live(6.0, 5.0)
    assert not vitals.live(6.1, 5.0)
    vitals.failed("fenced")
    assert not vitals.live(1.0, 5.0)
    assert vitals.reasons() == ("fenced",)
