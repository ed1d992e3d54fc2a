"""Plug-ins beside a watch go on from their stored state."""

from dataclasses import replace

import numpy as np

from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.core.incidents import WatchIdentity
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.judge.pending import WatchKey
from stationkeeper.monitor.judge.plugin_watch import PluginWatch, PluginWatchState
from stationkeeper.monitor.state_codec import freeze, thaw
from tests.monitor.judge.test_stage import REFERENCE, Bench
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


def test_a_rule_for_categories_leaves_numbers_alone_and_one_that_fits_nothing_is_told() -> None:
    known = reference("1")
    identity = WatchIdentity("fraud", "1", "", known.digest)
    made = PluginWatch(["evidently.TVD", "psi"], known, identity)
    watched = {key for key in made.state().detectors if key.startswith("evidently")}
    assert (watched, made.unable) == ({"evidently.TVD/country"}, {})
    numbers = replace(known, subjects=tuple(one for one in known.subjects if one.name != "country"), pairs=())
    assert made.state().detectors.keys() > PluginWatch(["psi"], numbers, identity).state().detectors.keys()
    assert "which is numeric" in PluginWatch(["evidently.TVD"], numbers, identity).unable["evidently.TVD"]


def test_a_plug_in_that_watches_nothing_is_in_the_status() -> None:
    bench = Bench(detectors=["nannyml.chi2"])
    view, watches = bench.judge._views, bench.judge.judges["fraud"].watches
    identity = WatchIdentity("fraud", "1", "", REFERENCE.digest)
    watches._plugins[WatchKey("1", REFERENCE.digest, "")] = plugins = PluginWatch([], REFERENCE, identity)
    plugins.unable = {"nannyml.chi2": "it cannot"}
    view.committed()
    assert view.status["detail"] == {"nannyml.chi2 of fraud": "it cannot"}
