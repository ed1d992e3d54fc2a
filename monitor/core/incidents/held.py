"""Subjects that drift are held: what they show is kept out of the detectors' bags until they have come back."""

from collections.abc import Iterable, Mapping, Sequence

from stationkeeper.monitor.core.detect import Drift
from stationkeeper.monitor.core.finding import Finding
from stationkeeper.monitor.core.panes import Recent


class HeldSubjects:
    """Which subjects are held in every detector of a watch, and when each last came back (pane end, clock units).

    A bag is what the next panes are compared with: drift that enters it becomes the normal state, and the page ends
    while the harm goes on. By hand: a subject drifts from pane 3 and pages at pane 9. Panes 3 to 9 are taken out, the
    bags stand still until it comes back at pane 20, and fill again from pane 21.
    """

    def __init__(self, drifts: Sequence[Drift], recent: Recent, renewed: Mapping[str, int]) -> None:
        """``recent`` are the panes from which drift that has entered the bags since its onset is taken out again.

        ``renewed`` is since when the bags of some subjects hold panes: what came before is not taken out.
        """
        self._drifts, self._recent, self._renewed = drifts, recent, renewed
        self._held: set[str] = set()
        self._released: dict[str, int] = {}

    def hold(self, subject: str, onset: int) -> None:
        """Keep a subject out of the bags, and take out what came in since ``onset``; a second time changes nothing."""
        if subject in self._held:
            return
        self._held.add(subject)
        # A new drift that is dated into the one before would take rows out that never came in, and leave the bags with
        # fewer than none.
        begin = max(onset, self._released.get(subject, onset), self._renewed.get(subject, onset))
        for drift in self._drifts:
            drift.hold([subject], list(self._recent.since(begin)))

    def release(self, subject: str, now: int) -> None:
        """Let a subject that has come back fill the bags again from the pane after ``now``."""
        # Also one that is not held: a rule's subject has evidence of drift as well, which was of what has ended.
        for drift in self._drifts:
            drift.release([subject])
        self._released[subject] = now
        self._held.discard(subject)

    def came_back_at(self, subject: str, now: int) -> bool:
        """Return whether a subject came back at this very pane: its evidence was for the drift that ended."""
        return self._released.get(subject) == now

    def since(self, finding: Finding) -> int:
        """Return the earliest that a finding's onset may be: when its subject last came back, else its own onset."""
        return self._released.get(finding.subject, finding.onset)

    def state(self) -> tuple[dict[str, int], list[str]]:
        """Return when subjects came back, and those that are held in one order, so that equal states are equal bytes.

        The detectors keep for themselves what they hold.
        """
        return dict(self._released), sorted(self._held)

    def restore(self, released: Mapping[str, int], held: Iterable[str]) -> None:
        """Take over what ``state`` gave; the detectors have theirs."""
        self._released, self._held = dict(released), set(held)
