"""Elec2 and weather: in original order, shuffled inside segments (only the change remains), and fully shuffled."""

from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.detection.world import Counts, Floats
from stationkeeper.monitor.core.adoption import learned_phi, natural_floor
from stationkeeper.monitor.core.detect import (
    DetectorPlan,
    DriftDetector,
    PlannedSubject,
    change_point_log_ratios,
    effect_floor,
    locate_change_point,
)

PANE = 48
REFERENCE_PANES = 100
BUDGET_PANES = 1000.0
"""One false page for the whole model in this many panes."""


def stream_rows(data: Path) -> list[str]:
    """One line a stream and order; the true change is known where the second half is another segment."""
    lines = [
        "| stream | order | panes | false pages allowed | features paged | page after, events | onset error | before |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ("elec", "weather"):
        path = data / f"{name}.csv"
        if not path.exists():
            lines.append(f"| {name} | not found in {data} | | | | | | |")
            continue
        values = _features(path)
        half = len(values) // 2
        rng = np.random.default_rng(1)
        segments = np.concatenate([rng.permutation(half), half + rng.permutation(len(values) - half)])
        lines.append(_line(name, "original, phi and floor learned", values, None, learn=True))
        lines.append(_line(name, "shuffled inside halves", values[segments], half, learn=False))
        lines.append(_line(name, "fully shuffled", values[rng.permutation(len(values))], None, learn=False))
    return lines


def _features(path: Path) -> Floats:
    """Numeric columns that vary, except what looks like a label, an index or a date."""
    frame = pl.read_csv(path, infer_schema_length=None)
    names = [
        c
        for c in frame.columns
        if frame[c].dtype.is_numeric() and frame[c].n_unique() > 10 and c.lower() not in ("date", "index", "id", "year")
    ]
    return frame.select(names).cast(pl.Float64).to_numpy()


def _line(name: str, order: str, values: Floats, change: int | None, *, learn: bool) -> str:
    first = REFERENCE_PANES * PANE
    edges = [np.unique(np.quantile(v[:first], np.arange(1, 256) / 256, method="inverted_cdf")) for v in values.T]
    panes: list[Counts] = []
    for edge, column in zip(edges, values.T, strict=True):
        cells = np.searchsorted(edge, column)
        number = len(values) // PANE
        grid = np.zeros((number, len(edge) + 2), np.int64)
        np.add.at(grid, (np.arange(number * PANE) // PANE, cells[: number * PANE]), 1)
        panes.append(grid)
    subjects = []
    for f, grid in enumerate(panes):
        past = grid[:REFERENCE_PANES]
        phi = learned_phi(past, "numeric") if learn else 1.0
        # Twenty coarse cells, so that days of 48 rows have a noise that can be taken out.
        coarse = np.add.reduceat(past, np.arange(0, past.shape[1], max(past.shape[1] // 20, 1)), axis=1)
        delta = effect_floor(0.02, natural_floor(coarse)) if learn else 0.0
        subjects.append(PlannedSubject(f"f{f}", "numeric", past.sum(axis=0)[None], min(delta, 0.9), phi))
    plan = DetectorPlan(name, "1", order, tuple(subjects), 1 / BUDGET_PANES)
    detector = DriftDetector(plan)
    total = len(panes[0])
    paged: dict[int, tuple[int, int]] = {}
    early = pages = 0
    for t in range(REFERENCE_PANES, total):
        scores = detector.step(np.concatenate([grid[t] for grid in panes]), t, 0, 1.0)
        pages += int(scores.paged.sum())
        for feature in np.flatnonzero(scores.paged).tolist():
            if change is not None and (t + 1) * PANE <= change:
                early += 1
            elif feature not in paged:
                stored = panes[feature][max(t - 300, REFERENCE_PANES) : t + 1]
                rough = max(int(scores.onset[feature]) - max(t - 300, REFERENCE_PANES), 0)
                ratios = change_point_log_ratios(
                    subjects[feature], scores.alternative[feature], stored, np.zeros(len(stored)), rough
                )
                paged[feature] = (t, max(t - 300, REFERENCE_PANES) + locate_change_point(ratios).index)
    allowed = (total - REFERENCE_PANES) / BUDGET_PANES
    found = f"{len(paged)} of {len(subjects)}"
    if change is None:
        return f"| {name} | {order} | {total - REFERENCE_PANES} | {allowed:.1f} | {found} | - | - | {pages} in all |"
    if not paged:
        return f"| {name} | {order} | {total - REFERENCE_PANES} | {allowed:.1f} | {found} | none | - | {early} |"
    when, onset = min(paged.values())
    return (
        f"| {name} | {order} | {total - REFERENCE_PANES} | {allowed:.1f} | {found} | {(when + 1) * PANE - change} | "
        f"{abs(onset * PANE - change)} | {early} |"
    )
