"""A file replayed through the judge as the daemon would have seen it: one JSON line a verdict, and a summary."""

import json
import math
import time as clock
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from stationkeeper.backtesting.course import Course
from stationkeeper.backtesting.peers import Count, Peers
from stationkeeper.backtesting.replay import RENEW_MOST, Replay, ReplaySettings
from stationkeeper.backtesting.table import BadInput, Table
from stationkeeper.contracts.messages import Level, SubjectState, Verdict, VerdictKind
from stationkeeper.contracts.times import UTC_ZONE, check_timezone, format_duration, parse_duration, to_ms
from stationkeeper.monitor.core.budget import EFFECT_FLOOR, Budget, parse_budget
from stationkeeper.monitor.core.reference import Reference, load
from stationkeeper.monitor.settings import ModelSettings, QualitySettings
from stationkeeper.monitor.status import measure_status, selected


def json_line(verdict: Verdict, table: Table | None = None) -> dict[str, Any]:
    """Return a verdict as a backtest prints it: rows are positions in the table, time is row number without a clock.

    Without a table, as for a past judged from its topics, there are no rows to point at, and all has its time.
    """
    timed = table is None or table.times is not None
    row = None if table is None or verdict.row is None else int(table.index[verdict.row])
    onset = verdict.onset
    onset_row = None if table is None or onset is None or onset.row is None else int(table.index[onset.row])
    return {
        "kind": verdict.kind.value,
        "subject": verdict.subject.name,
        "model": verdict.model,
        "version": verdict.version,
        "segment": verdict.segment,
        "time": verdict.time.isoformat() if timed else row,
        "row": row,
        "onset_row": onset_row,
        "onset_time": (onset.time.isoformat() if timed else onset_row) if onset else None,
        "effect": verdict.effect,
        "rows": verdict.rows,
        "incident": verdict.incident,
        "level": verdict.level.value,
        "cause": verdict.cause,
        "check": verdict.subject.check,
        "reason": verdict.reason,
        "statistic": verdict.statistic,
        "threshold": verdict.threshold,
        "subjects": verdict.evidence.get("subjects", []),
    }


# A budget in time is counted in minutes.
MINUTE_MS = 60_000
# The budget where nobody names one: a false page in 100 000 rows, or in 30 days as in the daemon.
DEFAULT_ROWS = "100000"
DEFAULT_DURATION = "30d"
# The order of loudness; `--level` prints its own and all louder ones.
_LEVELS = {Level.PAGE: 3, Level.WARN: 2, Level.INFORM: 1}


@dataclass(frozen=True, slots=True)
class Backtested:
    """What a backtest found: the verdicts that are loud enough, ``lines`` as they were printed, in the same order.

    ``rules`` are the alarms of other tools' rules and ``course`` what a report draws, where they were asked for.
    """

    replay: Replay
    verdicts: tuple[Verdict, ...]
    lines: tuple[dict[str, Any], ...]
    rules: tuple[dict[str, Any], ...] = ()
    course: Course | None = None


