"""Fraud stories with drawn onset, share, features and pattern, and as many without a shift, each through the loop.

``python -m benchmarks fraud_seeds [--seeds 20] [--first 0] [--no-shift-only | --shift-only]`` prints a line a run and
the two figures that count: in how many seeds precision after promotion is within 0.03 of before, and how many requests
all no-shift runs together made. Exits 1 when fewer than nine in ten recover or more than one request is made.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from dataclasses import asdict
from pathlib import Path

import structlog

from benchmarks.fraud_seeds.whole_loop import WholeLoop
from stationkeeper.demo.card_fraud import FraudScenario
from stationkeeper.demo.fraud import FraudStory
from stationkeeper.demo.summary import DemoSummary, summarise

TOLERANCE = 0.03


def play(seed: int, *, shift: bool, hours: float) -> DemoSummary:
    """Run one seed and return its summary."""
    story = FraudStory.drawn(seed)
    scenario = FraudScenario(story if shift else story.without_shift(), hours=hours)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fraud-seed-") as directory:
        history, served, now = WholeLoop(scenario, Path(directory)).play()
    span = (scenario.start_ms, now)
    return summarise("fraud", scenario.plot, history, served, span, time.monotonic() - began)


def line(seed: int, summary: DemoSummary) -> str:
    """Return one run in one line."""
    story = FraudStory.drawn(seed)
    parts = {part.name: part.precision for part in summary.stretches}
    shown = "  ".join(f"{name} {value:.3f}" if value is not None else f"{name} -" for name, value in parts.items())
    seen = f"seen after {summary.seen_after} ({summary.seen_after_events} events)" if summary.seen_after else ""
    return (
        f"seed {seed:>3}  share {story.share:.3f} {story.pattern:<8}  {summary.pages} page(s)"
        f" {summary.requests} request(s)  {shown}  {seen}  {summary.verdict}  [{summary.wall_seconds:.0f} s]"
    )


def recovered(summary: DemoSummary) -> bool:
    """Return whether precision after the promotion, and after a follow-up's, is within the tolerance of before."""
    parts = {part.name: part.precision for part in summary.stretches}
    before, after = parts.get("before"), [value for name, value in parts.items() if name.startswith("after")]
    if not summary.passed or before is None or not after:
        return False
    return all(value is not None and value >= before - TOLERANCE for value in after)


def main() -> int:
    """Run the seeds and print what came out."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks fraud_seeds", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--hours", type=float, default=48.0, help="stream hours at most with a shift")
    parser.add_argument("--quiet-hours", type=float, default=24.0, help="stream hours without a shift")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--shift-only", action="store_true")
    which.add_argument("--no-shift-only", action="store_true")
    parser.add_argument("--json", type=Path, help="also write every summary here")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    warnings.simplefilter("ignore")
    seeds = range(options.first, options.first + options.seeds)
    cured: list[DemoSummary] = []
    quiet: list[DemoSummary] = []
    if not options.no_shift_only:
        for seed in seeds:
            cured.append(play(seed, shift=True, hours=options.hours))
            print(line(seed, cured[-1]), flush=True)
        good = sum(map(recovered, cured))
        print(f"with a shift: precision after within {TOLERANCE} of before in {good} of {len(cured)} seeds")
    if not options.shift_only:
        for seed in seeds:
            quiet.append(play(seed, shift=False, hours=options.quiet_hours))
            print(line(seed, quiet[-1]), flush=True)
        pages, asked = sum(s.pages for s in quiet), sum(s.requests for s in quiet)
        print(f"without a shift: {asked} request(s), {pages} page(s), {len(quiet)} seeds of {options.quiet_hours:g} h")
    if options.json is not None:
        runs = {"shift": [asdict(s) for s in cured], "no_shift": [asdict(s) for s in quiet]}
        options.json.write_text(json.dumps(runs, indent=1))
    failed = sum(map(recovered, cured)) < 0.9 * len(cured) or sum(s.requests for s in quiet) > 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
