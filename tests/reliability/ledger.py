"""What the faults did: one row each, printed as a table, and written to docs/reliability.md after a full run."""

import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from textwrap import wrap

from streams.broker.jars import KAFKA_VERSION
from tests.reliability.oracle import Audit

ROUNDS_VARIABLE = "STATIONKEEPER_RELIABILITY_ROUNDS"
SOAK_VARIABLE = "STATIONKEEPER_RELIABILITY_SOAK"
RATE_VARIABLE = "STATIONKEEPER_RELIABILITY_RATE"
KILLS = 100
"""How many workers a run must have killed with ``kill -9``."""
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reliability.md"
SOAK = PAGE.parent / "figures" / "soak.json"
"""The last soak of an hour or more: it is too long for each full run, and keeps its own date and command."""
_HEAD = (
    "fault",
    "client",
    "test",
    "took effect",
    "figures (worst run) and bars",
    "records",
    "compared",
    "lost",
    "twice",
    "repeated ids",
    "fresh event after",
)

QUESTIONS = {
    1: "kill -9 at a random time",
    4: "rebalance storm (classic protocol)",
    5: "brokers down or paused, one or all",
    6: "slow and cut network",
    7: "poison, 1 % and 100 %, every kind of it",
    8: "dead-letter topic unwritable",
    9: "clock skew of producers and host",
    10: "disorder inside the bound and beyond",
    11: "duplicates inside the horizon and beyond",
    12: "disk full or unwritable for the cache, no broker: live, not ready",
    13: "schema change in flight",
    14: "memory: many features, categories, keys",
    15: "labels absent, a month late, contradictory",
    18: "request storm",
    21: "soak at a steady load",
    22: "overload",
    23: "upgrade of the state format",
    24: "cold start",
}
"""What an operator asks of a stream processor, by the numbers of the list this suite was planned from."""

_TEXT = """
Real worker processes run the tally and the judge over a real Kafka (rows that name `stationkeeper monitor`: the whole
of it, from its configuration file) while a dirty stream flows: 1 % poison of six kinds,
5 % duplicates, events up to 30 s out of order, a shift in one feature. At the end of each row, once all its rounds are
over (random kills: after every fifth round too), the input log is counted again from its first record by a plain
program that shares no code with the tally, and by `stationkeeper verify`; an undisturbed judge reads the same panes.
Compared are the outcomes of every partition, the rows of every minute, every cell of every pane, every dead letter
byte by byte, and the ids of every verdict and request. *Lost* and *twice* sum the differences downwards and upwards;
the bar for both, and for repeated ids of verdicts and requests, is 0. *Took effect* is the proof that the fault
happened: a row without it would say nothing. *Fresh event after* is the worst time from sending events to all
partitions to their commit once the fault was over. One row alone: the command above with `ARGS="-k TEST"`.
"""
_END = """
*Lost*, *twice*, figures and *fresh event after* are those of the worst count; `records` is the length of the log that
was counted, which grows from row to row where rows share a log. A row without `records` compares something else, which
its figures name. What is not in this table has not been tested here.
"""


_SOAK = """
The events shift for one hour of each day of the stream and come back; the log is counted by the plain program and pane
by pane while it grows, because counting it afterwards would take longer than the run. The slope is that of the second
half, when the tables of ids have long been full. The load is a hundredth of what a tally can take, for every record is
counted again.
"""


