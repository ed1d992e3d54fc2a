"""What the join shows: sums over its partitions, zeros too where a rate is made of them."""

from stationkeeper.monitor.join.totals import COUNTS, JoinTotals


def test_partitions_are_summed_and_what_never_happened_is_not_shown() -> None:
    parts = [{"paired": 3, "expired": 1}, {"paired": 4}]
    made = JoinTotals.of(parts, {"prediction": 5, "label": 0}, rebuilding=False)
    detail = made.detail()
    assert (detail["paired"], detail["expired"], detail["waiting predictions"], detail["waiting labels"]) == (
        7,
        1,
        5,
        0,
    )
    assert "crowded out" not in detail
    found = {(sample.metric, *sample.labels): sample.value for sample in made.samples()}
    assert [found["stationkeeper_join_rows_total", name.replace(" ", "_")] for name in COUNTS] == [7, 0, 0, 1, 0, 0, 0]
    assert ("stationkeeper_limits_refused_total", "waiting") not in found


def test_rows_that_a_limit_crowded_out_are_shown_beside_other_refusals() -> None:
    made = JoinTotals.of([{"crowded out": 2}], {"prediction": 0, "label": 0}, rebuilding=True)
    assert (made.detail()["crowded out"], made.detail()["rebuilding"]) == (2, True)
    assert ("stationkeeper_limits_refused_total", ("waiting",), 2) in [
        (sample.metric, sample.labels, sample.value) for sample in made.samples()
    ]


def test_a_count_of_a_later_build_is_no_reason_to_stop() -> None:
    made = JoinTotals.of([{"paired": 3, "mended": 2}], {"prediction": 0, "label": 0}, rebuilding=False)
    assert (made.counts["paired"], "mended" in made.counts) == (3, False)
