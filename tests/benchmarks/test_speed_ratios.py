"""Speed as ratios within one process, against bounds with a wide margin: ``make bench`` has the figures.

A bound is about half of what an idle machine finds: it catches a Python loop for each event or a cost that grows where
it must not, and nothing finer.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure.timing import in_turn, ratio
from benchmarks.throughput import ours
from benchmarks.throughput.events import events, reference, table

BOUNDS = json.loads((Path(__file__).parent / "bounds.json").read_text())
ROUNDS = 5


@pytest.fixture(scope="module")
def values():
    return events(8_000)


def test_the_tally_keeps_up_with_its_decoder_and_the_decoder_with_the_parser(values):
    parts = ours.batches(values, 4_000)
    stage = ours.tally()
    seconds = in_turn(
        {
            "whole": lambda fresh: ours.absorb(fresh, parts),
            "decode": lambda _: ours.decoding(stage, parts),
            "parse": lambda _: ours.parsing(stage, parts),
        },
        ROUNDS,
        lambda: ours.tally(references=[known]),
    )
    assert ratio(seconds["decode"], seconds["whole"]) > BOUNDS["decode and tally, share of the speed of decoding"]
    parser = "decoding to columns, share of the speed of the JSON parser"
    assert ratio(seconds["parse"], seconds["decode"]) > BOUNDS[parser]


def test_an_event_costs_little_more_with_many_segments(values):
    areas = np.random.default_rng(1).integers(0, 200, len(values)).tolist()
    many, one = (
        [v[:-1] + f',"segment":{{"area":"{area % among}"}}}}'.encode() for v, area in zip(values, areas, strict=True)]
        for among in (200, 1)
    )
    settings = ours.fraud(segments=["area"])
    parts = {"many": ours.batches(many, 4_000), "one": ours.batches(one, 4_000)}
    seconds = in_turn(
        {
            "many": lambda stage: ours.absorb(stage, parts["many"]),
            "one": lambda stage: ours.absorb(stage, parts["one"]),
        },
        ROUNDS,
        lambda: ours.tally([settings], [known]),
    )
    bound = BOUNDS["an event with 200 segments, times the cost of one with 1"]
    assert ratio(seconds["many"], seconds["one"]) < bound


def test_a_column_costs_the_same_in_wide_records(values):
    numbers = tuple(f"n{i:03d}" for i in range(300))
    wide = reference(columns=table(1_000, 0, numbers, {}))
    parts = ours.batches(events(500, columns=table(500, 1, numbers, {})), 500)
    narrow = ours.batches(values, 4_000)
    stages = {"wide": ours.tally(references=[wide]), "narrow": ours.tally(references=[known])}
    seconds = in_turn(
        {
            "wide": lambda _: ours.decoding(stages["wide"], parts),
            "narrow": lambda _: ours.decoding(stages["narrow"], narrow),
        },
        ROUNDS,
    )
    each = (8_000 * 16) / (500 * 301)
    assert (
        ratio(seconds["wide"], seconds["narrow"]) * each < BOUNDS["a value of 300 columns, times the cost of one of 15"]
    )


known = reference(2_000)
