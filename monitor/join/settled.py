"""Predictions that met their label, for as long as a later label may say something else."""

from dataclasses import dataclass, field

import numpy as np

from stationkeeper.contracts.wire import OF_CLASSES
from stationkeeper.monitor.join.store import CODED, WAITING_ROW, Flags, Rows, Waiting
from stationkeeper.monitor.tally import UNSET

MOST_PAIRS = 500_000
"""Pairs that one joins partition keeps for corrections unless ``join.corrections`` says otherwise: 35 MB at about 70
bytes each, three million over all partitions. Half forgets the pairs of a busy model sooner, so that a correction waits
as a label of no prediction; double takes its memory though corrections are rare."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """Predictions with the label that counted so far and the one that takes its place, in charts: rows of equal order.

    ``repeated`` are labels that said what is known, ``corrected`` those that said something else.
    """

    predictions: Rows = field(default_factory=lambda: np.zeros(0, WAITING_ROW))
    before: Rows = field(default_factory=lambda: np.zeros(0, WAITING_ROW))
    after: Rows = field(default_factory=lambda: np.zeros(0, WAITING_ROW))
    repeated: int = 0
    corrected: int = 0

    def __add__(self, other: "Corrections") -> "Corrections":
        return Corrections(
            np.concatenate([self.predictions, other.predictions]),
            np.concatenate([self.before, other.before]),
            np.concatenate([self.after, other.after]),
            self.repeated + other.repeated,
            self.corrected + other.corrected,
        )


def coded(labels: Rows) -> Flags:
    """Return which label rows, as they came, are the code of one of several classes."""
    found: Flags = (labels["decision"] & OF_CLASSES) > 0
    return found


def said_else(value: str, were: Rows, labels: Rows) -> Flags:
    """Return which labels say something else than the rows that they meet, whose label is in the column ``value``."""
    found: Flags = (were[value] != labels["label"]) | (((were["decision"] & CODED) > 0) != coded(labels))
    return found


def note_latest(rows: Rows) -> None:
    """Make label rows, as they came, say what the latest label is: ``score`` and a bit; ``label`` stays the first."""
    rows["score"] = rows["label"]
    rows["decision"] |= np.where(coded(rows), CODED, 0).astype(np.uint8)


class Settled:
    """Pairs by key: the prediction, and in ``label`` what the latest label said. At most ``most`` after an eviction.

    A pair is let go with its prediction's horizon. One whose label is from before its prediction is not kept: its two
    sides leave the horizon in the other order, and a rebuild could not tell whether it was there.
    """

    def __init__(self, most: int) -> None:
        self.rows = Waiting(most)

    def __len__(self) -> int:
        return len(self.rows)

    def keep(self, predictions: Rows, labels: Rows, before: int = UNSET) -> Corrections:
        """Keep rows that met (distinct keys); returns the corrections that the labels met while they waited."""
        rows = predictions.copy()
        rows["label"] = labels["score"]
        rows["decision"] |= labels["decision"] & CODED
        # From whichever came first a rebuild must begin to make the pair again.
        rows["offset"] = np.minimum(rows["offset"], labels["offset"])
        kept = labels["time"] >= predictions["time"]
        pairs = rows[kept]
        known, _ = self.rows.put(pairs, before)
        if known.any():
            # An id that is used again: from here on it is the new pair's. Those beside it are put again too: a rebuild
            # that does not know the old pair has to lay all of them in the same order.
            self.rows.take(pairs["key"], before)
            self.rows.put(pairs, before)
        changed = said_else("label", rows, labels)
        after = labels[changed].copy()
        after["label"], after["decision"] = rows["label"][changed], _as_sent(rows[changed])
        return Corrections(predictions[changed], labels[changed], after)

    def repeats(self, predictions: Rows, before: int = UNSET) -> tuple[Flags, Rows]:
        """Return which predictions are those of pairs that are here, come again, and these pairs.

        The same id at another time is another prediction.
        """
        # Most batches come while nothing is settled or repeats nothing: one look-up, no copies.
        hit, pairs = self.rows.find(predictions["key"], before)
        same = pairs["time"] == predictions["time"][hit]
        hit[hit] = same
        return hit, pairs[same]

    def correct(self, labels: Rows, before: int = UNSET) -> tuple[Flags, Rows, Corrections]:
        """Let labels meet pairs: which did, the pairs as each label found them, and what changes by it."""
        hit, were = self.rows.amend("label", labels, coded(labels), before)
        mine = labels[hit]
        changed = said_else("label", were, mine)
        count = int(np.count_nonzero(changed))
        predictions, old = were[changed], mine[changed].copy()
        old["label"], old["decision"] = predictions["label"], _as_sent(predictions)
        predictions["decision"] &= ~CODED
        return hit, were, Corrections(predictions, old, mine[changed], len(mine) - count, count)


def _as_sent(rows: Rows) -> Rows:
    return np.where(rows["decision"] & CODED, OF_CLASSES, 0).astype(np.uint8)
