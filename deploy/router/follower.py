"""The rollouts topic as the router follows it: every record of a configured model goes to the traffic table."""

import threading
from collections.abc import Collection

import structlog
from pydantic import ValidationError

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.router.traffic import TrafficTable
from stationkeeper.streams.errors import Denied, StreamError, TopicMissing
from stationkeeper.streams.ports import Partition, Reader

_log = structlog.get_logger()
# How long the topic is waited for at a time: a new weight is applied within a quarter of a second.
_FOLLOW_S = 0.25
# Chosen: after a broker error. Half doubles the warnings of an outage, double the delay of a rollback after it.
_RETRY_S = 1.0
# How long a read under way is waited for at the end, chosen: it is a daemon's, and a process that stops has ten seconds
# from most supervisors, which other threads want a part of.
_STOP_S = 5.0


def _event(error: StreamError) -> LogEvent:
    if isinstance(error, Denied):
        return error.event
    return LogEvent.TOPIC_MISSING if isinstance(error, TopicMissing) else LogEvent.BROKER_UNREACHABLE


class RolloutsFollower:
    """A thread that reads the compacted topic ``rollouts`` from its start and then as it grows.

    ``problem`` says why the table is not whole yet; it is None from the moment the end of the topic was first reached,
    also in a later outage, because the last known split goes on being served.
    """

    def __init__(self, reader: Reader, rollouts: str, models: Collection[str], traffic: TrafficTable) -> None:
        self.problem: str | None = "loading: the rollouts topic is being read"
        self._reader = reader
        self._rollouts = rollouts
        self._models = frozenset(models)
        self._traffic = traffic
        self._whole = False
        self._stop = threading.Event()
        # A daemon: a read that hangs on a dead broker must not keep the process from its end.
        self._thread = threading.Thread(target=self._run, name="rollouts", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following; waits at most five seconds for a read under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_STOP_S)

    def close(self) -> None:
        """Close the reader; call ``stop`` first."""
        self._reader.close()

    def _run(self) -> None:
        positions: dict[Partition, int] = {}
        ends: dict[Partition, int] = {}
        said = ""
        while not self._stop.is_set():
            try:
                if not ends:
                    positions, ends = self._span()
                for batch in self._reader.follow(tuple(ends), positions, _FOLLOW_S):
                    for key, value in zip(batch.keys, batch.values, strict=True):
                        self._see(key, value)
                # Ready only at the end as it was at the start: an older record on the way names champions that are long
                # gone.
                if not self._whole and all(positions[one] >= end for one, end in ends.items()):
                    self._whole, self.problem = True, None
                said = ""
            except StreamError as error:
                # Also what a role would stop for: answers go on with the split that is known, and the reason is shown.
                if not self._whole:
                    self.problem = str(error)
                # Once for a trouble: the same line each second would hide what else is said meanwhile.
                if str(error) != said:
                    said = str(error)
                    _log.warning(_event(error), role="serve", error=said)
                self._stop.wait(_RETRY_S)

    def _span(self) -> tuple[dict[Partition, int], dict[Partition, int]]:
        bounds = self._reader.bounds(self._reader.partitions(self._rollouts))
        if not bounds:
            raise TopicMissing(
                f"topic {self._rollouts} does not exist yet; the other roles make it as they start, and so does "
                "stationkeeper check --create"
            )
        return {one: low for one, (low, _) in bounds.items()}, {one: high for one, (_, high) in bounds.items()}

    def _see(self, key: bytes | None, value: bytes | None) -> None:
        model = (key or b"").decode(errors="replace")
        if model not in self._models:
            return
        try:
            self._traffic.see(model, Rollout.decode(value) if value else None)
        except ValidationError as error:
            # Answers go on with the last readable split: an unreadable record is the controller's fault and no reason
            # for an outage.
            _log.error(LogEvent.FATAL, model=model, error=f"rollout record is not readable: {error}")
