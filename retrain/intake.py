"""What comes in from people and the judge: retrain requests, approvals and rollouts, with bad input as data."""

from dataclasses import dataclass, field

import structlog
from pydantic import ValidationError

from contracts.codes import DeadLetterCode
from contracts.log_events import LogEvent
from contracts.messages import Approval, RetrainRequest, Rollout
from streams.dead_letters import dead_letter
from streams.ports import Batch, Outgoing

_log = structlog.get_logger()

_CODES = {
    "json_invalid": DeadLetterCode.NOT_JSON,
    "missing": DeadLetterCode.MISSING_FIELD,
    "model_type": DeadLetterCode.NOT_AN_OBJECT,
    "model_attributes_type": DeadLetterCode.NOT_AN_OBJECT,
    "finite_number": DeadLetterCode.NOT_FINITE,
    "timezone_aware": DeadLetterCode.BAD_TIME,
    "datetime_parsing": DeadLetterCode.BAD_TIME,
    "datetime_from_date_parsing": DeadLetterCode.BAD_TIME,
}


@dataclass(slots=True)
class Intake:
    """Requests and dead letters that were absorbed and not yet flushed, in order."""

    requests: list[RetrainRequest] = field(default_factory=list)
    letters: list[Outgoing] = field(default_factory=list)

    def absorb(self, batch: Batch) -> None:
        """Sort a batch of the request topic into requests and dead letters; nothing is lost."""
        for row, value in enumerate(batch.values):
            if not value:
                self._reject(batch, row, DeadLetterCode.EMPTY_VALUE, "")
                continue
            try:
                value.decode()
            except UnicodeDecodeError as error:
                self._reject(batch, row, DeadLetterCode.NOT_UTF8, f"byte {error.start}")
                continue
            try:
                self.requests.append(RetrainRequest.decode(value))
            except ValidationError as error:
                first = error.errors(include_input=False, include_url=False)[0]
                code = _CODES.get(str(first["type"]), DeadLetterCode.WRONG_TYPE)
                self._reject(batch, row, code, ".".join(str(part) for part in first["loc"]))

    def _reject(self, batch: Batch, row: int, code: DeadLetterCode, detail: str) -> None:
        self.letters.append(dead_letter(batch, row, code, "retrain", detail=detail))

    def take(self) -> tuple[list[RetrainRequest], list[Outgoing]]:
        """Hand over what was absorbed."""
        taken = self.requests, self.letters
        self.requests, self.letters = [], []
        return taken


@dataclass(slots=True)
class Tables:
    """The last word of people on each request, and the champion of each model."""

    rollouts_topic: str
    approvals_topic: str
    champions: dict[str, str] = field(default_factory=dict)
    approvals: dict[str, Approval] = field(default_factory=dict)

    def see(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Take in one record of a table topic; one that cannot be read changes nothing and is logged."""
        try:
            if topic == self.rollouts_topic:
                if value is None:
                    self.champions.pop(key.decode(errors="replace"), None)
                    return
                rollout = Rollout.decode(value)
                self.champions[rollout.model] = rollout.champion
            elif topic == self.approvals_topic and value is not None:
                approval = Approval.decode(value)
                if approval.target == "request":
                    self.approvals[approval.id] = approval
        except ValidationError as error:
            _log.warning(LogEvent.RETRAIN_STAGE.value, topic=topic, unreadable=str(error))
