"""Does the guarantee hold: small references, correlated features, dependence, a daily cycle, days without drift."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from scipy.special import ndtr
from scipy.stats import poisson

from benchmarks.detection.world import PRODUCTION_PANES, Counts, Floats, World, run_length
from stationkeeper.contracts.column import Column, numbers
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.adoption import learned_phi
from stationkeeper.monitor.core.detect import (
    DetectorPlan,
    DriftDetector,
    PlannedSubject,
    change_point_log_ratios,
    locate_change_point,
)
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.watch import Watch, WatchSettings

ASKED = 200.0
PANE = 50
TIMED = 60
"""Panes whose time is taken."""


def run_lengths(*, quick: bool) -> list[str]:
    """Average run length in panes for 1/alpha = 200, and alarms at the production threshold, by threat."""
    replicates, panes = (100, 1500) if quick else (300, 3000)
    lines = ["| threat | arm | ARL asked | ARL measured | alarms at 1.3e7 |", "|---|---|---|---|---|"]
    for n_ref in (200, 10_000):
        world = World(replicates, n_ref, seed=n_ref)
        shares = world.shares()
        lines += _lengths(world, f"independent, n_ref {n_ref:,}", partial(world.draw, shares, PANE), panes)
    lines += _dependent(20 if quick else 60, panes)
    lines += _cycle(20 if quick else 60, panes)
    return lines


def _lengths(world: World, name: str, draw: Callable[[], Counts], panes: int, strata: int = 1) -> list[str]:
    replicates = len(world.subjects)
    first = {arm: np.full((2, replicates), np.inf) for arm in ("conformal", "fixed")}
    for t in range(panes):
        scores = world.detector.step(draw(), t, t % strata, 1.0)
        for arm, when in first.items():
            value = getattr(scores, arm)
            for i, level in enumerate((np.log(ASKED), np.log(PRODUCTION_PANES))):
                when[i, (value >= level) & np.isinf(when[i])] = t + 1
    lines = []
    for arm, when in first.items():
        length, alarms = run_length(when[0], panes), int(np.isfinite(when[1]).sum())
        more = "" if np.isfinite(when[0]).any() else "> "
        lines.append(f"| {name} | {arm} | {ASKED:.0f} | {more}{length:,.0f} | {alarms} of {replicates} |")
    return lines


def _autoregressive(rng: np.random.Generator, previous: Floats, coefficient: float) -> tuple[Floats, Floats]:
    values = np.empty((previous.size, PANE))
    noise = rng.standard_normal(values.shape) * np.sqrt(1 - coefficient**2)
    for i in range(PANE):
        previous = coefficient * previous + noise[:, i]
        values[:, i] = previous
    return values, previous


def _dependent(replicates: int, panes: int) -> list[str]:
    """AR(1) events; phi is learned from 200 panes (10,000 rows) of each stream's own past."""
    lines = []
    coefficient = 0.6
    source = World(replicates, 10_000, seed=60)
    previous = source.rng.standard_normal(replicates)
    history = []
    for _ in range(200):
        values, previous = _autoregressive(source.rng, previous, coefficient)
        history.append(source.count(values).reshape(replicates, -1))
    past = np.array(history)
    phi = [learned_phi(past[:, f], "numeric") for f in range(replicates)]
    for name, learned in (("no phi", None), ("phi learned", phi)):
        world = World(replicates, 10_000, seed=60, phi=learned if learned is not None else 1.0)
        state = [np.random.default_rng(61).standard_normal(replicates)]

        def draw(world: World = world, state: list[Floats] = state) -> Counts:
            values, state[0] = _autoregressive(world.rng, state[0], coefficient)
            return world.count(values)

        lines += _lengths(world, f"AR(1) {coefficient}, {name}", draw, panes if learned is not None else 300)
    return lines


def _cycle(replicates: int, panes: int) -> list[str]:
    """A daily cycle of .5 sd: one stratum for all hours against one for each; 500 reference rows an hour."""
    rng = np.random.default_rng(24)
    hours = 24
    swing = 0.5 * np.sin(2 * np.pi * np.arange(hours) / hours)
    edges = np.quantile((rng.standard_normal((20_000, hours)) + swing).ravel(), np.arange(1, 256) / 256)
    law = np.diff(
        np.concatenate([np.zeros((hours, 1)), ndtr(edges - swing[:, None]), np.ones((hours, 1))], axis=1), axis=1
    )
    by_hour = np.stack([rng.multinomial(500, law[h], size=replicates) for h in range(hours)], axis=1)
    by_hour = np.concatenate([by_hour, np.zeros((replicates, hours, 1), np.int64)], axis=2)
    lines = []
    for name, strata, delta in (
        ("one stratum", 1, 0.0),
        ("24 strata", hours, 0.0),
        ("24 strata, delta .02", hours, 0.02),
    ):
        world = World(2, 300, seed=1)
        reference = by_hour if strata > 1 else by_hour.sum(axis=1, keepdims=True)
        world.subjects = tuple(PlannedSubject(f"f{i}", "numeric", reference[i], delta) for i in range(replicates))
        world.detector = DriftDetector(DetectorPlan("benchmark", "1", name, world.subjects, 1e-30))
        clock = [0]

        def draw(clock: list[int] = clock) -> Counts:
            cells = rng.multinomial(PANE, law[clock[0] % hours], size=replicates)
            clock[0] += 1
            return World.flat(cells)

        lines += _lengths(world, f"daily cycle .5 sd, {name}", draw, panes if strata > 1 else 300, strata)
    return lines


