"""One watched subject as people see it: its numbers, and its cells coarse enough for a plot."""

from itertools import pairwise
from math import isfinite

import numpy as np

from stationkeeper.contracts.model_status import Cells, SubjectStatus
from stationkeeper.monitor.core.charts import Chart, cell_name
from stationkeeper.monitor.core.detect import effect_floor
from stationkeeper.monitor.core.reasons import UNKNOWN_HELP, Unknown
from stationkeeper.monitor.core.reference import NumericCells, rank_grid
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.judge import WatchKey

# With "other" and "missing" these make the ``MAX_CELLS`` = 20 bars that the contract allows.
MAX_CATEGORIES = 18


def subject_status(key: WatchKey, watch: Watch, chart: Chart) -> SubjectStatus:
    """Return the status of a subject without cells and series."""
    subject = watch.reference.by_name[chart.subject]
    entry: SubjectStatus = {
        "name": chart.subject,
        "type": chart.type.value,
        "version": key.version,
        "segment": key.segment,
        "state": chart.state.value,
        "reason": _reason(chart, watch),
        "rows": chart.rows,
    }
    if isfinite(chart.threshold):
        entry["threshold"] = chart.threshold
    # What a change must reach to page: evidence says how sure a change is, not how large.
    entry["floor"] = effect_floor(watch.settings.delta, subject.day_floor or 0.0)
    if watch.season is not None and (moved := watch.season.moved(chart.subject)):
        entry["followed"] = moved
    if chart.incident:
        entry["incident"] = chart.incident
        incident = watch.lifecycle.incidents.open.get(chart.incident)
        if incident is not None:
            entry["onset"] = incident.onset.time
    if subject.sensitive:
        entry["sensitive"] = True
    if watch.end is not None:
        entry["window_start"], entry["window_end"] = chart.since, watch.end
    # Numbers of rows that are not there, or no longer, would be read as of now.
    if chart.unknown in (Unknown.NO_ROWS, Unknown.STALE):
        return entry
    if isfinite(chart.evidence):
        entry["statistic"] = chart.evidence
    if chart.unknown is not Unknown.FEW_ROWS:
        entry["effect"] = chart.effect
        entry["distances"] = {name: distance.value for name, distance in chart.distances.items()}
        entry["noise"] = {name: distance.noise for name, distance in chart.distances.items()}
    entry["quality"] = dict(chart.quality)
    return entry


def _reason(chart: Chart, watch: Watch) -> str:
    if chart.unknown is Unknown.ADOPTING and watch.period is not None:
        return f"{watch.period.progress()}; {UNKNOWN_HELP[Unknown.ADOPTING]}"
    if chart.unknown is not None:
        return UNKNOWN_HELP[chart.unknown]
    moved = f"{chart.effect:.1%} of {chart.rows} rows moved"
    known = isfinite(chart.evidence)
    numbers = f"{moved}, evidence {chart.evidence:.1f} of {chart.threshold:.1f} nats" if known else moved
    return numbers if chart.incident is None else f"{numbers}; part of {chart.incident}"


def cells_of(watch: Watch, chart: Chart) -> Cells:
    """Return reference and window counts in at most 20 cells, missing last."""
    subject, place = chart.compared, watch.layout[chart.subject]
    incident = watch.lifecycle.incidents.of_subject(chart.subject)
    where = place.histogram
    window = watch.window.part(where) if incident is None else watch.lifecycle.since_onset.of(incident)[2][where]
    cells = subject.cells
    if isinstance(cells, NumericCells):
        grid = rank_grid(subject.counts[:-1], MAX_CATEGORIES)
        # Fewer where many values are one: equal ranks share a cell.
        size = int(grid.max()) + 1
        before = np.bincount(grid, weights=subject.counts[:-1], minlength=size).astype(np.int64)
        now = np.bincount(grid, weights=window[:-1], minlength=size).astype(np.int64)
        # Coarse cells follow the axis: each ends where the next number begins.
        edges = [cells.low, *cells.edges[np.flatnonzero(np.diff(grid))].tolist(), cells.high]
        labels = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
        return {
            "labels": [*labels, "missing"],
            "reference": [*before.tolist(), int(subject.counts[-1])],
            "window": [*now.tolist(), int(window[-1])],
            "edges": [float(edge) for edge in edges],
        }
    named = watch.lifecycle.new_values.of(subject.name)
    # By both sides: a category that is gone is news as one that came. Stable, so that equal ones do not change place.
    order = np.argsort(-(subject.counts[:-1] + window[:-1]), kind="stable")[:MAX_CATEGORIES]
    # In the order of the reference, which a reader knows from the plot before.
    chosen = np.sort(order)
    before, now = subject.counts, window
    rest = [int(side[:-1].sum() - side[chosen].sum()) for side in (before, now)]
    return {
        "labels": [*(cell_name(subject, int(i), named) for i in chosen), "other", "missing"],
        "reference": [*before[chosen].tolist(), rest[0], int(before[-1])],
        "window": [*now[chosen].tolist(), rest[1], int(now[-1])],
    }
