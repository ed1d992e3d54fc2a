"""What a member's recovery is judged on: its coarse cells, its labels, or failing and sound rows of a check."""

from collections.abc import Iterable

import numpy as np

from contracts.messages import SubjectType
from monitor.core.cells import QUALITY, Counts
from monitor.core.coarse import coarse_cells
from monitor.core.dependence import stratum_of
from monitor.core.incident import Member
from monitor.core.pane import Pane
from monitor.core.reference import Reference

# What a sound source sends of duplicates and late events, as failing and sound rows.
_SOUND = (1, 999)


def member_counts(reference: Reference, member: Member, pane: Pane) -> Counts:
    """Return a member's counts in a pane (or the sum of several), int64[K]; not for performance, which has labels."""
    layout, counts = reference.layout, pane.counts
    if member.subject not in layout:
        bad = int(counts[layout.pane_counter(str(member.check))])
        return np.array([bad, pane.rows])
    place = layout[member.subject]
    if member.check is not None and member.check in QUALITY:
        bad = int(counts[place.counter(member.check)])
        return np.array([bad, max(pane.rows - bad, 0)])
    return coarse_cells(reference.by_name[member.subject], counts[place.histogram])


def member_expected(reference: Reference, member: Member) -> Counts:
    """Return the reference's side of the same counts by stratum, int64[S, K]."""
    if member.type is SubjectType.PERFORMANCE and reference.labels is not None:
        return reference.labels.scored.reshape(1, -1)
    if member.subject not in reference.layout:
        return np.array([_SOUND])
    subject = reference.by_name[member.subject]
    if member.check is not None and member.check in QUALITY:
        bad = int(subject.quality[QUALITY.index(member.check)])
        return np.array([[bad, max(subject.rows - bad, 1)]])
    return coarse_cells(subject, subject.strata if len(subject.strata) else subject.counts[None, :])


def strata_weights(panes: Iterable[Pane], strata: int) -> Counts:
    """Return the rows of these panes by stratum, int64[S]."""
    weights = np.zeros(strata, np.int64)
    for pane in panes:
        weights[stratum_of(pane.start, strata)] += pane.rows
    return weights


def member_phi(reference: Reference, member: Member) -> float:
    """Return the variance inflation of a member's counts, 1 where unknown."""
    if member.type is SubjectType.PERFORMANCE and reference.labels is not None:
        return reference.labels.phi
    subject = reference.by_name.get(member.subject)
    return float(subject.phi.max(initial=1.0)) if subject is not None else 1.0
