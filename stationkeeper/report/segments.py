"""Where each incident's change lies: the panes of segments in history, before its onset and while it lasted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stationkeeper.contracts.topics import Topics
from stationkeeper.contracts.wire import Counts, OutcomeDelta, PaneDelta
from stationkeeper.explain.lineage import read_panes
from stationkeeper.monitor.core.charts import SegmentPart, coarse_cells, segment_parts
from stationkeeper.monitor.core.performance import SegmentGap, segment_gaps
from stationkeeper.monitor.core.reference import Reference, ReferenceSubject
from stationkeeper.report.history import Moved
from stationkeeper.streams.ports import Reader

MOST_CASES = 20
"""Incidents whose segments are looked up, the first of the period: a person reads that many; each more keeps its counts
by segment in memory, some megabytes with many segments."""


@dataclass(slots=True)
class _Sides:
    """Counts int64[cells] of one incident's leading subject by dimension and segment, before its onset and in it."""

    before: dict[str, dict[str, Counts]] = field(default_factory=dict)
    now: dict[str, dict[str, Counts]] = field(default_factory=dict)

    def add(self, side: dict[str, dict[str, Counts]], pane: PaneDelta, place: slice) -> None:
        """Add what a block of a segment's pane holds of the subject, which lies at ``place`` of the layout."""
        block = pane.vector()
        low, high = max(place.start, pane.first), min(place.stop, pane.first + len(block))
        if low >= high:
            return
        mine = side.setdefault(pane.segment.partition("=")[0], {})
        counts = mine.setdefault(pane.segment, np.zeros(place.stop - place.start, np.int64))
        counts[low - place.start : high - place.start] += block[low - pane.first : high - pane.first]


def gaps_of(
    reader: Reader, topics: Topics, model: str, *, length: int, start: int | None = None, end: int | None = None
) -> tuple[SegmentGap, ...]:
    """Return how far segments lie apart in the labelled rows of a period, dimension after dimension.

    Rows of all versions count together: what people met in the period, whichever version decided. Corrections of labels
    are in it. O(history of the model's partition).
    """
    found: dict[str, dict[str, Counts]] = {}
    for one in read_panes(reader, topics, model, segments=True):
        if not isinstance(one, OutcomeDelta) or not one.segment or one.length != length:
            continue
        if (start is None or one.start >= start) and (end is None or one.start < end):
            mine = found.setdefault(one.segment.partition("=")[0], {})
            mine[one.segment] = mine.get(one.segment, np.zeros(4, np.int64)) + np.frombuffer(one.confusion, "<i8")
    return tuple(gap for name, confusions in sorted(found.items()) for gap in segment_gaps(name, confusions))


def _coarse(counts: Mapping[str, Counts], subject: ReferenceSubject) -> dict[str, Counts]:
    return {name: coarse_cells(subject, one) for name, one in counts.items()}


def located(
    reader: Reader,
    topics: Topics,
    model: str,
    cases: Sequence[Moved],
    references: Mapping[str, Reference],
    *,
    length: int,
    start: int | None = None,
    end: int | None = None,
) -> dict[str, tuple[SegmentPart, ...]]:
    """Return the parts of each incident's change by segment, dimension after dimension; by the incident's id.

    ``references`` are by digest, ``length`` is the finest length of panes (ms), in which history holds each row once.
    What the incident's first subject was before, in the period from ``start`` on, is what it is held against: the
    segments' usual differences from each other are no part of a change. An incident without rows of segments on both
    sides, under one reference, is left out. O(history of the model's partition).
    """
    chosen = [case for case in cases[:MOST_CASES] if case.subjects and case.since is not None]
    found: dict[tuple[str, str], _Sides] = {}
    for pane in read_panes(reader, topics, model, segments=True):
        reference = references.get(pane.digest) if isinstance(pane, PaneDelta) else None
        if not isinstance(pane, PaneDelta) or reference is None or not pane.segment or pane.length != length:
            continue
        if (start is not None and pane.start < start) or (end is not None and pane.start >= end):
            continue
        for case in chosen:
            # Quality and performance have no cells that segments could be compared in.
            if case.subjects[0] not in reference.by_name or (case.until is not None and pane.start >= case.until):
                continue
            sides = found.setdefault((case.id, pane.digest), _Sides())
            side = sides.before if pane.start < (case.since or 0) else sides.now
            sides.add(side, pane, reference.layout[case.subjects[0]].histogram)
    out: dict[str, tuple[SegmentPart, ...]] = {}
    leaders = {case.id: case.subjects[0] for case in chosen}
    for (case_id, digest), sides in found.items():
        subject = references[digest].by_name[leaders[case_id]]
        parts = [
            segment_parts(_coarse(sides.before.get(name, {}), subject), _coarse(now, subject))
            for name, now in sorted(sides.now.items())
        ]
        # Under several references the one with the most rows in the incident tells: their cells do not add.
        mine = tuple(part for dimension in parts for part in dimension)
        if sum(part.rows for part in mine) > sum(part.rows for part in out.get(case_id, ())):
            out[case_id] = mine
    return out
