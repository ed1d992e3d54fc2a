"""The durable state of a retrain request: one record of the compacted topic, enough to resume at any step."""

from collections.abc import Mapping
from typing import Any, Self

from stationkeeper.contracts.masking import masked
from stationkeeper.contracts.messages import CureOutcome, RetrainRequest, SchemaVersion
from stationkeeper.contracts.status import RequestStatus, StageTime
from stationkeeper.contracts.times import to_ms
from stationkeeper.retrain.core.gate import GateVerdict
from stationkeeper.retrain.core.labels import NegativeRule
from stationkeeper.retrain.core.plan import Past, TrainingWindow
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.training.job import Record, TrainingResult
from stationkeeper.streams.ports import Partition

# The fields of a state that quote what others said: an error of a broker or registry, a judge's reason.
_TOLD = frozenset({"detail", "cure_reason"})
# The stages that write the snapshot or may go back to it.
_SNAPSHOT_USED = (RequestStage.SNAPSHOT, RequestStage.TRAINING, RequestStage.GATE, RequestStage.REGISTERING)


class OffsetEnd(Record):
    """How far a partition is read for a snapshot."""

    topic: str
    partition: int
    end: int


class StageEntry(Record):
    """When a stage was entered (event time) and why."""

    stage: RequestStage
    entered: int
    note: str = ""


class RetrainState(Record):
    """Where one request stands. Every field is what a restart needs to repeat the step it is in, alike."""

    schema_version: SchemaVersion = 1
    request: RetrainRequest
    stage: RequestStage
    reason: RequestReason
    detail: str = ""
    champion: str | None = None
    approved: bool = False
    approvers: tuple[str, ...] = ()
    pending_since: int = 0
    asked: int = 0
    look: int = 0
    rows_after: int = 0
    judged: int = 0
    attempts: int = 0
    clock_ms: int = 0
    as_of_ms: int | None = None
    maturity_ms: int | None = None
    negatives: NegativeRule | None = None
    ends: tuple[OffsetEnd, ...] = ()
    windows: tuple[TrainingWindow, ...] = ()
    snapshot: str | None = None
    snapshot_rows: int | None = None
    result: TrainingResult | None = None
    gate: GateVerdict | None = None
    run_id: str | None = None
    version: str | None = None
    candidate: str | None = None
    rolled_back: bool = False
    cure: CureOutcome | None = None
    cure_reason: str = ""
    history: tuple[StageEntry, ...] = ()
    asked_share: float = 1.0
    """Share of the rows after the onset that a training reads which the look asks for; of those the gate holds out its
    part."""
    typed: tuple[str, ...] = ()
    """The names that ``approvers`` with a login typed beside it."""

    @property
    def id(self) -> str:
        """The request's id."""
        return self.request.id

    @property
    def model(self) -> str:
        """The model it is about."""
        return self.request.model

    def encode(self) -> bytes:
        """Return the record as UTF-8 JSON."""
        # Without nulls: most fields are empty through most of a request's life, and the record is shown to people.
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read a record; raises ``pydantic.ValidationError``."""
        return cls.model_validate_json(value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a changed state; what it tells people is without credentials, whichever step changed it."""
        # Errors quote the address that they failed on, and this record goes to Kafka, pages and traces.
        told = {name: masked(text) for name, text in (update or {}).items() if name in _TOLD and text}
        return super().model_copy(update={**(update or {}), **told}, deep=deep)

    def enter(self, stage: RequestStage, reason: RequestReason, detail: str = "", **changes: Any) -> Self:
        """Return the state after a step: stage, reason and history move together; ``detail`` without credentials."""
        # Here as well as in the copy: the history tells it, too.
        detail = masked(detail)
        # Never backwards: the order of stages is told by it, and a survey may have read less than the one before a
        # restart.
        clock = max(self.clock_ms, changes.pop("clock_ms", None) or 0)
        history = self.history
        # A stage that is entered again by a retry keeps its first time: how long it took is from there.
        if not history or history[-1].stage is not stage:
            history = (*history, StageEntry(stage=stage, entered=clock, note=detail))
        facts: Mapping[str, Any] = {
            "stage": stage,
            "reason": reason,
            "detail": detail,
            "clock_ms": clock,
            "history": history,
            # Tries are counted within one training: whoever enters a stage begins at none, and a retry says how many it
            # had.
            "attempts": 0,
            # Of use to the snapshot alone, which every later stage goes back to where files are gone: made again by
            # another rule it would have other rows. Over, it is left out: a build before it cannot read it.
            **({} if stage in _SNAPSHOT_USED else {"negatives": None}),
            **changes,
        }
        return self.model_copy(update=dict(facts))

    def words(self) -> str:
        """Return where the request stands and why, in one line."""
        why = f"{self.reason.value}: {self.detail}" if self.detail else self.reason.value
        cure = f"; {self.cure.replace('_', ' ')}: {self.cure_reason}" if self.cure else ""
        return f"{self.stage.value.replace('_', ' ')} ({why}){cure}"

    def past(self) -> Past:
        """Return what later requests' admission needs of this one."""
        not_cured = self.cure is CureOutcome.NOT_CURED
        return Past(self.id, to_ms(self.request.time), self.stage, self.rolled_back, not_cured)

    def end_offsets(self) -> dict[Partition, int]:
        """Return the recorded end of each partition of the snapshot."""
        return {Partition(one.topic, one.partition): one.end for one in self.ends}

    def status(self) -> RequestStatus:
        """Return the request as people see it (contracts.status)."""
        final = self.stage.final
        found: RequestStatus = {
            "id": self.id,
            "model": self.model,
            "incident": self.request.incident,
            "stage": "done" if final else self.stage.value,  # type: ignore[typeddict-item]
            "reason": f"{self.reason.value}: {self.detail}" if self.detail else self.reason.value,
            "created": to_ms(self.request.time),
            "clock": self.clock_ms,
            "stages": self._stage_times(),
        }
        if final:
            found["outcome"] = self.stage.value  # type: ignore[typeddict-item]
        if self.windows:
            found["plan"] = "train on the best of: " + ", ".join(window.kind.value for window in self.windows)
        known: dict[str, Any] = {
            "snapshot": self.snapshot,
            "snapshot_rows": self.snapshot_rows,
            "run_id": self.run_id,
            "version": self.version,
            "gate": self.gate.outcome.value if self.gate else None,
            "gate_reason": self.gate.reason if self.gate else None,
            "candidate": self.candidate,
            "cure": f"{self.cure.replace('_', ' ')}: {self.cure_reason}" if self.cure else None,
        }
        found.update({name: value for name, value in known.items() if value is not None})  # type: ignore[typeddict-item]
        return found

    def _stage_times(self) -> list[StageTime]:
        times: list[StageTime] = []
        for place, entry in enumerate(self.history):
            stage = "done" if entry.stage.final else entry.stage.value
            one: StageTime = {"stage": stage, "entered": entry.entered}  # type: ignore[typeddict-item]
            if place + 1 < len(self.history):
                one["left"] = self.history[place + 1].entered
            if entry.note:
                one["note"] = entry.note
            times.append(one)
        return times
