"""New categories and rising rates: delays of the fixed-reference detectors at the guarantee and in production."""

import numpy as np

from benchmarks.detection.engine import matched
from benchmarks.detection.world import PRODUCTION_PANES, Counts, Floats, cell, run_length
from stationkeeper.monitor.core.detect import DetectorPlan, DriftDetector, PlannedSubject, RateDetector

PANE = 50
N_REF = 10_000
BUCKETS = 64
TOP = 20


def zipf(values: int, power: float) -> Floats:
    """Chances of the ranks 1..values."""
    p = 1 / np.arange(1, values + 1) ** power
    return np.asarray(p / p.sum(), np.float64)


class Categories:
    """R streams of one categorical feature; the cells are fixed, the reference counts are drawn anew for each."""

    def __init__(self, shares: Floats, replicates: int, delta: float, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.shares = shares
        reference = self.rng.multinomial(N_REF, shares, size=replicates)
        subjects = tuple(
            PlannedSubject(f"f{i}", "categorical", np.append(c, 0)[None], delta) for i, c in enumerate(reference)
        )
        # eta of one feature alone, as for the numbers of the prototype this is compared with.
        self.detector = DriftDetector(DetectorPlan("benchmark", "1", "", subjects, 1e-30, eta=0.01 * replicates))
        self.time = 0

    def step(self, shares: Floats) -> Floats:
        """One pane; the log scores [R]."""
        cells: Counts = self.rng.multinomial(PANE, shares, size=len(self.detector.plan.subjects))
        flat = np.concatenate([cells, np.zeros((len(cells), 1), np.int64)], axis=1).ravel()
        self.time += 1
        return self.detector.step(flat, self.time, 0, 1.0).fixed


def hashed(values: int) -> Floats:
    """Cell chances of an open-ended category: the top values, then hash buckets for the rest."""
    p = zipf(values, 1.1)
    rng = np.random.default_rng(0)
    bucket = rng.integers(BUCKETS, size=values - TOP)
    return np.concatenate([p[:TOP], np.bincount(bucket, weights=p[TOP:], minlength=BUCKETS)])


def with_new(shares: Floats, at: int, mass: float) -> Floats:
    """A new token takes this share of the traffic and lands in one cell."""
    return np.asarray((1 - mass) * shares + mass * np.eye(len(shares))[at], np.float64)


def category_rows(*, quick: bool) -> list[str]:
    """The table of section "new category": one line a stream, one column a share of the new token."""
    replicates, panes = (60, 600) if quick else (200, 1000)
    lines = ["| stream | ARL at 200 panes | 1 % | 5 % | 10 % |", "|---|---|---|---|---|"]
    closed = np.append(zipf(20, 1.0), 0.0)
    streams = (
        ("Zipf 20 values, delta 0", closed, 20, 0.0),
        ("Zipf 20 values, delta .005", closed, 20, 0.005),
        ("100k values, 20 + 64 hash cells, delta 0", hashed(100_000), TOP + 7, 0.0),
    )
    levels = [np.log(200.0), np.log(PRODUCTION_PANES)]
    for name, shares, at, delta in streams:
        quiet = Categories(shares, replicates, delta, 1)
        peaks = np.maximum.accumulate([quiet.step(shares) for _ in range(panes)], axis=0)
        hit = peaks >= levels[0]
        length = run_length(np.where(hit.any(axis=0), hit.argmax(axis=0) + 1.0, np.inf), panes)
        try:
            tuned = matched(peaks, 1, 200.0)
        except StopIteration:
            tuned = levels[0]
        cells = []
        for mass in (0.01, 0.05, 0.1):
            world = Categories(shares, replicates, delta, 2)
            for _ in range(40):
                world.step(shares)
            thresholds = [tuned, *levels]
            first = np.full((len(thresholds), replicates), np.inf)
            changed = with_new(shares, at, mass)
            for t in range(400):
                value = world.step(changed)
                for i, level in enumerate(thresholds):
                    first[i, (value >= level) & np.isinf(first[i])] = (t + 1) * PANE
                if np.isfinite(first).all():
                    break
            cells.append(" / ".join(cell(f) for f in first))
        lines.append(f"| {name} | {length:,.0f} | " + " | ".join(cells) + " |")
    return lines


def rate_rows(*, quick: bool) -> list[str]:
    """Missing rate 1 % rising, and the error rate 10 % rising (per label), as section "rates" of the statistics."""
    replicates = 100 if quick else 300
    rng = np.random.default_rng(3)
    lines = ["| missing rate 1 % -> | 2 % | 3 % | 5 % |", "|---|---|---|---|"]
    for tolerance in (0.0, 0.005):
        for name, alpha in (("200 panes", 1 / 200), ("1.3e7", 1 / PRODUCTION_PANES)):
            cells = [
                cell(_rate_delay(rng, (0.01, p), N_REF, tolerance, alpha, replicates, PANE)) for p in (0.02, 0.03, 0.05)
            ]
            lines.append(f"| tol {tolerance:g}, {name} | " + " | ".join(cells) + " |")
    lines += ["", "| error rate 10 % -> | ARL | .12 | .15 | .20 | .30 |", "|---|---|---|---|---|---|"]
    for tolerance, asked in ((0.0, 1e3), (0.0, 1e4), (0.0, 1e6), (0.02, 1e4)):
        cells = [
            cell(_rate_delay(rng, (0.1, p), 5000, tolerance, 1 / asked, replicates, 1)) for p in (0.12, 0.15, 0.2, 0.3)
        ]
        length = _rate_length(rng, 5000, tolerance, asked, replicates)
        lines.append(f"| tol {tolerance:g}, 1/alpha {asked:g} | {length} | " + " | ".join(cells) + " |")
    return lines


def _detector(rng: np.random.Generator, rate: float, n_ref: int, tolerance: float, replicates: int) -> RateDetector:
    reference = rng.binomial(n_ref, rate, replicates)
    # Never reached: scores are compared with log(1/alpha) outside, so nothing resets, as in the numbers compared with.
    return RateDetector(reference, n_ref, tolerance, 0.01, np.inf)


def _rate_delay(
    rng: np.random.Generator,
    rates: tuple[float, float],
    n_ref: int,
    tolerance: float,
    alpha: float,
    replicates: int,
    pane: int,
) -> Floats:
    detector = _detector(rng, rates[0], n_ref, tolerance, replicates)
    trials = np.full(replicates, pane)
    for t in range(3000 if pane == 1 else 40):
        detector.step(rng.binomial(pane, rates[0], replicates), trials, t, 1.0)
    first = np.full(replicates, np.inf)
    for t in range(20_000 // pane):
        paged = detector.step(rng.binomial(pane, rates[1], replicates), trials, t, 1.0).score >= -np.log(alpha)
        first[paged & np.isinf(first)] = (t + 1) * pane
        if np.isfinite(first).all():
            break
    return first


def _rate_length(rng: np.random.Generator, n_ref: int, tolerance: float, asked: float, replicates: int) -> str:
    detector = _detector(rng, 0.1, n_ref, tolerance, replicates)
    horizon = 10_000
    first = np.full(replicates, np.inf)
    trials = np.ones(replicates, np.int64)
    for t in range(horizon):
        paged = detector.step(rng.binomial(1, 0.1, replicates), trials, t, 1.0).score >= np.log(asked)
        first[paged & np.isinf(first)] = t + 1
    length = run_length(first, horizon)
    return f"{length:,.0f}" if np.isfinite(first).any() else f"> {length / 2:,.0f}"
