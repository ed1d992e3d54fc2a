"""One background thread for steps that would block the loop, and one training subprocess beside it."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stationkeeper.retrain.core.reasons import Stage
from stationkeeper.retrain.training.job import TrainingJob
from stationkeeper.retrain.training.process import Finished, TrainingProcess


@dataclass(frozen=True, slots=True)
class Done:
    """A finished step: of which request and stage, and what it returned or raised."""

    request: str
    stage: Stage
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class Worker:
    """Runs at most one step and one training at a time; the loop's thread starts them and collects what they gave."""

    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=1, thread_name_prefix="retrain")
    )
    _step: tuple[str, Stage, "Future[Any]"] | None = None
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

    def run(self, request: str, stage: Stage, call: Callable[[], Any]) -> None:
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
                found.append(Done(request, Stage.TRAINING, finished))
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
