"""Who made a candidate's version, as the registry says it: asked in a thread, so that the loop never waits long."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass

import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import Candidate
from stationkeeper.deploy.core.admission import Origin
from stationkeeper.registry import ArtifactError, ServingRegistry
from stationkeeper.streams.errors import Retryable

_log = structlog.get_logger()
# Chosen: most registries answer within it, and then a candidate is handled at its place in the log. Half sends more of
# them over the queue, double holds the loop longer, once a candidate.
_WAIT_S = 0.5
# A registry that failed is asked again after this, as in `effects`.
_RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class Lookup:
    """What is known of a candidate's origin: not ``known`` yet, or ``origin``, None where there is no registry."""

    known: bool
    origin: Origin | None = None


class Origins:
    """Asks the registry for the tags of one candidate at a time; an answer is given once and not kept."""

    def __init__(self, registry: ServingRegistry | None, retry_s: float = _RETRY_S) -> None:
        self._registry = registry
        self._retry_s = retry_s
        self._not_before = 0.0
        self._open: dict[tuple[str, str, str], Future[Origin]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="deploy-origins")

    def of(self, candidate: Candidate) -> Lookup:
        """Return what the registry says; waits at most half a second, and not at all behind an open question."""
        if self._registry is None:
            return Lookup(known=True)
        # By version too: a record that reuses another's id must not get the answer about that one's version.
        about = (candidate.model, candidate.version, candidate.id)
        # An answer that nobody fetched (its candidate was superseded) would be kept for good.
        self._open = {key: one for key, one in self._open.items() if key == about or not one.done()}
        asked = self._open.get(about)
        wait = 0.0 if self._open else _WAIT_S
        if asked is None:
            if time.monotonic() < self._not_before:
                return Lookup(known=False)
            asked = self._open[about] = self._pool.submit(_ask, self._registry, candidate)
        try:
            origin = asked.result(wait)
        except NotYet:
            return Lookup(known=False)
        except Retryable as error:
            del self._open[about]
            self._not_before = time.monotonic() + self._retry_s
            _log.warning(LogEvent.REGISTRY_UNREACHABLE, model=candidate.model, error=str(error))
            return Lookup(known=False)
        del self._open[about]
        return Lookup(known=True, origin=origin)

    def close(self) -> None:
        """Ask nothing more; who was not answered is asked for again at the next start."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _ask(registry: ServingRegistry, candidate: Candidate) -> Origin:
    try:
        tags = registry.tags(candidate.model, candidate.version)
    except ArtifactError:
        # No such version: nobody made it.
        return Origin(None, None)
    return Origin(tags.get("request"), tags.get("candidate"))
