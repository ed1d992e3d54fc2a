"""What the faults did: one row each, printed as a table, and written to docs/reliability.md when asked."""

import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from textwrap import wrap

from streams.broker.jars import KAFKA_VERSION
from tests.reliability.oracle import Audit

ROUNDS_VARIABLE = "STATIONKEEPER_RELIABILITY_ROUNDS"
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reliability.md"
_HEAD = ("fault", "took effect", "records", "numbers compared", "lost", "twice", "repeated ids", "fresh event after")


_TEXT = """
Real worker processes run the tally and the judge over a real Kafka while a dirty stream flows: 1 % poison, 5 %
duplicates, events up to 30 s out of order, a shift in one feature. At the end of each row, once all its rounds are
over (random kills: after every fifth round too), the input log is counted again from its first record by a plain
program that shares no code with the tally, and by `stationkeeper verify`; an undisturbed judge reads the same panes.
Compared are the outcomes of every partition, the rows of every minute, every cell of every pane, every dead letter
byte by byte, and the ids of every verdict and request. *Lost* and *twice* sum the differences downwards and upwards;
the bar for both, and for repeated ids of verdicts and requests, is 0. *Took effect* is the proof that the fault
happened: a row without it would say nothing. *Fresh event after* is the worst time from sending events to all
partitions to their commit once the fault was over.
"""
_END = """
*Lost*, *twice* and *fresh event after* are those of the worst count; `records` is the length of the log that was
counted, which grows from row to row. What is not in this table has not been tested here.
"""


def rounds() -> int:
    """Return how often each fault is repeated: 1 in ``make test``, more in ``make reliability``."""
    return int(os.environ.get(ROUNDS_VARIABLE, "1"))


@dataclass(slots=True)
class Row:
    """One fault: the sum of its proofs, and the worst of its figures."""

    fault: str
    effects: dict[str, int] = field(default_factory=dict)
    records: int = 0
    numbers: int = 0
    lost: int = 0
    twice: int = 0
    repeated: int = 0
    verdicts: int = 0
    fresh_s: float = 0.0

    def effect(self, what: str, times: int = 1) -> None:
        """Note a proof that the fault took effect."""
        self.effects[what] = self.effects.get(what, 0) + times

    def audited(self, found: Audit, fresh_s: float) -> None:
        """Note what the oracle found after one round."""
        self.records, self.numbers = found.records, self.numbers + found.numbers
        self.lost, self.twice = max(self.lost, found.lost), max(self.twice, found.twice)
        self.verdicts = found.verdicts
        self.repeated = max(self.repeated, found.repeated_ids)
        self.fresh_s = max(self.fresh_s, fresh_s)

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        effects = "; ".join(f"{what}: {times}" for what, times in self.effects.items())
        counts = (self.records, self.numbers, self.lost, self.twice, self.repeated)
        return (self.fault, effects, *(f"{count:,}".replace(",", " ") for count in counts), f"{self.fresh_s:.1f} s")


@dataclass(slots=True)
class Ledger:
    """The rows of one run."""

    rows: list[Row] = field(default_factory=list)

    def row(self, fault: str) -> Row:
        """Begin a row."""
        self.rows.append(Row(fault))
        return self.rows[-1]

    def table(self) -> str:
        """Return the rows as a Markdown table."""
        lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
        return "\n".join([*lines, *("| " + " | ".join(row.cells()) + " |" for row in self.rows)])

    def page(self, command: str) -> str:
        """Return docs/reliability.md."""
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, Apache Kafka {KAFKA_VERSION}"
        return "\n".join(
            [
                "# Reliability",
                "",
                f"<!-- Written by `{command}`. -->",
                "",
                f"From the run of {datetime.now(UTC):%Y-%m-%d} ({machine}, brokers and workers on the one machine):",
                "",
                "```console",
                f"$ {command}",
                "```",
                "",
                *wrap(" ".join(_TEXT.split()), 118),
                "",
                self.table(),
                "",
                *wrap(f"Each fault was repeated {rounds()} times. {' '.join(_END.split())}", 118),
                "",
            ]
        )
