"""Our client logs predictions with their features: ``ours.py BROKER TOPIC EVENTS PACE DRAIN``."""

import json
import sys
import time

import numpy as np

from stationkeeper.client import Client


def main(broker: str, topic: str, events: str, pace: str, drain: str) -> None:
    """Log at a steady pace, wait, and print the microseconds that a call took."""
    names = [f"feature_{at}" for at in range(12)]
    rows = [dict(zip(names, row, strict=True)) for row in np.random.default_rng(0).normal(size=(2_000, 12)).tolist()]
    log = Client(broker, predictions=topic)
    took = []
    print("ready", flush=True)
    begin = time.perf_counter()
    for at in range(int(events)):
        row = rows[at % len(rows)]
        began = time.perf_counter()
        log.prediction(model="small", version="1", event_id=str(at), features=row, prediction=0.5)
        took.append(time.perf_counter() - began)
        time.sleep(max(0.0, begin + at / float(pace) - time.perf_counter()))
    print("logged", flush=True)
    time.sleep(float(drain))
    log.close()
    p50, p99, top = (float(one) * 1e6 for one in np.percentile(took, [50, 99, 100]))
    print(json.dumps({"p50_us": p50, "p99_us": p99, "max_us": top}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
