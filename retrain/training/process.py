"""The training subprocess as a stage sees it: started, polled, never waited for, and ended past one of its limits."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydantic import ValidationError

from stationkeeper.contracts.times import format_duration
from stationkeeper.retrain.training.job import (
    JOB_FILE,
    LOG_FILE,
    PROGRESS_FILE,
    RESULT_FILE,
    TrainingError,
    TrainingJob,
    TrainingResult,
)
from stationkeeper.retrain.training.process_tree import MARKER, ControlGroup, ProcessTree

LOG_TAIL = 2_000
"""Characters of a failed training's log in its error, chosen: a traceback fits, and the message stays a message."""

LOG_BYTES: Final = 4 * 1024 * 1024
"""A log past it is cut, chosen: an hour of a chatty trainer fits; a training that prints its rows filled 400 MB."""

LOG_KEPT: Final = 1024 * 1024
"""What stays of a cut log, its end, in a file beside it: the end holds the error, half a minute of chatter suffices."""

LOOK_S: Final = 1.0
"""Pause between two looks at memory, disk and log, chosen: a look reads /proc and walks one directory (milliseconds);
at ten times as long a training could take ten more seconds' worth past its limit."""

POLL_S: Final = 0.05
"""Pause between two looks of ``train_to_the_end``, chosen: a training takes seconds, nobody notices a twentieth."""

_PROBE_BYTES: Final = 64 * 1024
"""What a disk must take to count as writable, chosen: a job, a log and a result fit. Less may find the last free block
of a disk that is full; far more would itself fill a small one."""

SCRATCH_DIRECTORY: Final = "scratch"
"""Where the training's temporary files go (``TMPDIR``): they count as its disk and go with its directory."""

PASSED: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "JAVA_HOME"),
        *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"),
    }
)
"""Variables that a training gets without being named, and ``LC_*``: what programs need to start, and no credential.
Proxies are not among them: their addresses may hold a password."""

# Where the package is imported from: an installation, or the checkout (its links are not resolved).
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The subprocess ran past its limit and was killed; ``progress`` is the last that it said of itself."""

    seconds: float
    progress: str = ""


Finished = TrainingResult | TrainingError | TimedOut


@dataclass(slots=True)
class TrainingProcess:
    """One running training; ``directory`` holds its job, log, artifact and result."""

    directory: Path
    job: TrainingJob
    child: "subprocess.Popen[bytes]"
    tree: ProcessTree
    deadline: float
    timeout_s: float
    _look: float = 0.0

    @classmethod
    def start(cls, job: TrainingJob, directory: Path, timeout_s: float) -> Self:
        """Start the training of ``job`` in a session and, where possible, a control group of its own.

        An earlier result and scratch files there are removed.
        """
        scratch = directory / SCRATCH_DIRECTORY
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for name in (RESULT_FILE, PROGRESS_FILE):
            (directory / name).unlink(missing_ok=True)
        # Kept with the run: whoever asks later what was trained on which rows reads it there.
        (directory / JOB_FILE).write_text(job.model_dump_json(indent=1))
        marker = secrets.token_hex(8)
        group = ControlGroup.make(f"stationkeeper-{marker}")
        # The log is appended to, so that it can be cut while others write it.
        _log(directory).unlink(missing_ok=True)
        with _log(directory).open("ab") as log:
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
                env=environment(os.environ, job, marker) | {"TMPDIR": str(scratch.resolve())},
                start_new_session=True,
            )
        if group is not None and not group.add(child.pid):
            group.remove()
            group = None
        tree = ProcessTree(child.pid, marker, group)
        return cls(directory, job, child, tree, time.monotonic() + timeout_s, timeout_s)

    def poll(self) -> Finished | None:
        """Return how the training ended, or None while it runs; never blocks."""
        now = time.monotonic()
        code = self.child.poll()
        if code is None:
            fault = None
            if now >= self._look:
                self._look = now + LOOK_S
                fault = self._past_a_limit()
            if fault is None and now < self.deadline:
                return None
            said = progress(self.directory)
            self.kill()
            # A limit that was passed is the better reason: a training that swaps runs out of time as well.
            return fault or TimedOut(self.timeout_s, said)
        self.kill()
        return read_result(self.directory, code)

    def kill(self) -> None:
        """End every process of the training at once and collect the first; what it left running ends too."""
        self.tree.end()
        self.child.wait()
        if self.tree.group is not None:
            self.tree.group.remove()
        cut_log(self.directory)

    def _past_a_limit(self) -> TrainingError | None:
        job = self.job
        cut_log(self.directory)
        held = self.tree.resident_bytes()
        if held > job.memory_bytes:
            detail = (
                f"out of memory: the training and what it started hold {held} bytes, training.memory_bytes is "
                f"{job.memory_bytes}; raise it or lower training.max_rows"
            )
            return TrainingError(detail=detail, final=True, cause="limit")
        written = _written(self.directory)
        if written > job.disk_bytes:
            detail = (
                f"out of disk: the training has written {written} bytes, training.disk_bytes is {job.disk_bytes}; "
                "raise it, or let the trainer keep less"
            )
            return TrainingError(detail=detail, final=True, cause="limit")
        return None


class NoModel(ValueError):
    """A training that gave no model; the message quotes what it said."""


def disk_trouble(directory: Path) -> str | None:
    """Return why a training's directory takes no files, as a file written there now finds.

    What the training said is no evidence: a trainer quotes whatever failed, also a number of somebody else's disk.
    """
    try:
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return f"[Errno {error.errno}] {error.strerror}: {directory}"
    return None


def train_to_the_end(job: TrainingJob, directory: Path, timeout_ms: int) -> TrainingResult:
    """Train and wait for it: for a person's command, which has nothing else to do. Raises ``NoModel``."""
    process = TrainingProcess.start(job, directory, timeout_ms / 1_000)
    try:
        while (finished := process.poll()) is None:
            time.sleep(POLL_S)
    finally:
        process.kill()
    if isinstance(finished, TrainingError):
        raise NoModel(f"the training gave no model: {finished.detail}")
    if isinstance(finished, TimedOut):
        limit = format_duration(timeout_ms)
        raise NoModel(f"the training ran longer than training.timeout {limit}: {log_tail(directory)}")
    return finished


