"""What a run in MLflow holds of a training: the model as its tools read it, files, plots, dataset, description."""

import importlib.metadata
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stationkeeper.registry.artifact import CARD_FILE, MODEL_FILE, ArtifactError, FeatureKind, ModelCard, ModelTask

if TYPE_CHECKING:
    from stationkeeper.registry.mlflow import MlflowConnection, Registration

SNAPSHOT = "snapshot"
MODEL_PATH = "model"
PLOTS_PATH = "plots"
MAX_TAG = 4_000
"""Below what MLflow stores of a parameter (6 000 characters) and of a run's tag (8 000): we cut, not the server."""

# Copied into each model and never imported here: it needs what only a machine that scores has.
_SCORING = Path(__file__).with_name("pyfunc_graph.py")

# What a tool that loads the flavor needs; without the list MLflow infers it in ten seconds and a subprocess.
_REQUIREMENTS = ("mlflow", "onnxruntime", "numpy", "pandas")


def log_run(client: Any, run_id: str, registration: "Registration", card: ModelCard) -> None:
    """Log parameters, metrics, the model, files, plots, the dataset and the description into a run."""
    from mlflow.entities import Metric, Param
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    metrics = [Metric(name, float(value), now, 0) for name, value in registration.metrics.items()]
    params = [Param(name, str(value)[:MAX_TAG]) for name, value in registration.params.items()]
    client.log_batch(run_id, metrics=metrics, params=params)
    with tempfile.TemporaryDirectory() as scratch:
        flavored = Path(scratch) / MODEL_PATH
        write_flavor(registration.artifact, card, flavored)
        client.log_artifacts(run_id, str(flavored), MODEL_PATH)
    for folder, files in ((None, registration.files), (PLOTS_PATH, registration.plots)):
        for file in files:
            if file.exists():
                client.log_artifact(run_id, str(file), folder)
    if SNAPSHOT in registration.tags:
        client.log_inputs(run_id, datasets=[_dataset(registration)])
    if registration.description:
        # What MLflow shows as the run's description.
        client.set_tag(run_id, "mlflow.note.content", registration.description)


def _dataset(registration: "Registration") -> Any:
    """What MLflow lists as a run's dataset: the snapshot by its SHA-256, which MLflow's own digest cuts."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.validation import MAX_DATASET_DIGEST_SIZE

    digest = registration.tags[SNAPSHOT]
    source = json.dumps({"sha256": digest, "manifest": f"{digest}.json"})
    name = f"{registration.model} snapshot"
    found = Dataset(name=name, digest=digest[:MAX_DATASET_DIGEST_SIZE], source_type="stationkeeper", source=source)
    return DatasetInput(found, tags=[InputTag("mlflow.data.context", "training")])


def write_flavor(artifact: Path, card: ModelCard, directory: Path) -> None:
    """Write the artifact as an MLflow model that any tool which reads them can load, serve and show.

    Its flavors are ``onnx`` and ``python_function``, the latter by `pyfunc_graph`, which travels with it. The card's
    golden rows are its input example.
    """
    import mlflow.onnx
    import onnx
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    # Doubles, and none required: JSON has no float32, which MLflow refuses, and a missing value is a row's own matter.
    kinds = {FeatureKind.CATEGORICAL: "string", FeatureKind.NUMERIC: "double", FeatureKind.BOOLEAN: "boolean"}
    inputs = Schema([ColSpec(kinds[spec.kind], spec.name, required=False) for spec in card.features])
    answers = {ModelTask.REGRESSION: ("value",), ModelTask.BINARY: ("probability",)}.get(card.task, card.classes)
    mlflow.onnx.save_model(
        onnx.load(artifact / MODEL_FILE),
        str(directory),
        code_paths=[str(_SCORING)],
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in _REQUIREMENTS],
        signature=ModelSignature(inputs=inputs, outputs=Schema([ColSpec("float", name) for name in answers])),
        input_example=pd.DataFrame(card.golden.columns, dtype=object) if card.golden is not None else None,
    )
    written = Model.load(str(directory))
    written.flavors["python_function"]["loader_module"] = _SCORING.stem
    # The loader finds graph and card in the model's own directory, not in a file of it.
    written.flavors["python_function"].pop("data", None)
    written.save(str(directory / "MLmodel"))
    # onnx writes the same model with another byte order of fields; the registered bytes are the trained ones.
    for name in (MODEL_FILE, CARD_FILE):
        shutil.copyfile(artifact / name, directory / name)


def read_run_file(connection: "MlflowConnection", where: str, run_id: str, name: str) -> str:
    """Return the text of a file that a run holds beside its model, from the registry at ``where``.

    Raises ``ArtifactError`` where there is none, ``Retryable`` while the registry is away.
    """
    with connection.asking(f"read {name} of run {run_id}") as client, tempfile.TemporaryDirectory() as scratch:
        from mlflow.artifacts import download_artifacts

        # Asked first: of a file that is not there each kind of store raises an error of its own.
        held = sorted(one.path for one in client.list_artifacts(run_id))
        if name not in held:
            raise ArtifactError(f"run {run_id} holds no {name}; it has: {', '.join(held) or 'nothing'}")
        got = download_artifacts(run_id=run_id, artifact_path=name, dst_path=scratch, tracking_uri=where)
        return Path(got).read_text()


def write_run_file(connection: "MlflowConnection", run_id: str, name: str, text: str) -> None:
    """Write a file beside a run's model in place of the one of that name; raises ``Retryable``."""
    with connection.asking(f"write {name} of run {run_id}") as client, tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / name).write_text(text)
        client.log_artifact(run_id, str(Path(scratch) / name))
