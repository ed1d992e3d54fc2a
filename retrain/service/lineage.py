"""The lineage of a retrained model: what its run, version and candidate say about where it came from."""

import importlib.metadata
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stationkeeper.contracts.identity import candidate_id
from stationkeeper.contracts.messages import Candidate, GateOutcome
from stationkeeper.contracts.times import to_datetime
from stationkeeper.registry import CHALLENGER_ALIAS, Registered, Registration, Registry
from stationkeeper.retrain.core.gate import GateVerdict
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.snapshot.snapshot import SnapshotStore
from stationkeeper.retrain.training.job import (
    ARTIFACT_DIRECTORY,
    JOB_FILE,
    LOG_FILE,
    RESULT_FILE,
    TrainingJob,
    TrainingResult,
)

# Logged beside the model, with the job's own files; a reader of a run looks for these names.
ENVIRONMENT_FILE = "environment.txt"
GATE_FILE = "gate.json"


def environment() -> str:
    """Return every installed package with its version, one a line, as pip writes them."""
    # A set: a package that lies on two paths is listed twice by the library.
    found = {f"{d.metadata['Name']}=={d.version}" for d in importlib.metadata.distributions() if d.metadata["Name"]}
    return "\n".join(sorted(found, key=str.lower)) + "\n"


def register_training(
    registry: Registry,
    snapshots: SnapshotStore,
    directory: Path,
    *,
    request: str,
    tags: Mapping[str, str],
    gate: GateVerdict | None = None,
    keep: Collection[str] = (),
    alias: str | None = CHALLENGER_ALIAS,
) -> Registered:
    """Register what a training left in ``directory`` with its whole lineage, after removing an earlier try's versions.

    ``keep`` are versions that the log names. Raises ``Retryable``, ``ArtifactError`` and ``FileNotFoundError``.
    """
    job = TrainingJob.model_validate_json((directory / JOB_FILE).read_text())
    result = TrainingResult.model_validate_json((directory / RESULT_FILE).read_text())
    (directory / ENVIRONMENT_FILE).write_text(environment())
    if gate is not None:
        (directory / GATE_FILE).write_text(json.dumps(asdict(gate), indent=1))
    files = (JOB_FILE, RESULT_FILE, LOG_FILE, ENVIRONMENT_FILE, GATE_FILE)
    # Before registering, so that of a step that was killed after it registered only this try's version is left.
    registry.remove_orphans(job.model, request, keep=keep)
    return registry.register(
        Registration(
            model=job.model,
            artifact=directory / ARTIFACT_DIRECTORY,
            params=job.params() | {"window": result.window.value, "snapshot": job.digest},
            metrics=metrics(result, gate.numbers if gate else None),
            tags={
                "snapshot": job.digest,
                "seed": str(job.seed),
                "code": result.code,
                "onnx_sha256": result.onnx_sha256,
                # Nine digits carry a float32 whole; the artifact's card holds the number that decides.
                "threshold": f"{result.threshold.value:.9g}" if result.threshold else "",
                **tags,
            },
            files=(*(directory / name for name in files), snapshots.manifest_path(job.digest)),
            request=request,
            alias=alias,
            run_name=request,
        )
    )


def request_tags(state: RetrainState) -> dict[str, str]:
    """Return what ties a version to its request: verdict → request → snapshot → run can be walked back."""
    request, result, gate = state.request, state.result, state.gate
    return {
        "incident": request.incident,
        "verdict": request.verdict,
        "kind": request.kind.value,
        "cause": request.cause,
        "subjects": ", ".join(request.subjects),
        "onset": request.onset.time.isoformat(),
        "champion": state.champion or "",
        "window": result.window.value if result else "",
        # Named before the candidate exists: its id follows from the request, and `deploy` takes out no version without
        # it.
        "candidate": candidate_id(request.id),
        "gate": gate.outcome.value if gate else "",
        "gate_reason": gate.reason if gate else "",
    }


def metrics(result: TrainingResult, gate: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Return the numbers of a run: held-out performance, backtest losses, parity, seconds, and the gate's."""
    found = {f"held_out.{name}": value for name, value in result.performance.items()}
    found |= {f"backtest.{name}": value for name, value in result.backtest.items()}
    found |= {f"trainer.{name}": value for name, value in result.metrics.items()}
    found |= {f"seconds.{name}": value for name, value in result.seconds.items()}
    found |= {"parity": result.parity, "rows": float(result.rows), "rows_after": float(result.rows_after)}
    if result.threshold is not None:
        found |= {"threshold": result.threshold.value, "threshold.precision": result.threshold.precision}
    for name, numbers in (gate or {}).items():
        # The registry takes numbers only; texts of the gate stand in its file.
        if isinstance(numbers, dict):
            plain = {key: value for key, value in numbers.items() if isinstance(value, int | float)}
            found |= {f"gate.{name}.{key}": float(value) for key, value in plain.items()}
    return found


def candidate_of(state: RetrainState, registered: Registered, reference: str, champion: str) -> Candidate:
    """Return the candidate message of a registered version."""
    if state.gate is None or state.result is None or state.snapshot is None:
        raise ValueError(f"request {state.id} has no gate, result or snapshot; it cannot have a candidate")
    result = state.result
    return Candidate(
        id=candidate_id(state.id),
        time=to_datetime(state.clock_ms),
        request=state.id,
        model=state.model,
        version=registered.version,
        champion=champion,
        run_id=registered.run_id,
        snapshot=state.snapshot,
        reference=reference,
        artifact=registered.artifact,
        gate=GateOutcome(state.gate.outcome),
        gate_reason=state.gate.reason,
        evidence={
            "window": result.window.value,
            "backtest": result.backtest,
            "threshold": result.threshold.value if result.threshold else None,
            "rows": result.rows,
            "rows_after": result.rows_after,
            "onnx_sha256": result.onnx_sha256,
            "incident": state.request.incident,
            "verdict": state.request.verdict,
            "gate": state.gate.numbers,
        },
    )
