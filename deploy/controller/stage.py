"""The canary controller as a stage: candidates and closed minutes in, rollout and deployment records out."""

from collections import deque
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Literal

import structlog
from pydantic import ValidationError

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import Deployment, DeploymentAction, Rollout
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.topics import Topics
from stationkeeper.contracts.wire import WireError
from stationkeeper.deploy.controller.effects import Effects
from stationkeeper.deploy.controller.inputs import DeployInputs
from stationkeeper.deploy.controller.queries import Queries
from stationkeeper.deploy.controller.rollouts import Rollouts
from stationkeeper.deploy.controller.status import rollout_samples, rollout_status
from stationkeeper.deploy.core.rollout import compared
from stationkeeper.deploy.settings import RolloutSettings
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
    is the declared one, ``labelled`` names the models whose labels come on a topic, ``refused`` those whose entry
    in the configuration is wrong. ``queries`` asks the team's Prometheus while two versions are compared.
    """

    name = "deploy"

    def __init__(
        self,
        topics: Topics,
        models: Mapping[str, RolloutSettings],
        effects: Effects,
        clock: Literal["wall", "stream"] = "wall",
        labelled: Collection[str] = (),
        refused: Collection[str] = (),
        queries: Queries | None = None,
    ) -> None:
        self._topics = topics
        self._queries = queries or Queries({})
        self._rollouts = Rollouts(models, clock, effects.origins.of, labelled, refused)
        self._effects = effects
        self.inputs = tuple(
            # History is among the inputs, not the tables: its offsets commit with the rollout records, so each minute
            # is judged once.
            topic.name
            for topic in (topics.candidates, topics.history, topics.verdicts, topics.approvals)
        )
        self.tables = (topics.rollouts.name,)
        self._inputs = DeployInputs(topics, self._rollouts, effects.origins)
        self._written: list[Rollout] = []
        self._shown: deque[Deployment] = deque(maxlen=_DEPLOYMENTS_SHOWN)
        self._unreadable = self._taken_before = 0
        self._told_taken = False
        self._missing: list[str] = []
        self._refused: dict[str, str] = {}

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
            self._resume(key.decode(errors="replace"), value)
        topics = {one.topic for one in partitions}
        # One partition of each input decides: with a part of them assigned, candidates or minutes would never come
        # here.
        self._missing = sorted(set(self.inputs) - topics) if partitions else []

    def revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget everything that is not in the log."""
        self._forget()

    def table(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Learn of a model that somebody adopted while we ran; everything else in this topic is our own."""
        model = key.decode(errors="replace")
        # What this process wrote itself comes back through the table and must not overwrite what it decided since.
        if value is not None and model not in self._rollouts.records:
            self._resume(model, value)

    def _resume(self, model: str, value: bytes) -> None:
        """Go on from a record; a model whose record cannot be read is left alone by name, the others go on."""
        try:
            rollout = Rollout.decode(value)
            self._rollouts.resume(rollout)
        except ValidationError as error:
            where = f"the rollout record of {model} in {self._topics.rollouts.name}"
            self._refused[model] = f"{where} cannot be read: run the version that wrote it, or adopt a champion anew"
            self._unreadable += 1
            _log.error(LogEvent.TABLE_RECORD_REFUSED, role=self.name, record=where, error=str(error))
            return
        self._refused.pop(model, None)
        self._effects.follow(rollout)

    def absorb(self, batch: Batch) -> None:
        """Take in a batch; an unreadable message is counted, logged and passed over for good."""
        topic, index = batch.partition
        place = f"{topic}/{index}"
        rows = zip(batch.offsets.tolist(), batch.timestamps.tolist(), batch.values, strict=True)
        for offset, written, value in rows:
            if value is None:
                continue
            try:
                known = partial(self._rollouts.known, place, offset, written)
                if self._inputs.read(topic, value, known):
                    self._note_taken(f"{place}@{offset}")
            except (ValidationError, WireError) as error:
                self._unreadable += 1
                where = f"{place}@{offset}"
                # No dead letter: the role has no right to write one, and these topics are written by our own roles.
                _log.error(LogEvent.RECORD_LEFT_OUT, role=self.name, record=where, error=str(error))
        if len(batch.timestamps):
            self._rollouts.taken(place, batch.next_offset, int(batch.timestamps.max()))

    def _note_taken(self, where: str) -> None:
        self._taken_before += 1
        # Of one loss of the offsets a whole topic may come again.
        if not self._told_taken:
            _log.warning(LogEvent.RECORDS_TAKEN_BEFORE, role=self.name, record=where)
        self._told_taken = True

    def flush(self, now_ms: int) -> list[Outgoing]:
        """Return changed rollout records, renewed leases and the audit of what was done."""
        mine = self._rollouts
        # In this order: time passes first, then what targets say of the canary, and the lease last, so that a canary
        # that has just been rolled back gets no lease.
        mine.tick(now_ms)
        for model, rollout in list(mine.records.items()):
            mine.drop_unfit(model, self._effects.unfit(model, rollout.canary) if rollout.canary else None)
            mine.prove(model, self._effects.proven(model))
            self._queries.follow(model, compared(rollout))
            for arms, answers in self._queries.taken(model):
                mine.answer(model, arms, answers)
            mine.lease(model, now_ms)
        # By name, so that the same state makes the same records and a test can compare them.
        self._written = [mine.written(model) for model in sorted(mine.dirty)]
        outgoing = [Outgoing(self._topics.rollouts.name, one.encode(), one.model.encode(), 0) for one in self._written]
        outgoing += [Outgoing(self._topics.deployments.name, one.encode(), one.model.encode()) for one in mine.audit]
        self._shown.extend(mine.audit)
        for one in mine.audit:
            event = _LOGGED.get(one.action, LogEvent.ROLLOUT_STEP)
            _log.info(event, model=one.model, action=one.action.value, canary=one.canary, reason=one.reason)
        mine.dirty.clear()
        mine.audit.clear()
        return outgoing

    def committed(self) -> None:
        """Let targets and the registry follow what is now in the log."""
        self._rollouts.committed()
        self._queries.committed()
        for rollout in self._written:
            self._effects.follow(rollout)
        self._written.clear()

    def samples(self) -> list[Sample]:
        """Return weights, evidence with thresholds, ended rollouts and champions."""
        found: list[Sample] = []
        for model, rollout in sorted(self._rollouts.records.items()):
            found += rollout_samples(rollout, self._rollouts.policies.get(model))
        return found

    def status(self) -> dict[str, Any]:
        """Return every rollout with its steps and evidence (``contracts.status.DeployStatus``)."""
        rollouts = [
            rollout_status(
                rollout, self._rollouts.policies.get(model), [one for one in self._shown if one.model == model]
            )
            for model, rollout in sorted(self._rollouts.records.items())
        ]
        detail: dict[str, Any] = {
            "unreadable_records": self._unreadable,
            "records_taken_before": self._taken_before,
        }
        if self._missing:
            detail["not_assigned"] = (
                f"{', '.join(self._missing)}: another member of the group holds them; run one deploy"
            )
        detail |= {f"refused {model}": why for model, why in self._refused.items()}
        for model, problem in self._effects.problems().items():
            detail[f"effect {model}"] = problem
        for model, report in self._effects.reports().items():
            if report.moved:
                detail[f"alias {model}"] = f"moved by hand to {report.alias}; the log says {report.champion}"
        return {"role": "deploy", "rollouts": rollouts, "detail": detail}

    def close(self) -> None:
        """Stop the effects and the queries."""
        self._queries.close()
        self._effects.close()

    def _forget(self) -> None:
        self._rollouts.forget()
        self._queries.forget()
        self._written.clear()
        self._refused.clear()
        self._told_taken = False
