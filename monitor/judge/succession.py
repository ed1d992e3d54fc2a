"""Who is champion, and how incidents of the version or reference before come to their end."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from stationkeeper.contracts.messages import Verdict
from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.incidents import STEADY_PANES, STEADY_ROWS, Incident, recovered_verdict
from stationkeeper.monitor.judge.pending import WatchKey
from stationkeeper.monitor.judge.watches import Merged, Watches
from stationkeeper.monitor.references import References

# Panes for which the counts of both references may still come, from partitions that see the new one later: a tally
# reads a reference within seconds, so five minutes outlast one that restarts. At half a slow start ends a watch that
# comes back, at double incidents of the old reference stay open for five minutes more.
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
    def proof(self) -> str:
        """What the new version has yet to show, with how far it is."""
        wanted = f"{STEADY_PANES} steady panes with {STEADY_ROWS} rows of version {self.new}"
        return f"{wanted} (now {self.panes} with {self.rows})"

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
        # Its successor has been seen and seen later: a partition that still counts by the old reference keeps the
        # watch.
        if after is not None and after > at and now - at > GRACE_PANES * pane:
            yield key, reference.digest


@dataclass(frozen=True, slots=True)
class Ended:
    """An open incident whose watch ended, and the verdict that closes it and says why."""

    key: WatchKey
    incident: Incident
    verdict: Verdict


class Succession:
    """Who is champion of one model, and which watches end because a version or a reference took their place.

    ``pane`` is its length in ms. State: the champion, and its promotion while incidents of the version before are open.
    """

    def __init__(self, model: str, pane: int, watches: Watches, references: References) -> None:
        self._model, self._pane, self._watches, self._references = model, pane, watches, references
        self.champion: str | None = None
        self.promotion: Promotion | None = None

    def follow(self, now: int) -> None:
        """See who is champion now; a new one lets go of versions that had no rows for long."""
        champion = self._references.champion(self._model)
        if champion == self.champion:
            return
        # Neither the first champion nor the loss of one is a promotion.
        if self.champion is not None and champion is not None:
            # Back to the version before within its promotion: nothing was cured.
            back = self.promotion is not None and self.promotion.old == champion
            self.promotion = None if back else Promotion(old=self.champion, new=champion, since=now)
        self.champion = champion
        self._watches.forget(champion, now)

    def end_replaced(self, now: int) -> list[Ended]:
        """End the watches of replaced references; what still drifts is found again by the watch of the new one."""
        ended = []
        seen = self._watches.seen
        for key, digest in list(replaced(seen, self._references, self._model, now, self._pane)):
            seen.pop(key)
            why = f"the reference was replaced by {digest}; what still differs from it is a new incident"
            ended += self._end(key, why, {"replaced_by": digest}, rows=0, now=now)
        return ended

    def end_cured(self, merged: Merged, now: int) -> list[Ended]:
        """Close the incidents of the version before, once the promoted one has been steady."""
        if self.promotion is None:
            return []
        new, old = self.promotion.new, self.promotion.old
        rows = sum(rows for key, (rows, _) in merged.items() if key.version == new and not key.segment)
        mine = self._watches.of(new)
        # A version without a watch has not been judged, and is not steady.
        steady = bool(mine) and not any(watch.incidents() for watch in mine)
        self.promotion = done = self.promotion.step(rows, steady=steady)
        if not done.cured:
            return []
        ended = []
        evidence = {"promoted": new, "panes": done.panes}
        for key in [key for key in self._watches if key.version == old]:
            ended += self._end(key, done.reason, evidence, rows=done.rows, now=now)
        self.promotion = None
        return ended

    def _end(self, key: WatchKey, why: str, evidence: Mapping[str, Any], *, rows: int, now: int) -> list[Ended]:
        watch = self._watches.end(key)
        if watch is None:
            return []
        ended = []
        for incident in watch.incidents():
            verdict = recovered_verdict(watch.identity, incident, now=now, rows=rows, last_row=None)
            # Five names, as in the verdict that is changed here.
            changes = {
                "reason": f"{', '.join(incident.subjects[:5])}: {why}",
                "evidence": {**verdict.evidence, **evidence},
            }
            ended.append(Ended(key, replace(incident, closed=now), verdict.model_copy(update=changes)))
        return ended
