"""One verdict as the line a backtest prints."""

from typing import Any

from contracts.messages import Verdict
from stationkeeper.replay.table import Table


def json_line(verdict: Verdict, table: Table) -> dict[str, Any]:
    """Return a verdict as a backtest prints it: rows are positions in the input, time is row number without a clock."""
    timed = table.times is not None
    row = None if verdict.row is None else int(table.index[verdict.row])
    onset = verdict.onset
    onset_row = None if onset is None or onset.row is None else int(table.index[onset.row])
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
