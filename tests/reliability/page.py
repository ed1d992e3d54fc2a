"""docs/reliability.md: the last run of each fault, kept as data between runs, and the page that is written from it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import wrap
from typing import Any, Self

from tests.reliability.ledger import Figure, Row, machine, rounds, soak_minutes, soak_rate

KILLS = 100
"""How many workers the runs of all rows must have killed with ``kill -9``."""
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reliability.md"
ROWS = PAGE.parent / "figures" / "reliability.json"
SOAK = PAGE.parent / "figures" / "soak.json"
"""The last soak of an hour or more: it is too long for each full run, and keeps its own date and command."""

_HEAD = (
    "fault",
    "client",
    "test",
    "run",
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
    9: "clock skew of producers, the clock of a host moved",
    10: "disorder inside the bound and beyond",
    11: "duplicates inside the horizon and beyond",
    12: "disk full or unwritable for the cache, no broker: live, not ready",
    13: "schema change in flight",
    14: "memory: many categories, keys",
    15: "labels absent, a month late, contradictory",
    18: "request storm",
    21: "soak at a steady load",
    22: "overload",
    23: "upgrade of the state format",
    24: "cold start",
    25: "a topic deleted and created again",
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
partitions to their commit once the fault was over. *Run* says when a row was last run, and in how many rounds.
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


@dataclass(frozen=True, slots=True)
class Kept:
    """A row with its run: date, rounds and machine."""

    row: Row
    date: str
    rounds: int
    machine: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What a later run of the same row has in common with it."""
        return self.row.test, self.row.client, self.row.fault

    @classmethod
    def of(cls, row: Row) -> Self:
        """Return a row of this run."""
        return cls(row, f"{datetime.now(UTC):%Y-%m-%d}", rounds(), machine())

    @classmethod
    def read(cls, data: dict[str, Any]) -> Self:
        """Return a row that was kept."""
        row = dict(data["row"])
        row["figures"] = {what: Figure(**figure) for what, figure in row["figures"].items()}
        return cls(Row(**row), data["date"], data["rounds"], data["machine"])

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        row = self.row
        effects = "; ".join(f"{what}: {f'{times:,}'.replace(',', ' ')}" for what, times in row.effects.items())
        figures = "; ".join(f"{what}: {figure}" for what, figure in row.figures.items())
        counts = (row.records, row.compared, row.lost, row.twice, row.repeated)
        told = [f"{count:,}".replace(",", " ") if row.records else "" for count in counts]
        fresh = "" if row.fresh_s is None else f"{row.fresh_s:.1f} s"
        name = f"{row.fault}{' **FAILED**' if row.failed else ''}"
        return (name, row.client, f"`{row.test}`", f"{self.date}, {self.rounds}", effects, figures, *told, fresh)


def kept() -> list[Kept]:
    """Return the last run of every row."""
    return [Kept.read(one) for one in json.loads(ROWS.read_text())] if ROWS.exists() else []


def keep(rows: Sequence[Row], *, whole: bool) -> None:
    """Keep the rows of a run and write the page; a ``whole`` run takes the place of everything kept before.

    A part of it takes the place of the same rows if it had as many rounds; what failed is kept like all else.
    """
    known = {} if whole else {one.key: one for one in kept()}
    for one in map(Kept.of, rows):
        before = known.get(one.key)
        if before is None or one.rounds >= before.rounds:
            known[one.key] = one
    ROWS.write_text(json.dumps([asdict(one) for one in known.values()], indent=1) + "\n")
    PAGE.write_text(page(list(known.values())))


def table(rows: Sequence[Kept]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    return "\n".join([*lines, *("| " + " | ".join(one.cells()) + " |" for one in rows)])


def page(rows: Sequence[Kept]) -> str:
    """Return the page for these rows."""
    kills = sum(times for one in rows for what, times in one.row.effects.items() if "kill -9" in what)
    most, machines = max(one.rounds for one in rows), sorted({one.machine for one in rows})
    missed = [f"`{one.row.test}`: {what}" for one in rows for what, figure in one.row.figures.items() if figure.missed]
    failed = [f"`{one.row.test}`" for one in rows if one.row.failed]
    words = (
        f"Workers killed with `kill -9` in all: {kills} (bar: >= {KILLS}{'' if kills >= KILLS else ', **missed**'}). "
    )
    words += f"Rows that failed: {', '.join(failed) or 'none'}. Bars that were missed: {', '.join(missed) or 'none'}. "
    return "\n".join(
        [
            "# Reliability",
            "",
            "<!-- Written by `make reliability` from docs/figures/reliability.json. -->",
            "",
            f"All rows, or one (brokers and workers on one machine: {'; '.join(machines)}):",
            "",
            "```console",
            f"$ make reliability ROUNDS={most} SOAK=10",
            f'$ make reliability ROUNDS={most} SOAK=10 ARGS="-k TEST"',
            "```",
            "",
            *wrap(" ".join(_TEXT.split()), 118),
            "",
            table(rows),
            "",
            *wrap(words + " ".join(_END.split()), 118),
            "",
            *_long_soak(),
            "## What an operator asks, and which row answers",
            "",
            _questions(rows),
            "",
        ]
    )


def _questions(rows: Sequence[Kept]) -> str:
    lines = ["| no. | question | answered by |", "|---|---|---|"]
    for number, question in QUESTIONS.items():
        tests = dict.fromkeys(one.row.test for one in rows if number in one.row.numbers)
        lines.append(f"| {number} | {question} | {', '.join(f'`{test}`' for test in tests) or 'not tested here'} |")
    return "\n".join(lines)


def keep_soak(row: Row, memory: Sequence[tuple[float, float]]) -> None:
    """Keep the row and (seconds, MB) of a soak of an hour or more, for every page until the next one."""
    step = max(len(memory) // 100, 1)
    command = f'make reliability ROUNDS={rounds()} SOAK={soak_minutes():g} RATE={soak_rate()} ARGS="-k soak"'
    course = [[round(seconds), round(mb, 1)] for seconds, mb in memory[::step]]
    SOAK.write_text(json.dumps({"command": command, **asdict(Kept.of(row)), "memory_mb": course}, indent=1) + "\n")


def _long_soak() -> list[str]:
    """What was measured by the last soak of an hour or more, as lines of the page."""
    if not SOAK.exists():
        return []
    told = json.loads(SOAK.read_text())
    one = Kept.read(told)
    cells = dict(zip(_HEAD, one.cells(), strict=True))
    figures = [*cells["took effect"].split("; "), *cells["figures (worst run) and bars"].split("; ")]
    counts = f"Of {cells['records']} records, with {cells['compared']} numbers compared: {cells['lost']} lost, "
    counts += f"{cells['twice']} counted twice, {cells['repeated ids']} repeated ids."
    text = f"{cells['fault']}, on {one.date} ({one.machine}). {_SOAK}"
    memory = told["memory_mb"]
    course = memory[:: max(len(memory) // 12, 1)]
    return [
        "## The long soak",
        "",
        "```console",
        f"$ {told['command']}",
        "```",
        "",
        *wrap(" ".join(text.split()), 118),
        "",
        *(f"- {figure}" for figure in figures),
        "",
        counts,
        "",
        "| after | " + " | ".join(f"{seconds / 60:.0f} min" for seconds, _ in course) + " |",
        "|" + "---|" * (1 + len(course)),
        "| resident memory, MB | " + " | ".join(f"{mb:.0f}" for _, mb in course) + " |",
        "",
    ]
