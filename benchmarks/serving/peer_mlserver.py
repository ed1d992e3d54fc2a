"""An MLServer runtime over onnxruntime, as its documentation writes one of one's own; it has none for ONNX."""

# Runs where our packages and their types are not installed.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Small(MLModel):
    """One session with one thread, as ours."""

    async def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload):
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        scores = self.session.run(["probabilities"], {"features": rows})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("predict", scores)])
