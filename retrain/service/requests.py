"""The state of every request: what is committed, and what this flush moved and the next commit makes true."""

from collections.abc import Iterable, Iterator, Mapping

import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.retrain.core.reasons import RequestStage
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Outgoing

_log = structlog.get_logger()


class RequestStates:
    """States by request id. A move is seen at once by later moves of the flush, and by the outside once committed.

    A step of the world (a training, a registration) may start only from a committed state: one that started from a
    move would be repeated from an older state after an aborted transaction, and leave a version that nobody names.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._committed: dict[str, RetrainState] = {}
        self._moved: dict[str, RetrainState] = {}

    def restore(self, values: Mapping[bytes, bytes]) -> Iterable[RetrainState]:
        """Take over the records of the state topic; raises ``Fatal`` when one cannot be read."""
        for key, value in values.items():
            try:
                state = RetrainState.decode(value)
            except ValueError as error:
                raise Fatal(
                    f"the state of request {key.decode(errors='replace')} in {self._topic} cannot be read ({error}); "
                    f"upgrade this role, or write a tombstone for the key to drop the request"
                ) from error
            self._committed[state.id] = state
        return self.committed()

    def get(self, request: str) -> RetrainState | None:
        """Return the latest state of a request, moved or committed."""
        return self._moved.get(request) or self._committed.get(request)

    def of_model(self, model: str) -> list[RetrainState]:
        """Return the latest state of each request of a model: one admitted a moment ago counts as in flight."""
        return [state for state in {**self._committed, **self._moved}.values() if state.model == model]

    def committed(self) -> Iterable[RetrainState]:
        """Return the committed states."""
        return self._committed.values()

    def at_rest(self, request: str) -> RetrainState | None:
        """Return the committed state of a request: what a finished step had started from."""
        return self._committed.get(request)

    def unmoved(self) -> Iterator[RetrainState]:
        """Yield the committed states that no move waits behind: only these may start a step."""
        return (state for state in self._committed.values() if state.id not in self._moved)

    def snapshots(self) -> frozenset[str]:
        """Return the snapshots of requests that have not ended, moved or committed; safe from another thread."""
        # Both: a move that is not committed may be the first that names a snapshot, or the last and be undone.
        known = [*list(self._committed.values()), *list(self._moved.values())]
        return frozenset(state.snapshot for state in known if state.snapshot and not state.stage.final)

    def note(self, state: RetrainState) -> None:
        """Change what is shown of a committed state (detail, clock) without a record: a restart finds it out again."""
        self._committed[state.id] = state

    def move(self, state: RetrainState) -> Outgoing:
        """Move a request; returns the record that makes it true."""
        self._moved[state.id] = state
        # Suppressed requests have an event of their own, so that an alert on `retrain_stage` does not ring for what was
        # not done.
        event = LogEvent.RETRAIN_SUPPRESSED if state.stage is RequestStage.SUPPRESSED else LogEvent.RETRAIN_STAGE
        _log.info(
            event.value,
            request=state.id,
            model=state.model,
            stage=state.stage.value,
            reason=state.reason.value,
            detail=state.detail,
        )
        return Outgoing(self._topic, state.encode(), state.id.encode(), partition=0)

    def commit(self) -> list[RetrainState]:
        """Make the moves the state of record; returns the states that were moved."""
        moved = list(self._moved.values())
        self._committed |= self._moved
        self._moved = {}
        return moved
