"""The status of a subject says how far its reference has followed a slow season, and nothing before it moved."""

import pytest

from stationkeeper.monitor.judge import WatchKey
from stationkeeper.monitor.status.subject import subject_status
from tests.monitor.core.adoption.test_slow_season import lived, season_of


def test_the_status_says_how_far_a_reference_has_moved() -> None:
    def told(days: int) -> tuple[float | None, float]:
        watch, _ = lived([0.02 * day / 7 for day in range(days)])
        status = subject_status(WatchKey("1", watch.reference.digest, ""), watch, watch.chart("x"))
        return status.get("followed"), season_of(watch).moved("x")

    assert told(7) == (None, 0.0)
    followed, moved = told(60)
    assert followed == pytest.approx(moved)
    assert 0.01 < moved <= 0.1
