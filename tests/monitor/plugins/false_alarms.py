"""What a foreign rule costs: its false alarms a month at this traffic, by simulation from the reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from stationkeeper.monitor.core.detect import clopper_pearson
from stationkeeper.monitor.plugins.port import Watched
from stationkeeper.monitor.plugins.registry import load
from stationkeeper.monitor.plugins.rules import FixedRule

# The span of the budget that a rule is compared with: pages in 30 days.
DAYS = 30
# Draws of a fixed window: a rate of 1 % is then known to within half of itself.
WINDOWS = 400
# Rows of a simulated stream for detectors with memory: an alarm once in 10 000 rows shows six times.
STREAM_ROWS = 60_000


@dataclass(frozen=True)
class FalseAlarms:
    """False alarms in 30 days of a rule on one subject, with a 90 % interval, and the windows or rows simulated."""

    rule: str
    subject: str
    rows_per_day: float
    a_month: float
    low: float
    high: float
    simulated: int

    def warning(self) -> str:
        """The sentence shown to the person who configured the rule."""
        return (
            f"{self.rule} on {self.subject} would alarm about {self.a_month:.3g} times a month without drift "
            f"({self.low:.2g} to {self.high:.2g}, drawn from the reference at {self.rows_per_day:,.0f} rows a day); "
            "it is outside the false-page budget and warns only, unless configured to page"
        )


def false_alarms(
    name: str, subject: Watched, options: Mapping[str, Any] | None, rows_per_day: float, pane_rows: int = 50
) -> FalseAlarms:
    """Simulate a plug-in on rows drawn from the reference itself; the seed comes from the rule and the subject.

    A fixed rule is tried on 400 windows; another detector on a stream of 60,000 rows in panes of pane_rows.  Rows are
    drawn independently, so real traffic that repeats itself alarms more often.  Raises ValueError as `load`.
    """
    if rows_per_day <= 0:
        raise ValueError(f"rows a day must be above 0, got {rows_per_day}")
    detector = load(name, subject, options)
    digest = blake2b(f"{name}|{subject.name}|{sorted((options or {}).items())}".encode(), digest_size=8).digest()
    rng = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
    p = subject.reference[:-1] / subject.reference[:-1].sum()
    if isinstance(detector, FixedRule):
        trials = WINDOWS
        alarms = sum(detector.alarms(rng.multinomial(detector.window, p)) for _ in range(trials))
        per_month = rows_per_day * DAYS / detector.window
    else:
        trials = STREAM_ROWS // pane_rows
        panes = (np.append(rng.multinomial(pane_rows, p), 0) for _ in range(trials))
        alarms = sum(detector.step(pane, t) is not None for t, pane in enumerate(panes))
        per_month = rows_per_day * DAYS / pane_rows
    low, high = clopper_pearson(alarms, trials, 0.05)
    rate = alarms / trials
    return FalseAlarms(
        name, subject.name, rows_per_day, rate * per_month, float(low) * per_month, float(high) * per_month, trials
    )
