"""A plain calendar of retrainings: one each ``every`` after the last request or promotion."""

from stationkeeper.contracts.messages import RetrainRequest, Rollout, Verdict
from stationkeeper.contracts.state import State, replaced
from stationkeeper.contracts.times import format_duration
from stationkeeper.monitor.core.ageing.proposal import AGAIN_MS, proposal
from stationkeeper.monitor.core.incidents import RequestPolicy, WatchIdentity
from stationkeeper.monitor.core.reasons import Cause


class CalendarState(State, frozen=True):
    """Since when the calendar counts for which version, and when it may ask next (ms)."""

    version: str = ""
    since: int = 0
    due: int = 0


class Calendar:
    """One model's: asks when ``every`` (ms) has passed; None never asks. ``now`` is the end of a closed pane."""

    def __init__(self, every: int | None) -> None:
        self._every = every
        self.state = CalendarState()

    def ask(
        self, champion: WatchIdentity, policy: RequestPolicy, now: int, rollout: Rollout | None, broken: str = ""
    ) -> tuple[list[Verdict], list[RetrainRequest]]:
        """Return the request of a period that is over; what the policy holds back is asked again."""
        if self._every is None:
            return [], []
        if self.state.version != champion.version:
            self.state = CalendarState(version=champion.version, since=now, due=now + self._every)
        if now < self.state.due:
            return [], []
        since = self.state.since
        reason = f"{format_duration(self._every)} have passed since the last retraining (requests.every)"
        incident, verdict = proposal(
            champion, now, name="schedule", cause=Cause.SCHEDULE, reason=reason, since=since, number=since
        )
        request = policy.consider(incident, verdict, now=now, rollout=rollout, broken=broken)
        if request is None:
            self.state = replaced(self.state, due=now + AGAIN_MS)
            return [], []
        self.state = replaced(self.state, since=now, due=now + self._every)
        return [verdict], [request]
