"""Write an MLflow model of an ONNX graph: ``peer_mlflow.py MODEL.onnx DIRECTORY``; `mlflow models serve` reads it."""

# Runs where our packages and their types are not installed.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201

import sys

import mlflow.onnx
import onnx


def main(graph, directory):
    mlflow.onnx.save_model(onnx.load(graph), directory, onnx_session_options={"intra_op_num_threads": 1})


if __name__ == "__main__":
    main(*sys.argv[1:])
