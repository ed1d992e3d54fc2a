"""What runs beside the loop: a thread for steps that would block it, a training subprocess, and when each begins."""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.state import RequestState
from stationkeeper.retrain.service.steps import Steps
from stationkeeper.retrain.training.job import TrainingJob
from stationkeeper.retrain.training.process import Finished, TrainingProcess
from stationkeeper.streams.errors import Retryable

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
class Worker:
    """Runs at most one step and one training at a time; the loop's thread starts them and collects what they gave."""

    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=1, thread_name_prefix="retrain")
    )
    _step: tuple[str, RequestStage, "Future[Any]"] | None = None
    _training: tuple[str, TrainingProcess] | None = None

    @property
    def idle(self) -> bool:
        """Whether a step can be started."""
        return self._step is None

    @property
    def can_train(self) -> bool:
        """Whether a training can be started."""
        return self._training is None

    def busy_with(self, request: str) -> bool:
        """Whether a step or a training of the request is under way."""
        step, training = self._step, self._training
        return (step is not None and step[0] == request) or (training is not None and training[0] == request)

    def run(self, request: str, stage: RequestStage, call: Callable[[], Any]) -> None:
        """Start a step; the caller has seen ``idle``."""
        self._step = (request, stage, self._pool.submit(call))

    def train(self, request: str, job: TrainingJob, directory: Path, timeout_s: float) -> None:
        """Start a training; the caller has seen ``can_train``."""
        self._training = (request, TrainingProcess.start(job, directory, timeout_s))

    def collect(self) -> list[Done]:
        """Return what has finished since the last call; never blocks."""
        found = []
        if self._step is not None and self._step[2].done():
            request, stage, future = self._step
            self._step = None
            error = future.exception()
            found.append(Done(request, stage, None if error else future.result(), error))
        if self._training is not None:
            request, process = self._training
            finished: Finished | None = process.poll()
            if finished is not None:
                self._training = None
                found.append(Done(request, RequestStage.TRAINING, finished))
        return found

    def abandon(self) -> None:
        """Kill the training and stop caring for the step: it ends by itself and its result is dropped."""
        if self._training is not None:
            self._training[1].kill()
            self._training = None
        if self._step is not None:
            self._step[2].cancel()
            self._step = None

    def close(self) -> None:
        """Let go of thread and subprocess, after the step that is under way."""
        self.abandon()
        self._pool.shutdown(wait=True, cancel_futures=True)


@dataclass(slots=True)
class RequestRunner:
    """Starts the next step of each request in work: oldest request first, none before its pause is over.

    ``named`` gives the versions of a model that its rollout names, which no step may delete.
    """

    steps: Steps
    monotonic: Callable[[], float]
    named: Callable[[str], Collection[str]]
    _worker: Worker = field(default_factory=Worker)
    _not_before: dict[str, float] = field(default_factory=dict)
    _started: dict[str, float] = field(default_factory=dict)
    _to_clean: list[RequestState] = field(default_factory=list)

    def start(self, states: Iterable[RequestState]) -> None:
        """Start what can be started of these committed states, then the cleaning of ended requests."""
        for state in sorted(states, key=lambda one: (one.request.time, one.id)):
            if state.stage.final or self._worker.busy_with(state.id):
                continue
            if self.monotonic() >= self._not_before.get(state.id, 0.0):
                self._start_one(state)
        while self._to_clean and self._worker.idle:
            state = self._to_clean.pop()
            self._worker.run(state.id, state.stage, lambda state=state: self._clean(state))  # type: ignore[misc]

    def collect(self) -> list[Done]:
        """Return what has finished since the last call; never blocks."""
        return self._worker.collect()

    def pause(self, request: str, seconds: float) -> None:
        """Start no step of the request for so long."""
        self._not_before[request] = self.monotonic() + seconds

    def pause_after_survey(self, request: str) -> None:
        """Leave time between two countings of labels; longer where counting itself takes long."""
        took = self.monotonic() - self._started.get(request, self.monotonic())
        self.pause(request, max(SURVEY_S, SURVEY_SHARE * took))

    def clean_later(self, state: RequestState) -> None:
        """Remove what an ended request left behind when nothing else is to do."""
        self._to_clean.append(state)

    def reset(self) -> None:
        """Forget every request and end what is under way."""
        self._worker.abandon()
        self.steps.forget()
        self._not_before, self._started, self._to_clean = {}, {}, []

    def close(self) -> None:
        """End the training and the worker thread."""
        self._worker.close()

    def _start_one(self, state: RequestState) -> None:
        steps = self.steps
        calls: dict[RequestStage, Callable[[], Any]] = {
            RequestStage.PLANNED: lambda: steps.survey(state),
            RequestStage.WAITING: lambda: steps.survey(state),
            RequestStage.SNAPSHOT: lambda: steps.snapshot(state),
            RequestStage.GATE: lambda: steps.gate(state),
            RequestStage.REGISTERING: lambda: steps.register(state, self.named(state.model)),
        }
        if state.stage is RequestStage.TRAINING:
            self._train(state)
        elif self._worker.idle and state.reason is not RequestReason.APPROVAL_PENDING:
            self._started[state.id] = self.monotonic()
            self._worker.run(state.id, state.stage, calls[state.stage])

    def _train(self, state: RequestState) -> None:
        if not self._worker.can_train:
            return
        job = self.steps.job(state)
        if job is None:
            if self._worker.idle:
                self._worker.run(state.id, state.stage, lambda: None)
            return
        timeout = self.steps.models[state.model].settings.training.timeout / 1_000
        self._worker.train(state.id, job, self.steps.training_directory(state), timeout)

    def _clean(self, state: RequestState) -> None:
        try:
            self.steps.clean(state, self.named(state.model))
        except Retryable as error:
            _log.warning(LogEvent.REGISTRY_UNREACHABLE.value, request=state.id, stage="clean", why=str(error))
