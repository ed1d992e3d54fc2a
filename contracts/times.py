"""Times at the edge: RFC 3339 or epoch, always to and from UTC milliseconds; durations such as ``30d``."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from stationkeeper.contracts.column import Integers

# Milliseconds a unit. No month and no year: they have no fixed length.
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
# Clocks have changed at whole quarters of an hour, and by them, since all zones count from UTC (1972: Liberia).
_QUARTER_MS = 900_000
# Quarters whose offset is remembered: a replay walks through them in order, and live panes stay in one.
_REMEMBERED = 4_096
UTC_ZONE = "UTC"
# 0001-01-02 and 9999-12-31, 00:00 UTC: a day from where Python's calendar begins and ends.
_FIRST_S = -62_135_510_400
_LAST_S = 253_402_214_400
# Of digits fifteen: thirty thousand years in milliseconds; of many more a float would be an infinity.
_DURATION = re.compile(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*(ms|s|m|h|d|w)\s*")
# Where Python's calendar ends: a longer one reaches out of it from every moment, and past int64 in weeks.
_LONGEST_MS = 9_999 * 366 * _UNITS["d"]


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
    ms = round(float(match[1]) * _UNITS[match[2]])
    if ms > _LONGEST_MS:
        raise ValueError(f"{text!r} is too long; durations go to 9999 years, e.g. 5m or 30d")
    return ms


def format_duration(ms: int) -> str:
    """Return milliseconds in the largest unit that keeps it whole, e.g. ``90s``, ``5m``."""
    for unit in ("w", "d", "h", "m", "s"):
        if ms and ms % _UNITS[unit] == 0:
            return f"{ms // _UNITS[unit]}{unit}"
    return f"{ms}ms"


def check_timezone(name: str) -> str:
    """Return the IANA name of a time zone; raises ``ValueError`` where this machine does not know it."""
    if name == UTC_ZONE:
        return name
    try:
        ZoneInfo(name)
    # A folder of the database, or a name that leaves it, is refused with other errors than an unknown one.
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"{name!r:.80} is no time zone that this machine knows; write an IANA name such as Europe/Berlin, "
            "America/New_York or UTC (a system without a database of zones: pip install tzdata)"
        ) from error
    return name


def local_ms(ms: int, timezone: str) -> int:
    """Return what the clock on the wall of a time zone shows at UTC milliseconds, as if it were UTC.

    An hour that autumn repeats has the same answer twice; one that spring leaves out is no answer. By hand:
    1970-01-01 00:00 UTC is 01:00 in Europe/Berlin: 3 600 000.
    """
    return ms if timezone == UTC_ZONE else ms + _offset_ms(ms // _QUARTER_MS, timezone)


def day_numbers(days: Iterable[date]) -> frozenset[int]:
    """Return how many days each lies after 1970-01-01, as ``day_number`` has them."""
    return frozenset((day - date(1970, 1, 1)).days for day in days)


def check_day(value: object) -> date:
    """Return a day such as ``2026-12-25``; raises ``ValueError`` for all else: a number says of no day which it is."""
    try:
        if type(value) is date:
            return value
        return date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError as error:
        raise ValueError(f"{value!r:.80} is no day; write year, month and day, such as 2026-12-25") from error


def days_between(start: int, end: int, timezone: str) -> range:
    """Return the numbers of the days (``day_number``) that lie in part within start <= ms < end."""
    return range(day_number(start, timezone), day_number(max(start, end - 1), timezone) + 1)


def day_number(ms: int, timezone: str) -> int:
    """Return how many days after 1970-01-01 the clock on the wall of a zone stands. By hand: 0 from 0 to 86 399 999."""
    return local_ms(ms, timezone) // _UNITS["d"]


def local_times(ms: Integers, timezone: str) -> Integers:
    """Return ``local_ms`` of int64[n]; O(n log n)."""
    if timezone == UTC_ZONE:
        return ms
    quarters, of = np.unique(ms // _QUARTER_MS, return_inverse=True)
    offsets = np.array([_offset_ms(int(quarter), timezone) for quarter in quarters], np.int64)
    return np.asarray(ms + offsets[of.reshape(-1)], np.int64)


@lru_cache(maxsize=_REMEMBERED)
def _offset_ms(quarter: int, timezone: str) -> int:
    """How far a zone is ahead of UTC in the quarter of an hour that begins ``quarter`` quarters after the epoch."""
    # Within a day of either end of Python's calendar, and beyond, its clock is meant: no zone is further off.
    seconds = min(max(quarter * _QUARTER_MS // 1_000, _FIRST_S), _LAST_S)
    offset = datetime.fromtimestamp(seconds, ZoneInfo(timezone)).utcoffset()
    return 0 if offset is None else round(offset.total_seconds() * 1_000)
