#!/bin/sh
# A program for `trainer: command`: `dvc repro` of dvc.yaml over the rows in the exchange folder.
set -eu
cd "$(dirname "$0")"
mkdir -p exchange
cp "$STATIONKEEPER_EXCHANGE/job.json" "$STATIONKEEPER_EXCHANGE/data.parquet" exchange/
dvc repro
cp exchange/model.onnx exchange/model.json exchange/metrics.json "$STATIONKEEPER_EXCHANGE/"
