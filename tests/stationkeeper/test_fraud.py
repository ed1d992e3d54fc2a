"""The fraud stream is what docs/demo.md says it is, and any stretch can be drawn again by itself."""

import numpy as np
import polars as pl

from stationkeeper.demo.card_fraud import START_MS, FraudScenario
from stationkeeper.demo.fraud import FEATURES, FraudStory, generate
from stationkeeper.monitor.settings import HOUR_MS

HOUR = START_MS // HOUR_MS


def test_a_stretch_is_the_same_whether_drawn_alone_or_with_its_neighbours() -> None:
    story = FraudStory.drawn(5)
    whole = generate(story, START_MS, 4, 30, onset_ms=START_MS)
    alone = generate(story, START_MS + 2 * HOUR_MS, 1, 30, onset_ms=START_MS)
    inside = (whole.time >= START_MS + 2 * HOUR_MS) & (whole.time < START_MS + 3 * HOUR_MS)
    assert np.array_equal(whole.time[inside], alone.time)
    for name in FEATURES:
        assert list(whole.columns[name][inside].astype(str)) == list(alone.columns[name].astype(str))


def test_the_new_method_exists_only_from_the_onset_and_takes_its_share() -> None:
    story = FraudStory(share=0.12)
    onset = START_MS + 3 * HOUR_MS
    rows = generate(story, START_MS, 12, 60, onset_ms=onset)
    wallet = rows.columns["method"] == "instant_wallet"
    assert not wallet[rows.time < onset].any()
    share = wallet[rows.time >= onset].mean()
    n = int((rows.time >= onset).sum())
    assert abs(share - 0.12) < 4 * np.sqrt(0.12 * 0.88 / n)


def test_without_a_shift_nothing_new_appears() -> None:
    scenario = FraudScenario(FraudStory().without_shift(), hours=8, per_minute=30)
    assert scenario.onset_ms is None
    assert not scenario.plot.expects_cure
    methods = pl.concat([chunk.asks for chunk in scenario.chunks()])["method"].unique().to_list()
    assert "instant_wallet" not in methods


def test_labels_come_late_once_and_never_before_they_are_known() -> None:
    scenario = FraudScenario(hours=8, per_minute=20)
    asked: dict[str, int] = {}
    labelled: set[str] = set()
    for chunk in scenario.chunks():
        asked.update(zip(chunk.asks["event_id"], chunk.asks["time"], strict=True))
        assert chunk.asks["time"].max() is None or chunk.asks["time"].max() < chunk.until_ms
        for event_id, known in chunk.labels.select("event_id", "time").iter_rows():
            assert event_id not in labelled
            assert asked[event_id] <= known < chunk.until_ms
            labelled.add(event_id)
    oldest_unlabelled = min(time for event_id, time in asked.items() if event_id not in labelled)
    assert oldest_unlabelled > scenario.end_ms - 4 * HOUR_MS


def test_drawn_stories_differ_and_stay_in_their_ranges() -> None:
    stories = [FraudStory.drawn(seed) for seed in range(40)]
    assert all(4 <= s.onset_hours <= 9 and 0.03 <= s.share <= 0.15 for s in stories)
    assert {s.pattern for s in stories} == {"takeover", "mule", "testing"}
    assert {s.new_devices for s in stories} == {True, False}
    assert FraudStory.drawn(3) == FraudStory.drawn(3)
