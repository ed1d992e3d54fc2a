"""Timing on one core: several works in turn, again and again, so that what else the machine does hits all of them."""

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

CORE = 0


def one_core() -> None:
    """Keep this process and its children on one core, with one thread in each library that would take more."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[name] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def in_turn(
    works: Mapping[str, Callable[[Any], Any]], rounds: int, prepare: Callable[[], Any] = lambda: None
) -> dict[str, list[float]]:
    """Return the processor seconds of each work in each round; the order changes with every round.

    Each work is given what ``prepare`` makes for it, which is not timed.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            given = prepare()
            gc.collect()
            began = time.process_time()
            works[name](given)
            found[name].append(time.process_time() - began)
    return found


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Return the median of the ratios of the same round."""
    return median(a / b for a, b in zip(over, under, strict=True))


def resident_mib(pid: int | None = None) -> float:
    """Return the resident memory of a process in MiB (0 where /proc is absent)."""
    try:
        lines = Path(f"/proc/{pid or os.getpid()}/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
    except OSError:
        return 0.0