def environment(own: Mapping[str, str], job: TrainingJob, marker: str) -> dict[str, str]:
    """Return a training's environment: what programs need, and what ``training.environment`` names.

    A role's environment holds the passwords of brokers and registries; a trainer, which is foreign code, gets none of
    them unless it is named.
    """
    passed = {name: value for name, value in own.items() if name in PASSED or name.startswith("LC_")}
    threads = {name: str(job.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    named = {name: own[name] for name in job.environment if name in own}
    # The hash seed is fixed so that sets of texts are walked in one order: equal jobs give equal models.
    ours = {"PYTHONPATH": os.pathsep.join(search_path()), "PYTHONHASHSEED": "0", MARKER: marker}
    return passed | threads | named | ours


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


def progress(directory: Path) -> str:
    """Return the last that a training said of itself, or nothing."""
    try:
        found = json.loads((directory / PROGRESS_FILE).read_text())
    except (OSError, ValueError):
        return ""
    return str(found.get("text", "")) if isinstance(found, dict) else ""


def log_tail(directory: Path) -> str:
    """Return the last lines of a training's log."""
    if not _log(directory).exists():
        return "no log"
    # Four bytes hold any character of UTF-8.
    kept = b"".join(_end(path, 4 * LOG_TAIL) for path in (_cut(directory), _log(directory)))
    text = kept.decode(errors="replace")
    return text[-LOG_TAIL:].strip() or "the log is empty; it may have run out of memory (training.memory_bytes)"


def cut_log(directory: Path) -> None:
    """Keep the end of a log that has grown past ``LOG_BYTES`` in a file beside it, and begin it anew."""
    log = _log(directory)
    # One that cannot be cut goes on growing, up to training.disk_bytes; raised here it would end the role.
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_BYTES:
            _cut(directory).write_bytes(_end(log, LOG_KEPT))
            os.truncate(log, 0)


def _log(directory: Path) -> Path:
    return directory / LOG_FILE


def _cut(directory: Path) -> Path:
    return directory / f"{LOG_FILE}.1"


def _end(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - count))
            return file.read(count)
    except FileNotFoundError:
        return b""


def _written(directory: Path) -> int:
    """Return the bytes of all files below a directory; a file that goes meanwhile counts nothing."""
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size if not path.is_dir() else 0
    return total
