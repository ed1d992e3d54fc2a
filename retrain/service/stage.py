"""The retrain stage: from a retrain request to a gated, registered candidate, resumable wherever it is killed."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from pydantic import ValidationError

from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import OTHER_SCHEMA, Approval, RetrainRequest, Rollout
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.status import RetrainStatus
from stationkeeper.contracts.topics import Topics
from stationkeeper.retrain.core.plan import useless_retrains
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service import approvals, progress
from stationkeeper.retrain.service.requests import RequestStates
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.service.steps import ModelInputs, RegisteredCandidate, Steps
from stationkeeper.retrain.service.worker import Done, RequestRunner
from stationkeeper.streams.dead_letters.letters import dead_letter
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored

_log = structlog.get_logger()

# What is wrong with a request, from pydantic's name of its first error; any other is a wrong type.
_CODES = {
    "json_invalid": DeadLetterCode.NOT_JSON,
    "missing": DeadLetterCode.MISSING_FIELD,
    "model_type": DeadLetterCode.NOT_AN_OBJECT,
    "model_attributes_type": DeadLetterCode.NOT_AN_OBJECT,
    "string_pattern_mismatch": DeadLetterCode.BAD_IDENTIFIER,
    "string_too_long": DeadLetterCode.BAD_IDENTIFIER,
    "finite_number": DeadLetterCode.NOT_FINITE,
    "timezone_aware": DeadLetterCode.BAD_TIME,
    "datetime_parsing": DeadLetterCode.BAD_TIME,
    "datetime_from_date_parsing": DeadLetterCode.BAD_TIME,
    OTHER_SCHEMA: DeadLetterCode.OTHER_SCHEMA,
}


@dataclass(slots=True)
class Intake:
    """Requests and dead letters that were absorbed and not yet flushed, in order."""

    requests: list[RetrainRequest] = field(default_factory=list)
    letters: list[Outgoing] = field(default_factory=list)

    def absorb(self, batch: Batch) -> None:
        """Sort a batch of the request topic into requests and dead letters; nothing is lost."""
        # One by one: requests are a handful a day, and each that is bad must become its own letter.
        for row, value in enumerate(batch.values):
            found = _read_request(value)
            if isinstance(found, RetrainRequest):
                self.requests.append(found)
            else:
                code, detail = found
                self.letters.append(dead_letter(batch, row, code, "retrain", detail=detail))

    def take(self) -> tuple[list[RetrainRequest], list[Outgoing]]:
        """Hand over what was absorbed."""
        taken = self.requests, self.letters
        self.requests, self.letters = [], []
        return taken


def _read_request(value: bytes | None) -> RetrainRequest | tuple[DeadLetterCode, str]:
    if not value:
        return DeadLetterCode.EMPTY_VALUE, ""
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return DeadLetterCode.NOT_UTF8, f"byte {error.start}"
    try:
        return RetrainRequest.decode(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        code = _CODES.get(str(first["type"]), DeadLetterCode.WRONG_TYPE)
        return code, ".".join(str(part) for part in first["loc"])


@dataclass(slots=True)
class LoopTables:
    """What the table topics say last: the approvals of each request, the rollout of each model."""

    topics: Topics
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    approvals: dict[str, list[Approval]] = field(default_factory=dict)

    def see(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Take in one record; one that cannot be read changes nothing: ``ValidationError``, which the loop counts."""
        if topic == self.topics.rollouts.name:
            if value is None:
                self.rollouts.pop(key.decode(errors="replace"), None)
                return
            rollout = Rollout.decode(value)
            self.rollouts[rollout.model] = rollout
        elif topic == self.topics.approvals.name and value is not None:
            approval = Approval.decode(value)
            if approval.target == "request":
                # All, in order: of two people who approved while the role was down both count.
                self.approvals.setdefault(approval.id, []).append(approval)

    def champion(self, model: str) -> str | None:
        """Return the version that the log names champion, None before the first adoption."""
        rollout = self.rollouts.get(model)
        return rollout.champion if rollout else None

    def after_approvals(
        self, known: Callable[[str], RetrainState | None], models: Mapping[str, ModelInputs]
    ) -> Iterator[RetrainState]:
        """Yield the states that approvals lead to, one by one: a later one finds what an earlier one led to."""
        for name, messages in self.approvals.items():
            for approval in messages:
                state = known(name)
                if state is None or state.model not in models:
                    break
                people = models[state.model].settings.approvers
                moved = approvals.after_approval(state, approval, self.champion(state.model), people)
                if isinstance(moved, RetrainState):
                    yield moved

    def ended(self, known: Callable[[str], RetrainState | None]) -> Iterator[RetrainState]:
        """Yield the states of requests whose candidate's rollout ended otherwise than they know."""
        for rollout in self.rollouts.values():
            state = known(rollout.request) if rollout.request else None
            moved = progress.after_rollout(state, rollout) if state is not None else None
            if moved is not None:
                yield moved

    def named(self, model: str) -> tuple[str, ...]:
        """Return the versions that the model's rollout names: nothing may delete them."""
        rollout = self.rollouts.get(model)
        return tuple(version for version in (rollout.champion, rollout.canary) if version) if rollout else ()


