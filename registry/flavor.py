"""The artifact as MLflow's ONNX flavor: ``MLmodel``, signature and requirements beside model and card."""

import importlib.metadata
import shutil
from pathlib import Path

from stationkeeper.registry.artifact import CARD_FILE, FeatureKind, InputMode, ModelCard, Task

_REQUIREMENTS = ("onnxruntime", "numpy")


def write_flavor(artifact: Path, card: ModelCard, directory: Path) -> None:
    """Write a directory that MLflow, and any tool that reads MLflow models, can load; the card lies beside it.

    Requirements are given, because inferring them takes MLflow ten seconds and a subprocess.
    """
    import mlflow.onnx
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema, TensorSpec

    if card.input_mode is InputMode.TENSOR:
        import numpy as np

        inputs = Schema([TensorSpec(np.dtype("float32"), (-1, len(card.features)), "features")])
    else:
        kinds = {FeatureKind.CATEGORICAL: "string", FeatureKind.NUMERIC: "float", FeatureKind.BOOLEAN: "float"}
        inputs = Schema([ColSpec(kinds[spec.kind], spec.name, required=True) for spec in card.features])
    outputs = Schema([ColSpec("float", "value" if card.task is Task.REGRESSION else "probability")])
    mlflow.onnx.save_model(
        onnx.load(artifact / "model.onnx"),
        str(directory),
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in _REQUIREMENTS],
        signature=ModelSignature(inputs=inputs, outputs=outputs),
    )
    # onnx writes the same model with another byte order of fields; the registered bytes are the trained ones.
    shutil.copyfile(artifact / "model.onnx", directory / "model.onnx")
    shutil.copyfile(artifact / CARD_FILE, directory / CARD_FILE)
