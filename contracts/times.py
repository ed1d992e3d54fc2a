"""Times at the edge: RFC 3339 or epoch, always to and from UTC milliseconds; durations such as ``30d``."""

import re
from datetime import UTC, datetime

# Milliseconds a unit. No month and no year: they have no fixed length.
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*")


def to_datetime(ms: int) -> datetime:
    """Return UTC milliseconds as an aware datetime."""
    return datetime.fromtimestamp(ms / 1_000, tz=UTC)


def to_ms(time: datetime) -> int:
    """Return an aware datetime as UTC milliseconds; raises ``ValueError`` without a zone."""
    if time.tzinfo is None:
        raise ValueError(f"time {time.isoformat()} has no zone; write 2026-01-31T12:00:00Z")
    return round(time.timestamp() * 1_000)


def parse_duration(text: str) -> int:
    """Return a duration such as ``90s``, ``5m``, ``12h``, ``30d`` in milliseconds; raises ``ValueError``."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write a number and one of {', '.join(_UNITS)}, e.g. 5m or 30d")
    return round(float(match[1]) * _UNITS[match[2]])


def format_duration(ms: int) -> str:
    """Return milliseconds in the largest unit that keeps it whole, e.g. ``90s``, ``5m``."""
    for unit in ("w", "d", "h", "m", "s"):
        if ms and ms % _UNITS[unit] == 0:
            return f"{ms // _UNITS[unit]}{unit}"
    return f"{ms}ms"
