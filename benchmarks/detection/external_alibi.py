"""alibi-detect's CVMDriftOnline on the columns of the table; runs in its own environment, prints JSON."""

# Runs where our packages and their types are not installed.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201

import json
import sys

import numpy as np
from alibi_detect.cd import CVMDriftOnline

ASKED = 20_000  # measured run lengths are about half of what is asked
N_REF = 500
BOOTSTRAPS = 40_000


def first_alarm(detector, values):
    detector.reset_state()
    for t, value in enumerate(values):
        if detector.predict(np.array([value]))["data"]["is_drift"]:
            return t + 1.0
    return None


def main(changes, replicates):
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((N_REF, 1)).astype(np.float32)
    detector = CVMDriftOnline(reference, ert=ASKED, window_sizes=[100], n_bootstraps=BOOTSTRAPS, verbose=False)
    quiet = [first_alarm(detector, rng.standard_normal(12_000).astype(np.float32)) for _ in range(replicates)]
    exposure = sum(12_000 if t is None else t for t in quiet)
    out = {"length": exposure / max(sum(t is not None for t in quiet), 0.5), "delays": []}
    for mean, sd in changes:
        delays = []
        for _ in range(replicates):
            values = rng.standard_normal(200 + 3000)
            values[200:] = mean + sd * values[200:]
            when = first_alarm(detector, values.astype(np.float32))
            if when is None or when > 200:
                delays.append(None if when is None else when - 200)
        out["delays"].append(delays)
    print(json.dumps(out))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]))
