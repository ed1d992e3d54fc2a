"""Measure what `stationkeeper plan` computes with, and hold its forecast to runs of other sizes.

``python -m benchmarks capacity`` writes ``stationkeeper/costs.json``. With ``--check`` it measures two models of 100
and of 300 features at 10 000 events a second, a hundredth of the million of docs/capacity.md, and fails where a
forecast is further than 30 % from what was measured. Processor time and bytes, in process: a busy machine moves
neither far.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.growth.point import FETCH, MOST
from benchmarks.measure.results import machine
from benchmarks.measure.timing import one_core, resident_mib
from benchmarks.recovery.restore import FIRST, MINUTE, START, made_reference, settings_of, table
from benchmarks.throughput import events as stream
from benchmarks.throughput import ours
from stationkeeper.capacity import READ_US, Capacity, Costs, Load, kept_costs, plan
from stationkeeper.contracts.column import Column, categories, numbers
from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.topics import PANES_PARTITIONS, Topics
from stationkeeper.contracts.wire import JOIN_ROW, JoinBatch, PaneDelta, Progress, encode, sparse
from stationkeeper.monitor.core.reference import dump
from stationkeeper.monitor.judge import Judge
from stationkeeper.monitor.packets import packed
from stationkeeper.monitor.status import ModelView
from stationkeeper.streams.ports import Batch, Partition, Restored

SMALL, LARGE = 20, 200
"""Features of the two points of each line: apart, so that the slope is one, and neither is a size that is checked."""

PANES = 250
"""Four hours: more than a watch remembers, so that memory and state grow no more."""

WARM = 5
MORE = 60
BAR = 0.3
FLUSHES = 3


def tallied(features: int, models: int, rows: int) -> dict[str, float]:
    """Return costs of a tally that counts so many rows of each model between two flushes."""
    names = [f"model-{i:03d}" for i in range(models)]
    cut = features * 4 // 5
    given = tuple(f"feature_{i:04d}" for i in range(cut))
    named = {f"category_{i:04d}": ("a", "b", "c", "d") for i in range(features - cut)}
    known = stream.table(2_000, 0, given, named)
    total = rows * models
    values = stream.events(total, columns=stream.table(total, 1, given, named), models=names, per_minute=total * 60)
    size = max(min(MOST, FETCH * total // len(b"".join(values))), 1)
    parts = ours.batches(values, size)
    references = [stream.reference(model=name, columns=known) for name in names]
    absorbing, flushing, written, grown = [], [], 0, 0.0
    for _ in range(FLUSHES):
        gc.collect()
        before = resident_mib()
        stage = ours.tally([ours.fraud(name=name) for name in names], references)
        stage.readers.of(ours.TOPIC)
        gc.collect()
        began = time.process_time()
        for part in parts:
            stage.absorb(part)
        absorbed = time.process_time()
        out = stage.flush(1_000)
        absorbing.append(absorbed - began)
        flushing.append(time.process_time() - absorbed)
        written = sum(len(one.value or b"") for one in out if one.topic.endswith(".panes"))
        # The first one alone: later ones find memory that it gave back.
        grown = grown or resident_mib() - before
    return {
        "event_us": min(absorbing) / total * 1e6,
        "event_bytes": sum(map(len, values)) / total,
        "rows_a_batch": total / len(parts) / models,
        "flush_ms": min(flushing) / models * 1e3,
        "panes_bytes": written / models,
        "grown_kb": grown * 1024,
    }


def judged(features: int, _models: int, _rows: int) -> dict[str, float]:
    """Return costs of a judge of one model for a minute's pane, as one delta a minute brings it."""
    topics, made = Topics("capacity"), made_reference(features, 1)
    judge = Judge(settings_of(1), topics, view=ModelView, clock="stream")
    judge.table(topics.references.name, f"{FIRST}/1".encode(), dump(made).encode())
    where = Partition(topics.panes.name, partition_of(FIRST, PANES_PARTITIONS))
    judge.assigned(frozenset({where}), Restored())
    drawn = [_counts(made, features, seed) for seed in range(8)]
    gc.collect()
    before, spent, state = resident_mib(), 0.0, {}
    history = changed = offset = 0
    for minute in range(PANES):
        values = _minute(made, drawn[minute % len(drawn)], minute)
        at = np.arange(offset, offset + len(values))
        offset += len(values)
        began = time.process_time()
        judge.absorb(Batch(where, at, at, (None,) * len(values), values, offset))
        out = judge.flush(minute * MINUTE)
        judge.committed()
        # The first panes build what all later ones use.
        spent += time.process_time() - began if minute >= WARM else 0.0
        for one in out:
            size = len(one.value or b"") + len(one.key or b"")
            history += size if one.topic == topics.history.name else 0
            if one.topic == topics.judge_state.name and one.key is not None:
                changed += size
                state[one.key] = size if one.value is not None else 0
    gc.collect()
    grown = max(resident_mib() - before, 0.0)
    # Deltas without a progress close nothing: this is what every further one of a minute costs.
    values = _minute(made, drawn[0], PANES)[:-1]
    began = time.process_time()
    for _ in range(MORE):
        at = np.arange(offset, offset + len(values))
        offset += len(values)
        judge.absorb(Batch(where, at, at, (None,) * len(values), values, offset))
    absorb_ms = (time.process_time() - began) / MORE * 1e3
    return {
        "absorb_ms": absorb_ms,
        "pane_ms": spent / (PANES - WARM) * 1e3 - absorb_ms,
        "history_bytes": history / PANES,
        "state_bytes": float(sum(state.values())),
        "changed_bytes": changed / PANES,
        "judge_kb": grown * 1024,
    }


