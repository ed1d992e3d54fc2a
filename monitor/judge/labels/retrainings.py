"""One model's retrainings beside its incidents: what age, rows and calendar ask for, and whether those asked helped."""

from collections.abc import Callable, Iterable, Sequence

from stationkeeper.contracts.messages import RetrainRequest, Verdict
from stationkeeper.monitor.core.ageing import AgeRecord, AgeState, Calendar, CalendarState, FollowUp, FollowUpState
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
    """The age record, calendar, follow-up and cures of one model; ``policy`` is its request policy, times are in ms."""

    def __init__(self, settings: ModelSettings, references: References) -> None:
        self._name, self._references = settings.name, references
        mine = settings.requests
        cost = mine.cost if mine.when == "pays" else None
        self.age = AgeRecord(cost)
        self.more_rows = FollowUp(mine.follow_up, cost)
        self.calendar = Calendar(mine.every if mine.when == "schedule" else None)
        self.cures = Cures(settings, references)

    def learn(
        self, version: str, segment: str, labels: OutcomePane, champion: str | None, now: int, policy: RequestPolicy
    ) -> Callable[[str], Asked]:
        """Take labels of a mature cohort; returns what asks by age, given why the data are broken ("" if sound)."""
        self.cures.learn(version, segment, labels)
        rollout = self._references.rollout(self._name)
        if not segment:
            # Of all versions: a row is one to learn from whoever answered it.
            self.more_rows.learn(version, labels, None if rollout is None else rollout.curve)
        if segment or version != champion:
            return lambda _: ([], [])
        return lambda broken: self.age.judge(labels, self._identity(version), policy, now, rollout, broken)

    def by_time(self, champion: str | None, now: int, policy: RequestPolicy, broken: str) -> Asked:
        """Return what the calendar, or a champion that could learn from many more rows, asks for at a pane's end."""
        if champion is None:
            return [], []
        identity, rollout = self._identity(champion), self._references.rollout(self._name)
        verdicts, requests = self.calendar.ask(identity, policy, now, rollout, broken)
        # Until its own cure is told: a follow-up would end the test of the version before (`cures.overtaken`).
        if rollout is not None and not self.cures.tests(rollout.request):
            found, asks = self.more_rows.ask(identity, policy, now, rollout, broken)
            verdicts, requests = [*verdicts, *found], [*requests, *asks]
        return verdicts, requests

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
        self.asked(asked, now, watches(champion))
        counted: dict[tuple[str, str], int] = {}
        for key, count in rows:
            counted[key.version, key.segment] = counted.get((key.version, key.segment), 0) + count
        told = self.cures.step(now, counted, watches, harm)
        # What retraining cured so far is part of what the next one may spare.
        self.age.cures = self.cures.tried()
        return told

    def asked(self, requests: Iterable[RetrainRequest], now: int, watches: Sequence[Watch]) -> None:
        """Note what was asked for, whoever asked: ``watches`` are the champion's, whose incidents ask."""
        requests = list(requests)
        self.cures.asked(requests, watches)
        self.age.asked(requests, now)

    def state(self) -> tuple[AgeState, CalendarState, CuresState, FollowUpState]:
        """Return what ``restore`` needs."""
        return self.age.state, self.calendar.state, self.cures.state, self.more_rows.state

    def restore(self, age: AgeState, calendar: CalendarState, cures: CuresState, more_rows: FollowUpState) -> None:
        """Go on from what ``state`` gave."""
        self.age.state, self.calendar.state, self.cures.state = age, calendar, cures
        self.more_rows.state = more_rows
        self.age.cures = self.cures.tried()

    def _identity(self, version: str) -> WatchIdentity:
        reference = self._references.of(self._name, version)
        return WatchIdentity(self._name, version, "", "" if reference is None else reference.digest)
