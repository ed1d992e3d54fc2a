"""The lineage of a retrained model: what its run, version and candidate say about where it came from."""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from stationkeeper.contracts.identity import candidate_id
from stationkeeper.contracts.messages import Candidate, GateOutcome
from stationkeeper.contracts.times import to_datetime
from stationkeeper.registry import Registered
from stationkeeper.retrain.service.state import RequestState
from stationkeeper.retrain.training.job import TrainingJob, TrainingResult


def environment() -> str:
    """Return every installed package with its version, one a line, as pip writes them."""
    found = {f"{d.metadata['Name']}=={d.version}" for d in importlib.metadata.distributions() if d.metadata["Name"]}
    return "\n".join(sorted(found, key=str.lower)) + "\n"


def version_tags(state: RequestState, job: TrainingJob, result: TrainingResult) -> dict[str, str]:
    """Return the tags of a challenger's run and version: verdict → request → snapshot → run can be walked back."""
    request = state.request
    return {
        "request": request.id,
        "incident": request.incident,
        "verdict": request.verdict,
        "kind": request.kind.value,
        "cause": request.cause,
        "subjects": ", ".join(request.subjects),
        "onset": request.onset.time.isoformat(),
        "champion": state.champion or "",
        "snapshot": state.snapshot or "",
        "window": result.window.value,
        "candidate": candidate_id(request.id),
        "gate": state.gate.outcome.value if state.gate else "",
        "gate_reason": state.gate.reason if state.gate else "",
        "seed": str(job.seed),
        "code": result.code,
        "onnx_sha256": result.onnx_sha256,
        "threshold": f"{result.threshold.value:.9g}" if result.threshold else "",
    }


def metrics(result: TrainingResult, gate: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Return the numbers of a run: held-out performance, backtest losses, parity, seconds, and the gate's."""
    found = {f"held_out.{name}": value for name, value in result.performance.items()}
    found |= {f"backtest.{name}": value for name, value in result.backtest.items()}
    found |= {f"seconds.{name}": value for name, value in result.seconds.items()}
    found |= {"parity": result.parity, "rows": float(result.rows), "rows_after": float(result.rows_after)}
    if result.threshold is not None:
        found |= {"threshold": result.threshold.value, "threshold.precision": result.threshold.precision}
    for name, numbers in (gate or {}).items():
        if isinstance(numbers, dict):
            found |= {f"gate.{name}.{key}": float(value) for key, value in numbers.items()}
    return found


def candidate_of(state: RequestState, registered: Registered, reference: str, champion: str) -> Candidate:
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