def _counts(made: Any, features: int, seed: int) -> Any:
    rows = 500
    named: dict[str, Column] = {
        "prediction" if name == "score" else name: categories(values) if name[0] == "c" else numbers(values)
        for name, values in table(features, rows, seed + 2).items()
    }
    return made.layout.tally(named, np.zeros(rows, np.int64), np.array([rows]))[0]


def _minute(made: Any, counts: Any, minute: int) -> tuple[bytes, ...]:
    start, width = START + minute * MINUTE, len(counts)
    deltas = []
    for block in made.layout.blocks():
        found, size, steps = sparse(counts[block])
        deltas.append(
            PaneDelta(
                *(FIRST, "1", made.digest, "prediction", "", start, MINUTE, 500, block.start, width),
                counts=found, size=size, steps=steps,
            )
        )  # fmt: skip
    progress = Progress("in", 0, "prediction", minute + 1, start + 3 * MINUTE, idle=False)
    return (*packed(deltas), encode([progress]))


def join_row_bytes() -> float:
    """Return what one prediction takes in the joins topic, packed: its hash is random and does not compress."""
    rows = np.zeros(20_000, JOIN_ROW)
    rng = np.random.default_rng(0)
    rows["id"] = rng.integers(0, 2**63, len(rows), dtype=np.uint64)
    rows["time"] = START + np.arange(len(rows))
    rows["score"] = rng.random(len(rows))
    return len(encode([JoinBatch("prediction", "m", "1", ("",), rows.tobytes())])) / len(rows)


POINTS: dict[str, Callable[[int, int, int], dict[str, float]]] = {"tallied": tallied, "judged": judged}


def point(name: str, features: int, models: int = 2, rows: int = 500) -> dict[str, float]:
    """Measure in a process of its own, so that memory is its own."""
    command = [sys.executable, "-m", "benchmarks.capacity", "--point", name, str(features), str(models), str(rows)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    print(f"{name} features={features} models={models} rows={rows}: {found}", flush=True)
    return found


def measured() -> Costs:
    """Return the costs of this machine."""
    sizes = (SMALL, LARGE)
    ends = [{**point("tallied", n), **point("judged", n)} for n in sizes]
    crowd, few, many = (point("tallied", LARGE, *more) for more in ((20, 50), (2, 50), (2, 5_000)))
    # What an event costs more where a batch brings few of its model is the model's own cost of a batch.
    more_us = crowd["event_us"] - many["event_us"]
    batch_us = max(more_us / (1 / crowd["rows_a_batch"] - 1 / many["rows_a_batch"]), 0.0) / LARGE
    for size, end in zip(sizes, ends, strict=True):
        end["event_us"] -= batch_us * size / end["rows_a_batch"]

    def line(name: str) -> tuple[float, float]:
        slope = (ends[1][name] - ends[0][name]) / (LARGE - SMALL)
        return (round(ends[0][name] - slope * SMALL, 4), round(slope, 4))

    rows = tuple((n, round(one["panes_bytes"] / LARGE, 2)) for n, one in ((50, few), (500, ends[1]), (5_000, many)))
    about = machine()
    return Costs(
        command="python -m benchmarks capacity",
        taken=str(about["taken"]),
        machine=f"{about['processor']}, Python {about['python']}",
        **{name: line(name) for name in ends[0] if name not in {"panes_bytes", "grown_kb", "rows_a_batch"}},
        batch_us=round(batch_us, 3),
        panes_bytes=rows,
        tally_kb=round((crowd["grown_kb"] - few["grown_kb"]) / 18 / LARGE, 3),
        join_bytes=round(join_row_bytes(), 2),
    )


def compared(features: int) -> dict[str, tuple[float, float]]:
    """Return forecast and measurement of two models at 10 000 events a second, by what was measured."""
    found = {**point("tallied", features, 2, 5_000), **point("judged", features)}
    said: Capacity = plan(Load(events=10_000, models=2, features=features, one_topic=True), kept_costs())
    return {
        "tally, cores": (said.tally_cores, ((found["event_us"] + READ_US) / 100 + 2 * found["flush_ms"] / 1e3)),
        "judge, cores": (said.judge_cores, 2 * (found["pane_ms"] / 60_000 + found["absorb_ms"] / 1e3)),
        "input, MB/s": (said.input_mb_s, found["event_bytes"] / 100),
        "panes, MB a day": (said.topic("panes").mb_a_day, 2 * found["panes_bytes"] * 86_400 / 1e6),
        "history, MB a day": (said.topic("history").mb_a_day, 2 * found["history_bytes"] * 1_440 / 1e6),
        "judge state, MB": (said.topic("judge-state").mb, 2 * found["state_bytes"] / 1e6),
        "judge memory, MB": (said.judge_mb, 2 * found["judge_kb"] / 1_000),
    }


def checked() -> int:
    """Print forecast and measurement side by side; returns 1 where one is too far off."""
    worst = 0.0
    for features in (100, 300):
        for name, (forecast, real) in compared(features).items():
            off = forecast / real - 1
            worst = max(worst, abs(off))
            print(f"{features} features, {name:18} forecast {forecast:10.3f}  measured {real:10.3f}  {off:+.0%}")
    print(f"furthest: {worst:.0%} (bar {BAR:.0%})")
    return int(worst > BAR)


def main() -> int:
    """Measure and keep, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--point", nargs=4, metavar=("NAME", "FEATURES", "MODELS", "ROWS"))
    asked = parser.parse_args()
    if asked.point:
        one_core()
        name, *sizes = asked.point
        print(json.dumps(POINTS[name](*map(int, sizes))))
        return 0
    if asked.check:
        return checked()
    kept = Path("stationkeeper/costs.json")
    kept.write_text(json.dumps(asdict(measured()), indent=1) + "\n", encoding="utf-8")
    print(f"written: {kept}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
