"""Collects the loop's verdicts, requests, candidates and deployments from their topics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stationkeeper.contracts.messages import (
    Candidate,
    Deployment,
    DeploymentAction,
    Level,
    Message,
    RetrainRequest,
    Verdict,
    VerdictKind,
)
from stationkeeper.contracts.times import to_ms
from stationkeeper.contracts.topics import Topics
from stationkeeper.streams.ports import Partition, Reader


@dataclass(slots=True)
class LoopHistory:
    """The messages read so far, each list in the order of its topic."""

    verdicts: list[Verdict] = field(default_factory=list)
    requests: list[RetrainRequest] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    deployments: list[Deployment] = field(default_factory=list)

    @property
    def pages(self) -> list[Verdict]:
        """Verdicts that woke somebody."""
        return [v for v in self.verdicts if v.level is Level.PAGE and v.kind is not VerdictKind.RECOVERED]

    @property
    def canary(self) -> bool:
        """Whether a canary is out."""
        out = {DeploymentAction.STARTED, DeploymentAction.STEP, DeploymentAction.HELD}
        return bool(self.deployments) and self.deployments[-1].action in out

    @property
    def offered(self) -> bool:
        """Whether a candidate waits for its canary: nothing was said of it yet."""
        told = {deployment.candidate for deployment in self.deployments}
        return any(candidate.id not in told for candidate in self.candidates)

    @property
    def waited_for(self) -> bool:
        """Whether a canary is out or a request has no candidate yet."""
        known = {candidate.request for candidate in self.candidates}
        return self.canary or any(request.id not in known for request in self.requests[-1:])

    @property
    def promoted(self) -> Deployment | None:
        """The first promotion, if there was one."""
        return next((d for d in self.deployments if d.action is DeploymentAction.PROMOTED), None)

    @property
    def followed(self) -> Deployment | None:
        """The promotion after the first, of a follow-up, if there was one."""
        return next((d for d in self.deployments if d.action is DeploymentAction.PROMOTED and d != self.promoted), None)

    def over(self, now_ms: int, after_ms: int) -> bool:
        """Return whether ``after_ms`` have passed since the last promotion, and no canary is out."""
        # Not at the promotion: the stretch behind it is what shows whether it was a cure.
        last = self.followed or self.promoted
        return last is not None and not self.canary and now_ms >= to_ms(last.time) + after_ms

    def stage(self) -> str:
        """Name the first stage of the loop that has not happened: what failed when the loop does not close."""
        if not self.pages:
            return "detection: no page was issued"
        if not self.requests:
            return "request: a page, but no retrain request"
        if not self.candidates:
            return "retraining: a request, but no candidate passed the gate"
        if not any(d.action is DeploymentAction.STARTED for d in self.deployments):
            return "canary: a candidate, but no canary started"
        if self.promoted is None:
            return "promotion: the canary was not promoted"
        return "closed"


class Observer:
    """Follows the loop's topics from their beginning and hands each new message to ``show``."""

    def __init__(self, reader: Reader, topics: Topics, show: Callable[[Message], None]) -> None:
        self._reader = reader
        self._show = show
        self._types: dict[str, type[Message]] = {
            topics.verdicts.name: Verdict,
            topics.requests.name: RetrainRequest,
            topics.candidates.name: Candidate,
            topics.deployments.name: Deployment,
        }
        self._partitions: Sequence[Partition] = [p for name in self._types for p in reader.partitions(name)]
        # From the beginning: the champion is adopted before the observer exists, and its record belongs to the story.
        self._positions: dict[Partition, int] = {
            p: first for p, (first, _) in reader.bounds(list(self._partitions)).items()
        }
        self.history = LoopHistory()

    def turn(self, timeout_s: float) -> int:
        """Read what is new; returns how many messages there were."""
        seen = 0
        for batch in self._reader.follow(self._partitions, self._positions, timeout_s):
            for value in batch.values:
                if value is not None:
                    self._record(self._types[batch.partition.topic].decode(value))
                    seen += 1
        return seen

    def _record(self, message: Message) -> None:
        match message:
            case Verdict():
                self.history.verdicts.append(message)
            # What is withdrawn or followed up was asked before: it is no second request.
            case RetrainRequest(withdrawn=why, cure=cure) if why or cure:
                pass
            case RetrainRequest():
                self.history.requests.append(message)
            case Candidate():
                self.history.candidates.append(message)
            case Deployment():
                self.history.deployments.append(message)
        self._show(message)
