"""What a judge says when panes close: an answer in values, which the shell writes down."""

from dataclasses import dataclass, field

from contracts.messages import RetrainRequest, Verdict
from contracts.wire import Record


@dataclass(slots=True)
class Said:
    """What closing panes produced, in order: records for history, verdicts, requests, and refusals by incident."""

    history: list[Record] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    requests: list[RetrainRequest] = field(default_factory=list)
    closed: int = 0
