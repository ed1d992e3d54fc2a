"""The lineage of a retrained model: what its run, version and candidate say about where it came from."""

import importlib.metadata
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from stationkeeper.contracts.identity import candidate_id
from stationkeeper.contracts.messages import Candidate, GateOutcome, Shadow, Spared
from stationkeeper.contracts.times import to_datetime
from stationkeeper.registry import CHALLENGER_ALIAS, Registered, Registration, Registry
from stationkeeper.retrain.core.gate import GateVerdict
from stationkeeper.retrain.service.plots import write_plots
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.snapshot.snapshot import SnapshotStore, labels_words
from stationkeeper.retrain.training.job import (
    ARTIFACT_DIRECTORY,
    JOB_FILE,
    LOG_FILE,
    RESULT_FILE,
    SHADOW_FILE,
    TrainingJob,
    TrainingResult,
)

# Logged beside the model, with the job's own files; a reader of a run looks for these names.
ENVIRONMENT_FILE = "environment.txt"
GATE_FILE = "gate.json"
MODEL_CARD_FILE = "model-card.md"
SHADOW_REPORT = "shadow.json"


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
    manifest = json.loads(snapshots.manifest_path(job.digest).read_text())
    card = model_card(job, result, manifest, tags, gate)
    (directory / MODEL_CARD_FILE).write_text(card)
    subject = tags.get("subjects", "").split(", ")[0]
    # Read for the picture of the drift alone: a first champion has none.
    rows = snapshots.read(job.digest, job.data_rows) if subject and job.onset_ms is not None else None
    plots = write_plots(job, result, directory, rows, subject)
    if result.shadow is not None:
        (directory / SHADOW_REPORT).write_text(shadow_report(result.shadow, directory / SHADOW_FILE))
    files = (JOB_FILE, RESULT_FILE, LOG_FILE, ENVIRONMENT_FILE, GATE_FILE, MODEL_CARD_FILE, SHADOW_REPORT)
    # Before registering, so that of a step that was killed after it registered only this try's version is left.
    registry.remove_orphans(job.model, request, keep=keep)
    return registry.register(
        Registration(
            model=job.model,
            artifact=directory / ARTIFACT_DIRECTORY,
            params=job.params()
            | {"window": result.window.value, "snapshot": job.digest}
            | ({"chosen": str(result.parameters)} if result.parameters is not None else {}),
            metrics=metrics(result, gate.numbers if gate else None),
            tags={
                "snapshot": job.digest,
                "seed": str(job.seed),
                "code": result.code,
                "onnx_sha256": result.onnx_sha256,
                # Which rows it has not learnt from, for whoever judges it again on them.
                "held_out": f"{job.holdout:.9g} {job.validation:.9g}",
                # Beside it and not in it: a gate of an older build reads two numbers there.
                "champion_until": "" if job.champion_until_ms is None else str(job.champion_until_ms),
                # Nine digits carry a float32 whole; the artifact's card holds the number that decides.
                "threshold": f"{result.threshold.value:.9g}" if result.threshold else "",
                **tags,
            },
            files=(*(directory / name for name in files), snapshots.manifest_path(job.digest)),
            plots=tuple(plots),
            description=card,
            request=request,
            alias=alias,
            run_name=request,
        )
    )


def shadow_report(shadow: Shadow, rows: Path) -> str:
    """Return a shadow and its disagreements, worst first, as the JSON that a version's run keeps.

    Here and not where the training writes it: `erase` finds a person's rows in Parquet files.
    """
    found = pl.read_parquet(rows).to_dicts()
    return json.dumps({"summary": shadow.model_dump(mode="json"), "text": shadow.words(), "rows": found}, indent=1)


def model_card(
    job: TrainingJob,
    result: TrainingResult,
    manifest: Mapping[str, Any],
    tags: Mapping[str, str],
    gate: GateVerdict | None,
) -> str:
    """Return what a person should know of a version before it decides about anyone, as Markdown.

    Sections after Mitchell et al. 2019, "Model Cards for Model Reporting"; what nobody has told us is said to be so.
    """
    times = [manifest.get(name) for name in ("first_time", "last_time")]
    span = " to ".join(to_datetime(one).isoformat() if one is not None else "unknown" for one in times)
    decides = f"positive from a score of {result.threshold.value:.6g}" if result.threshold else "no threshold"
    about = [
        f"# {job.model}",
        f"A {job.task.value} model of {result.features} features, made by `{job.trainer}`; {decides}.",
        "## Why it was made",
        *(f"- {name}: {tags[name]}" for name in ("cause", "kind", "subjects", "onset", "incident") if tags.get(name)),
        "## What it learnt from",
        f"- snapshot `{job.digest}`: {manifest.get('rows')} rows, {labels_words(manifest)}, {span}",
        f"- window `{result.window.value}`: {result.rows} labelled rows, {result.rows_after} since the change",
        *([f"- left out: {', '.join(job.exclude)}"] if job.exclude else []),
        "## How well it does on rows it has not seen",
        f"{result.rows_held_out} rows. "
        + ", ".join(f"{name} {value:.4g}" for name, value in result.performance.items()),
    ]
    if result.selection is not None:
        about += ["## Whom its labels do not tell of", f"{result.selection.words()}."]
    about += ["## What the gate said"]
    if gate is None:
        about += ["Nothing: it is the first, there was none to compare with."]
    else:
        about += [f"{gate.outcome.value}: {gate.reason}"]
        segments = gate.numbers.get("segments", [])
        rows = [
            f"| {one['name']} | {one['rows']} | {one['lost']:.1%} | {one['p']:.3g} | {one['since']:.3g} |"
            for one in segments
        ]
        head = [
            "| segment | rows | knowledge lost | p (Holm) | p of no gain since the change |",
            "|---|---|---|---|---|",
        ]
        about += ["\n".join([*head, *rows])] if rows else []
        gaps = gate.numbers.get("protected", {})
        about += [f"- {name}: {gap['name']} gap {gap['challenger']:.3f}" for name in gaps for gap in gaps[name]]
    if result.shadow is not None:
        about += ["## What it would have answered otherwise", f"{result.shadow.words()}. The rows: `{SHADOW_REPORT}`."]
    about += [
        "## What is not known here",
        "Its purpose, who may be affected, and for whom it must not be used: the owner of the model writes that.",
    ]
    return "\n\n".join(about) + "\n"


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
        "looks": str(request.looks or ""),
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
    # Of age alone: after a change the gate's rows are all of after it, what the new model spares there is no age's, and
    # the curve would take the whole change for growth.
    aged = state.request.aged and "spared" in state.gate.numbers
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
        shadow=result.shadow,
        spared=Spared(version=registered.version, share=_shrunk(state.gate.numbers)) if aged else None,
        curve=result.curve.model_copy(update={"version": registered.version}) if result.curve else None,
        busiest=result.busiest,
    )


def _shrunk(gate: Mapping[str, Any]) -> float:
    """Return what the gate saw a challenger spare, drawn towards nought by its standard error.

    ``1 - (error / share)**2`` estimates how much of the square of what was seen is no chance, as the square of an
    error is on average ``error**2``.

    Only those that passed are told of, so what chance gave is among it: of equal models those pass that had luck, and
    the curve would learn from them that models age. By hand: .02 with an error of .01 is told as .015.
    """
    # Requests that a build before judged tell no error.
    share, error = float(gate["spared"]), float(gate.get("spared_error", 0.0))
    return share * max(1.0 - (error / share) ** 2, 0.0) if share else 0.0
