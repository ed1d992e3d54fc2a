"""A model's wishes to retrain: what was asked, what was refused and why, and what is still in work."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stationkeeper.contracts.messages import RetrainRequest, RolloutPhase, Verdict
from stationkeeper.monitor.core.incidents.incident import Incident
from stationkeeper.monitor.core.incidents.verdict import RequestDesk
from stationkeeper.monitor.core.incidents.verdict import RequestSettings as DeskSettings
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import DAY_MS, ModelSettings

AGAIN_PANES = 30
KEPT = 100


@dataclass(slots=True)
class Asked:
    """What became of an incident's wish: ``again`` is when it may ask once more, 0 for never."""

    outcome: str
    reason: str
    request: str = ""
    again: int = 0
    verdict: str = ""
    echo: bool = False


class Asking:
    """Decides by cooldown, budget and what is in flight whether an incident gets a request; survives restarts."""

    def __init__(self, settings: ModelSettings, references: References) -> None:
        self._settings = settings
        self._references = references
        mine = settings.requests
        self._desk = RequestDesk(DeskSettings(cooldown=mine.cooldown, most=mine.most, period=mine.period))
        self.asked: dict[str, Asked] = {}
        self.counts: dict[str, int] = {}
        self._outstanding: tuple[str, int] | None = None

    def echo(self, incident: Incident, cause: Incident) -> None:
        """Note that an incident began with another one, which has asked for both."""
        reason = f"began with {cause.id}: one cause, one request"
        self.asked[incident.id] = Asked("suppressed", reason, echo=True)

    def ask(self, incident: Incident, verdict: Verdict, now: int) -> RetrainRequest | None:
        """Return the request of an incident, or None with the reason kept under its id."""
        if not self._settings.requests.enabled:
            self.asked[incident.id] = Asked("suppressed", "requests.enabled is false")
            return None
        answer = self._desk.consider(incident, verdict, now=now, in_flight=self._in_flight(now))
        outcome = "suppressed" if answer.request is None else "published"
        known = self.asked.pop(incident.id, None)
        if known is None or known.outcome != outcome:
            self.counts[outcome] = self.counts.get(outcome, 0) + 1
        if answer.request is None:
            again = 0 if incident.refusal else now + AGAIN_PANES * self._settings.pane
            self.asked[incident.id] = Asked(outcome, answer.reason, "", again, verdict.encode().decode())
            return None
        self.asked[incident.id] = Asked(outcome, answer.reason, answer.request.id)
        self._outstanding = (answer.request.id, now)
        return answer.request

    def ask_again(self, incidents: Iterable[Incident], now: int) -> list[RetrainRequest]:
        """Return the requests of open incidents that were put off by cooldown or other work and may ask now."""
        out = []
        for incident in incidents:
            asked = self.asked.get(incident.id)
            if asked is None or not asked.again or now < asked.again:
                continue
            request = self.ask(incident, Verdict.decode(asked.verdict.encode()), now)
            if request is not None:
                out.append(request)
        return out

    def _in_flight(self, now: int) -> str | None:
        rollout = self._references.rollout(self._settings.name)
        if rollout is not None and rollout.phase is not RolloutPhase.STEADY:
            return f"the rollout of version {rollout.canary or rollout.champion} ({rollout.phase.value})"
        if self._outstanding is None:
            return None
        request, asked = self._outstanding
        if (rollout is not None and rollout.request == request) or now - asked > DAY_MS:
            self._outstanding = None
            return None
        return f"request {request}"

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs."""
        kept = list(self.asked.items())[-KEPT:]
        return {
            "desk": self._desk.state(),
            "asked": {key: [getattr(asked, name) for name in Asked.__slots__] for key, asked in kept},
            "counts": self.counts,
            "outstanding": self._outstanding,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what ``state`` was taken from."""
        self._desk.restore(state["desk"])
        self.asked = {key: Asked(*fields) for key, fields in state["asked"].items()}
        self.counts = dict(state["counts"])
        held = state["outstanding"]
        self._outstanding = None if held is None else (held[0], held[1])
