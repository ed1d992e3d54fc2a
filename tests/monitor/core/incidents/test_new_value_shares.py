import numpy as np
import pytest

from stationkeeper.monitor.core.incidents.new_value_shares import NewValueShares
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import profile

REFERENCE = profile({"country": np.array(["de", "fr"] * 50, object)}, model="m", salt="s")


def pane(minute: int, unseen: int, named: dict[str, int]) -> Pane:
    counts = REFERENCE.layout.zeros()
    counts[REFERENCE.layout["country"].counter("unseen")] = unseen
    return Pane(minute * 60_000, 60_000, 100, counts, new={"country": named} if named else {})


def test_shares_are_of_all_new_values_and_what_is_gone_fades():
    shares = NewValueShares(REFERENCE)
    assert shares.of("country") == {}
    shares.add(pane(0, 10, {"7": 9}))
    assert shares.of("country") == pytest.approx({"7": 0.9})
    shares.add(pane(10, 5, {"x": 5}))
    # Ten panes later the nine weigh 4.5, beside five of the other.
    assert shares.of("country") == pytest.approx({"x": 0.5, "7": 0.45})
    for minute in range(11, 100):
        shares.add(pane(minute, 5, {"x": 5}))
    assert list(shares.of("country")) == ["x"]
