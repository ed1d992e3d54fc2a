"""Decides whom the replay waits for before the stream goes on, so that a run does not depend on the machine's load.

A label is joined, a request taken up and a weight applied within about a wall second. A replay moves the stream by many
minutes in that second, and by days on a slow or busy machine. Without waiting, the result would depend on that load.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

from stationkeeper.contracts.messages import DeploymentAction
from stationkeeper.demo.loop_history import LoopHistory
from stationkeeper.demo.stage import Addresses, Poll, get

PATIENCE_S: Final = 120.0
"""How long one who follows is waited for; a model in training and an open pane are waited for as long as they take."""
# A status is polled every 0.1 s. Chosen: half would call a busy role silent, double lets the stream run on that
# much longer while a role does not answer.
STILL_MS: Final = 2_000
JOIN_LAG: Final = 60
"""Unread join batches, of which a flush of the tally writes about a dozen."""
COUNTING: Final = frozenset({"planned", "waiting"})
WEIGHTED: Final = frozenset({DeploymentAction.STARTED, DeploymentAction.STEP, DeploymentAction.HELD})

Status = dict[str, Any]


@dataclass(slots=True)
class RoleStatuses:
    """The latest answer of each role to ``/api/v1/status``; None before its first."""

    monitor: Status | None = None
    retrain: Status | None = None
    serve: Status | None = None


@dataclass(slots=True)
class Pace:
    """Decides whom the stream waits for; ``lead_ms`` is how far ahead of the monitor it may be.

    ``near_ms`` is that from a request's counting of labels to its canary's end; None: the same. The counting begins
    ``soonest_ms`` after the request, before which no label can settle it.
    """

    model: str
    lead_ms: int
    history: LoopHistory
    statuses: Callable[[], RoleStatuses]
    monotonic: Callable[[], float] = time.monotonic
    wall_s: Callable[[], float] = time.time
    near_ms: int | None = None
    soonest_ms: int = 0
    _held: str = ""
    _since: float = 0.0

    def _lead(self, status: Status | None, until_ms: int) -> int:
        counts = status is not None and any(
            r["stage"] in COUNTING and until_ms >= r["created"] + self.soonest_ms for r in status["requests"]
        )
        near = counts or self.history.offered or self.history.canary
        return self.near_ms if near and self.near_ms is not None else self.lead_ms

    def waits_for(self, until_ms: int) -> str:
        """Return who is behind in a few words, empty when nobody is."""
        statuses = self.statuses()
        # These two without an end to patience: a stream that runs ahead of an open pane or of a training would make
        # another story on each machine.
        lead_ms = self._lead(statuses.retrain, until_ms)
        found = self._panes(statuses.monitor, until_ms, lead_ms) or self._training(statuses.retrain)
        if found:
            return found
        found = (
            self._answering(statuses)
            or self._joining(statuses.monitor)
            or self._counting(statuses.retrain, until_ms, lead_ms)
            or self._routing(statuses.serve)
        )
        # Patience is counted anew for each reason: a machine that is merely slow goes from one to the next.
        if found != self._held:
            self._held, self._since = found, self.monotonic()
        return "" if self.monotonic() - self._since > PATIENCE_S else found

    def _panes(self, status: Status | None, until_ms: int, lead_ms: int) -> str:
        watermark = watermark_of(status, self.model)
        behind = watermark is not None and until_ms - watermark > lead_ms
        return "panes are closed" if behind else ""

    def _answering(self, statuses: RoleStatuses) -> str:
        """A status older than ``STILL_MS`` does not show whether the role is busy."""
        now_ms = self.wall_s() * 1_000
        late = [s for s in (statuses.monitor, statuses.retrain) if s is not None and now_ms - s["generated"] > STILL_MS]
        return "the roles answer" if late else ""

    def _joining(self, status: Status | None) -> str:
        """A label that is joined after its minute has closed is too late for a decision."""
        if status is None:
            return ""
        for role in status["roles"]:
            still = status["generated"] - role.get("heartbeat", 0) > STILL_MS
            if role["role"] == "join" and (still or role.get("lag", 0) > JOIN_LAG):
                return "labels are joined"
        return ""

    def _training(self, status: Status | None) -> str:
        busy = status is not None and any(r["stage"] not in {*COUNTING, "done"} for r in status["requests"])
        return "a model is trained" if busy else ""

    def _counting(self, status: Status | None, until_ms: int, lead_ms: int) -> str:
        if status is None or not self.history.requests:
            return ""
        known = {request["id"]: request for request in status["requests"]}
        request = known.get(self.history.requests[-1].id)
        if request is None:
            return "the request is taken up"
        # By the clock that the role itself says: it counts labels of the stream it has read.
        behind = request["stage"] in COUNTING and until_ms - request.get("clock", until_ms) > lead_ms
        return "labels are counted" if behind else ""

    def _routing(self, status: Status | None) -> str:
        moves = [d for d in self.history.deployments if d.action is not DeploymentAction.REFUSED]
        if status is None or not moves:
            return ""
        last = moves[-1]
        # After a rollback no canary is out, whatever weight the record names; after a promotion the old champion keeps
        # a share, which is the holdback's and no step that is waited for.
        weight = last.weight_bp if last.action in WEIGHTED else 0
        provisional = last.action is DeploymentAction.HELD and last.canary is None
        kept = last.action is DeploymentAction.PROMOTED or provisional
        applied = [one for one in status["models"] if one["model"] == self.model]
        follows = all(one["champion"] == last.champion and (kept or one["weight_bp"] == weight) for one in applied)
        return "" if follows else "the router follows"


def watermark_of(status: Status | None, model: str) -> int | None:
    """Return the monitor's watermark of a model, None before its first pane."""
    found = [one["watermark"] for one in status["models"] if one["model"] == model] if status else []
    return found[0] if found else None


class StatusPolls:
    """Polls monitor, retrain and router for their status, each in its own thread, while a ``with`` block runs."""

    def __init__(self, addresses: Addresses) -> None:
        roles = {
            "monitor": (addresses.monitor, 0.1),
            "retrain": (addresses.retrain, 0.1),
            "serve": (addresses.serve, 0.1),
        }
        self._polls = {name: Poll(partial(_status, url), every_s) for name, (url, every_s) in roles.items()}

    def __enter__(self) -> Self:
        for poll in self._polls.values():
            poll.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for poll in self._polls.values():
            poll.__exit__()

    def __call__(self) -> RoleStatuses:
        """Return the latest answers."""
        return RoleStatuses(**{name: poll.value for name, poll in self._polls.items()})


def _status(url: str) -> Status | None:
    body = get(url, "/api/v1/status")
    found: Status | None = None if body is None else json.loads(body)
    return found
