"""What live panes teach of volume on a real calendar: a year of flights through the lesson, with what would have paged.

``python -m benchmarks traffic``. The departures of the flights demo, an event each, under the default budget of one
false page in 30 days, once by the clock of UTC and once by that of New York; two changes of the clock, and holidays. A
warning is *loud* where its evidence has the height of a page.
"""

from itertools import product

import numpy as np

from stationkeeper.contracts.messages import Level, Verdict
from stationkeeper.demo.flights import read_flights
from stationkeeper.monitor.core.adoption import DAY_MS
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reasons import Check
from stationkeeper.monitor.core.reference import profile
from stationkeeper.monitor.core.watch import Watch, WatchSettings

LENGTHS = {"10m": 600_000, "1h": 3_600_000}
ZONES = ("UTC", "America/New_York")
CHECKS = {Check.VOLUME, Check.FRESHNESS}


def run(times: np.ndarray[tuple[int], np.dtype[np.int64]], length: int, timezone: str) -> list[Verdict]:
    """Return what volume and freshness said of events at ``times`` (ms), in panes of ``length`` ms, hours of a zone."""
    # One number that never moves: nothing but traffic is judged.
    reference = profile({"x": np.arange(10_000) % 97})
    place = reference.layout["x"].histogram
    watch = Watch(reference, settings=WatchSettings(learn_traffic=14 * DAY_MS, timezone=timezone))
    first = int(times[0]) // length
    counts = np.bincount(times // length - first)
    share = reference.by_name["x"].counts / reference.by_name["x"].rows
    said: list[Verdict] = []
    for at, events in enumerate(counts.tolist()):
        vector = reference.layout.zeros()
        vector[place] = np.round(np.cumsum(share) * events).astype(np.int64)
        vector[place] = np.diff(vector[place], prepend=0)
        pane = Pane((first + at) * length, length, events, vector)
        said += [verdict for verdict in watch.step(pane).verdicts if verdict.subject.check in CHECKS]
    return said


def main() -> None:
    """Print one line a pane length and zone, with what warned and paged below it."""
    times = read_flights()["time"].to_numpy().astype(np.int64)
    for (name, length), zone in product(LENGTHS.items(), ZONES):
        said = run(times, length, zone)
        pages = [verdict for verdict in said if verdict.level is Level.PAGE]
        warned = [verdict for verdict in said if verdict.level is Level.WARN]
        loud = [v for v in warned if v.statistic is not None and v.threshold is not None and v.statistic >= v.threshold]
        print(
            f"{len(times):,} flights, panes of {name}, hours of {zone}: {len(warned)} warnings, {len(loud)} loud; "
            f"{len(pages)} page(s)"
        )
        for verdict in sorted([*pages, *warned], key=lambda v: v.time):
            print(f"  {verdict.time:%d %b %H:%M} {verdict.level.value} {verdict.subject.check}: {verdict.reason}")


if __name__ == "__main__":
    main()
