"""The table by which a verdict's effect can be redone by hand: bins, counts, shares, and the sum that they give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from stationkeeper.contracts.messages import Verdict
from stationkeeper.contracts.times import to_ms
from stationkeeper.contracts.topics import Topics
from stationkeeper.contracts.wire import PaneDelta
from stationkeeper.explain.lineage import read_panes, read_references
from stationkeeper.monitor.core.charts import Distance, cell_name, coarse_cells, measure
from stationkeeper.monitor.core.reference import (
    Counts,
    NumericCells,
    Reference,
    ReferenceSubject,
)
from stationkeeper.streams.ports import Reader

# A screen. Chosen: half hides cells that matter, double scrolls. One line sums what is left out, so the total holds.
MOST_LINES = 25
DRIFT_KINDS = frozenset({"data_drift", "prediction_drift"})


@dataclass(frozen=True, slots=True)
class Bins:
    """Counts of one subject since an onset beside the reference's, in the cells that its distances are sums over.

    ``names`` are K cells; ``window`` and ``reference`` int64[K].
    """

    subject: str
    digest: str
    names: tuple[str, ...]
    window: Counts
    reference: Counts
    distances: dict[str, Distance]

    def lines(self) -> list[str]:
        """Return the table and the sums, a line each."""
        n, m = int(self.window.sum()), int(self.reference.sum())
        p, q = self.window / n, self.reference / m
        half = np.abs(p - q) / 2
        used = np.flatnonzero((self.window > 0) | (self.reference > 0))
        # The cells that moved most, then in their own order: a table of ranges is read from low to high.
        shown = sorted(sorted(used.tolist(), key=lambda cell: (-half[cell], cell))[:MOST_LINES])
        width = max(len(self.names[cell]) for cell in shown)
        lines = [f"{'':{width}}  {'reference':>18}  {'since the onset':>18}  {'½|p − q|':>8}"]
        lines += [
            f"{self.names[cell]:{width}}  {int(self.reference[cell]):>9,} {q[cell]:>8.2%}  "
            f"{int(self.window[cell]):>9,} {p[cell]:>8.2%}  {half[cell]:>8.4f}"
            for cell in shown
        ]
        if rest := len(used) - len(shown):
            left = float(half[used].sum() - half[shown].sum())
            lines.append(f"{f'{rest} more cells':{width}}  {'':>18}  {'':>18}  {left:>8.4f}")
        lines.append(f"{'sum':{width}}  {m:>9,} {1:>8.0%}  {n:>9,} {1:>8.0%}  {half.sum():>8.4f}")
        found = self.distances["tv"]
        lines.append(
            f"effect = √(sum² − noise²) = √({found.raw:.4f}² − {found.noise:.4f}²) = {found.value:.2%} of the rows, "
            "where noise = ½ √(2/π) Σ √(r (1 − r) (1/n + 1/m)) is what sampling alone gives, r the pooled share"
        )
        psi = self.distances["psi"]
        lines.append(
            f"psi = Σ (p − q) ln(p/q) = {psi.raw:.4f} with half a row added to each cell, less (K − 1)(1/n + 1/m) = "
            f"{psi.noise:.4f}: {psi.value:.4f} (for information: it decides nothing)"
        )
        return lines

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        cells = zip(self.names, self.reference.tolist(), self.window.tolist(), strict=True)
        return {
            "subject": self.subject,
            "reference": self.digest,
            "cells": [{"cell": name, "reference": before, "window": now} for name, before, now in cells],
            "distances": {
                name: {"raw": d.raw, "noise": d.noise, "value": d.value} for name, d in self.distances.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Panes:
    """The finest panes of one model in the history topic, all traffic, and its references by digest."""

    panes: tuple[PaneDelta, ...]
    references: dict[str, Reference]

    @classmethod
    def read(cls, reader: Reader, topics: Topics, model: str, start: int) -> Self:
        """Read the panes from ``start`` (epoch ms) on. O(history of the model's partition)."""
        found = read_panes(reader, topics, model)
        panes = [record for record in found if isinstance(record, PaneDelta) and record.start >= start]
        # History also holds hours, which are the same rows added up: both would count each row twice.
        finest = min((pane.length for pane in panes), default=0)
        references = read_references(reader, topics, model)
        return cls(tuple(pane for pane in panes if pane.length == finest), references)

    def bins(self, verdict: Verdict, starts: Sequence[int]) -> Bins | None:
        """Return the bins behind a verdict on a feature or the prediction; None for any other, or where they are gone.

        The verdict counted from one of ``starts`` (its own onset, or that of the incident it joined): the one at which
        the rows are as many as it says. A sensitive subject's bins are shown to nobody.
        """
        if verdict.segment or verdict.kind not in DRIFT_KINDS:
            return None
        found = [self._counted(verdict, start) for start in starts]
        made = [bins for bins in found if bins is not None]
        # A verdict that joined an incident counted from that incident's onset or its own; its number of rows tells
        # which.
        return min(made, key=lambda bins: abs(int(bins.window.sum()) - verdict.rows), default=None)

    def _counted(self, verdict: Verdict, start: int) -> Bins | None:
        end = to_ms(verdict.time)
        for digest, reference in self.references.items():
            subject = reference.by_name.get(verdict.subject.name)
            # Bin edges and category names are values: of a sensitive subject they are shown to nobody.
            if subject is None or subject.sensitive or not subject.counts.sum():
                continue
            whole: Counts | None = None
            for pane in self.panes:
                if pane.digest == digest and start <= pane.start < end:
                    whole = np.zeros(pane.width, np.int64) if whole is None else whole
                    block = pane.vector()
                    whole[pane.first : pane.first + len(block)] += block
            if whole is not None:
                window = whole[reference.layout[subject.name].histogram]
                return _bins(reference, subject, window, verdict.evidence.get("values") or {}) if window.sum() else None
        return None


def bins_of(reader: Reader, topics: Topics, verdicts: Sequence[Verdict]) -> dict[str, Bins]:
    """Return the bins behind the verdicts of one incident by the verdict's id, where there are any."""
    onsets = sorted({to_ms(verdict.onset.time) for verdict in verdicts if verdict.onset is not None})
    if not onsets:
        return {}
    panes = Panes.read(reader, topics, verdicts[0].model, onsets[0])
    found = {verdict.id: panes.bins(verdict, onsets) for verdict in verdicts}
    return {name: bins for name, bins in found.items() if bins is not None}


def _bins(reference: Reference, subject: ReferenceSubject, window: Counts, new: Mapping[str, float]) -> Bins:
    coarse = isinstance(subject.cells, NumericCells)
    return Bins(
        subject.name,
        reference.digest,
        _coarse_names(subject)
        if coarse
        else tuple(cell_name(subject, cell, new) for cell in range(subject.cells.count)),
        coarse_cells(subject, window) if coarse else window,
        coarse_cells(subject, subject.counts) if coarse else subject.counts,
        dict(measure(subject, window)),
    )


def _coarse_names(subject: ReferenceSubject) -> tuple[str, ...]:
    """Return the ranges of a number's coarse cells, each from below its first cell's to its last cell's upper edge."""
    cells, grid = subject.cells, subject.grid
    assert isinstance(cells, NumericCells)  # noqa: S101 - what the caller has just asked
    names = []
    for group in range(int(grid.max())):
        inside = np.flatnonzero(grid == group)
        first, last = int(inside[0]), int(inside[-1])
        low = f"{cells.edges[first - 1]:.5g}" if first else "−∞"
        high = f"{cells.edges[last]:.5g}" if last < len(cells.edges) else "∞"
        names.append(f"({low}, {high}]" if high != "∞" else f"({low}, ∞)")
    return (*names, "missing")
