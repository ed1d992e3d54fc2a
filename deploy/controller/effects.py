"""What follows a committed record outside the log: serving targets and the registry's alias, in their own thread."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.deploy.controller.origins import Origins
from stationkeeper.deploy.core.split import as_served
from stationkeeper.deploy.core.state import memory
from stationkeeper.deploy.targets import ChangedByOthers, Target, abilities_of, serves
from stationkeeper.registry import ArtifactError, ServingRegistry
from stationkeeper.streams.errors import Retryable

_log = structlog.get_logger()
# A registry that failed is asked again after this: often enough for a rollback, no storm.
_RETRY_S = 2.0
# How often alias and weights are compared with the log while nothing moves: a change by hand is told within a minute.
_CHECK_S = 60.0
# How long a call under way is waited for at the end, chosen: a platform may hang, and a process that stops has ten
# seconds from most supervisors.
_STOP_S = 5.0
# While a canary takes traffic: a tenth of the default lease, so that a target that lost the weight is told before it
# lapses.
_WATCH_S = 3.0


@dataclass(frozen=True, slots=True)
class AliasReport:
    """What the champion alias says beside the log: ``moved`` when a third party moved it."""

    alias: str | None
    champion: str
    moved: bool


class Effects:
    """Makes the world follow the last committed record of each model; a lost effect is repeated at the next start.

    The alias is moved when it names what we last made champion, or nothing. One that somebody moved elsewhere is
    reported and left alone until the next promotion: the router reads the log and never the alias.
    """

    def __init__(self, registry: ServingRegistry | None, targets: Sequence[Target], check_s: float = _CHECK_S) -> None:
        self._registry = registry
        self.origins = Origins(registry)
        self._targets = tuple(targets)
        self._check_s = check_s
        self._wanted: dict[str, Rollout] = {}
        # A promotion since the last look may move an alias that somebody had moved; anything else may not.
        self._promoted: set[str] = set()
        # A dict for its order: the model that waits longest is served first, and a model stands in it once.
        self._queue: dict[str, None] = {}
        self._reports: dict[str, AliasReport] = {}
        self._problems: dict[str, tuple[str, ...]] = {}
        self._unfit: dict[str, dict[str, str]] = {}
        self._proven: dict[str, frozenset[str]] = {}
        self._wake = threading.Condition()
        self._stopping = False
        self._due = time.monotonic() + check_s
        self._thread: threading.Thread | None = None

    def follow(self, rollout: Rollout) -> None:
        """Let the world follow a committed record; returns at once."""
        with self._wake:
            before = self._wanted.get(rollout.model)
            self._wanted[rollout.model] = rollout
            # The record is written again every few seconds while minutes are counted and leases renewed; what a target
            # and the alias follow has not changed, and a cloud's API would be asked for nothing.
            if before is not None and _shape(as_served(before)) == _shape(as_served(rollout)):
                return
            if before is not None and before.champion != rollout.champion:
                self._promoted.add(rollout.model)
            self._queue[rollout.model] = None
            # The first canary shortens the pace of a look that was due in a minute.
            self._due = min(self._due, time.monotonic() + self._pace())
            # Started with the first record: a process that owns no model, as a second `deploy` does, talks to nobody.
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deploy-effects", daemon=True)
                self._thread.start()
            self._wake.notify_all()

    def reports(self) -> dict[str, AliasReport]:
        """Return what the alias of each model was at the last look."""
        return dict(self._reports)

    def problems(self) -> dict[str, str]:
        """Return by model what could not be done yet."""
        return {model: "; ".join(found) for model, found in list(self._problems.items())}

    def unfit(self, model: str, version: str) -> str | None:
        """Return why a target can never serve a version, as last observed."""
        return self._unfit.get(model, {}).get(version)

    def proven(self, model: str) -> frozenset[str]:
        """Return the versions that a target proves to serve as the gate scored them, as last observed."""
        return self._proven.get(model, frozenset())

    def close(self) -> None:
        """Stop; what was not done is done at the next start."""
        self.origins.close()
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread is not None:
            # A call to a platform may hang; the thread is a daemon and does not keep the process from its end.
            self._thread.join(timeout=_STOP_S)

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._queue and not self._stopping:
                    self._wake.wait(max(self._due - time.monotonic(), 0.0))
                if self._stopping:
                    return
                if time.monotonic() >= self._due:
                    self._queue.update(dict.fromkeys(self._wanted))
                    self._due = time.monotonic() + self._pace()
                if not self._queue:
                    continue
                model = next(iter(self._queue))
                del self._queue[model]
                rollout, promoted = self._wanted[model], model in self._promoted
            if self._one(rollout, promoted=promoted):
                continue
            with self._wake:
                self._queue.setdefault(model, None)
                self._wake.wait(_RETRY_S)

    def _pace(self) -> float:
        """Return how long until the next look: targets are watched closely while they split traffic."""
        # A holdback is a lease as a canary's weight is: not renewed, the target takes it for lapsed.
        canary = self._targets and any(as_served(rollout).canary for rollout in self._wanted.values())
        return min(_WATCH_S, self._check_s) if canary else self._check_s

    def _one(self, rollout: Rollout, *, promoted: bool) -> bool:
        errors: list[tuple[LogEvent, Exception]] = []
        mine = [target for target in self._targets if serves(target, rollout.model)]
        # Each by itself: a registry or a target that is away must not hide what another serves.
        acts = [
            *((LogEvent.TARGET_WAITS, partial(target.apply, _for(target, rollout))) for target in mine),
            (LogEvent.REGISTRY_UNREACHABLE, partial(self._alias, rollout, promoted=promoted)),
            (LogEvent.TARGET_WAITS, partial(self._observe, rollout, mine)),
        ]
        for event, act in acts:
            try:
                act()
            # A target may be a plugin's: an error of its own would end this thread, and with it every model's traffic.
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
                errors.append((LogEvent.TARGET_CHANGED if isinstance(error, ChangedByOthers) else event, error))
        if not errors:
            self._problems.pop(rollout.model, None)
            return True
        told = self._problems.get(rollout.model, ())
        for event, problem in errors:
            # Asked every two seconds: an endpoint that takes ten minutes to change would fill the log.
            if _words(problem) not in told:
                _tell(event, rollout.model, _words(problem))
        self._problems[rollout.model] = tuple(dict.fromkeys(_words(problem) for _, problem in errors))
        # A version that the registry does not have, or cannot be read, does not get better by asking every two seconds;
        # the look after `check_s` asks again.
        return all(isinstance(problem, ArtifactError) for _, problem in errors)

    def _observe(self, rollout: Rollout, targets: Sequence[Target]) -> None:
        # Nothing of the canary is asked without one: an answer kept from the last canary would prove or condemn the
        # next.
        seen = [target.observe(rollout.model) for target in targets] if rollout.canary else []
        self._unfit[rollout.model] = {
            version: f"{target.name}: {why}"
            for target, one in zip(targets, seen, strict=False)
            if one is not None
            for version, why in one.unfit.items()
        }
        # One target that serves something else is enough to doubt what all of them log.
        known = [one.proven for one in seen if one is not None]
        self._proven[rollout.model] = (
            frozenset.intersection(*known) if len(known) == len(seen) and known else frozenset()
        )

    def _alias(self, rollout: Rollout, *, promoted: bool) -> None:
        if self._registry is None:
            return
        alias = self._registry.champion(rollout.model)
        state = memory(rollout)
        # What we set last, by record: this champion, the one before a promotion that may be under way, and the one
        # dropped by a rollback. Any other name was set by somebody else.
        ours = alias in {None, rollout.champion, state.previous, state.dropped}
        if alias != rollout.champion and (ours or promoted):
            self._registry.set_champion(rollout.model, rollout.champion)
            alias, ours = rollout.champion, True
        with self._wake:
            # A promotion that came while the registry was asked keeps its right to move the alias.
            if self._wanted[rollout.model].champion == rollout.champion:
                self._promoted.discard(rollout.model)
        seen = self._reports.get(rollout.model)
        report = AliasReport(alias, rollout.champion, not ours)
        if report.moved and report != seen:
            _log.warning(LogEvent.ALIAS_MOVED, model=rollout.model, alias=alias, champion=rollout.champion)
        self._reports[rollout.model] = report


def _for(target: Target, rollout: Rollout) -> Rollout:
    """Return the record as a target can carry it out: with its holdback, or the new champion alone."""
    able, held = abilities_of(target), as_served(rollout)
    return held if able.holds_back and able.weight(held.weight_bp) else rollout


def _tell(event: LogEvent, model: str, problem: str) -> None:
    _log.warning(event, model=model, error=problem)


def _words(problem: Exception) -> str:
    """Return what is told of an error; one that was not foreseen seldom makes sense without its class."""
    foreseen = isinstance(problem, Retryable | ArtifactError)
    return str(problem) if foreseen else f"{type(problem).__name__}: {problem}"


def _shape(rollout: Rollout) -> tuple[str, str | None, int, int, RolloutPhase]:
    return rollout.champion, rollout.canary, rollout.weight_bp, rollout.epoch, rollout.phase