def many_features(*, quick: bool) -> list[str]:
    """False pages of 300 features at a budget of 18, independent and correlated .7."""
    lines = ["| features | correlation | budget | false pages | Poisson 95 % limit |", "|---|---|---|---|---|"]
    panes = 300 if quick else 1000
    for rho in (0.0, 0.7):
        world = World(300, 10_000, seed=5)
        detector = DriftDetector(DetectorPlan("benchmark", "1", f"rho {rho}", world.subjects, 18 / panes))
        pages = 0
        for t in range(panes):
            common = world.rng.standard_normal(PANE)
            values = np.sqrt(rho) * common + np.sqrt(1 - rho) * world.rng.standard_normal((300, PANE))
            pages += int(detector.step(world.count(values), t, 0, 1.0).paged.sum())
        lines.append(f"| 300 | {rho} | 18 | {pages} | {poisson.ppf(0.95, 18):.0f} |")
    return lines


def quiet_days(days: int, pane_minutes: int, pages_per_day: float, events: int = PANE) -> str:
    """Days of 300 features without drift: false pages against the Poisson 95 % limit of the budget."""
    world = World(300, 10_000, seed=days)
    detector = DriftDetector(DetectorPlan("benchmark", "1", "quiet", world.subjects, pages_per_day / 1440))
    shares = world.shares()
    pages = 0
    for t in range(days * 1440 // pane_minutes):
        pages += int(detector.step(world.draw(shares, events), t, 0, float(pane_minutes)).paged.sum())
    budget = days * pages_per_day
    limit = poisson.ppf(0.95, budget)
    return f"| {days} | {pane_minutes} min | {budget:g} | {pages} | {limit:.0f} |"


def change_points(*, quick: bool) -> list[str]:
    """Error of the dated change at the production threshold, and how often the interval holds the truth."""
    replicates = 100 if quick else 300
    lines = [
        "| change | found | median error | mean error | within 250 events | in the interval | interval, median panes |",
        "|---|---|---|---|---|---|---|",
    ]
    before = 40
    for name, mean, sd in ((".25 sd", 0.25, 1.0), (".5 sd", 0.5, 1.0), ("1 sd", 1.0, 1.0), ("sd x1.5", 0.0, 1.5)):
        world = World(replicates, 10_000, seed=9)
        quiet, changed = world.shares(), world.shares(mean, sd)
        stored: list[Counts] = []
        error, inside, width = (np.full(replicates, np.nan) for _ in range(3))
        for t in range(before + 80):
            flat = world.draw(quiet if t < before else changed, PANE)
            stored.append(flat.reshape(replicates, -1))
            scores = world.step(flat, 1.0)
            for f in np.flatnonzero((scores.leading >= np.log(2 * PRODUCTION_PANES)) & np.isnan(error)):
                panes = np.array([pane[f] for pane in stored])
                ratios = change_point_log_ratios(
                    world.subjects[f], scores.alternative[f], panes, np.zeros(len(panes)), int(scores.onset[f])
                )
                onset = locate_change_point(ratios)
                error[f] = (onset.index - before) * PANE
                inside[f] = onset.first <= before <= onset.last
                width[f] = onset.last - onset.first + 1
            if not np.isnan(error).any():
                break
        found = ~np.isnan(error)
        size = np.abs(error[found])
        lines.append(
            f"| {name} | {found.mean():.0%} | {np.median(size):.0f} | {size.mean():.0f} | {(size <= 250).mean():.0%} | "
            f"{inside[found].mean():.0%} | {np.median(width[found]):.0f} |"
        )
    return lines


def pane_times() -> Iterator[str]:
    """Processor time of a decided pane of 300 numeric features on one core: the detector alone, and the whole watch."""
    yield "| what | events a pane | median ms | 90 % ms | first pane, ms |\n|---|---|---|---|---|"
    for events in (1000, 50):
        world = World(300, 10_000, seed=300, delta=0.02)
        shares = world.shares()
        drawn = [world.draw(shares, events) for _ in range(TIMED)]
        yield _times("detector, both arms", events, [partial(world.step, pane, 1.0) for pane in drawn])
    for events in (1000, 50):
        rng = np.random.default_rng(300)
        reference = profile({f"f{i}": rng.normal(size=10_000) for i in range(300)}, ordered=True)
        watch = Watch(reference, settings=WatchSettings())
        steps = []
        for k in range(TIMED):
            columns: dict[str, Column] = {f"f{i}": numbers(rng.normal(size=events)) for i in range(300)}
            (vector,) = reference.layout.tally(columns, np.zeros(events, np.int64), np.array([events]))
            steps.append(partial(watch.step, Pane(k * 60_000, 60_000, events, vector)))
        yield _times("whole watch: detector, quality, incidents, charts", events, steps)


def _times(name: str, events: int, steps: Sequence[Callable[[], object]]) -> str:
    """One line; medians once the bag holds half of the panes, the first one is cut in parts."""
    took = []
    for step in steps:
        begin = time.process_time()
        step()
        took.append(time.process_time() - begin)
    settled = np.array(took[len(took) // 2 :]) * 1e3
    return f"| {name} | {events} | {np.median(settled):.2f} | {np.quantile(settled, 0.9):.2f} | {took[0] * 1e3:.1f} |"
