"""One model's retrainings beside its incidents: what age and the calendar ask for, and whether those asked helped."""

from collections.abc import Callable, Iterable, Sequence

from stationkeeper.contracts.messages import RetrainRequest, Verdict
from stationkeeper.monitor.core.ageing import AgeRecord, AgeState, Calendar, CalendarState
from stationkeeper.monitor.core.incidents import Harm, RequestPolicy, WatchIdentity
from stationkeeper.monitor.core.performance import OutcomePane
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.judge.labels.cures import Cures, CuresState
from stationkeeper.monitor.judge.pending import WatchKey
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings

Asked = tuple[list[Verdict], list[RetrainRequest]]
"""Verdicts and requests, either may be empty."""


class Retrainings:
    """The age record, the calendar and the cures of one model; ``policy`` is its request policy, times are in ms."""

    def __init__(self, settings: ModelSettings, references: References) -> None:
        self._name, self._references = settings.name, references
        mine = settings.requests
        self.age = AgeRecord(mine.cost if mine.when == "pays" else None)
        self.calendar = Calendar(mine.every if mine.when == "schedule" else None)
        self.cures = Cures(settings, references)

    def learn(
        self, version: str, segment: str, labels: OutcomePane, champion: str | None, now: int, policy: RequestPolicy
    ) -> Callable[[str], Asked]:
        """Take labels of a mature cohort; returns what asks by age, given why the data are broken ("" if sound)."""
        self.cures.learn(version, segment, labels)
        if segment or version != champion:
            return lambda _: ([], [])
        rollout = self._references.rollout(self._name)
        return lambda broken: self.age.judge(labels, self._identity(version), policy, now, rollout, broken)

    def by_calendar(self, champion: str | None, now: int, policy: RequestPolicy, broken: str) -> Asked:
        """Return what the calendar asks for at the end of a pane."""
        if champion is None:
            return [], []
        return self.calendar.ask(self._identity(champion), policy, now, self._references.rollout(self._name), broken)

    def follow_up(
        self,
        asked: Iterable[RetrainRequest],
        now: int,
        rows: Iterable[tuple[WatchKey, int]],
        watches: Callable[[str | None], Sequence[Watch]],
        champion: str | None,
        harm: Callable[[str], Harm | None],
    ) -> Asked:
        """Test again what retrainings were asked for, those ``asked`` now included, with the ``rows`` of a pane."""
        asked = list(asked)
        self.cures.asked(asked, watches(champion))
        self.age.asked(asked, now)
        counted: dict[tuple[str, str], int] = {}
        for key, count in rows:
            counted[key.version, key.segment] = counted.get((key.version, key.segment), 0) + count
        told = self.cures.step(now, counted, watches, harm)
        # What retraining cured so far is part of what the next one may spare.
        self.age.cures = self.cures.tried()
        return told

    def state(self) -> tuple[AgeState, CalendarState, CuresState]:
        """Return what ``restore`` needs."""
        return self.age.state, self.calendar.state, self.cures.state

    def restore(self, age: AgeState, calendar: CalendarState, cures: CuresState) -> None:
        """Go on from what ``state`` gave."""
        self.age.state, self.calendar.state, self.cures.state = age, calendar, cures
        self.age.cures = self.cures.tried()

    def _identity(self, version: str) -> WatchIdentity:
        reference = self._references.of(self._name, version)
        return WatchIdentity(self._name, version, "", "" if reference is None else reference.digest)
