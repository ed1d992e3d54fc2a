"""A reference as the hours of a window would have it: a night is compared with nights."""

from dataclasses import replace

import numpy as np

from monitor.core.cells import Counts
from monitor.core.reference import Subject


def in_season(subject: Subject, rows: Counts) -> Subject:
    """Return the subject with the counts of its strata mixed as ``rows`` int64[strata] came from them.

    The counts sum to the effective rows of the mixture, 1 / sum(w^2 / n) for shares w of strata of n rows. Without
    strata, or rows, the subject as it is. By hand: strata of 8 + 2 and 2 + 8 mixed one to one give 10 + 10.
    """
    if not len(subject.strata) or not rows.any():
        return subject
    sizes = np.maximum(subject.strata.sum(axis=1), 1)
    share = rows / rows.sum()
    effective = 1.0 / float((share**2 / sizes).sum())
    mixed = (share / sizes) @ subject.strata * effective
    return replace(subject, counts=np.round(mixed).astype(np.int64))
