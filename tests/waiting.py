"""Waiting for a condition: the one way in which tests wait for what another thread or process does."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

# Chosen: a machine that is busy ten times over still gets there; a program that is broken never does.
LIMIT_S = 300.0
EVERY_S = 0.02


def until(
    condition: Callable[[], Value],
    what: str,
    limit_s: float = LIMIT_S,
    progress: Callable[[], object] = lambda: None,
) -> Value:
    """Wait for a condition and return its value; fails after a limit that only a broken program reaches.

    The limit begins anew whenever ``progress`` changes: work that ends some time may take as long as it moves.
    """
    deadline, before = time.monotonic() + limit_s, progress()
    while not (value := condition()):
        if (after := progress()) != before:
            deadline, before = time.monotonic() + limit_s, after
        assert time.monotonic() < deadline, f"{what}: not within {limit_s:g} s"
        time.sleep(EVERY_S)
    return value