SHOWN = 50
"""Requests in the status, newest first: a page of them. The topic keeps all; the verb ``requests list`` reads it."""


class Retrain:
    """A ``streams.ports.Stage``. State moves only in ``flush``; a step starts only from a state that is committed.

    Requests are read as input, approvals and rollouts as tables, so that an approval reaches whichever process
    owns the request. A step that was under way when the process died is repeated: snapshots are named by content,
    trainings are seeded, and versions that no candidate names are found by their request tag and removed.
    """

    name = "retrain"

    def __init__(
        self,
        models: Mapping[str, ModelInputs],
        topics: Topics,
        steps: Steps,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        refused: Collection[str] = (),
    ) -> None:
        self.models = models
        self._refused = frozenset(refused)
        self.topics = topics
        self.inputs = (topics.requests.name,)
        self.tables = (topics.rollouts.name, topics.approvals.name)
        self._tables = LoopTables(topics)
        # The table's method, not its answer: what the rollouts name is asked when a step deletes, not when it began.
        self._runner = RequestRunner(steps, monotonic, self._tables.named, self._snapshots)
        self._intake = Intake()
        self._owner = False
        self._requests = RequestStates(topics.retrain_state.name)

    def changelog(self, assigned: frozenset[Partition]) -> tuple[Partition, ...]:
        """Return the state partition when requests are assigned."""
        if not any(partition.topic == self.topics.requests.name for partition in assigned):
            return ()
        return (Partition(self.topics.retrain_state.name, 0),)

    def start_offsets(self, assigned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return nothing: committed offsets are right."""
        return {}

    def assigned(self, partitions: frozenset[Partition], restored: Restored) -> None:
        """Take over the requests in work; raises ``Fatal`` when a record of the state cannot be read."""
        self._reset()
        self._owner = bool(self.changelog(partitions))
        for state in self._requests.restore(restored.values):
            # A process that was fenced may still have registered a version, one that was killed left scores: once more.
            if state.stage.final and (state.version or state.gate) and state.model in self.models:
                self._runner.clean_later(state)

    def revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget everything not committed and end what is under way."""
        self._reset()

    def _reset(self) -> None:
        self._runner.reset()
        self._intake, self._owner = Intake(), False
        self._requests = RequestStates(self.topics.retrain_state.name)

    def table(self, topic: str, key: bytes, value: bytes | None) -> None:
        """See a rollout or an approval."""
        self._tables.see(topic, key, value)

    def absorb(self, batch: Batch) -> None:
        """Take in requests."""
        self._intake.absorb(batch)

    def flush(self, now_ms: int) -> list[Outgoing]:
        """Move every request as far as what has finished allows; returns the records of all moves."""
        requests, out = self._intake.take()
        for request in requests:
            # The same request again: taken back, followed up, or from a replay of the monitor or a retry of its
            # producer, which is nothing new: its id is its content.
            if (known := self._requests.get(request.id)) is not None:
                taken = progress.after_withdrawal(known, request.withdrawn) if request.withdrawn else None
                if (followed := taken or progress.after_cure(known, request)) is not None:
                    self._move(followed, out)
                continue
            first = self._first_state(request)
            self._move((request.withdrawn and progress.after_withdrawal(first, request.withdrawn)) or first, out)
        # Before approvals: a rejection that comes with the end of a step must find the state that the step led to.
        for done in self._runner.collect():
            self._finish(done, out)
        for approved in self._tables.after_approvals(self._requests.get, self.models):
            self._move(approved, out)
        for model, inputs in self.models.items():
            # What waited for a right entry is decided now, as if it had just come.
            for state in self._requests.of_model(model):
                if state.reason is RequestReason.ENTRY_REFUSED and not state.stage.final:
                    self._move(self._first_state(state.request), out)
            for waited in approvals.lapsing(self._requests.of_model(model), inputs.settings.approval_expires, now_ms):
                self._move(waited, out)
        for ended in self._tables.ended(self._requests.get):
            self._move(ended, out)
        self._start()
        return out

    def _first_state(self, request: RetrainRequest) -> RetrainState:
        inputs, model = self.models.get(request.model), request.model
        others = [other for other in self._requests.of_model(model) if other.id != request.id]
        rules, champion = inputs.settings.plan_rules() if inputs else None, self._tables.champion(model)
        return progress.first_state(request, rules, others, champion, refused=model in self._refused)

    def committed(self) -> None:
        """Make the flushed moves the state of record and start what follows from them."""
        for state in self._requests.commit():
            if state.stage.final and state.model in self.models:
                self._runner.clean_later(state)
        self._start()

    def samples(self) -> list[Sample]:
        """Return requests by outcome and stage, and open breakers; nothing while another process owns the requests.

        A process that does not know the requests would show zeros, and the next one a rise that never happened.
        """
        return _samples(self.models, self._requests.committed()) if self._owner else []

    def status(self) -> dict[str, Any]:
        """Return ``contracts.status.RetrainStatus``, newest request first."""
        newest = sorted(self._requests.committed(), key=lambda s: (s.request.time, s.id), reverse=True)
        status: RetrainStatus = {"role": "retrain", "requests": [state.status() for state in newest[:SHOWN]]}
        return dict(status)

    def close(self) -> None:
        """End the training and the worker thread."""
        self._runner.close()

    def _snapshots(self) -> frozenset[str]:
        # Of the requests of now: what `assigned` restores is another table than the one of the start.
        return self._requests.snapshots()

    def _move(self, state: RetrainState, out: list[Outgoing]) -> None:
        out.append(self._requests.move(state))

    def hindered(self) -> str | None:
        """Return which request waits for the disk, and why."""
        return self._runner.hindered(self._requests.unmoved())

    def _finish(self, done: Done, out: list[Outgoing]) -> None:
        state = self._requests.at_rest(done.request)
        # A person ended the request while its step ran: the result is for a state that is gone.
        if state is None or state.stage is not done.stage:
            return
        if state.stage.final:
            if done.error is not None:
                _log.warning(LogEvent.RETRAIN_STAGE.value, request=state.id, stage="clean", exc_info=done.error)
        elif done.error is not None:
            self._stumble(state, done.error, out)
        else:
            self._advance(state, done.result, out)

    def _advance(self, state: RetrainState, result: Any, out: list[Outgoing]) -> None:
        settings = self.models[state.model].settings
        match state.stage:
            case RequestStage.PLANNED | RequestStage.WAITING:
                self._count(state, progress.after_survey(state, result, settings.plan_rules()), out)
            case RequestStage.SNAPSHOT:
                self._move(progress.after_snapshot(state, result), out)
            case RequestStage.TRAINING if result is None:
                # Snapshot or champion are not on this disk, as after a move to another machine.
                self._move(state.enter(RequestStage.SNAPSHOT, state.reason, "made again"), out)
            case RequestStage.TRAINING:
                moved = progress.after_training(state, result, settings)
                if moved.stage is RequestStage.TRAINING:
                    self._runner.pause(state.id, settings.training.retry_after / 1_000)
                self._move(moved, out)
            case RequestStage.GATE:
                self._move(progress.after_gate(state, result, settings), out)
            case RequestStage.REGISTERING:
                self._announce(state, result, out)

    def _count(self, state: RetrainState, counted: RetrainState, out: list[Outgoing]) -> None:
        if counted.stage is RequestStage.WAITING:
            self._runner.pause_after_survey(state.id)
        if (counted.stage, counted.reason) == (state.stage, state.reason):
            self._requests.note(counted)
        else:
            self._move(counted, out)

    def _announce(self, state: RetrainState, found: RegisteredCandidate, out: list[Outgoing]) -> None:
        candidate = found.candidate
        key = f"{candidate.model}/{candidate.version}".encode()
        out.append(Outgoing(self.topics.references.name, found.reference, key))
        out.append(Outgoing(self.topics.candidates.name, candidate.encode(), candidate.model.encode()))
        self._move(progress.after_registration(state, found), out)

    def _stumble(self, state: RetrainState, error: BaseException, out: list[Outgoing]) -> None:
        if self._runner.waits(state, error):
            self._requests.note(state.model_copy(update={"detail": str(error)}))
            return
        # The role runs on another machine or its disk was emptied; training is seeded and gives the same again.
        if state.stage in (RequestStage.GATE, RequestStage.REGISTERING) and isinstance(error, FileNotFoundError):
            self._move(state.enter(RequestStage.TRAINING, state.reason, "files or rows are gone, trained again"), out)
            return
        _log.error(LogEvent.RETRAIN_STAGE.value, request=state.id, stage=state.stage.value, exc_info=error)
        self._move(progress.after_error(state, error), out)

    def _start(self) -> None:
        """Start the next step of each committed request that has none under way."""
        self._runner.start(state for state in self._requests.unmoved() if state.model in self.models)


def _samples(models: Mapping[str, ModelInputs], states: Iterable[RetrainState]) -> list[Sample]:
    found, known = [], list(states)
    for model, inputs in sorted(models.items()):
        mine = [state for state in known if state.model == model]
        stages = [state.stage for state in mine]
        for stage in RequestStage:
            if stage.final:
                value = float(stages.count(stage))
                found.append(Sample("stationkeeper_retrain_outcomes", (model, stage.value), value))
            else:
                # 1 for each stage that a request is in: several requests of one model do not wait in the same stage,
                # admission lets one in.
                found.append(Sample("stationkeeper_retrain_stage", (model, stage.value), float(stage in stages)))
        opened = useless_retrains(state.past() for state in mine) >= inputs.settings.breaker
        found.append(Sample("stationkeeper_breaker_open", (Retrain.name, model), float(opened)))
    return found
