"""A BentoML service over onnxruntime, with its own batching of waiting requests; the graph is in the environment."""

# Runs where our packages and their types are not installed.
# mypy: ignore-errors
# ruff: noqa: ANN204

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=1)
class Small:
    """One session with one thread, as ours."""

    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["SMALL_ONNX"], options)

    @bentoml.api(batchable=True)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.session.run(["probabilities"], {"features": rows.astype(np.float32)})[0]
