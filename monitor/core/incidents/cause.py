"""Name what moved in a subject's cells: the simplest sentence that covers most of the distance."""

from collections.abc import Iterable

from stationkeeper.contracts.messages import VerdictKind
from stationkeeper.monitor.core.finding import Finding
from stationkeeper.monitor.core.incidents.incident import Member
from stationkeeper.monitor.core.reasons import Check
from stationkeeper.monitor.core.reference import QUALITY, Counts, Reference

_OF_EVERY_VALUE = frozenset({Check.UNIT, Check.CONSTANT, Check.SCHEMA_MISSING})
_EXPLAINS = 0.5
_UNUSABLE = QUALITY[:4]


def explained_by_faults(
    known: Iterable[Finding | Member], reference: Reference, finding: Finding, effect: float, counts: Counts
) -> bool:
    """Return whether what is known to be broken in a subject is at least half of how far it drifted.

    ``effect`` is the share of rows that changed cell, ``counts`` int64[width] the panes it was measured on. A fault of
    every value, such as a changed unit, explains all. By hand: 38 % of the rows became text and 40 % changed cell.
    """
    if finding.check is not None or finding.subject not in reference.layout:
        return False
    checks = {one.check for one in known if one.subject == finding.subject and one.kind is VerdictKind.DATA_QUALITY}
    if checks & _OF_EVERY_VALUE:
        return True
    place, subject = reference.layout[finding.subject], reference.by_name[finding.subject]
    rows = max(int(counts[place.histogram].sum()), 1)
    broken = sum(
        int(counts[place.counter(check)]) / rows - float(subject.quality[QUALITY.index(check)]) / max(subject.rows, 1)
        for check in _UNUSABLE
        if check in checks
    )
    return broken > 0 and broken >= _EXPLAINS * effect
