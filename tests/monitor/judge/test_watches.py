"""Watches of one model: what a new version's watch knows of traffic, live and after a restart alike."""

from dataclasses import replace

import numpy as np

from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import dump
from stationkeeper.monitor.judge.pending import WatchKey
from stationkeeper.monitor.judge.segment_reference import FIRST_PANES, FIRST_ROWS
from stationkeeper.monitor.judge.watches import Watches
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings
from tests.monitor.rig import reference

HOUR = 3_600_000
SETTINGS = ModelSettings.model_validate({"name": "fraud", "predictions": "scores", "pane": "1h", "lateness": "1h"})
# Versions whose references differ.
MADE = {version: replace(reference(), version=version) for version in ("1", "2", "3")}
KEYS = {version: WatchKey(version, made.digest, "") for version, made in MADE.items()}
WEEKS = 3 * 168


def watches() -> Watches:
    references = References({"fraud": SETTINGS})
    for version, made in MADE.items():
        references.put_reference(f"fraud/{version}".encode(), dump(made).encode())
    return Watches(SETTINGS, references)


def meet(made: Watches, version: str, start: int) -> None:
    made.meet(KEYS[version], start, 1, MADE[version].layout.zeros(), "1")


def feed(made: Watches, version: str, hours: range, volume: int = 1_000) -> None:
    for hour in hours:
        zeros = MADE[version].layout.zeros()
        made[KEYS[version]].quality.arrivals.step(Pane(hour * HOUR, HOUR, volume, zeros), 1.0)


def knows(made: Watches) -> dict[str, bool]:
    return {key.version: watch.quality.arrivals.known for key, watch in made.items()}


def test_a_new_version_knows_the_traffic_that_the_one_before_learned() -> None:
    made = watches()
    meet(made, "1", 0)
    feed(made, "1", range(WEEKS))
    meet(made, "2", WEEKS * HOUR)
    assert knows(made) == {"1": True, "2": True}


def test_a_version_is_watched_by_its_own_reference_also_where_another_model_has_the_same() -> None:
    made = watches()
    own = made._references.own("fraud", "1")
    assert own is not None
    made._references.put_reference(b"other/1", dump(replace(own, model="other")).encode())
    meet(made, "1", 0)
    assert made[KEYS["1"]].reference is own


def test_a_restart_teaches_nobody() -> None:
    made = watches()
    # Version 2 was met before version 1 knew anything, as by a build that taught nobody.
    meet(made, "1", 0)
    meet(made, "2", 0)
    feed(made, "1", range(WEEKS))
    feed(made, "2", range(WEEKS - 24, WEEKS))
    again = watches()
    again.restore(made.state(), {key: watch.state() for key, watch in made.items()})
    assert knows(again) == knows(made) == {"1": True, "2": False}


def test_of_two_that_learned_equally_long_the_same_one_teaches_after_a_restart() -> None:
    made = watches()
    meet(made, "2", 0)
    feed(made, "2", range(WEEKS))
    meet(made, "1", WEEKS * HOUR)
    # Now both began at the same hour, and have seen different ones since.
    feed(made, "2", range(WEEKS, WEEKS + 168), 900)
    feed(made, "1", range(WEEKS, WEEKS + 168), 1_100)
    again = watches()
    again.restore(made.state(), {key: watch.state() for key, watch in made.items()})
    for one in (made, again):
        meet(one, "3", (WEEKS + 168) * HOUR)
    assert [str(one[KEYS["3"]].quality.arrivals.learned_state()) for one in (made, again)] == 2 * [
        str(made[KEYS["1"]].quality.arrivals.learned_state())
    ]


def test_what_a_segment_showed_goes_with_its_watch() -> None:
    made = watches()
    begun, growing = (WatchKey("1", MADE["1"].digest, f"country={value}") for value in ("de", "fr"))
    for pane in range(FIRST_PANES):
        made.meet(begun, pane * HOUR, FIRST_ROWS, MADE["1"].layout.zeros(), "1")
    made.meet(growing, 0, 1, MADE["1"].layout.zeros(), "1")
    assert begun in made
    for key in (begun, growing):
        made.end(key)
    assert (made.state().adopted, made.state().adoptions) == ([], [])


def test_hours_of_another_zone_are_another_reference_whose_evidence_and_segments_begin_anew() -> None:
    first, *others = MADE["1"].subjects
    utc = replace(MADE["1"], subjects=(replace(first, strata=np.tile(first.counts, (24, 1))), *others))
    tokyo = replace(utc, timezone="Asia/Tokyo")
    references = References({"fraud": SETTINGS})
    references.put_reference(b"fraud/1", dump(utc).encode())
    made = Watches(SETTINGS, references)
    begun, growing = (WatchKey("1", utc.digest, f"country={value}") for value in ("de", "fr"))
    for pane in range(168 + 1):
        made.meet(begun, pane * HOUR, FIRST_ROWS, utc.layout.zeros(), "1")
    made.meet(growing, 0, 1, utc.layout.zeros(), "1")
    state, watches_ = made.state(), {begun: made[begun].state()}
    # The next start finds the reference of the same rows by the hours of another clock.
    references = References({"fraud": SETTINGS})
    references.put_reference(b"fraud/1", dump(tokyo).encode())
    again = Watches(SETTINGS, references)
    again.restore(state, watches_)
    assert list(again) == []
    now = WatchKey("1", tokyo.digest, "country=fr")
    again.meet(now, 0, 1, utc.layout.zeros(), "1")
    zones = {(one.digest, one.timezone) for one in again.state().adoptions}
    assert zones == {(utc.digest, "UTC"), (tokyo.digest, "Asia/Tokyo")}
