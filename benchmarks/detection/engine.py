"""Our engine on the columns of the table: at the guaranteed and a matched threshold, and at the production budget."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.detection.world import CHANGES, PRODUCTION_PANES, Floats, World, cell, row, run_length
from stationkeeper.monitor.core.detect import Scores

Arm = Literal["conformal", "twin", "page"]

ASKED = 10_000.0
"""Average run length asked for, in events."""


@dataclass(frozen=True)
class Setting:
    """How a row of the table is run."""

    name: str
    n_ref: int = 10_000
    delta: float = 0.0
    pane: int = 10
    replicates: int = 300
    seed: int = 7


def score(scores: Scores, arm: Arm) -> Floats:
    """Score of an arm; "page" is the larger of the two less log 2, as both run at twice the threshold."""
    if arm == "page":
        return np.asarray(scores.leading - np.log(2), np.float64)
    return scores.conformal if arm == "conformal" else scores.fixed


def quiet_peaks(setting: Setting, events: int, arms: tuple[Arm, ...]) -> dict[Arm, Floats]:
    """Running maximum of the score on a stream without change, [panes, R], by arm; the clock counts rows."""
    world = World(setting.replicates, setting.n_ref, setting.seed + 1000, delta=setting.delta)
    shares = world.shares()
    panes = events // setting.pane
    out = {arm: np.empty((panes, setting.replicates)) for arm in arms}
    for t in range(panes):
        scores = world.step(world.draw(shares, setting.pane), float(setting.pane))
        for arm in arms:
            out[arm][t] = score(scores, arm)
    return {arm: np.maximum.accumulate(values, axis=0) for arm, values in out.items()}


def length_at(peaks: Floats, threshold: float, pane: int) -> float:
    """Average run length in events at a log threshold."""
    hit = peaks >= threshold
    first = np.where(hit.any(axis=0), hit.argmax(axis=0) + 1.0, np.inf)
    return run_length(first, len(peaks)) * pane


def matched(peaks: Floats, pane: int, asked: float = ASKED) -> float:
    """Smallest log threshold whose measured average run length is at least what was asked."""
    grid = np.linspace(np.log(asked) - 3, np.log(asked) + 3, 241)
    return float(next(t for t in grid if length_at(peaks, t, pane) >= asked))


def delays(
    setting: Setting,
    thresholds: dict[Arm, list[float]],
    elapsed: float,
    warm: int,
    horizon: int,
    only: tuple[str, ...] = (),
) -> dict[Arm, list[list[Floats]]]:
    """Events from the change to the crossing: by arm, one list a threshold, one array [R] a column (or those named)."""
    out: dict[Arm, list[list[Floats]]] = {arm: [[] for _ in values] for arm, values in thresholds.items()}
    for name, mean, sd in CHANGES:
        if only and name not in only:
            continue
        world = World(setting.replicates, setting.n_ref, setting.seed, delta=setting.delta)
        quiet, changed = world.shares(), world.shares(mean, sd)
        for _ in range(warm // setting.pane):
            world.step(world.draw(quiet, setting.pane), elapsed)
        first = {arm: np.full((len(v), setting.replicates), np.inf) for arm, v in thresholds.items()}
        for t in range(horizon // setting.pane):
            scores = world.step(world.draw(changed, setting.pane), elapsed)
            for arm, levels in thresholds.items():
                value = score(scores, arm)
                for i, level in enumerate(levels):
                    first[arm][i, (value >= level) & np.isinf(first[arm][i])] = (t + 1) * setting.pane
            if all(np.isfinite(f).all() for f in first.values()):
                break
        for arm, columns in out.items():
            for i, column in enumerate(columns):
                column.append(first[arm][i])
    return out


def matched_rows(*, quick: bool) -> list[str]:
    """Rows of the matched table."""
    lines = []
    replicates = 100 if quick else 300
    settings = [
        Setting("conformal e-SR", replicates=replicates),
        Setting("same, n_ref 500", n_ref=500, replicates=replicates),
        Setting("same, pane of 50", pane=50, replicates=replicates),
        Setting("same, delta .02, pane of 50", pane=50, delta=0.02, replicates=replicates),
    ]
    arms: tuple[Arm, ...] = ("conformal", "twin")
    for setting in settings:
        peaks = quiet_peaks(setting, 30_000, arms)
        guaranteed = float(np.log(ASKED))
        tuned = matched(peaks["conformal"], setting.pane)
        found = delays(
            setting, {"conformal": [guaranteed, tuned], "twin": [guaranteed]}, float(setting.pane), 1000, 20_000
        )
        length = length_at(peaks["conformal"], guaranteed, setting.pane)
        name = setting.name
        lines.append(row(f"**{name}**, guaranteed 10k", f"{length:,.0f}", [cell(d) for d in found["conformal"][0]]))
        length = length_at(peaks["conformal"], tuned, setting.pane)
        lines.append(row(f"**{name}**, matched", f"{length:,.0f}", [cell(d) for d in found["conformal"][1]]))
        if setting.name == "conformal e-SR":
            length = length_at(peaks["twin"], guaranteed, setting.pane)
            lines.append(
                row("fixed-reference twin, guaranteed 10k", f"{length:,.0f}", [cell(d) for d in found["twin"][0]])
            )
    return lines


def production_rows(*, quick: bool) -> list[str]:
    """Rows at the production budget: 300 features, one false page in 30 days, one-minute panes of 50 events."""
    lines = []
    replicates = 100 if quick else 300
    level = float(np.log(PRODUCTION_PANES))
    for setting in (
        Setting("conformal e-SR, delta 0", pane=50, replicates=replicates),
        Setting("same, delta .02", pane=50, delta=0.02, replicates=replicates),
        Setting("same, delta 0, n_ref 500", n_ref=500, pane=50, replicates=replicates),
    ):
        found = delays(setting, {"conformal": [level], "twin": [level], "page": [level]}, 1.0, 2000, 20_000)
        lines.append(row(f"**{setting.name}**", "6.5e8", [cell(d) for d in found["conformal"][0]]))
        lines.append(row("its twin", "6.5e8", [cell(d) for d in found["twin"][0]]))
        lines.append(
            row("both, each at twice the threshold (what pages)", "6.5e8", [cell(d) for d in found["page"][0]])
        )
    return lines
