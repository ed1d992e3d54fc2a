"""Peers' rules on the columns of the table, each tuned to an average run length of about 10,000 events."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from river import drift

from benchmarks.detection.engine import ASKED
from benchmarks.detection.world import CHANGES, Floats, cell, row, run_length

N_REF = 10_000
WARM = 2000

Statistic = Callable[[Floats, Floats], Floats]


def ks_distance(window: Floats, reference: Floats) -> Floats:
    """Two-sample Kolmogorov-Smirnov distance of each sorted window [R, W] from its sorted reference [R, n]."""
    n = window.shape[1]
    right = _ranks(window, reference, "right")
    left = _ranks(window, reference, "left")
    step = np.arange(1, n + 1) / n
    return np.asarray(np.maximum((step - left).max(axis=1), (right - step + 1 / n).max(axis=1)), np.float64)


def normed_wasserstein(window: Floats, reference: Floats) -> Floats:
    """First Wasserstein distance over the reference's standard deviation; W must divide n."""
    spread = np.repeat(window, reference.shape[1] // window.shape[1], axis=1)
    return np.asarray(np.abs(spread - reference).mean(axis=1) / reference.std(axis=1), np.float64)


def psi_deciles(window: Floats, reference: Floats) -> Floats:
    """Population stability index over the reference's deciles, empty cells at 1e-4."""
    edges = reference[:, (np.arange(1, 10) * reference.shape[1]) // 10]
    cells = np.stack([np.bincount(np.searchsorted(e, w), minlength=10) for e, w in zip(edges, window, strict=True)])
    p = np.maximum(cells / window.shape[1], 1e-4)
    return np.asarray(((p - 0.1) * np.log(p / 0.1)).sum(axis=1), np.float64)


RULES: tuple[tuple[str, Statistic], ...] = (
    ("KS", ks_distance),
    ("W1 normed", normed_wasserstein),
    ("PSI deciles", psi_deciles),
)


def window_rows(*, quick: bool) -> list[str]:
    """Tumbling windows at a random phase; the threshold is the quantile that gives the run length asked for."""
    replicates = 60 if quick else 200
    lines = []
    for name, statistic in RULES:
        for width in (250, 500):
            rng = np.random.default_rng(width)
            reference = np.sort(rng.standard_normal((replicates, N_REF)), axis=1)
            # Run length 10,000 events means one alarm in 10,000 / width windows.
            quiet = np.concatenate(
                [statistic(window(rng, replicates, width), reference) for _ in range(4000 // replicates + 40)]
            )
            level = float(np.quantile(quiet, 1 - width / ASKED))
            again = np.concatenate([statistic(window(rng, replicates, width), reference) for _ in range(40)])
            length = width / max(float((again > level).mean()), 1e-9)
            cells = [cell(window_delay(rng, statistic, reference, width, level, mean, sd)) for _, mean, sd in CHANGES]
            lines.append(row(f"{name}, window {width}, > {level:.3f}", f"{length:,.0f}", cells))
    return lines


def river_rows(*, quick: bool) -> list[str]:
    """ADWIN and Page-Hinkley of river, the first setting of a list whose run length is at least what is asked."""
    replicates = 40 if quick else 200
    adwin = [(f"river ADWIN delta {d:g}", lambda d=d: drift.ADWIN(delta=d)) for d in (0.3, 0.2, 0.15, 0.1, 0.05)]
    hinkley = [
        (f"river Page-Hinkley .1 / {t:g}", lambda t=t: drift.PageHinkley(delta=0.1, threshold=t))
        for t in (25, 28, 31, 34)
    ]
    lines = []
    for family in (adwin, hinkley):
        for name, make in family:
            length = _river_length(make, replicates)
            if length < ASKED:
                continue
            cells = [cell(_river_delay(make, replicates, mean, sd)) for _, mean, sd in CHANGES]
            lines.append(row(name, f"{length:,.0f}", cells))
            break
    default = drift.ADWIN
    cells = [cell(_river_delay(default, replicates, mean, sd)) for _, mean, sd in CHANGES]
    lines.append(row("river ADWIN .002 (default)", "not matched", cells))
    return lines


def kswin_row(*, quick: bool) -> str:
    """river's KSWIN (window 100, last 30), its statistic computed for all streams at once; see tests for equality."""
    replicates = 40 if quick else 100
    rng = np.random.default_rng(30)
    horizon = 20_000
    quiet = _kswin_peaks(rng, replicates, horizon, 0.0, 1.0, 0)
    level = length = 0.0
    for thirtieths in range(12, 25):
        level = thirtieths / 30
        hit = quiet >= level - 1e-9
        length = run_length(np.where(hit.any(axis=0), hit.argmax(axis=0) + 1.0, np.inf), horizon)
        if length >= ASKED:
            break
    cells = []
    for _, mean, sd in CHANGES:
        peaks = _kswin_peaks(rng, replicates, 3000, mean, sd, 200)
        hit = peaks >= level - 1e-9
        cells.append(cell(np.where(hit.any(axis=0), hit.argmax(axis=0) + 1.0, np.inf)))
    return row(f"river KSWIN D >= {level:.3f} (3k horizon)", f"{length:,.0f}", cells)


def kswin_distance(window: Floats, rng: np.random.Generator, recent: int = 30) -> Floats:
    """KS distance between the last 30 of each window [R, 100] and 30 drawn from the rest."""
    rest = window[:, :-recent]
    chosen = np.argsort(rng.random(rest.shape), axis=1)[:, :recent]
    pooled = np.concatenate([window[:, -recent:], np.take_along_axis(rest, chosen, 1)], axis=1)
    order = np.argsort(pooled, axis=1)
    return np.asarray(np.abs(np.cumsum(np.where(order < recent, 1, -1), axis=1)).max(axis=1) / recent, np.float64)


def _kswin_peaks(rng: np.random.Generator, replicates: int, events: int, mean: float, sd: float, warm: int) -> Floats:
    window = rng.standard_normal((replicates, 100 + warm))[:, -100:]
    out = np.empty((events, replicates))
    peak = np.zeros(replicates)
    for t in range(events):
        window = np.concatenate([window[:, 1:], mean + sd * rng.standard_normal((replicates, 1))], axis=1)
        peak = np.maximum(peak, kswin_distance(window, rng))
        out[t] = peak
        if (peak > 0.8).all():
            out[t:] = peak
            break
    return out


def _ranks(window: Floats, reference: Floats, side: Literal["left", "right"]) -> Floats:
    n = reference.shape[1]
    return np.asarray(np.stack([np.searchsorted(r, w, side) for r, w in zip(reference, window, strict=True)]) / n)


def window(rng: np.random.Generator, replicates: int, width: int) -> Floats:
    """Sorted windows [R, W] without a change."""
    return np.sort(rng.standard_normal((replicates, width)), axis=1)


def window_delay(
    rng: np.random.Generator, statistic: Statistic, reference: Floats, width: int, level: float, mean: float, sd: float
) -> Floats:
    """Events from the change to the alarm, [R]; the change falls anywhere in a tumbling window."""
    replicates = len(reference)
    before = rng.integers(0, width, replicates)
    first = np.full(replicates, np.inf)
    for k in range(20_000 // width):
        values = rng.standard_normal((replicates, width))
        changed = np.arange(width) >= before[:, None] if k == 0 else np.ones((1, width), bool)
        values = np.where(changed, mean + sd * values, values)
        hit = (statistic(np.sort(values, axis=1), reference) > level) & np.isinf(first)
        first[hit] = (k + 1) * width - before[hit]
        if np.isfinite(first).all():
            break
    return first


def _river_first(make: Callable[[], Any], values: list[float]) -> float:
    detector = make()
    for t, value in enumerate(values):
        detector.update(value)
        if detector.drift_detected:
            return t + 1.0
    return float("inf")


def _river_length(make: Callable[[], Any], replicates: int) -> float:
    rng = np.random.default_rng(40)
    first = np.array([_river_first(make, rng.standard_normal(30_000).tolist()) for _ in range(replicates)])
    return run_length(first, 30_000)


def _river_delay(make: Callable[[], Any], replicates: int, mean: float, sd: float) -> Floats:
    rng = np.random.default_rng(41)
    first: list[float] = []
    while len(first) < replicates:
        values = rng.standard_normal(WARM + 20_000)
        values[WARM:] = mean + sd * values[WARM:]
        when = _river_first(make, values.tolist())
        if when > WARM:
            first.append(when - WARM)
    return np.array(first)
