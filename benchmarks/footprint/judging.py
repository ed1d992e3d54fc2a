"""The judge alone: milliseconds a pane of 300 features, thousands of (model, segment) pairs, and their memory."""

import gc
import time
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.measure.timing import resident_mib
from benchmarks.throughput.events import CATEGORIES, reference, table
from monitor.core.pane import Pane
from monitor.core.reference import Reference
from monitor.core.watch import Watch, WatchSettings

PANE_MS = 60_000
ROWS = 500


@dataclass(frozen=True, slots=True)
class Judged:
    """What judging costs: seconds of processor a pane of one watch, and kB it keeps for a feature."""

    features: int
    watches: int
    pane_ms: float
    feature_kb: float


def wide(features: int) -> Reference:
    """Return a reference of so many features, nine in ten of them numbers."""
    numbers = tuple(f"feature_{i:04d}" for i in range(features * 9 // 10))
    categories = {f"category_{i:03d}": ("a", "b", "c", "d") for i in range(features - len(numbers))}
    return reference(columns=table(5_000, 0, numbers, categories))


def judged(known: Reference, watches: int, panes: int) -> Judged:
    """Step so many watches of one reference through panes of its own distribution; the first few panes warm up."""
    layout = known.layout
    rng = np.random.default_rng(0)
    names = [subject.name for subject in known.subjects]
    share = {place.name: _shares(known, place.name) for place in layout.places}
    segments = ("", *(f"area={i}" for i in range(1, watches)))
    settings = WatchSettings(segments=segments)
    Watch(known, "", settings)
    gc.collect()
    before = resident_mib()
    held = [Watch(known, segment, settings) for segment in segments]
    seconds = []
    for at in range(panes):
        vector = layout.zeros()
        for place in layout.places:
            vector[place.histogram] = rng.multinomial(ROWS, share[place.name])
        pane = Pane(at * PANE_MS, PANE_MS, ROWS, vector, traffic=ROWS)
        began = time.process_time()
        for watch in held:
            watch.step(pane)
        seconds.append((time.process_time() - began) / watches)
    gc.collect()
    grown = max(resident_mib() - before, 0.0) * 1024 / (watches * len(names))
    return Judged(len(names), watches, median(seconds[min(3, panes - 1) :]) * 1e3, grown)


def _shares(known: Reference, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    subject = known.by_name[name]
    counts = np.asarray(subject.counts, np.float64)
    share: np.ndarray[tuple[int], np.dtype[np.float64]] = counts / counts.sum()
    return share


def segments_reference() -> Reference:
    """Return the reference of the benchmark's model: 16 subjects."""
    return reference(columns=table(10_000, 0, categories=CATEGORIES))
