"""What was said below a page, latched: a warning is given once an episode, however its evidence flickers."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from stationkeeper.contracts.messages import SubjectType
from stationkeeper.monitor.core.budget import LEVELS
from stationkeeper.monitor.core.finding import NONE, Finding
from stationkeeper.monitor.core.reasons import Check

REARM_PANES = 30
"""Panes in a row that a subject must be quiet for before it may speak again."""

REARM_NATS = -math.log(10 * LEVELS["inform"])
"""Quiet is evidence below a tenth of the inform level, in nats over the page threshold: log(1/1000)."""


@dataclass(frozen=True, slots=True)
class WarnedSubject:
    """What was said of a subject: the loudest level so far, and the quiet panes since."""

    subject: str
    type: SubjectType
    check: Check | None
    level: int
    quiet: int = 0


class WarningHysteresis:
    """Lets a finding through when it is louder than what was said of its subject in this episode.

    An episode ends after ``REARM_PANES`` quiet panes in a row, or by ``release`` on a recovery. Hysteresis: evidence
    between a tenth of the inform level and the inform level neither speaks nor ends the episode.
    """

    def __init__(self) -> None:
        self._spoken: dict[str, WarnedSubject] = {}

    def admit(self, finding: Finding) -> bool:
        """Return whether a finding is news, and remember it."""
        known = self._spoken.get(finding.key)
        if known is not None and finding.level <= known.level:
            return False
        self._spoken[finding.key] = WarnedSubject(finding.subject, finding.type, finding.check, finding.level)
        return finding.level > NONE

    def rest(
        self, speaking: Collection[str], judged: Collection[SubjectType], margin: Callable[[WarnedSubject], float]
    ) -> None:
        """Count a closed pane that judged subjects of these types; ``speaking`` are the keys of its findings.

        ``margin`` gives a subject's log evidence less its page threshold, -inf where a rule has none.
        """
        for key, spoken in list(self._spoken.items()):
            if spoken.type not in judged:
                continue
            loud = key in speaking or margin(spoken) >= REARM_NATS
            quiet = 0 if loud else spoken.quiet + 1
            if quiet >= REARM_PANES:
                del self._spoken[key]
            else:
                self._spoken[key] = replace(spoken, quiet=quiet)

    def release(self, subject: str) -> None:
        """Forget what was said of a subject: it has recovered."""
        self._spoken = {key: spoken for key, spoken in self._spoken.items() if spoken.subject != subject}

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs, JSON values."""
        return {key: [s.subject, s.type, s.check, s.level, s.quiet] for key, s in self._spoken.items()}

    def restore(self, state: Mapping[str, Any]) -> Self:
        """Become the latch whose ``state`` this was."""
        self._spoken = {
            key: WarnedSubject(subject, SubjectType(type_), Check(check) if check else None, int(level), int(quiet))
            for key, (subject, type_, check, level, quiet) in state.items()
        }
        return self
