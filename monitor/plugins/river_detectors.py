"""river's drift detectors behind the port: each pane is played to them value by value."""

from collections import deque
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

from stationkeeper.monitor.plugins.port import Alarm, Counts, Watched

NAMES = ("ADWIN", "PageHinkley", "KSWIN")
# Panes kept to rebuild a river detector after a restart, about eight hours of minutes; what came before is forgotten.
# Twice doubles state and the time to restore, half lets a restart forget more of slow drift.
KEPT_PANES = 500

# Events played of one pane: river takes them in Python one at a time, so that a pane of a million rows would hold the
# judge up; a sample shows the same change, a little later.
_LARGEST_PANE = 5000


class RiverDetector:
    """A detector of river.drift on the values of a number, or on the surprise -log p of a category's cells.

    Events of a pane have no order, so they are played in an order drawn from the pane's start and the subject's name:
    the same panes give the same alarms.  A pane of more than 5,000 events plays a sample of 5,000.
    """

    def __init__(self, name: str, subject: Watched, options: Mapping[str, Any]) -> None:
        """Options are river's own arguments.  Raises ValueError where river is missing or refuses them."""
        try:
            from river import drift
        except ImportError as error:
            raise ValueError(f"river.{name} needs the package river: pip install 'stationkeeper[river]'") from error
        self._name = f"river.{name}"
        self._subject = subject
        self._options = dict(options)
        if name == "KSWIN":
            # It draws from its window; without a seed a replay would not repeat the alarm.
            self._options.setdefault("seed", 1)
        self._make = getattr(drift, name)
        if subject.values is not None:
            self._values = subject.values
        else:
            # Half a row a cell, so that a value never seen has a finite surprise.
            share = (subject.reference[:-1] + 0.5) / (subject.reference[:-1] + 0.5).sum()
            self._values = -np.log(share)
        self._kept: deque[tuple[int, list[int]]] = deque(maxlen=KEPT_PANES)
        self._fresh()

    @property
    def rule(self) -> str:
        """river and the class."""
        return self._name

    def step(self, counts: Counts, start: int) -> Alarm | None:
        """Play a pane; an alarm begins the detector anew."""
        rows = int(counts[:-1].sum())
        if rows == 0:
            return None
        # Before it is played: an alarm in it clears all, and what did not alarm must be played again after a restart.
        self._kept.append((start, counts.tolist()))
        if not self._play(counts, start):
            return None
        # Of the three ADWIN alone has one.
        statistic = float(getattr(self._detector, "estimation", np.nan))
        self._kept.clear()
        self._fresh()
        reason = f"{self._name} reports a change of {self._subject.name} (outside the false-page budget)"
        return Alarm(self._name, statistic, float("nan"), rows, reason)

    def state(self) -> dict[str, Any]:
        """The panes since the last alarm, at most KEPT_PANES."""
        return {"panes": [[start, counts] for start, counts in self._kept]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Rebuild river's detector by playing the kept panes again."""
        self._fresh()
        self._kept.clear()
        for start, counts in state["panes"]:
            self._kept.append((int(start), list(counts)))
            self._play(np.asarray(counts, np.int64), int(start))

    def _fresh(self) -> None:
        try:
            self._detector = self._make(**self._options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self._name} does not take the options {self._options}: {error}") from error

    def _play(self, counts: Counts, start: int) -> bool:
        digest = blake2b(f"{self._name}|{self._subject.name}|{start}".encode(), digest_size=8).digest()
        rng = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
        # By plug-in, subject and pane: the same pane is played alike at a restart, and two subjects not in step.
        values = rng.permutation(np.repeat(self._values, counts[:-1]))[:_LARGEST_PANE]
        for value in values.tolist():
            self._detector.update(value)
            if self._detector.drift_detected:
                return True
        return False
