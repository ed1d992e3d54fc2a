"""Plug-ins beside a watch go on from their stored state."""

import numpy as np

from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.core.incidents import WatchIdentity
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.judge.plugin_watch import PluginWatch, PluginWatchState
from stationkeeper.monitor.state_codec import freeze, thaw
from tests.monitor.rig import MINUTE, START, reference


def test_a_stored_plug_in_goes_on_and_does_not_warn_twice() -> None:
    known = reference("1")
    first, resumed = (PluginWatch(["psi"], known, WatchIdentity("fraud", "1", "", known.digest)) for _ in range(2))
    counts = np.zeros(known.layout.width, np.int64)
    for subject in known.subjects:
        counts[known.layout[subject.name].histogram.start] = 1_200
    assert first.step(Pane(START, MINUTE, 1_200, counts, traffic=1_200))
    resumed.restore(state_of(thaw(freeze(first.state())), PluginWatchState))
    assert resumed.state() == first.state()
    assert resumed.step(Pane(START + MINUTE, MINUTE, 1_200, counts, traffic=1_200)) == []
