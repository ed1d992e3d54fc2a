"""The judge alone: milliseconds a pane of 300 features, thousands of (model, segment) pairs, and their memory."""

import gc
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.throughput.events import CATEGORIES, reference, table
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import Reference
from stationkeeper.monitor.core.watch import Watch, WatchSettings
from stationkeeper.monitor.judge.state import WatchRecords
from stationkeeper.monitor.state_codec import parts

PANE_MS = 60_000
ROWS = 500
FOUR_HOURS = 250
"""Panes after which memory is read: more than a watch remembers, so that nothing grows any more."""

FILLED = 4
"""Watches that are filled so far, traced byte by byte; the others take the panes that are timed."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What judging costs a pane and watch, in milliseconds of processor, and the kB that a feature keeps.

    ``pane_ms`` is the judging, ``told_ms`` what follows it: the state's changed pieces, packed, and all charts.
    ``cells`` are the counters of a feature on average; memory is read after ``FOUR_HOURS`` panes.
    """

    features: int
    watches: int
    cells: float
    pane_ms: float
    told_ms: float
    feature_kb: float


def wide(features: int) -> Reference:
    """Return a reference of so many features, nine in ten of them numbers."""
    numbers = tuple(f"feature_{i:04d}" for i in range(features * 9 // 10))
    categories = {f"category_{i:03d}": ("a", "b", "c", "d") for i in range(features - len(numbers))}
    return reference(columns=table(5_000, 0, numbers, categories))


def plain(features: int) -> Reference:
    """Return a reference of as many numbers of fifteen values, and a score."""
    rng = np.random.default_rng(0)
    columns = {f"feature_{i:04d}": rng.integers(0, 15, 5_000).astype(np.float64) for i in range(features)}
    return reference(columns={**columns, "score": np.round(rng.random(5_000), 6)})


def judged(known: Reference, watches: int, panes: int) -> Judged:
    """Step so many watches of one reference through panes of its own distribution; the first few panes warm up."""
    width, names = known.layout.width, [subject.name for subject in known.subjects]
    stream = _Panes(known)
    segments = ("", *(f"area={i}" for i in range(1, watches)))
    settings = WatchSettings(segments=segments)
    # What all watches of a reference share is made before any is counted.
    Watch(known, "", settings).step(stream.next())
    gc.collect()
    tracemalloc.start()
    held = [Watch(known, segment, settings) for segment in segments[:FILLED]]
    for _ in range(FOUR_HOURS):
        _step(held, stream.next())
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] / 1024 / (len(held) * len(names))
    tracemalloc.stop()
    told = _told(held[0], stream)
    held += [Watch(known, segment, settings) for segment in segments[FILLED:]]
    seconds = []
    for _ in range(panes):
        pane = stream.next()
        began = time.process_time()
        _step(held, pane)
        seconds.append((time.process_time() - began) / watches)
    pane_ms = median(seconds[min(3, panes - 1) :]) * 1e3
    return Judged(len(names), watches, width / len(names), pane_ms, told, grown)


def _step(held: Sequence[Watch], pane: Pane) -> None:
    for watch in held:
        watch.step(pane)


def _told(watch: Watch, stream: "_Panes") -> float:
    """Milliseconds a pane that the judge spends on a watch's state and charts."""
    records, seconds = WatchRecords(), []
    for generation in range(20):
        watch.step(stream.next())
        began = time.process_time()
        for name, value in records.changed(watch.state()):
            for _ in parts(name, value, generation):
                pass
        watch.charts()
        seconds.append(time.process_time() - began)
    return median(seconds[3:]) * 1e3


class _Panes:
    """Panes of a reference's own distribution, minute by minute."""

    def __init__(self, known: Reference) -> None:
        self._layout, self._rng, self._at = known.layout, np.random.default_rng(0), 0
        counts = {place.name: np.asarray(known.by_name[place.name].counts, np.float64) for place in known.layout.places}
        self._shares = {name: count / count.sum() for name, count in counts.items()}

    def next(self) -> Pane:
        """Return the next minute."""
        vector = self._layout.zeros()
        for place in self._layout.places:
            vector[place.histogram] = self._rng.multinomial(ROWS, self._shares[place.name])
        self._at += 1
        return Pane(self._at * PANE_MS, PANE_MS, ROWS, vector, traffic=ROWS)


def segments_reference() -> Reference:
    """Return the reference of the benchmark's model: 16 subjects."""
    return reference(columns=table(10_000, 0, categories=CATEGORIES))
