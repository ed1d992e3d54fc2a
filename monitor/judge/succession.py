"""Who is champion, and how incidents of the version or reference before come to their end."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from stationkeeper.contracts.messages import Verdict
from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.incidents import Incident, recovered_verdict
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.judge.pending import WatchKey
from stationkeeper.monitor.references import References

# Half an hour of one-minute panes and 500 rows without an incident: the new version must have been judged, not only
# served. Fewer rows say nothing at low traffic, fewer panes nothing at high traffic.
STEADY_PANES = 30
STEADY_ROWS = 500

# Panes for which the counts of both references may still come, from partitions that see the new one later.
GRACE_PANES = 5


class Promotion(State, frozen=True, array_like=True):
    """Version ``new`` took over from ``old`` at ``since`` ms and has been steady for ``panes`` with ``rows``."""

    old: str
    new: str
    since: int
    rows: int = 0
    panes: int = 0

    def step(self, rows: int, *, steady: bool) -> "Promotion":
        """Return it after a closed pane with ``rows`` of the new version; an incident begins the count anew."""
        return replace(self, panes=self.panes + 1 if steady else 0, rows=self.rows + rows if steady else 0)

    @property
    def cured(self) -> bool:
        """Whether the new version has been steady long enough for the incidents of the old one to close."""
        return self.panes >= STEADY_PANES and self.rows >= STEADY_ROWS

    @property
    def reason(self) -> str:
        """Why the incidents of the old version close."""
        return (
            f"version {self.new} took over from {self.old} and was steady for {self.panes} panes with {self.rows} rows"
        )


def replaced(
    seen: Mapping[WatchKey, int], references: References, model: str, now: int, pane: int
) -> Iterator[tuple[WatchKey, str]]:
    """Yield the watches whose reference is no longer in force for its version, each with the digest that is.

    A watch is replaced once the new reference's own has been seen and its own was not for ``GRACE_PANES``.
    """
    for key, at in sorted(seen.items()):
        reference = references.of(model, key.version)
        if reference is None or reference.digest == key.digest:
            continue
        after = seen.get(key._replace(digest=reference.digest))
        if after is not None and after > at and now - at > GRACE_PANES * pane:
            yield key, reference.digest


def last_words(
    watch: Watch, why: str, evidence: Mapping[str, Any], *, rows: int, now: int
) -> Iterator[tuple[Incident, Verdict]]:
    """Yield each open incident of a watch that ends, with the verdict that closes it and says why."""
    for incident in watch.incidents():
        verdict = recovered_verdict(watch.identity, incident, now=now, rows=rows, last_row=None)
        reason = f"{', '.join(incident.subjects[:5])}: {why}"
        yield incident, verdict.model_copy(update={"reason": reason, "evidence": {**verdict.evidence, **evidence}})
