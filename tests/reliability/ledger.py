"""What the faults of one run did: a row each."""

import os
import platform
import re
from dataclasses import dataclass, field

from stationkeeper.streams.broker.jars import KAFKA_VERSION
from tests.reliability.oracle import Audit

ROUNDS_VARIABLE = "STATIONKEEPER_RELIABILITY_ROUNDS"
SOAK_VARIABLE = "STATIONKEEPER_RELIABILITY_SOAK"
RATE_VARIABLE = "STATIONKEEPER_RELIABILITY_RATE"
OUTAGE_VARIABLE = "STATIONKEEPER_RELIABILITY_OUTAGE"


def rounds() -> int:
    """Return how often each fault is repeated: 1 in ``make test``, more in ``make reliability``."""
    return int(os.environ.get(ROUNDS_VARIABLE, "1"))


def long_form() -> bool:
    """Return whether this is ``make reliability``, not ``make test``."""
    return ROUNDS_VARIABLE in os.environ


def soak_minutes() -> float:
    """Return how long the soak lasts: ``SOAK`` of ``make reliability``, half a minute else."""
    return float(os.environ.get(SOAK_VARIABLE) or 0.5)


def soak_rate() -> int:
    """Return how many events a second the soak sends."""
    return int(os.environ.get(RATE_VARIABLE) or 1_000)


def outage_s() -> int:
    """Return how long all brokers stay down in the first round: ``OUTAGE`` of ``make reliability``, a minute else."""
    return int(os.environ.get(OUTAGE_VARIABLE) or 60)


def machine() -> str:
    """Return in words what a run runs on."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, Apache Kafka {KAFKA_VERSION}"


@dataclass(slots=True)
class Figure:
    """The worst of one measure, and the bar it must stay under, if there is one."""

    worst: float
    unit: str
    bar: float | None

    @property
    def missed(self) -> bool:
        """Whether it is past its bar."""
        return self.bar is not None and self.worst >= self.bar

    def __str__(self) -> str:
        value = f"{self.worst:,.0f}".replace(",", " ") if self.worst >= 100 else f"{self.worst:.3g}"
        text = f"{value} {self.unit}".strip()
        if self.bar is None:
            return text
        return f"{text} (bar: < {self.bar:g}{', **missed**' if self.missed else ''})"


@dataclass(slots=True)
class Row:
    """One fault: the sum of its proofs, and the worst of its figures."""

    numbers: tuple[int, ...]
    fault: str
    client: str
    test: str
    effects: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    records: int = 0
    compared: int = 0
    lost: int = 0
    twice: int = 0
    repeated: int = 0
    verdicts: int = 0
    fresh_s: float | None = None
    failed: bool = False

    def effect(self, what: str, times: int = 1) -> None:
        """Note a proof that the fault took effect."""
        self.effects[what] = self.effects.get(what, 0) + times

    def figure(self, what: str, value: float, unit: str = "s", *, bar: float | None = None) -> None:
        """Note a measure; the largest is kept, for of all measures here the largest is the worst."""
        known = self.figures.get(what)
        self.figures[what] = Figure(max(value, known.worst) if known else value, unit, bar)

    def audited(self, found: Audit, fresh_s: float) -> None:
        """Note what the oracle found."""
        self.records, self.compared = found.records, self.compared + found.numbers
        self.lost, self.twice = max(self.lost, found.lost), max(self.twice, found.twice)
        self.verdicts = found.verdicts
        self.repeated = max(self.repeated, found.repeated_ids)
        self.fresh_s = max(self.fresh_s or 0.0, fresh_s)


@dataclass(slots=True)
class Ledger:
    """The rows of one run, the client of those to come, how many tests have ended, and how many rows are theirs."""

    rows: list[Row] = field(default_factory=list)
    client: str = "kafka-python"
    ended: int = 0
    whole: int = 0

    def row(self, numbers: tuple[int, ...], fault: str) -> Row:
        """Begin a row of the test that runs now, through the client that it has."""
        test = re.sub(r"\[.*| \(.*", "", os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2])
        self.rows.append(Row(numbers, fault, self.client, test))
        return self.rows[-1]

    def end(self) -> None:
        """Note that a test has ended: its rows are whole, those of one that is interrupted are not."""
        self.ended += 1
        self.whole = len(self.rows)

    def failed(self, test: str) -> None:
        """Note that the test of a row failed: its last row, for the rows of its other parameters are over."""
        for row in reversed(self.rows):
            if row.test == test:
                row.failed = True
                return
