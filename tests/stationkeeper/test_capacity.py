from dataclasses import replace

import pytest

from stationkeeper.capacity import BASE_MB, LEAST_REPLICAS, SPARE, Costs, Load, kept_costs, plan

# Costs by which a person can compute: 9.05 µs to count an event of 100 features and .95 to read it are 10.
COSTS = Costs(
    command="by hand",
    taken="2026-01-01",
    machine="none",
    event_us=(1.05, 0.08),
    event_bytes=(200, 20),
    batch_us=0.0,
    flush_ms=(0.0, 0.01),
    absorb_ms=(0.0, 0.01),
    pane_ms=(0.0, 0.3),
    history_bytes=(0.0, 100),
    changed_bytes=(0.0, 1_000),
    state_bytes=(0.0, 5_000),
    judge_kb=(0.0, 10),
    tally_kb=1.0,
    panes_bytes=((10, 10.0), (1_000, 30.0)),
    join_bytes=20.0,
)


def test_a_hundred_thousand_events_by_hand():
    # Ten models of 10 000/s: .1 core each and one tally each; ten deltas a second of 1 ms to write, and to read.
    found = plan(Load(events=100_000, models=10, features=100), COSTS)
    assert found.tally_cores == pytest.approx(100_000 * 10e-6 + 10 * 1e-3)
    assert found.judge_cores == pytest.approx(10 * 30 / 60_000 + 10 * 1e-3)
    assert found.replicas == 2
    assert found.partitions == 10
    assert found.input_mb_s == pytest.approx(220)
    # 10 000 rows touch every cell: 30 bytes a feature, 10 models, each second of three days.
    assert found.topic("panes").mb == pytest.approx(30 * 100 * 10 * 86_400 * 3 / 1e6)
    assert found.topic("history").mb == pytest.approx(10 * 100 * 100 * 1_440 * 90 / 1e6)
    assert found.topic("judge-state").mb == pytest.approx(5)
    assert found.judge_mb == pytest.approx(10)
    # Ten models in two tallies, and all of the judging where the other one is down.
    assert found.replica_mb == pytest.approx(BASE_MB + 5 * 100 * 1.0 / 1e3 + 10)
    assert found.disk_mb == pytest.approx(3 * sum(one.mb for one in found.topics))


def test_a_model_that_keeps_several_cores_busy_is_counted_by_several_tallies():
    found = plan(Load(events=1_000_000, models=1, features=100), COSTS)
    assert found.replicas == 15
    # 15 tallies each write a delta of it a second.
    assert found.tally_cores == pytest.approx(10 + 15 * 1e-3)


def test_delta_sizes_grow_with_the_logarithm_of_their_rows():
    assert COSTS.delta_bytes(1, 100) == pytest.approx(1_000)
    assert COSTS.delta_bytes(100, 100) == pytest.approx(2_000)
    assert COSTS.delta_bytes(1e6, 100) == pytest.approx(3_000)


def test_one_topic_for_all_models_makes_every_replica_write_every_model():
    # 200 models x 1 ms a second leave .5 of the .7 to events: 10 cores' work takes 20 replicas.
    asked = Load(events=1_000_000, models=200, features=100, one_topic=True)
    found = plan(asked, COSTS)
    assert found.tally_cores == pytest.approx(10 + 20 * 200 * 1e-3)
    assert not found.warnings
    warning, _ = plan(replace(asked, models=700), COSTS).warnings
    assert "one topic for 700 models takes" in warning
    assert "a topic for each 17:" in warning


def test_one_topic_with_hardly_an_event_takes_one_counter_a_model():
    found = plan(Load(events=5 / 86_400, models=3, features=10, one_topic=True), COSTS)
    assert (found.replicas, found.partitions) == (LEAST_REPLICAS, SPARE)


def test_many_models_in_one_topic_leave_each_few_events_of_a_batch():
    # 4 MiB hold 1 906 events of 2 200 bytes, nine or ten of each of 200 models: 100 features x 1 µs between them.
    costs = replace(COSTS, batch_us=1.0)
    found = plan(Load(events=1_000, models=200, features=100, one_topic=True), costs)
    a_batch = 4 * 2**20 / 2_200 / 200
    assert found.tally_cores == pytest.approx(1_000 * (10 + 100 / a_batch) / 1e6 + 200 * 1e-3)


def test_more_judging_than_its_partitions_can_share_is_said():
    (warning,) = plan(Load(events=100, models=10_000, features=300), COSTS).warnings
    assert "divides over at most 6 monitors" in warning


def test_only_predictions_that_may_get_a_label_take_room_in_joins():
    without, with_labels = (plan(Load(1_000, 1, 10, labels=share), COSTS) for share in (0.0, 0.5))
    assert {one.name for one in with_labels.topics} - {one.name for one in without.topics} == {"joins"}
    assert with_labels.topic("joins").mb_a_day == pytest.approx(1_000 * 1.5 * 20 * 86_400 / 1e6)
    assert with_labels.topic("joins").days == pytest.approx(30 * 17 / 16, rel=0.01)


def test_a_quiet_model_writes_no_more_deltas_than_it_has_events():
    # One event in ten seconds: a tenth of a delta a second.
    found = plan(Load(events=0.1, models=1, features=100), COSTS)
    assert found.topic("panes").mb_a_day == pytest.approx(0.1 * 1_000 * 86_400 / 1e6)
    assert found.replicas == 2


@pytest.mark.parametrize("more", [{"events": 2e6}, {"models": 400}, {"features": 600}, {"segments": 3}])
def test_more_of_anything_never_needs_less(more):
    less = Load(events=1e6, models=200, features=300)
    small, large = plan(less, kept_costs()), plan(replace(less, **more), kept_costs())
    assert large.replicas >= small.replicas
    assert large.disk_mb > small.disk_mb
    assert large.partitions >= small.partitions


def test_the_kept_costs_say_how_and_when_they_were_taken():
    costs = kept_costs()
    assert costs.command == "python -m benchmarks capacity"
    assert costs.taken.endswith("UTC")
    assert "Python" in costs.machine
