"""Times at the edge: RFC 3339 or epoch, always to and from UTC milliseconds; durations such as ``30d``.

And the one rule of how late labels come, by which the monitor judges and the trainer learns.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from stationkeeper.contracts.column import Floats, Integers

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


COMPLETE = 0.95
"""Share of a class's labels that must be known before its rows are judged (STATISTICS.md, section 10.1). At .9 a model
that is wrong in one row of ten can seem one point worse by what is missing, which is the tolerance; at .975 cohorts
wait a fifth longer where delays are exponential."""

WATCHED = 2
"""How many times an age labels must have been watched before their stopping there is believed: of an exponential delay
watched for too short a time, twice the age at which .95 seem to have come, .947 have. With less than that the tail that
has not come yet is taken for none; at double every new model waits twice as long."""


@dataclass(frozen=True, slots=True)
class Absence:
    """Of a model whose positives alone are ever labelled: what decides when no label is a negative one (in ms).

    ``pane`` and ``horizon`` are the shortest and the longest delay told apart, ``least`` (``label_maturity``) the least
    age at which a prediction without a label is a negative.
    """

    pane: int
    horizon: int
    least: int


def delay_edges(pane: int, horizon: int) -> Integers:
    """Return the ages (ms) at which delays of labels are counted, from ``pane`` to ``horizon`` or just beyond."""
    # Two ages an octave: rows wait at most two fifths longer than they must.
    steps = int(np.ceil(2 * np.log2(max(horizon, pane) / pane))) + 1
    return np.rint(pane * 2 ** (np.arange(steps) / 2)).astype(np.int64)


def complete_share(delays: Integers, seen: Integers) -> Floats:
    """Return what share of the labels that will come is there at each of n ages, float64[..., n].

    ``delays`` int64[epochs, ..., n] counts labels by the age at which they came, ``seen`` int64[epochs, ..., n] is 1
    where the epoch's predictions are as old as that. Only labels that have come are seen (right truncation), so it is a
    product over reversed time (Lynden-Bell 1971; Kaplan-Meier in the other direction): G(a) = prod over delays d > a of
    1 - n(d) / R(d), where R(d) counts labels with a delay of at most d among predictions at least d old, and n(d) those
    of them with delay d. By hand: ten predictions a day old, five labels after an hour and five after six: G at two
    hours is 1 - 5 / 10 = .5. O(epochs x ages).
    """
    came, until = (delays * seen).sum(0), (np.cumsum(delays, -1) * seen).sum(0)
    stay = 1 - came / np.maximum(until, 1)
    # What comes after the last age cannot be seen, so that G is 1 there.
    after = np.concatenate([stay[..., 1:], np.ones_like(stay[..., :1])], -1)
    return np.asarray(np.cumprod(after[..., ::-1], -1)[..., ::-1], np.float64)


def ages_from(edges: Integers, least: int) -> Iterator[tuple[int, int]]:
    """Yield (place among ``edges``, age in ms) of the ages that may be waited for, ``least`` itself first."""
    first = max(int(np.searchsorted(edges, least, side="right")) - 1, 0)
    for at in range(first, len(edges)):
        yield at, least if at == first else int(edges[at])


def absence_age(edges: Integers, positives: Floats, absence: Absence, watched: int) -> int | None:
    """Return the age (ms) from which a prediction without a label is a negative; None while that cannot be told.

    It is the first at which .95 of the positives' labels are there (``positives`` float64[n], ``complete_share`` at
    ``edges``), as far as labels have been ``watched`` (ms) for twice as long or for the horizon.
    """
    for at, age in ages_from(edges, absence.least):
        if positives[at] >= COMPLETE and (watched >= WATCHED * age or watched >= absence.horizon):
            return age
    return None
