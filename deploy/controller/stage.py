"""The canary controller as a stage: candidates and closed minutes in, rollout and deployment records out."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal

import structlog
from pydantic import ValidationError

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import Approval, Candidate, Deployment, DeploymentAction, Rollout, Verdict
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.times import to_datetime, to_ms
from stationkeeper.contracts.topics import Topics
from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, PaneDelta, WireError, decode
from stationkeeper.deploy.controller.effects import Effects
from stationkeeper.deploy.controller.status import rollout_samples, rollout_status
from stationkeeper.deploy.core.admission import advance, decide, note_verdict, offer, queue, refuse_unknown
from stationkeeper.deploy.core.minutes import MinuteBook
from stationkeeper.deploy.core.moves import Phase, Transition, reseen, roll_back
from stationkeeper.deploy.core.reasons import Reason, because
from stationkeeper.deploy.core.rollout import close_minute, tick
from stationkeeper.deploy.core.state import memory, remember
from stationkeeper.deploy.settings import RolloutSettings
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored

_log = structlog.get_logger()
# What the status shows of the audit log; the log itself has all.
_DEPLOYMENTS_SHOWN = 50
_LOGGED = {
    DeploymentAction.PROMOTED: LogEvent.PROMOTED,
    DeploymentAction.ROLLED_BACK: LogEvent.ROLLED_BACK,
    DeploymentAction.REFUSED: LogEvent.CANDIDATE,
}


class Deploy:
    """The stage ``deploy``; its whole state is the last record of each model in the rollouts topic.

    It runs once: a second member of its group would get a part of the inputs, and says so in ``status``. ``clock``
    is the declared one; on ``wall`` the longest duration also passes while no minute closes.
    """

    name = "deploy"

    def __init__(
        self,
        topics: Topics,
        models: Mapping[str, RolloutSettings],
        effects: Effects,
        clock: Literal["wall", "stream"] = "wall",
    ) -> None:
        self._topics = topics
        self._settings = dict(models)
        self._policies = {model: settings.policy() for model, settings in models.items()}
        self._effects = effects
        self._wall = clock == "wall"
        self.inputs = tuple(
            topic.name for topic in (topics.candidates, topics.history, topics.verdicts, topics.approvals)
        )
        self.tables = (topics.rollouts.name,)
        self._readers: dict[str, Callable[[bytes], None]] = {
            topics.candidates.name: self._candidate,
            topics.history.name: self._history,
            topics.verdicts.name: self._verdict,
            topics.approvals.name: self._approval,
        }
        self._rollouts: dict[str, Rollout] = {}
        self._books: dict[str, MinuteBook] = {}
        self._clocks: dict[str, int] = {}
        self._dirty: set[str] = set()
        self._pending: list[Deployment] = []
        self._written: list[Rollout] = []
        self._shown: deque[Deployment] = deque(maxlen=_DEPLOYMENTS_SHOWN)
        self._unreadable = 0
        self._missing: list[str] = []
        self._now = 0

    def changelog(self, assigned: frozenset[Partition]) -> tuple[Partition, ...]:
        """Return the one partition of the rollouts topic."""
        return (Partition(self._topics.rollouts.name, 0),) if assigned else ()

    def start_offsets(self, assigned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return nothing: committed offsets go with the records."""
        return {}

    def assigned(self, partitions: frozenset[Partition], restored: Restored) -> None:
        """Take over with the last record of every model."""
        self._forget()
        for key, value in restored.values.items():
            model = key.decode(errors="replace")
            try:
                rollout = Rollout.decode(value)
                state = memory(rollout)
            except ValidationError as error:
                raise Fatal(
                    f"the rollout record of {model} in {self._topics.rollouts.name} cannot be read: {error}; "
                    "run the version of stationkeeper that wrote it, or write the record again"
                ) from error
            self._rollouts[model] = rollout
            if rollout.phase is not Phase.STEADY:
                self._books[model] = MinuteBook.resume(state.open)
                self._clocks[model] = state.clock
            self._effects.follow(rollout)
        topics = {one.topic for one in partitions}
        self._missing = sorted(set(self.inputs) - topics) if partitions else []

    def revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget everything that is not in the log."""
        self._forget()

    def table(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Learn of a model that somebody adopted while we ran; everything else in this topic is our own."""
        model = key.decode(errors="replace")
        if value is None or model in self._rollouts:
            return
        try:
            self._rollouts[model] = Rollout.decode(value)
        except ValidationError as error:
            self._unreadable += 1
            _log.error(LogEvent.DEAD_LETTER_UNWRITABLE, role=self.name, record=f"{topic}:{model}", error=str(error))
            return
        self._effects.follow(self._rollouts[model])

    def absorb(self, batch: Batch) -> None:
        """Take in a batch; an unreadable message is counted and logged, it cannot be acted on."""
        read = self._readers[batch.partition.topic]
        for offset, value in zip(batch.offsets.tolist(), batch.values, strict=True):
            if value is None:
                continue
            try:
                read(value)
            except (ValidationError, WireError) as error:
                self._unreadable += 1
                where = f"{batch.partition.topic}/{batch.partition.index}@{offset}"
                _log.error(LogEvent.DEAD_LETTER_UNWRITABLE, role=self.name, record=where, error=str(error))

    def flush(self, now_ms: int) -> list[Outgoing]:
        """Return changed rollout records, renewed leases and the audit of what was done."""
        self._now = now_ms
        for model, rollout in list(self._rollouts.items()):
            if self._wall and model in self._policies:
                self._apply(model, tick(rollout, self._policies[model], now_ms))
            self._drop_unfit(model)
            self._lease(model, now_ms)
        outgoing = [self._record(model) for model in sorted(self._dirty)]
        outgoing += [Outgoing(self._topics.deployments.name, one.encode(), one.model.encode()) for one in self._pending]
        self._written = [self._rollouts[model] for model in sorted(self._dirty)]
        self._shown.extend(self._pending)
        for one in self._pending:
            event = _LOGGED.get(one.action, LogEvent.ROLLOUT_STEP)
            _log.info(event, model=one.model, action=one.action.value, canary=one.canary, reason=one.reason)
        self._dirty.clear()
        self._pending.clear()
        return outgoing

    def committed(self) -> None:
        """Let targets and the registry follow what is now in the log."""
        for rollout in self._written:
            self._effects.follow(rollout)
        self._written.clear()

    def samples(self) -> list[Sample]:
        """Return weights, evidence with thresholds, ended rollouts and champions."""
        found: list[Sample] = []
        for model, rollout in sorted(self._rollouts.items()):
            found += rollout_samples(rollout, self._policies.get(model))
        return found

    def status(self) -> dict[str, Any]:
        """Return every rollout with its steps and evidence (``contracts.status.DeployStatus``)."""
        rollouts = [
            rollout_status(rollout, self._policies.get(model), [one for one in self._shown if one.model == model])
            for model, rollout in sorted(self._rollouts.items())
        ]
        detail: dict[str, Any] = {"unreadable_records": self._unreadable}
        if self._missing:
            detail["not_assigned"] = (
                f"{', '.join(self._missing)}: another member of the group holds them; run one deploy"
            )
        for model, problem in self._effects.problems().items():
            detail[f"effect {model}"] = problem
        for model, report in self._effects.reports().items():
            if report.moved:
                detail[f"alias {model}"] = f"moved by hand to {report.alias}; the log says {report.champion}"
        return {"role": "deploy", "rollouts": rollouts, "detail": detail}

    def close(self) -> None:
        """Stop the effects."""
        self._effects.close()

    def _candidate(self, value: bytes) -> None:
        candidate = Candidate.decode(value)
        rollout, policy = self._rollouts.get(candidate.model), self._policies.get(candidate.model)
        if rollout is None or policy is None:
            self._pending.append(refuse_unknown(candidate, configured=policy is not None))
            return
        clock, offered = self._clock(candidate.model), to_ms(candidate.time)
        if clock is not None and 0 < offered - clock <= policy.step_ms:
            # Minutes close behind the stream: the canary does not start before its gate was passed.
            clock = offered
        if clock is None and rollout.phase is Phase.STEADY:
            self._apply(candidate.model, queue(rollout, candidate, offered))
        else:
            self._apply(candidate.model, offer(rollout, candidate, policy, clock or memory(rollout).clock))

    def _approval(self, value: bytes) -> None:
        approval = Approval.decode(value)
        rollout, policy = self._rollouts.get(approval.model), self._policies.get(approval.model)
        if approval.target != "rollout" or rollout is None or policy is None:
            return
        clock = self._clock(approval.model) or memory(rollout).clock or to_ms(approval.time)
        self._apply(approval.model, advance(decide(rollout, approval, policy, clock), policy, clock))

    def _verdict(self, value: bytes) -> None:
        verdict = Verdict.decode(value)
        rollout = self._rollouts.get(verdict.model)
        if rollout is not None:
            self._apply(verdict.model, Transition(note_verdict(rollout, verdict)))

    def _history(self, value: bytes) -> None:
        for record in decode(value):
            if isinstance(record, ArmDelta | OutcomeDelta | PaneDelta) and record.model in self._policies:
                self._minute(record)

    def _minute(self, record: ArmDelta | OutcomeDelta | PaneDelta) -> None:
        model = record.model
        book = self._books.setdefault(model, MinuteBook())
        closed = book.add(record)
        rollout, policy = self._rollouts.get(model), self._policies[model]
        if rollout is not None and rollout.phase is not Phase.STEADY:
            self._dirty.add(model)
        if closed is None:
            return
        clock = self._clocks[model] = max(closed.end, self._clocks.get(model, 0))
        if rollout is None:
            return
        moved = Transition(rollout)
        if rollout.phase is not Phase.STEADY:
            moved = close_minute(rollout, closed, policy)
        self._apply(model, advance(moved, policy, clock))

    def _apply(self, model: str, transition: Transition) -> None:
        if transition.rollout is not self._rollouts.get(model):
            self._rollouts[model] = transition.rollout
            self._dirty.add(model)
        self._pending.extend(transition.deployments)

    def _drop_unfit(self, model: str) -> None:
        """Roll back a canary that a target can never serve, instead of waiting for rows that cannot come."""
        rollout = self._rollouts[model]
        why = self._effects.unfit(model, rollout.canary) if rollout.canary else None
        policy = self._policies.get(model)
        if why is None or policy is None or rollout.phase not in {Phase.CANARY, Phase.HOLD}:
            return
        clock = memory(rollout).clock
        back = roll_back(rollout, because(Reason.NOT_LOADED, version=rollout.canary, error=why), clock)
        self._apply(model, advance(back, policy, clock))

    def _clock(self, model: str) -> int | None:
        closed = self._clocks.get(model)
        return max(closed or 0, self._now) or None if self._wall else closed

    def _lease(self, model: str, now_ms: int) -> None:
        """Renew a weight's lease after a third of it; a weight whose lease lapsed has to be seen in traffic anew."""
        rollout = self._rollouts[model]
        settings = self._settings.get(model)
        if rollout.weight_bp == 0 or settings is None:
            return
        until = to_ms(rollout.lease_until) if rollout.lease_until else None
        if until is not None and now_ms < until - 2 * settings.lease // 3 and model not in self._dirty:
            return
        if until is not None and until < now_ms:
            rollout = reseen(rollout, 0.0)
        lease = to_datetime(now_ms + settings.lease)
        self._rollouts[model] = rollout.model_copy(update={"lease_until": lease})
        self._dirty.add(model)

    def _record(self, model: str) -> Outgoing:
        rollout = self._rollouts[model]
        if rollout.phase is not Phase.STEADY and model in self._books:
            opened = memory(rollout).model_copy(update={"open": self._books[model].snapshot()})
            rollout = self._rollouts[model] = remember(rollout, opened)
        return Outgoing(self._topics.rollouts.name, rollout.encode(), model.encode(), 0)

    def _forget(self) -> None:
        for held in (self._rollouts, self._books, self._clocks, self._dirty, self._pending, self._written):
            held.clear()