def thinned(memory: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return a dozen of them."""
    return memory[:: max(len(memory) // 12, 1)]


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


def machine() -> str:
    """Return in words what a run runs on."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, Apache Kafka {KAFKA_VERSION}"


@dataclass(slots=True)
class Figure:
    """The worst of one measure, and the bar it must stay under, if there is one."""

    worst: float
    unit: str
    bar: float | None

    def __str__(self) -> str:
        value = f"{self.worst:,.0f}".replace(",", " ") if self.worst >= 100 else f"{self.worst:.3g}"
        text = f"{value} {self.unit}".strip()
        if self.bar is None:
            return text
        return f"{text} (bar: < {self.bar:g}{'' if self.worst < self.bar else ', **missed**'})"


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

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        effects = "; ".join(f"{what}: {f'{times:,}'.replace(',', ' ')}" for what, times in self.effects.items())
        figures = "; ".join(f"{what}: {figure}" for what, figure in self.figures.items())
        counts = (self.records, self.compared, self.lost, self.twice, self.repeated)
        told = [f"{count:,}".replace(",", " ") if self.records else "" for count in counts]
        fresh = "" if self.fresh_s is None else f"{self.fresh_s:.1f} s"
        name = f"{self.fault}{' **FAILED**' if self.failed else ''}"
        return (name, self.client, f"`{self.test}`", effects, figures, *told, fresh)


@dataclass(slots=True)
class Ledger:
    """The rows of one run, and how many tests of those that were to run have ended."""

    rows: list[Row] = field(default_factory=list)
    ended: int = 0

    def row(self, numbers: tuple[int, ...], fault: str, client: str = "kafka-python") -> Row:
        """Begin a row of the test that runs now."""
        test = re.sub(r"\[.*| \(.*", "", os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2])
        self.rows.append(Row(numbers, fault, client, test))
        return self.rows[-1]

    def failed(self, test: str) -> None:
        """Note that the test of a row failed: its last row, for the rows of its other parameters are over."""
        for row in reversed(self.rows):
            if row.test == test:
                row.failed = True
                return

    def table(self) -> str:
        """Return the rows as a Markdown table."""
        lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
        return "\n".join([*lines, *("| " + " | ".join(row.cells()) + " |" for row in self.rows)])

    def questions(self) -> str:
        """Return a line for each question with the tests that answer it."""
        lines = ["| no. | question | answered by |", "|---|---|---|"]
        for number, question in QUESTIONS.items():
            tests = dict.fromkeys(row.test for row in self.rows if number in row.numbers)
            lines.append(f"| {number} | {question} | {', '.join(f'`{t}`' for t in tests) or 'not tested here'} |")
        return "\n".join(lines)

    def keep_soak(self, memory: Sequence[tuple[float, float]]) -> None:
        """Keep the last row and (seconds, MB) of a soak of an hour or more, for every page until the next one."""
        step = max(len(memory) // 100, 1)
        kept = {
            "command": f'make reliability ROUNDS={rounds()} SOAK={soak_minutes():g} RATE={soak_rate()} ARGS="-k soak"',
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": machine(),
            "row": self.rows[-1].cells(),
            "memory_mb": [[round(seconds), round(mb, 1)] for seconds, mb in memory[::step]],
        }
        SOAK.write_text(json.dumps(kept, indent=1) + "\n")

    def long_soak(self) -> list[str]:
        """Return what was measured by the last soak of an hour or more, as lines of the page."""
        if not SOAK.exists():
            return []
        kept = json.loads(SOAK.read_text())
        cells = dict(zip(_HEAD, kept["row"], strict=True))
        figures = [*cells["took effect"].split("; "), *cells["figures (worst run) and bars"].split("; ")]
        counts = f"Of {cells['records']} records, with {cells['compared']} numbers compared: {cells['lost']} lost, "
        counts += f"{cells['twice']} counted twice, {cells['repeated ids']} repeated ids."
        text = f"{cells['fault']}, on {kept['date']} ({kept['machine']}). {_SOAK}"
        course = thinned(kept["memory_mb"])
        table = [
            "| after | " + " | ".join(f"{seconds / 60:.0f} min" for seconds, _ in course) + " |",
            "|" + "---|" * (1 + len(course)),
            "| resident memory, MB | " + " | ".join(f"{mb:.0f}" for _, mb in course) + " |",
        ]
        head = ["## The long soak", "", "```console", f"$ {kept['command']}", "```", ""]
        told = [*wrap(" ".join(text.split()), 118), "", *(f"- {one}" for one in figures), "", counts]
        return [*head, *told, "", *table, ""]

    def page(self, command: str, tests: int) -> str:
        """Return docs/reliability.md after a run of so many tests."""
        early = f" **The run was ended early: {self.ended} of {tests} tests.**" if self.ended < tests else ""
        kills = sum(times for row in self.rows for what, times in row.effects.items() if "kill -9" in what)
        return "\n".join(
            [
                "# Reliability",
                "",
                f"<!-- Written by `{command}`. -->",
                "",
                f"From the run of {datetime.now(UTC):%Y-%m-%d} ({machine()}, brokers and workers on the one machine):",
                "",
                "```console",
                f"$ {command}",
                "```",
                "",
                *wrap(" ".join(_TEXT.split()), 118),
                "",
                self.table(),
                "",
                *wrap(
                    f"Rounds of each fault: {rounds()}. Workers killed with `kill -9` in all: {kills} (bar: >= {KILLS}"
                    f"{'' if kills >= KILLS else ', **missed**'}). "
                    f"{' '.join(_END.split())}{early}",
                    118,
                ),
                "",
                *self.long_soak(),
                "## What an operator asks, and which row answers",
                "",
                self.questions(),
                "",
            ]
        )