def run(
    table: Table,
    settings: ReplaySettings,
    *,
    reference: Reference | None = None,
    level: Level = Level.PAGE,
    out: TextIO | None = None,
    err: TextIO | None = None,
    compare: bool = False,
    course: bool = False,
) -> Backtested:
    """Replay a table, print its verdicts to ``out`` as JSON lines and progress and a summary to ``err``.

    A line is printed for each page, for the first verdict of each further kind that joins its incident, and for each
    recovery of an incident; a lower ``level`` prints the others too. ``compare`` prints other tools' rules beside ours:
    a line with ``rule`` for each of their alarms, and a table of all on ``err``. ``course`` keeps what a report plots.
    """
    began = clock.monotonic()
    replay = Replay(table, settings, reference)
    kept = Course(table, settings.pane, lambda: replay.watch, compare=compare) if course else None
    peers = replay.peers = kept if kept is not None else Peers(table) if compare else None
    ours, verdicts, lines, rules = Count(), list[Verdict](), list[dict[str, Any]](), list[dict[str, Any]]()

    def say(line: dict[str, Any], kind: list[dict[str, Any]]) -> None:
        kind.append(line)
        if out is not None:
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            # Line by line: a replay of a large file is piped into another program while it runs.
            out.flush()

    replay.alarmed = lambda line: say(line, rules)
    bar = ProgressBar(len(table), err)
    for verdict, _ in replay.run(bar.update):
        counted = f"{verdict.kind.value} {verdict.level.value}"
        replay.summary.verdicts[counted] = replay.summary.verdicts.get(counted, 0) + 1
        replay.summary.pages += verdict.level is Level.PAGE
        # Pages are counted here whatever `level` prints: the table of rules and the summary are about all of them.
        line = json_line(verdict, table)
        if verdict.level is Level.PAGE:
            ours.add(line["row"])
        if shown(verdict, level):
            say(line, lines)
            verdicts.append(verdict)
        if kept is not None and verdict.statistic is not None and verdict.threshold is not None:
            kept.note(verdict.subject.name, to_ms(verdict.time), verdict.statistic, verdict.threshold)
    bar.done()
    if kept is not None:
        known = replay.summary.measures.values()
        selection = replay.labels.selection()
        found = SubjectState.STEADY, "Of the rows that were judged by their labels"
        kept.performance = tuple(
            measure_status((table.version, ""), one, state, f"{why.removesuffix('.')}.")
            for one in known
            for state, why in [selected(selection, one, found)]
        )
    if err is not None:
        _summarise(replay, settings, clock.monotonic() - began, err)
        if peers is not None and compare:
            err.writelines(f"{line}\n" for line in peers.lines(ours))
    return Backtested(replay, tuple(verdicts), tuple(lines), tuple(rules), kept)


def shown(verdict: Verdict, level: Level) -> bool:
    """Return whether a verdict is printed: loud enough, joining an incident as a new kind, or ending one."""
    if _LEVELS[verdict.level] >= _LEVELS[level]:
        return True
    joined = verdict.incident is not None and verdict.level is Level.WARN
    return joined or verdict.kind is VerdictKind.RECOVERED


def replay_settings(  # noqa: PLR0913 - the options of the verb
    table: Table,
    *,
    reference_rows: int | None,
    label_delay: str | None,
    features: Iterable[str] | None,
    categorical: Iterable[str],
    every: str | None,
    pane: str | None,
    renew: str,
    effect_floor: float | None,
    label_maturity: str | None = None,
    adoption: str | None = None,
    positive: str | None = None,
    timezone: str | None = None,
) -> ReplaySettings:
    """Return what the options of the verb mean for a table; raises ``BadInput`` that names the option."""
    timed = table.times is not None
    rows = reference_rows or 0
    length = _length(pane, "--pane", timed=timed) if pane else _default_pane(table, rows)
    delay = _length(label_delay, "--label-delay", timed=timed) if label_delay else 0
    maturity = _length(label_maturity, "--label-maturity", timed=timed) if label_maturity else None
    # What the daemon does where nobody says otherwise; without a clock there are no days to learn from.
    usual = ModelSettings.model_fields
    if maturity is None and timed:
        maturity = max(delay, usual["label_maturity"].default)
    # Times False is 0: without times nothing is adopted.
    held = _length(adoption, "--adoption", timed=timed) if adoption else usual["adoption"].default * timed
    return ReplaySettings(
        budget=_budget(every, timed=timed),
        pane=length,
        # Chosen: short enough that a table of a few hundred panes has several windows; the daemon's hour is sixty
        # panes.
        window=20 * length,
        reference_rows=reference_rows,
        delay=delay,
        maturity=maturity,
        adoption=held or None,
        learn_traffic=QualitySettings().learn_traffic if timed else None,
        renew=_renew(renew, rows),
        features=None if features is None else tuple(features),
        categorical=tuple(categorical),
        delta=EFFECT_FLOOR if effect_floor is None else effect_floor,
        positive=positive,
        timezone=_zone(timezone or UTC_ZONE),
    )


def _zone(timezone: str) -> str:
    try:
        return check_timezone(timezone)
    except ValueError as error:
        raise BadInput(f"--timezone: {error}") from error


