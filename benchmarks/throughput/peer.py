"""Peers on the events of the benchmark, each in its own environment: JSON in, its drift statistics out, one window.

``python peer.py NAME REFERENCE EVENTS`` reads two files of JSON lines and prints one JSON line: for each way to use
the peer, processor seconds and events, decoding included, and whether it computes a distance for every feature.
"""

# Runs where our packages and their types are not installed.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN003, ANN201, ANN202, ANN204, ARG001

import itertools
import json
import logging
import resource
import sys
import time
import warnings
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

ROUNDS = 3
WINDOW = 10_000
decode = msgspec.json.Decoder().decode


def rows(lines):
    """Records as flat dictionaries, the features and the score."""
    out = []
    for line in lines:
        record = decode(line)
        flat = record["features"]
        flat["score"] = record["prediction"]
        out.append(flat)
    return out


def matrix(lines, names):
    """Columns of numbers as float64[n, columns]."""
    return np.array([[row[name] for name in names] for row in rows(lines)])


class Coded:
    """Numbers and categories as one float64[n, columns], for peers that want categories as codes."""

    def __init__(self, lines, numbers, categories):
        self.numbers, self.categories = numbers, categories
        known = rows(lines)
        self.codes = {name: {v: i for i, v in enumerate(sorted({row[name] for row in known}))} for name in categories}

    def __call__(self, lines):
        codes = [(name, self.codes[name]) for name in self.categories]
        return np.array(
            [
                [*(row[name] for name in self.numbers), *(known[row[name]] for name, known in codes)]
                for row in rows(lines)
            ]
        )


def timed(way, lines, work, *, window=WINDOW, distance, features):
    """Processor seconds of one pass over the events in windows, the median of some passes after one to warm up."""
    windows = [lines[i : i + window] for i in range(0, len(lines), window)]
    work(windows[0])
    seconds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for one in windows:
            work(one)
        seconds.append(time.process_time() - began)
    return {"way": way, "events": len(lines), "seconds": median(seconds), "distance": distance, "features": features}


def evidently(reference, events, numbers, categories):
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    known = Dataset.from_pandas(pd.DataFrame(rows(reference)), data_definition=definition)

    def report(**options):
        def work(window):
            current = Dataset.from_pandas(pd.DataFrame(rows(window)), data_definition=definition)
            Report([DataDriftPreset(**options)]).run(current, known).dict()

        return work

    both = {"distance": True, "features": len(numbers) + len(categories)}
    yield timed("DataDriftPreset", events[: 2 * WINDOW], report(), **both)
    yield timed("DataDriftPreset, PSI", events[: 2 * WINDOW], report(method="psi"), **both)


def whylogs(reference, events, numbers, categories):
    import pandas as pd
    import whylogs as why

    work = lambda window: why.log(pd.DataFrame(rows(window))).view()  # noqa: E731
    yield timed("log and view (a profile)", events[: 3 * WINDOW], work, distance=False, features=16)


def nannyml(reference, events, numbers, categories):
    import nannyml as nml
    import pandas as pd

    for method in ("kolmogorov_smirnov", "jensen_shannon", "wasserstein"):
        calculator = nml.UnivariateDriftCalculator(
            column_names=numbers + categories,
            continuous_methods=[method],
            categorical_methods=["jensen_shannon"],
            chunk_size=WINDOW,
        )
        calculator.fit(pd.DataFrame(rows(reference)))
        work = lambda window, c=calculator: c.calculate(pd.DataFrame(rows(window)))  # noqa: E731
        name = f"univariate, {method.replace('_', ' ')}"
        yield timed(name, events[: 3 * WINDOW], work, distance=True, features=16)


def alibi_detect(reference, events, numbers, categories):
    from alibi_detect.cd import CVMDriftOnline, TabularDrift

    known, coded = matrix(reference, numbers), Coded(reference, numbers, categories)
    places = {len(numbers) + i: len(coded.codes[name]) for i, name in enumerate(categories)}
    every = TabularDrift(coded(reference), p_val=0.05, categories_per_feature=places)
    work = lambda window: every.predict(coded(window))  # noqa: E731
    yield timed("TabularDrift", events[: 3 * WINDOW], work, distance=True, features=16)
    tabular = TabularDrift(known, p_val=0.05)
    work = lambda window: tabular.predict(matrix(window, numbers))  # noqa: E731
    yield timed("TabularDrift, numbers only", events[: 3 * WINDOW], work, distance=True, features=13)
    online = CVMDriftOnline(known[:500], ert=100, window_sizes=[20], n_bootstraps=2_000, verbose=False)

    def one_by_one(window):
        for row in matrix(window, numbers):
            online.predict(row)

    yield timed("online CVM", events[:300], one_by_one, distance=True, features=13)


def river(reference, events, numbers, categories):
    from river import drift

    def updates(make):
        detectors = [(name, make()) for name in numbers]

        def work(window):
            for row in rows(window):
                for name, detector in detectors:
                    detector.update(row[name])

        return work

    yield timed("ADWIN", events[:WINDOW], updates(drift.ADWIN), distance=False, features=13)
    yield timed("KSWIN", events[:300], updates(drift.KSWIN), distance=True, features=13)


def frouros(reference, events, numbers, categories):
    from frouros.detectors.data_drift import PSI
    from frouros.detectors.data_drift.streaming import IncrementalKSTest

    known, coded = matrix(reference, numbers), Coded(reference, numbers, categories)

    def psi(read):
        fitted = [PSI() for _ in read(reference[:1])[0]]
        for detector, column in zip(fitted, read(reference).T, strict=True):
            detector.fit(X=column)

        def compare(window):
            for detector, column in zip(fitted, read(window).T, strict=True):
                detector.compare(X=column)

        return compare

    # It knows numbers only: codes of categories in bins of equal width are no distance of categories.
    coded_too = timed("PSI, categories as numbers", events[: 3 * WINDOW], psi(coded), distance=True, features=13)
    only = psi(lambda lines: matrix(lines, numbers))
    yield timed("PSI, numbers only", events[: 3 * WINDOW], only, distance=True, features=13)
    yield coded_too
    streams = [IncrementalKSTest(window_size=1_000) for _ in numbers]
    for j, detector in enumerate(streams):
        detector.fit(X=known[:1_000, j])
    for row in matrix(events[:1_000], numbers):
        for value, detector in zip(row, streams, strict=True):
            detector.update(value=value)

    def one_by_one(window):
        for row in matrix(window, numbers):
            for value, detector in zip(row, streams, strict=True):
                detector.update(value=value)

    yield timed("incremental KS", events[1_000:1_300], one_by_one, distance=True, features=13)


PEERS = {
    "evidently": evidently,
    "whylogs": whylogs,
    "nannyml": nannyml,
    "alibi-detect": alibi_detect,
    "river": river,
    "frouros": frouros,
}


def main(name, reference, events):
    # Here and not on loading: a test that loads this file would silence those after it.
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    known = Path(reference).read_bytes().splitlines()
    lines = list(itertools.islice(Path(events).read_bytes().splitlines(), 3 * WINDOW))
    first = rows(known[:1])[0]
    numbers = [key for key, value in first.items() if isinstance(value, float)]
    categories = [key for key, value in first.items() if isinstance(value, str)]
    found = list(PEERS[name](known, lines, numbers, categories))
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"ways": found, "rss_mib": rss}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
