"""scouter's client logs features for its PSI profile: ``peer_scouter.py BROKER TOPIC EVENTS PACE DRAIN``."""

# Runs where our packages and their types are not installed.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scouter import Drifter, Features, KafkaConfig, PsiDriftConfig, ScouterQueue


def main(broker, topic, events, pace, drain):
    """Log at a steady pace, wait, and print the microseconds that a call took."""
    names = [f"feature_{at}" for at in range(12)]
    table = np.random.default_rng(0).normal(size=(2_000, 12))
    config = PsiDriftConfig(name="small", space="bench", version="1.0.0")
    profile = Drifter().create_drift_profile(table, config)
    path = Path(tempfile.mkdtemp()) / "profile.json"
    profile.save_to_json(path)
    queue = ScouterQueue.from_path({"small": path}, KafkaConfig(brokers=broker, topic=topic), wait_for_startup=True)
    rows = [dict(zip(names, row.tolist(), strict=True)) for row in table]
    took = []
    print("ready", flush=True)
    begin = time.perf_counter()
    for at in range(int(events)):
        row = rows[at % len(rows)]
        began = time.perf_counter()
        queue["small"].insert(Features(features=row))
        took.append(time.perf_counter() - began)
        time.sleep(max(0.0, begin + at / float(pace) - time.perf_counter()))
    print("logged", flush=True)
    time.sleep(float(drain))
    queue.shutdown()
    p50, p99, top = (float(one) * 1e6 for one in np.percentile(took, [50, 99, 100]))
    print(json.dumps({"p50_us": p50, "p99_us": p99, "max_us": top}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
