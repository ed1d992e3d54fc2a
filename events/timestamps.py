"""Event times as columns: RFC 3339 text or epoch numbers to UTC milliseconds, a batch at once."""

import math
import re
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt

from stationkeeper.events.settings import TimeUnit

Integers = npt.NDArray[np.int64]

BAD = np.iinfo(np.int64).min
"""Stands where a value is no time."""

LATEST_MS = 253_402_300_800_000
"""The end of the year 9999; earlier than 1970 or later than this is no event time."""

# (multiplier, divisor) that turn an epoch of a unit into milliseconds, in integers so that nothing is rounded twice.
_PER_MS = {"s": (1_000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}
# Stricter than datetime.fromisoformat: a date alone, a week date or a time without its zone is no instant. Nor is the
# hour 24, which Python reads since 3.14: an upgrade of Python must not change what becomes of a record.
_RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ](?:[01]\d|2[0-3]):\d{2}:\d{2}(?:[.,]\d{1,9})?(?:[Zz]|[+-]\d{2}:?\d{2})", re.ASCII
)
_FRACTION = re.compile(r"[.,](\d{1,9})")
# (position, byte) of - - T : : in YYYY-MM-DDTHH:MM:SS, and the lengths of that with Z and no, three or six digits of a
# second: what producers write nearly always, and what is therefore read without a Python step a value.
_SEPARATORS = tuple((place, ord(mark)) for place, mark in ((4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")))
_PLAIN = (20, 24, 27)
# Days of the month by its number; February's 29 is taken back in common years.
_MONTH_DAYS = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)


def parse_instant(value: object, unit: TimeUnit) -> int | None:
    """Return one value as UTC milliseconds (rounded down) or None if it is no time in this unit.

    Text is RFC 3339 with its zone; a number is an epoch in ``unit`` (none with ``rfc3339``).
    """
    if isinstance(value, str):
        return _parse_text(value)
    # True is an int to Python, and would be the first millisecond of 1970.
    if isinstance(value, bool) or not isinstance(value, int | float) or unit == "rfc3339":
        return None
    up, down = _PER_MS[unit]
    if isinstance(value, float):
        # Beyond any instant in nanoseconds: floor would make an integer of any size of it.
        if not math.isfinite(value) or abs(value) > LATEST_MS * 1e6:
            return None
        ms = math.floor(value * up / down)
    else:
        ms = value * up // down
    return ms if 0 <= ms < LATEST_MS else None


def parse_instants(values: Sequence[object], unit: TimeUnit) -> Integers:
    """Return each value as UTC milliseconds, int64[n]; ``BAD`` where ``parse_instant`` finds no time.

    The common forms, UTC text of one width and whole numbers, take no Python step per value.
    """
    n = len(values)
    kinds = set(map(type, values))
    if kinds == {str}:
        widths = set(map(len, values))  # type: ignore[arg-type]
        if len(widths) == 1 and (width := widths.pop()) in _PLAIN:
            times, fine = _plain(values, width)
            if fine.all():
                return times
            for i in np.flatnonzero(~fine).tolist():
                times[i] = _or_bad(values[i], unit)
            return times
    elif kinds == {int} and unit != "rfc3339":
        try:
            numbers = np.fromiter(values, np.int64, n)
        except OverflowError:
            numbers = None
        up, down = _PER_MS[unit]
        if numbers is not None:
            limit = LATEST_MS * down // up
            fine = (numbers >= 0) & (numbers < limit)
            return np.where(fine, np.where(fine, numbers, 0) * up // down, BAD)
    return np.fromiter((_or_bad(value, unit) for value in values), np.int64, n)


def ahead_of_broker(times: Integers, stamps: Integers, skew: Integers | int) -> npt.NDArray[np.bool_]:
    """Return which events came too early: further ahead of their broker timestamp (ms) than ``skew`` allows, bool[n].

    Records without a broker timestamp (negative) are taken as they are.
    """
    return (times > stamps + skew) & (stamps >= 0)


def _or_bad(value: object, unit: TimeUnit) -> int:
    found = parse_instant(value, unit)
    return BAD if found is None else found


def _parse_text(text: str) -> int | None:
    if not _RFC3339.fullmatch(text):
        return None
    fraction = _FRACTION.search(text)
    whole = text if fraction is None else text[: fraction.start()] + text[fraction.end() :]
    try:
        moment = datetime.fromisoformat(whole.upper())
    except ValueError:
        return None
    # Without its fraction it is whole; round only takes off what the float added.
    ms = round(moment.timestamp()) * 1_000
    if fraction is not None:
        # Cut, as numbers are rounded down: an event must not move into the next pane by its microseconds.
        ms += int(fraction[1].ljust(3, "0")[:3])
    return ms if 0 <= ms < LATEST_MS else None


def _plain(values: Sequence[object], width: int) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """``YYYY-MM-DDTHH:MM:SS[.fff|.ffffff]Z`` by arithmetic on its digits; days since 1970 after H. Hinnant."""
    try:
        text = np.array(values, dtype=f"S{width}")
    except UnicodeEncodeError:
        return np.zeros(len(values), np.int64), np.zeros(len(values), np.bool_)
    raw = text.view(np.uint8).reshape(-1, width)
    fine = raw[:, width - 1] == ord("Z")
    for place, byte in _SEPARATORS:
        fine &= raw[:, place] == byte
    # Where the digits of year, month, day, hour, minute and second stand, and those of a fraction behind its point.
    spots = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
    if width > _PLAIN[0]:
        fine &= raw[:, 19] == ord(".")
        spots += range(20, width - 1)
    digits = raw[:, spots] - np.uint8(ord("0"))
    fine &= (digits <= 9).all(axis=1)
    d = digits.astype(np.int32).T
    year = d[0] * 1000 + d[1] * 100 + d[2] * 10 + d[3]
    month, day = d[4] * 10 + d[5], d[6] * 10 + d[7]
    hour, minute, second = d[8] * 10 + d[9], d[10] * 10 + d[11], d[12] * 10 + d[13]
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    most = _MONTH_DAYS[np.clip(month, 0, 12)] - ((month == 2) & ~leap)
    fine &= (year >= 1970) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= most)
    fine &= (hour < 24) & (minute < 60) & (second < 60)
    # Days since 1970 of a civil date, without a loop (H. Hinnant, chrono-compatible low-level date algorithms): years
    # begin in March, so that the leap day is the last; five months from March on have 153 days; 400 years have 146 097,
    # and 719 468 days lie before 1970.
    shifted = year - (month <= 2)
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    times = (days.astype(np.int64) * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000
    if width > _PLAIN[0]:
        times += d[14] * 100 + d[15] * 10 + d[16]
    return times, fine
