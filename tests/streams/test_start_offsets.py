from stationkeeper.streams.offsets import start_offsets
from stationkeeper.streams.ports import Partition

ONE, TWO, NEW = Partition("scores", 0), Partition("scores", 1), Partition("outcomes", 0)


def test_each_partition_begins_where_its_state_or_its_group_says():
    bounds = {ONE: (10, 100), TWO: (0, 50), NEW: (0, 7)}
    found = list(start_offsets(bounds, {TWO: 20}, {ONE: 4, TWO: 30}, {"scores"}, "latest"))
    # Six records after the committed offset are gone; state goes before the group; a new topic begins at its end.
    assert found == [(ONE, 10, 6), (TWO, 20, 0), (NEW, 7, 0)]
