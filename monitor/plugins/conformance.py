"""What every detector must hold to, for third parties to run in their own tests: ``check_detector(make, subject)``."""

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from stationkeeper.contracts.plugins import NotConforming
from stationkeeper.monitor.plugins.port import Alarm, Counts, Detector, Factory, Watched

# Panes played, the second half shifted. Chosen: at 50 rows each they fill a fixed rule's window of 1 000 rows five
# times; half would leave detectors with long memory untried, twice only takes longer.
PANES: Final = 100
ROWS: Final = 50


def check_detector(make: Factory, subject: Watched, options: Mapping[str, Any] | None = None) -> None:
    """Play a stream whose second half sits in one cell to a detector.

    Raises ``NotConforming`` where it lacks a method of the protocol, changes the counts it is given, answers equal
    panes differently, gives neither an `Alarm` nor None, never sees the change, keeps a state that is not JSON, or
    goes on differently from it. The cells of ``subject`` must not all hold its last value. O(4 * ``PANES``).
    """
    detector = make(subject, dict(options or {}))
    if not isinstance(detector, Detector):
        raise NotConforming(f"{type(detector).__name__} lacks rule, step(counts, start), state() or restore(state)")
    panes = _panes(subject)
    alarms = [_step(detector, pane, start) for start, pane in enumerate(panes)]
    if not any(alarms[PANES // 2 :]):
        raise NotConforming(f"{detector.rule} gives no alarm though all rows moved to one cell of {subject.name!r}")
    again = make(subject, dict(options or {}))
    for start, pane in enumerate(panes):
        # A little before the shift, so that what a restart forgets shows in the answer to it.
        if start == PANES // 2 - 3:
            again = _restarted(make, again, subject, options)
        if not _same(_step(again, pane, start), alarms[start]):
            raise NotConforming(f"{detector.rule}: pane {start} is answered differently the second time")


def _restarted(make: Factory, old: Detector, subject: Watched, options: Mapping[str, Any] | None) -> Detector:
    try:
        kept = json.loads(json.dumps(old.state()))
    except TypeError as error:
        raise NotConforming(f"{old.rule}: state() is not JSON: {error}") from error
    new = make(subject, dict(options or {}))
    new.restore(kept)
    return new


def _step(detector: Detector, pane: Counts, start: int) -> Alarm | None:
    before = pane.copy()
    found = detector.step(pane, start)
    if not np.array_equal(pane, before):
        raise NotConforming(f"{detector.rule} changes the counts it is given; copy what you change")
    if found is not None and not isinstance(found, Alarm):
        raise NotConforming(f"{detector.rule}: step gives {type(found).__name__}, not an Alarm or None")
    return found


def _same(one: Alarm | None, other: Alarm | None) -> bool:
    """Equal but for numbers that are not known, which are NaN."""
    return repr(one) == repr(other)


def _panes(subject: Watched) -> list[Counts]:
    shares = subject.reference[:-1] / subject.reference[:-1].sum()
    # Any seed: the same panes both times.
    rng = np.random.default_rng(1)
    steady = [np.append(rng.multinomial(ROWS, shares), 0) for _ in range(PANES // 2)]
    moved = np.zeros(subject.reference.size, np.int64)
    moved[-2] = ROWS
    return [*steady, *(moved.copy() for _ in range(PANES - PANES // 2))]
