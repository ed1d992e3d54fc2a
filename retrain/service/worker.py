"""What runs beside the loop: a thread for steps that would block it, a training subprocess, and when each begins."""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.service.steps import Steps
from stationkeeper.retrain.training.job import TrainingError, TrainingJob
from stationkeeper.retrain.training.process import TrainingProcess, disk_trouble
from stationkeeper.streams.errors import DiskUnwritable, Retryable, StoreUnreachable, unwritable

_log = structlog.get_logger()

SURVEY_S = 1.0
"""Pause between two countings of labels, chosen: a label is waited for minutes to days, so a second more is nothing,
and half of it would only read the topics twice as often."""

SURVEY_SHARE = 5.0
"""The pause is at least so many times what the last counting took, so that counting takes a sixth of a core at most."""


@dataclass(frozen=True, slots=True)
class Done:
    """A finished step: of which request and stage, and what it returned or raised."""

    request: str
    stage: RequestStage
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class RequestRunner:
    """Starts the next step of each request in work: oldest request first, none before its pause is over.

    At most one step runs in the thread and one training beside it; the loop's thread starts them and collects what
    they gave. ``named`` gives the versions of a model that its rollout names, ``in_work`` the snapshots of requests
    that have not ended: no step may delete them.
    """

    steps: Steps
    monotonic: Callable[[], float]
    named: Callable[[str], Collection[str]]
    in_work: Callable[[], Collection[str]]
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=1, thread_name_prefix="retrain")
    )
    _step: "tuple[RetrainState, Future[Any]] | None" = None
    _training: tuple[str, TrainingProcess] | None = None
    _not_before: dict[str, float] = field(default_factory=dict)
    _started: float = 0.0
    _to_clean: list[RetrainState] = field(default_factory=list)
    _without_disk: dict[str, str] = field(default_factory=dict)

    def start(self, states: Iterable[RetrainState]) -> None:
        """Start what can be started of these committed states, then the cleaning of ended requests."""
        for state in sorted(states, key=lambda one: (one.request.time, one.id)):
            under_way = (self._step and self._step[0].id, self._training and self._training[0])
            # The same look at every flush: a step that is under way is not begun twice.
            if state.stage.final or state.id in under_way:
                continue
            if self.monotonic() >= self._not_before.get(state.id, 0.0):
                self._start_one(state)
        # After the steps: cleaning waits for the registry, and a request in work must not wait behind it.
        while self._to_clean and self._step is None:
            state = self._to_clean.pop()
            self._run(state, lambda state=state: self._clean(state))  # type: ignore[misc]

    def collect(self) -> list[Done]:
        """Return what has finished since the last call; never blocks."""
        found = []
        if self._step is not None and self._step[1].done():
            state, future = self._step
            self._step = None
            error = future.exception()
            result = None if error else future.result()
            if isinstance(result, TrainingJob):
                error = self._train(state, result)
            if error or not isinstance(result, TrainingJob):
                found.append(Done(state.id, state.stage, result, error))
        if self._training is not None and (finished := self._training[1].poll()) is not None:
            request, training = self._training
            self._training = None
            error = None
            # Whatever the trainer made of it: on a disk that takes no files no training gives a model.
            if isinstance(finished, TrainingError) and (why := disk_trouble(training.directory)):
                error = DiskUnwritable(why)
            found.append(Done(request, RequestStage.TRAINING, finished, error))
        for done in found:
            self._without_disk.pop(done.request, None)
        return found

    def waits(self, state: RetrainState, error: BaseException) -> bool:
        """Pause a request whose step failed, and return whether time may mend it: Kafka or store away, disk unwritable.

        A full disk is no fault of the rows: failed, the request would have to be asked for anew by a person.
        """
        self.pause(state.id, self.steps.models[state.model].settings.training.retry_after / 1_000)
        full = unwritable(error, (self.steps.work_dir, self.steps.snapshots.directory))
        if full:
            # The batch that did not fit has been read past, and the rows that did take room.
            self.steps.forget(state.id)
            self._without_disk[state.id] = f"request {state.id} waits for the disk: {error}"
        elif not isinstance(error, Retryable):
            return False
        # Whoever is paged by one of them looks there: rows are read from Kafka, and written to a store.
        away = LogEvent.REGISTRY_UNREACHABLE if isinstance(error, StoreUnreachable) else LogEvent.BROKER_UNREACHABLE
        event = LogEvent.DISK_UNWRITABLE if full else away
        _log.warning(event.value, request=state.id, stage=state.stage.value, why=str(error))
        return True

    def hindered(self, states: Iterable[RetrainState]) -> str | None:
        """Return why the first of these requests that waits for the disk does, None where none does."""
        return next((self._without_disk[state.id] for state in states if state.id in self._without_disk), None)

    def pause(self, request: str, seconds: float) -> None:
        """Start no step of the request for so long."""
        self._not_before[request] = self.monotonic() + seconds

    def pause_after_survey(self, request: str) -> None:
        """Leave time between two countings of labels, in proportion to how long the last one ran."""
        self.pause(request, max(SURVEY_S, SURVEY_SHARE * (self.monotonic() - self._started)))

    def clean_later(self, state: RetrainState) -> None:
        """Remove what an ended request left behind when nothing else is to do."""
        self._to_clean.append(state)

    def reset(self) -> None:
        """Forget every request; kill the training, and let a step end by itself, its result is dropped."""
        if self._training is not None:
            # The subprocess would go on, write where the next try writes, and hold the cores.
            self._training[1].kill()
        if self._step is not None:
            self._step[1].cancel()
        self._training = self._step = None
        self.steps.forget()
        self._not_before, self._to_clean, self._without_disk = {}, [], {}

    def close(self) -> None:
        """Let go of thread and subprocess, after the step that is under way."""
        self.reset()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, state: RetrainState, call: Callable[[], Any]) -> None:
        self._started = self.monotonic()
        self._step = (state, self._pool.submit(call))

    def _start_one(self, state: RetrainState) -> None:
        steps = self.steps
        calls: dict[RequestStage, Callable[[], Any]] = {
            RequestStage.PLANNED: lambda: steps.survey(state),
            RequestStage.WAITING: lambda: steps.survey(state),
            RequestStage.SNAPSHOT: lambda: steps.snapshot(state),
            # In the thread: an object store is asked whether somebody was erased from the rows since.
            RequestStage.TRAINING: lambda: steps.job(state),
            RequestStage.GATE: lambda: steps.gate(state),
            # Asked when the step runs and not when it is queued: a version that was taken out meanwhile must not be
            # removed.
            RequestStage.REGISTERING: lambda: steps.register(state, self.named(state.model)),
        }
        # One training at a time.
        busy = self._training is not None and state.stage is RequestStage.TRAINING
        if self._step is None and not busy and state.reason is not RequestReason.APPROVAL_PENDING:
            self._run(state, calls[state.stage])

    def _train(self, state: RetrainState, job: TrainingJob) -> Exception | None:
        """Start a training; returns why it does not start."""
        try:
            timeout = self.steps.models[state.model].settings.training.timeout / 1_000
            process = TrainingProcess.start(job, self.steps.training_directory(state), timeout)
        except (OSError, ValueError) as error:
            # A full disk: raised here, in the loop's thread, it would end the role at every start, and with it the
            # requests of all models.
            return error
        self._training = (state.id, process)
        return None

    def _clean(self, state: RetrainState) -> None:
        try:
            self.steps.clean(state, self.named(state.model), self.in_work)
        except Retryable as error:
            _log.warning(LogEvent.REGISTRY_UNREACHABLE.value, request=state.id, stage="clean", why=str(error))
