"""The servers that are measured: ours and its peers, each started on the first core in an environment of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure.environment import child_environment, python_of
from benchmarks.serving.load import once, post

HERE = Path(__file__).parent
# onnx and onnxruntime as in requirements/dev.txt, so that the same graph runs in the same engine on both sides.
ENGINE = ("onnxruntime==1.32.0",)
MLFLOW = ("mlflow==3.17.2", "onnx==1.23.2", *ENGINE)
MLSERVER = ("mlserver==1.7.1", *ENGINE)
BENTOML = ("bentoml==1.4.40", *ENGINE)
# Seconds: `mlflow models serve` imports for ten of them on a busy core.
START_S = 60.0


class NotServed(RuntimeError):
    """A server did not come up; the message ends with what it wrote."""


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How one server is started, and what it is asked; ``values`` are one row of the model."""

    name: str
    requirements: tuple[str, ...]
    command: Callable[[Path, int], Sequence[str]]
    path: str
    body: Callable[[Sequence[float]], object]
    environment: Callable[[Path], Mapping[str, str]] = field(default=lambda _: {})

    def request(self, values: Sequence[float]) -> bytes:
        """Return the request of one row."""
        return post(self.path, json.dumps(self.body(values)).encode())


def ours(ack: str, bootstrap: str, client: str = "kafka-python", linger: str = "") -> ServerCommand:
    """Return our own server, with a real log that acknowledges each answer, or follows it, by either client.

    ``linger`` is the setting of that name where its default is not meant.
    """
    program = str(HERE / "ours.py")
    return ServerCommand(
        f"stationkeeper serve, {'answered once logged' if ack == 'produced' else 'log follows'}, {client}",
        (),
        lambda work, port: [sys.executable, program, str(port), bootstrap, str(work / "models"), ack, client, linger],
        "/predict/small",
        lambda values: {"entity_id": "card-1", "features": {f"f{at:02d}": one for at, one in enumerate(values)}},
    )


def _mlflow(work: Path, port: int) -> Sequence[str]:
    python = python_of("mlflow", MLFLOW)
    directory = work / "mlflow"
    if not directory.exists():
        graph = str(work / "model.onnx")
        done = subprocess.run(
            [str(python), str(HERE / "peer_mlflow.py"), graph, str(directory)],
            capture_output=True, text=True, check=False, env=child_environment(),
        )  # fmt: skip
        if done.returncode:
            raise NotServed(done.stderr[-300:])
    serve = ["models", "serve", "-m", str(directory), "-p", str(port), "--env-manager", "local", "--workers", "1"]
    return [str(python), "-m", "mlflow", *serve]


def _mlserver(work: Path, port: int) -> Sequence[str]:
    python = python_of("mlserver", MLSERVER)
    directory = work / "mlserver"
    directory.mkdir(exist_ok=True)
    (directory / "peer_mlserver.py").write_bytes((HERE / "peer_mlserver.py").read_bytes())
    # No worker processes beside the server and no metrics: its quickest way for a model this small.
    settings = {
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 0,
        "debug": False,
    }
    (directory / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    model = {
        "name": "small",
        "implementation": "peer_mlserver.Small",
        "parameters": {"uri": str(work / "model.onnx")},
        "max_batch_size": 64,
        "max_batch_time": 0.001,
    }
    (directory / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    return [str(python.with_name("mlserver")), "start", str(directory)]


def _bentoml(_: Path, port: int) -> Sequence[str]:
    python = python_of("bentoml", BENTOML)
    serve = ["serve", "peer_bentoml:Small", "--port", str(port), "--working-dir", str(HERE)]
    return [str(python), "-m", "bentoml", *serve]


def peers() -> list[ServerCommand]:
    """Return the peers, each as its own documentation serves a model."""
    tensor = {"name": "features", "datatype": "FP32"}
    return [
        ServerCommand(
            "mlflow models serve 3.17.2",
            MLFLOW,
            _mlflow,
            "/invocations",
            lambda v: {"inputs": [list(v)]},
            # It starts uvicorn by name.
            lambda _: {"PATH": f"{python_of('mlflow', MLFLOW).parent}:{os.environ['PATH']}"},
        ),
        ServerCommand(
            "MLServer 1.7.1",
            MLSERVER,
            _mlserver,
            "/v2/models/small/infer",
            lambda v: {"inputs": [tensor | {"shape": [1, len(v)], "data": list(v)}]},
        ),
        ServerCommand(
            "BentoML 1.4.40",
            BENTOML,
            _bentoml,
            "/predict",
            lambda v: {"rows": [list(v)]},
            lambda work: {"SMALL_ONNX": str(work / "model.onnx"), "BENTOML_HOME": str(work / "bento")},
        ),
    ]


@contextmanager
def running(server: ServerCommand, work: Path, port: int, core: int, request: bytes) -> Iterator[int]:
    """Yield the process of a started server once it answers; raises ``NotServed``."""
    command = server.command(work, port)
    errors = work / "server.log"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with errors.open("wb") as told:
        process = subprocess.Popen(
            command,
            stdout=told, stderr=told, cwd=work, start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - no thread of ours runs yet
            env=child_environment() | threads | server.environment(work),
        )  # fmt: skip
        try:
            _until_answered(process, port, request, errors)
            yield process.pid
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Stop a server and what it started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        # One that could not start has no group any more.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
            return


def _until_answered(process: "subprocess.Popen[bytes]", port: int, request: bytes, errors: Path) -> None:
    until, got = time.monotonic() + START_S, b""
    while time.monotonic() < until and process.poll() is None:
        try:
            got = once(port, request)
        except OSError:
            got = b""
        if got.startswith(b"HTTP/1.1 200"):
            return
        time.sleep(0.2)
    told = errors.read_text(encoding="utf-8", errors="replace")[-300:]
    raise NotServed(f"no answer: {got.decode(errors='replace')[-300:]} {told}")


def processor_s(process: int) -> float:
    """Return the processor seconds of a process and of all below it that live: a server may be several."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        # Behind the name in brackets: 1 is the parent, 11 and 12 the ticks of user and system.
        one = int(path.parent.name)
        parents[one], ticks[one] = int(fields[1]), int(fields[11]) + int(fields[12])
    below, found = {process}, {process}
    while below:
        below = {one for one, parent in parents.items() if parent in below}
        found |= below
    return sum(ticks.get(one, 0) for one in found) / os.sysconf("SC_CLK_TCK")
