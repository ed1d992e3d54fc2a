"""quixstreams over the topic of the benchmark, at-least-once (its default); prints one JSON line.

``python quix.py BROKER TOPIC EVENTS WAY``: ``histogram`` keeps histograms of the twelve numbers in plain variables,
``window`` the mean of one number in its own tumbling window of ten seconds, ``histograms`` those histograms in that
window, which is the least that drift of every number needs.
"""

# Runs where our packages and their types are not installed.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202, ANN204

import bisect
import json
import logging
import os
import sys
import tempfile
import time

from quixstreams import Application


class Meter:
    """Counts events and ends the process after enough of them."""

    def __init__(self, events):
        self.left, self.events, self.began = events, events, None

    def count(self):
        if self.began is None:
            self.began = time.perf_counter(), time.process_time()
        self.left -= 1
        if not self.left:
            wall = time.perf_counter() - self.began[0]
            print(json.dumps({"events": self.events, "wall": wall, "processor": time.process_time() - self.began[1]}))
            sys.stdout.flush()
            os._exit(0)


def main(broker, topic, events, way):
    logging.disable(logging.CRITICAL)
    meter = Meter(int(events))
    application = Application(
        broker_address=broker,
        consumer_group=f"quix-{way}-{time.time_ns()}",
        auto_offset_reset="earliest",
        loglevel=None,
        state_dir=tempfile.mkdtemp(prefix="quix-"),
    )
    frame = application.dataframe(application.topic(topic, value_deserializer="json"))
    edges = [-2 + i * 0.2 for i in range(20)]
    names = [f"feature_{i:02d}" for i in range(12)]
    counts = {name: [0] * 21 for name in names}

    def histogram(value):
        features = value["features"]
        for name in names:
            counts[name][bisect.bisect(edges, features[name])] += 1
        meter.count()

    def score(value):
        meter.count()
        return value["prediction"]

    def start(value):
        return reduce([[0] * 21 for _ in names], value)

    def reduce(held, value):
        features = value["features"]
        for at, name in enumerate(names):
            held[at][bisect.bisect(edges, features[name])] += 1
        meter.count()
        return held

    if way == "histogram":
        frame.update(histogram)
    elif way == "histograms":
        frame.tumbling_window(10_000).reduce(reduce, start).current()
    else:
        frame.apply(score).tumbling_window(10_000).mean().current()
    application.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
