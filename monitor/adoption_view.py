"""How far a champion is in its adoption period, as people see it."""

from typing import Any

from monitor.model_judge import ModelJudge

MEANWHILE = "until then nothing pages but data quality, and what differs from training is said once at the end"


def adoption_status(judge: ModelJudge, champion: str | None) -> dict[str, Any] | None:
    """Return ``contracts.model_status.AdoptionStatus`` of the champion, None when it has nothing to learn."""
    for key, watch in sorted(judge.watches.items()):
        if key.version == champion and not key.segment and watch.period is not None:
            period = watch.period
            return {
                "version": key.version,
                "reason": f"{period.progress()}; {MEANWHILE}",
                "passed_ms": period.passed,
                "length_ms": period.length,
                "panes": period.panes,
                "rows": period.rows,
            }
    return None
