"""Segments share one budget of false pages, which must not change as their values come."""

import pytest

from stationkeeper.monitor.core.watch_plan import WatchSettings, split_budget
from stationkeeper.monitor.profiling import profile
from stationkeeper.monitor.tally.segments import OTHER, Places, planned_segments, segment_name
from tests.monitor.rig import fraud, table


@pytest.mark.parametrize("sensitive", [[], ["country"]])
def test_all_segments_together_spend_the_budget_once(sensitive: list[str]):
    """A sensitive dimension, whose values no reference holds, spent it ten times at two hundred values."""
    made = profile(table(2_000), model="fraud", prediction="score", sensitive=sensitive)
    settings = fraud(segments=["country"])
    values = Places.fixed(made, "country")
    if values is None:
        places = Places()
        values = tuple(
            f"c{i}" for i in range(300) if places.give("fraud", "country", f"c{i}", settings.limits.segments)
        )
        assert len(values) == settings.limits.segments
    spent = 0.0
    for segment in ("", *(segment_name("country", value) for value in (*values, OTHER))):
        planned = planned_segments(settings, made, segment)
        shares = split_budget(made, WatchSettings(budget=settings.budget, segments=planned), segment)
        spent += sum(shares.values())
    assert spent == pytest.approx(settings.budget.alpha, rel=0.02)
