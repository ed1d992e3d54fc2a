"""The trace of one loop, told from the records that close it: verdict, request, training, canary.

Each role tells the part that it wrote. The ids follow from the request's id, which stands in every record of the loop,
so that the parts meet in one trace though no process hands another a header.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from stationkeeper.contracts.masking import masked
from stationkeeper.contracts.messages import Deployment, DeploymentAction, RetrainRequest, Rollout, RolloutPhase
from stationkeeper.contracts.times import to_ms
from stationkeeper.contracts.topics import Topics
from stationkeeper.streams.ports import Outgoing


@dataclass(frozen=True, slots=True)
class Span:
    """One part of a loop; times are ms of the declared clock, ``failed`` is why it did not end well."""

    request: str
    name: str
    parent: str
    start_ms: int
    end_ms: int
    facts: Mapping[str, str] = field(default_factory=dict)
    failed: str = ""
    # Which of several of one name, and of its parent's: a request that is asked again trains again, under its own try.
    turn: int = 0
    parent_turn: int = 0


def trace_id(request: str) -> int:
    """Return the 128 bits under which every part of a request's loop is found."""
    return int.from_bytes(hashlib.sha256(request.encode()).digest()[:16])


def span_id(request: str, name: str, turn: int = 0) -> int:
    """Return the 64 bits of one part, so that its children know it without having met it."""
    return int.from_bytes(hashlib.sha256(f"{request}/{name}/{turn}".encode()).digest()[:8])


class Spans:
    """Reads committed records of the loop's own topics; holds when a canary and its probation began, until they end.

    Each span is told once: records that only add to what ended (a cure, a rollback) end nothing.
    """

    def __init__(self, topics: Topics) -> None:
        self._readers = {
            topics.requests.name: _verdict,
            topics.retrain_state.name: _training,
            topics.rollouts.name: self._rollout,
            topics.deployments.name: self._canary,
        }
        self._started: dict[str, int] = {}
        self._promoted: dict[str, int] = {}

    def tells_of(self, topic: str) -> bool:
        """Return whether records of a topic can end a span; the many of the hot path cannot."""
        return topic in self._readers

    def of(self, record: Outgoing) -> list[Span]:
        """Return the spans that a committed record ends."""
        found = [] if record.value is None else self._readers[record.topic](record.value)
        return [_without_secrets(span) for span in found]

    def _rollout(self, value: bytes) -> Iterator[Span]:
        # A canary may outlive the process that started it: every record of its rollout says when that was.
        rollout = Rollout.decode(value)
        started, promoted = (int(rollout.controller.get(name, 0)) for name in ("started", "promoted"))
        # What rests names its last candidate too: nothing of that is still going on.
        if rollout.candidate and rollout.phase is RolloutPhase.PROBATION:
            self._promoted.setdefault(rollout.candidate, promoted or to_ms(rollout.time))
        elif rollout.candidate and started and rollout.phase is not RolloutPhase.STEADY:
            self._started.setdefault(rollout.candidate, started)
        yield from ()

    def _canary(self, value: bytes) -> Iterator[Span]:
        done = Deployment.decode(value)
        now, candidate = to_ms(done.time), done.candidate
        if done.request is None or candidate is None:
            return
        facts = {"model": done.model, "version": done.canary or "", "candidate": candidate, "reason": done.reason}
        failed = done.reason if done.action is DeploymentAction.ROLLED_BACK else ""
        if done.action is DeploymentAction.STARTED:
            self._started[candidate] = now
        elif done.action is DeploymentAction.CONFIRMED or (failed and candidate in self._promoted):
            # Unknown where this process began after the last record of the probation: then it has no length.
            began = self._promoted.pop(candidate, now)
            yield Span(done.request, "probation", "canary", began, now, facts, failed)
        elif done.action in {DeploymentAction.PROMOTED, DeploymentAction.ROLLED_BACK}:
            if not failed:
                self._promoted[candidate] = now
            yield Span(done.request, "canary", "request", self._started.pop(candidate, now), now, facts, failed)


def _without_secrets(span: Span) -> Span:
    # A collector belongs to another system: what errors quote must not reach it.
    return replace(span, facts={name: masked(text) for name, text in span.facts.items()}, failed=masked(span.failed))


def _verdict(value: bytes) -> Iterator[Span]:
    request = RetrainRequest.decode(value)
    # Written again with what became of it: the verdict was told when it was asked.
    if request.withdrawn or request.cure is not None:
        return
    facts = {
        "model": request.model,
        "version": request.version,
        "incident": request.incident,
        "verdict": request.verdict,
        "kind": request.kind.value,
        "cause": request.cause,
    }
    yield Span(request.id, "verdict", "", to_ms(request.onset.time), to_ms(request.time), facts)


def _training(value: bytes) -> Iterator[Span]:
    # The monitor writes no such record and starts without what retrains.
    from stationkeeper.retrain.core.reasons import RequestStage
    from stationkeeper.retrain.service.state import RetrainState

    state = RetrainState.decode(value)
    # Of a candidate that was taken back or tested the training was told when it ended.
    if not state.stage.final or state.rolled_back or state.cure is not None:
        return
    # What is asked again carries the tries before, which were told when each of them ended.
    ended = [place + 1 for place, entry in enumerate(state.history[:-1]) if entry.stage.final]
    first = ended[-1] if ended else 0
    began = state.history[first].entered if ended else to_ms(state.request.time)
    facts = {"model": state.model, "outcome": state.stage.value, "version": state.version or "", "detail": state.detail}
    failed = state.words() if state.stage is RequestStage.FAILED else ""
    # The try that gave a candidate is the last one, and has no number: its canary hangs under it, told by a role that
    # does not know how often was asked.
    own = 0 if state.stage is RequestStage.CANDIDATE else len(ended) + 1
    yield Span(state.id, "request", "verdict", began, max(state.clock_ms, began), facts, failed, turn=own)
    for turn, (stage, following) in enumerate(pairwise(state.history[first:]), start=first):
        note = {"note": stage.note}
        name, until = stage.stage.value, following.entered
        yield Span(state.id, name, "request", stage.entered, until, note, turn=turn, parent_turn=own)
