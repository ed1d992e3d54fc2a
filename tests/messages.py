"""Messages between the roles as they come in a loop that goes well; a test names only what it is about."""

from typing import Any

from stationkeeper.contracts.messages import Candidate, GateOutcome, Onset, RetrainRequest, VerdictKind
from stationkeeper.contracts.times import to_datetime


def onset_at(time: int) -> Onset:
    """Return an onset that is dated to the millisecond."""
    return Onset(time=to_datetime(time), low=to_datetime(time), high=to_datetime(time))


def request(time: int, **more: Any) -> RetrainRequest:
    """Return a request for a new model of drift that began at ``time``, in epoch ms, when it was also asked."""
    return RetrainRequest(
        **{
            "id": "req-1",
            "time": to_datetime(time),
            "model": "fraud",
            "version": "1",
            "incident": "inc-1",
            "verdict": "ver-1",
            "kind": VerdictKind.DATA_DRIFT,
            "cause": "new_category",
            "onset": onset_at(time),
            "subjects": ("method",),
            **more,
        }
    )


def candidate(time: int, version: str = "2", champion: str = "1", **more: Any) -> Candidate:
    """Return a candidate that passed its gate at ``time``, in epoch ms."""
    return Candidate(
        **{
            "id": f"cand-{version}",
            "time": to_datetime(time),
            "request": f"req-{version}",
            "model": "fraud",
            "version": version,
            "champion": champion,
            "run_id": "run",
            "snapshot": "snap",
            "reference": "ref",
            "artifact": "uri",
            "gate": GateOutcome.PASS,
            "gate_reason": "because",
            **more,
        }
    )
