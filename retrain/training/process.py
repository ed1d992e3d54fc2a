"""The training subprocess as a stage sees it: started, polled, never waited for, and killed past its time."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from stationkeeper.retrain.training.job import (
    JOB_FILE,
    LOG_FILE,
    RESULT_FILE,
    TrainingError,
    TrainingJob,
    TrainingResult,
)

LOG_TAIL = 2_000
"""Characters of a failed training's log in its error, chosen: a traceback fits, and the message stays a message."""

# Where the package is imported from: an installation, or the checkout (its links are not resolved).
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The subprocess ran past its limit and was killed."""

    seconds: float


Finished = TrainingResult | TrainingError | TimedOut


@dataclass(slots=True)
class TrainingProcess:
    """One running training; ``directory`` holds its job, log, artifact and result."""

    directory: Path
    child: "subprocess.Popen[bytes]"
    deadline: float
    timeout_s: float

    @classmethod
    def start(cls, job: TrainingJob, directory: Path, timeout_s: float) -> Self:
        """Start the training of ``job`` in a process group of its own; an earlier result there is removed."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / RESULT_FILE).unlink(missing_ok=True)
        (directory / JOB_FILE).write_text(job.model_dump_json(indent=1))
        threads = {name: str(job.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        env = os.environ | threads | {"PYTHONPATH": os.pathsep.join(search_path()), "PYTHONHASHSEED": "0"}
        with (directory / LOG_FILE).open("wb") as log:
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "stationkeeper.retrain.training.train",
                    str(directory / JOB_FILE),
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )
        return cls(directory, child, time.monotonic() + timeout_s, timeout_s)

    def poll(self) -> Finished | None:
        """Return how the training ended, or None while it runs; never blocks."""
        code = self.child.poll()
        if code is None:
            if time.monotonic() < self.deadline:
                return None
            self.kill()
            return TimedOut(self.timeout_s)
        return read_result(self.directory, code)

    def kill(self) -> None:
        """End the process group at once and collect it."""
        if self.child.poll() is None:
            try:
                os.killpg(self.child.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            finally:
                self.child.wait()


def search_path() -> list[str]:
    """Return where the child looks for modules: where we do, and in the working directory last.

    A trainer of the user's own may lie there, but nothing there may shadow a module of ours or of a library.
    """
    here = str(Path.cwd())
    ours = [str(_ROOT), *(path for path in sys.path if path)]
    return [*dict.fromkeys(path for path in ours if path != here or path == str(_ROOT)), here]


def read_result(directory: Path, code: int) -> TrainingResult | TrainingError:
    """Return what a finished training wrote; an exit without a result is an error with the end of its log."""
    try:
        text = (directory / RESULT_FILE).read_text()
    except OSError:
        return TrainingError(detail=f"exit code {code}: {log_tail(directory)}", final=False)
    try:
        return TrainingResult.model_validate_json(text) if code == 0 else TrainingError.model_validate_json(text)
    except ValidationError as error:
        return TrainingError(detail=f"exit code {code}, unreadable result: {error}", final=False)


def log_tail(directory: Path) -> str:
    """Return the last lines of a training's log."""
    try:
        text = (directory / LOG_FILE).read_text(errors="replace")
    except OSError:
        return "no log"
    return text[-LOG_TAIL:].strip() or "the log is empty; it may have run out of memory (training.memory_bytes)"