def _budget(every: str | None, *, timed: bool) -> Budget:
    text = every or (DEFAULT_DURATION if timed else DEFAULT_ROWS)
    if text.replace("_", "").isdigit():
        return Budget(1.0, float(text), "rows")
    try:
        span = parse_duration(text)
    except ValueError:
        return parse_budget(text)
    if not timed:
        raise BadInput(f"--false-alarms-every {text}: without --time the clock is rows; write a number of rows")
    return Budget(1.0, span / MINUTE_MS, "minutes")


def _length(text: str, option: str, *, timed: bool) -> int:
    if text.replace("_", "").isdigit():
        if timed and int(text):
            raise BadInput(f"{option} {text}: rows, but the table has times; write a duration such as 1h")
        return int(text)
    if not timed:
        raise BadInput(f"{option} {text}: without --time the clock is rows; write a number of rows")
    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadInput(f"{option}: {error}") from error


def _default_pane(table: Table, reference_rows: int) -> int:
    """A hundred panes in the reference: 10 to 100 rows, or the duration from a list that comes nearest to 50 rows."""
    if table.times is None:
        # Not under ten rows, where a pane's counts are mostly zeros, and not over a hundred, which dates a change too
        # coarsely; fifty where nothing is known of the reference.
        return max(10, min(100, reference_rows // 100)) if reference_rows else 50
    span = max(int(table.times[-1] - table.times[0]), 1)
    wanted = 50 * span / len(table)
    # A minute, ten, an hour, six, a day, a week: lengths that a person would choose, by the ratio to the wanted one.
    return min((60_000, 600_000, 3_600_000, 21_600_000, 86_400_000, 604_800_000), key=lambda ms: abs(ms / wanted - 1))


def _renew(text: str, reference_rows: int) -> int:
    if text == "never":
        return 0
    if text == "auto":
        return min(reference_rows, RENEW_MOST)
    if text.isdigit():
        return int(text)
    raise BadInput(f"--renew {text}: must be auto, never or a number of rows")


def load_reference(path: Path) -> Reference:
    """Return the reference in a file; raises ``BadInput`` or ``InvalidReference``."""
    if not path.exists():
        raise BadInput(f"--reference {path}: no such file; make one with `stationkeeper profile`")
    return load(path.read_bytes())


class ProgressBar:
    """A line that is rewritten on a terminal, and nothing elsewhere; ``of`` says what ``rows`` counts."""

    def __init__(self, rows: int, err: TextIO | None, of: str | None = None) -> None:
        self._rows, self._err = max(rows, 1), err if err is not None and err.isatty() else None
        self._of = of if of is not None else f"of {self._rows} rows"
        self._shown, self._width = -1, 0

    def update(self, rows: int) -> None:
        """Say how many rows are done."""
        percent = 100 * rows // self._rows
        if self._err is not None and percent != self._shown:
            self._shown = percent
            line = f"{percent:3d} % {self._of}"
            self._width = len(line)
            self._err.write(f"\r{line}")
            self._err.flush()

    def done(self) -> None:
        """Take the line away."""
        if self._err is not None:
            self._err.write("\r" + " " * self._width + "\r")


def _summarise(replay: Replay, settings: ReplaySettings, seconds: float, err: TextIO) -> None:
    summary, table = replay.summary, replay.table
    length = f"{settings.pane} rows" if table.times is None else format_duration(settings.pane)
    err.write(
        f"{summary.rows} rows, {summary.panes} panes of {length} judged in {seconds:.1f} s "
        f"({summary.rows / max(seconds, 1e-9):.0f} rows/s); {summary.references} reference(s)\n"
    )
    err.write(f"budget: false pages at most {settings.budget}\n")
    err.writelines(f"note: {note}\n" for note in summary.notes)
    err.writelines(f"{count:6d} {kind}\n" for kind, count in sorted(summary.verdicts.items()))
    if not summary.verdicts:
        err.write("no verdict\n")
    for name, one in summary.measures.items():
        if one.rows and math.isfinite(one.value):
            between = f", {one.low:.4g} to {one.high:.4g}" if math.isfinite(one.low) else ""
            err.write(f"{name}: {one.value:.4g}{between} ({one.rows} labelled rows)\n")
