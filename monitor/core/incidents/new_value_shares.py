"""What values never seen before are made up of lately, by name: weights that fade as panes pass."""

from collections.abc import Mapping
from typing import NamedTuple

from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import Reference

# Panes after which a count weighs half: what is named is what the last quarter of an hour of minutes brought. At 60 a
# value that had been gone for two hours still named the page of another; at 2 a lull of few rows names it.
_HALF_PANES = 10
# Values of a subject that are remembered: what a page names are three, the rest is there to be overtaken.
_MOST = 32
# Below a twentieth of what is new a value explains nothing.
_LEAST = 0.05


class NewValueWeights(NamedTuple):
    """One subject's: the weight of all its new values and of the named ones, as of the pane that began at ``at``."""

    at: int
    total: float
    named: dict[str, float]


class NewValueShares:
    """Remembers the named new values of closed panes; a function of the panes alone, a few numbers a subject."""

    def __init__(self, reference: Reference) -> None:
        self._layout = reference.layout
        self.weights: dict[str, NewValueWeights] = {}

    def add(self, pane: Pane) -> None:
        """Take a closed pane; costs nothing where it has no new values."""
        for subject, counts in pane.new.items():
            at, total, named = self.weights.get(subject, (pane.start, 0.0, {}))
            fade = 0.5 ** ((pane.start - at) / (_HALF_PANES * pane.length))
            weights = {name: weight * fade for name, weight in named.items()}
            for name, count in counts.items():
                weights[name] = weights.get(name, 0.0) + count
            kept = sorted(weights, key=lambda name: (-weights[name], name))[:_MOST]
            total = total * fade + int(pane.counts[self._layout[subject].counter("unseen")])
            self.weights[subject] = NewValueWeights(pane.start, total, {name: weights[name] for name in kept})

    def of(self, subject: str) -> Mapping[str, float]:
        """Return the share of each named value among a subject's new ones, the largest first, small ones left out.

        By hand: of 10 rows with new values 9 are ``'7'`` and 1 is one of a hundred ids: {'7': 0.9}.
        """
        _, total, named = self.weights.get(subject, (0, 0.0, {}))
        return {name: min(weight / total, 1.0) for name, weight in named.items() if weight >= _LEAST * total > 0}
