"""frouros' IncrementalKSTest and CUSUM on the columns of the table; runs in its own environment, prints JSON."""

# Runs where our packages and their types are not installed.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201

import json
import sys

import numpy as np
from frouros.detectors.concept_drift import CUSUM, CUSUMConfig
from frouros.detectors.data_drift.streaming import IncrementalKSTest

N_REF = 1000
WINDOW = 250
LEVELS = (0.05, 0.02, 0.01, 0.005, 0.002, 1e-3, 5e-4)
THRESHOLDS = (20.0, 25.0, 30.0, 35.0, 40.0)


def ks_lowest(reference, values):
    """Running minimum of the p-value."""
    detector = IncrementalKSTest(window_size=WINDOW)
    detector.fit(X=reference)
    lowest, out = 1.0, np.ones(len(values))
    for t, value in enumerate(values):
        result, _ = detector.update(value=value)
        if result is not None:
            lowest = min(lowest, float(result.p_value))
        out[t] = lowest
    return out


def first(hit):
    return float(hit.argmax() + 1) if hit.any() else None


def length(times, horizon):
    return sum(horizon if t is None else t for t in times) / max(sum(t is not None for t in times), 0.5)


def incremental_ks(changes, replicates):
    rng = np.random.default_rng(0)
    horizon = 12_000
    quiet = [ks_lowest(rng.standard_normal(N_REF), rng.standard_normal(horizon)) for _ in range(replicates)]
    for level in LEVELS:
        run = length([first(q <= level) for q in quiet], horizon)
        if run >= 10_000:
            break
    delays = []
    for mean, sd in changes:
        found = []
        for _ in range(replicates):
            values = rng.standard_normal(500 + 3000)
            values[500:] = mean + sd * values[500:]
            when = first(ks_lowest(rng.standard_normal(N_REF), values) <= level)
            if when is None or when > 500:
                found.append(None if when is None else when - 500)
        delays.append(found)
    return {
        "name": f"frouros IncrementalKSTest, window {WINDOW}, p <= {level:g} (3k horizon)",
        "length": run,
        "delays": delays,
    }


def cusum_first(values, threshold):
    detector = CUSUM(CUSUMConfig(delta=0.1, lambda_=threshold))
    for t, value in enumerate(values):
        detector.update(value=value)
        if detector.drift:
            return t + 1.0
    return None


def cusum(changes, replicates):
    rng = np.random.default_rng(1)
    for threshold in THRESHOLDS:
        run = length([cusum_first(rng.standard_normal(30_000), threshold) for _ in range(replicates)], 30_000)
        if run >= 10_000:
            break
    delays = []
    for mean, sd in changes:
        found = []
        while len(found) < replicates:
            values = rng.standard_normal(2000 + 20_000)
            values[2000:] = mean + sd * values[2000:]
            when = cusum_first(values, threshold)
            if when is None or when > 2000:
                found.append(None if when is None else when - 2000)
        delays.append(found)
    return {"name": f"frouros CUSUM .1 / {threshold:g}", "length": run, "delays": delays}


if __name__ == "__main__":
    columns, count = json.loads(sys.argv[1]), int(sys.argv[2])
    print(json.dumps([incremental_ks(columns, count), cusum(columns, count)]))
