"""One small ONNX model behind `serve`, `mlflow models serve`, MLServer and BentoML: answers a second, latency."""

import argparse
import hashlib
import os
import socket
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure.broker import broker_elsewhere, create_topic, produce
from benchmarks.measure.environment import NotInstalled
from benchmarks.measure.results import save, table
from benchmarks.serving.load import ask
from benchmarks.serving.servers import NotServed, ServerCommand, ours, peers, processor_s, running
from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.contracts.times import to_datetime
from stationkeeper.deploy.core.split import rollout_salt
from stationkeeper.registry import (
    CARD_FILE,
    MODEL_FILE,
    FeatureKind,
    FeatureSpec,
    InputMode,
    ModelCard,
    ModelTask,
    ServedModel,
)
from stationkeeper.registry.artifact import TENSOR_INPUT

# The twelve numbers of the other benchmarks' events.
FEATURES = tuple(FeatureSpec(name=f"f{at:02d}", kind=FeatureKind.NUMERIC) for at in range(12))
# One connection shows what an answer costs by itself; sixteen keep the server busy without a queue that only shows
# its own length.
CALLERS = (1, 16)
RATE, ADDED_MS = 3_000.0, 1.0
CLIENTS = ("kafka-python", "librdkafka")


def main() -> None:
    """Measure, print the table and the bars, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks serving", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--linger", default="", help="serve.linger, as 400ms; its default where left out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="serving-") as place:
        work = Path(place)
        model = write_model(work)
        values = np.random.default_rng(1).normal(size=len(FEATURES)).round(4).tolist()
        alone = model_alone(model, values)
        print(f"onnxruntime alone: p50 {alone[0]:.3f} ms, p99 {alone[1]:.3f} ms", flush=True)
        core = min(os.sched_getaffinity(0))
        found: dict[str, list[dict[str, Any]]] = {}
        with broker_elsewhere() as bootstrap:
            # The broker and we who ask share the second core; the first is the server's.
            os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - {core} or {core})
            begin(bootstrap)
            acks = ("queued",) if given.linger else ("queued", "produced")
            servers = [ours(ack, bootstrap, client, given.linger) for client in CLIENTS for ack in acks]
            servers += [] if given.no_peers else peers()
            for _ in range(given.rounds):
                for server in servers:
                    found.setdefault(server.name, []).append(measure(server, work, core, values, given.seconds))
                    print(f"{server.name}: {found[server.name][-1]}", flush=True)
    report(found, alone)


def write_model(work: Path) -> ServedModel:
    """Write a small gradient boosting as ONNX, by itself and as a version of ours."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import GradientBoostingClassifier

    rng = np.random.default_rng(0)
    table_ = rng.normal(size=(2_000, len(FEATURES))).astype(np.float32)
    fitted = GradientBoostingClassifier(n_estimators=50, max_depth=3).fit(table_, table_[:, 0] + table_[:, 1] > 1)
    types = [(TENSOR_INPUT, FloatTensorType([None, len(FEATURES)]))]
    content = to_onnx(fitted, initial_types=types, options={"zipmap": False}).SerializeToString()
    (work / "model.onnx").write_bytes(content)
    card = ModelCard(
        model="small",
        task=ModelTask.BINARY,
        features=FEATURES,
        classes=("false", "true"),
        positive="true",
        threshold=0.5,
        input_mode=InputMode.TENSOR,
        onnx_sha256=hashlib.sha256(content).hexdigest(),
    )
    directory = work / "models" / "small" / "1"
    directory.mkdir(parents=True)
    (directory / MODEL_FILE).write_bytes(content)
    (directory / CARD_FILE).write_bytes(card.encode())
    return ServedModel.load(directory, "small", "1")


def model_alone(model: ServedModel, values: list[float]) -> tuple[float, float]:
    """Return p50 and p99 in ms of scoring one row in process, on the core of the servers."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    columns = {spec.name: [value] for spec, value in zip(FEATURES, values, strict=True)}
    took = []
    for _ in range(5_000):
        began = time.perf_counter()
        model.answer(columns)
        took.append(time.perf_counter() - began)
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)))
    p50, p99 = np.percentile(took, [50, 99]) * 1_000
    return float(p50), float(p99)


def begin(bootstrap: str) -> None:
    """Make the topics, with a champion in the log."""
    for topic in ("serving.rollouts", "small.predictions"):
        create_topic(bootstrap, topic)
    record = Rollout(
        model="small",
        epoch=1,
        time=to_datetime(0),
        phase=RolloutPhase.STEADY,
        champion="1",
        canary=None,
        weight_bp=0,
        salt=rollout_salt("small", 1),
        lease_until=None,
    )
    produce(bootstrap, "serving.rollouts", [record.encode()], [b"small"])


def measure(server: ServerCommand, work: Path, core: int, values: list[float], seconds: float) -> dict[str, Any]:
    """Return what one server did with one caller and with many, or why it did nothing."""
    request = server.request(values)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found: dict[str, Any] = {}
    try:
        with running(server, work, port, core, request) as process:
            ask(port, request, max(CALLERS), 1.0)
            for callers in CALLERS:
                began = processor_s(process)
                got = ask(port, request, callers, seconds)
                spent = processor_s(process) - began
                found[str(callers)] = asdict(got) | {"rate": got.rate, "processor_us": spent / got.answered * 1e6}
    except (NotInstalled, NotServed, OSError) as error:
        found["failed"] = " ".join(str(error).split()[-40:])
    return found


def report(found: dict[str, list[dict[str, Any]]], alone: tuple[float, float]) -> None:
    """Print the table and the bars, and write the figures."""
    rows: list[list[object]] = []
    for name, rounds in found.items():
        good = [one for one in rounds if "failed" not in one]
        if not good:
            rows.append([f"{name}: {rounds[-1]['failed']}", None, None, None, None, None, None])
            continue

        def middle(callers: int, what: str, good: list[dict[str, Any]] = good) -> float:
            return float(median(one[str(callers)][what] for one in good))

        failed = sum(one[str(callers)]["failed"] for one in good for callers in CALLERS)
        one, many = CALLERS
        rows.append(
            [
                name,
                middle(one, "p50_ms"),
                middle(one, "p99_ms"),
                middle(many, "rate"),
                middle(many, "p99_ms"),
                middle(many, "processor_us"),
                failed,
            ]
        )
    header = ("server", "1 caller p50 ms", "p99 ms", "16 callers answers/s", "p99 ms", "processor µs", "not answered")
    print("\n" + table(header, rows))
    # The log follows in the first row of each client.
    for client in CLIENTS:
        row = next(row for row in rows if str(row[0]).endswith(f"log follows, {client}"))
        added, rate, spent = (float(str(row[at])) for at in (2, 3, 5))
        print(f"{client}: {rate:,.0f} answers/s on one core, {1e6 / spent:,.0f} of processor time (bar {RATE:,.0f})")
        print(f"{client}: p99 beyond the model's own {alone[1]:.2f} ms: {added - alone[1]:.2f} ms (bar < {ADDED_MS:g})")
    save("serving", {"alone_ms": alone, "rounds": found, "rows": rows})


if __name__ == "__main__":
    main()
