"""Times of a column as UTC milliseconds: which unit an epoch has and in which order day and month stand, said aloud."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

Integers = npt.NDArray[np.int64]

# Each unit's range lies between 1973 and 2286, a power of ten each, between which lies another: the ranges do not
# touch, and a number outside all of them is a count, no time.
EPOCHS: Final = (("s", 1e8, 1e10), ("ms", 1e11, 1e13), ("us", 1e14, 1e16), ("ns", 1e17, 1e19))
PER_MS: Final = {"s": 1e-3, "ms": 1.0, "us": 1e3, "ns": 1e6}
"""How many of a unit are a millisecond."""

LATEST_MS: Final = 253_402_300_800_000
"""The end of the year 9999, as in the reading of events."""

# Share of the texts that must be times for a column to be one; as for numbers, the rest is unusable and said.
_MOSTLY: Final = 0.9
# How many times as long the longest gap between neighbouring rows must be under the other order of day and month. The
# wrong order throws the days of one month over the whole year, so that a table of days has gaps of weeks. Chosen: at
# half, a table with one hole of a week is decided by chance; at double, short tables of some days are asked about.
_GAPS: Final = 10
# Two digits of a year from 00 to 68 are of this century, as in POSIX strptime.
_CENTURY: Final = 69

_CLOCK: Final = (
    r"(?:[Tt ,:]\s*([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?\s*([AaPp])?\.?[Mm]?\.?"
    r"\s*(Z|z|UTC|GMT|[+\-][0-9]{2}:?[0-9]{2})?)?\s*$"
)
_YEAR_FIRST: Final = r"^\s*([0-9]{4})([\-/.])([0-9]{1,2})[\-/.]([0-9]{1,2})" + _CLOCK
_YEAR_LAST: Final = r"^\s*([0-9]{1,2})([\-/.])([0-9]{1,2})[\-/.]([0-9]{4}|[0-9]{2})" + _CLOCK
_MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
# Months by their English names, as Oracle (14-MAR-26), mail (Sat, 14 Mar 2026), web servers and people write them: the
# whole name or its beginning, so that a code such as MARK-12-34 is none.
_NAMED: Final = "((?i:sept|" + "|".join(f"{name}|{name[:3]}" for name in _MONTHS) + r"))\.?"
_WEEKDAY: Final = r"^\s*(?:(?i:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+)?"
_DAY_THEN_NAME: Final = (
    _WEEKDAY + r"([0-9]{1,2})(?:st|nd|rd|th)?([\s\-/.]+)" + _NAMED + r"[\s\-/.,]+([0-9]{4}|[0-9]{2})" + _CLOCK
)
_NAME_THEN_DAY: Final = (
    _WEEKDAY + _NAMED + r"([\s\-/.]+)([0-9]{1,2})(?:st|nd|rd|th)?[\s\-/.,]+([0-9]{4}|[0-9]{2})" + _CLOCK
)


def epoch_unit(low: float, high: float) -> str | None:
    """Return the unit in which numbers from ``low`` to ``high`` are times between 1973 and 2286; None for no time.

    By hand: 1 777 593 600 is 2026 in seconds, 1 777 593 600 000 the same moment in milliseconds.
    """
    return next((unit for unit, first, end in EPOCHS if first <= low and high < end), None)


def epochs(values: npt.NDArray[Any], unit: str) -> Integers:
    """Return epoch numbers of a unit as UTC milliseconds, -1 where there is none. O(n)."""
    if values.dtype.kind in "iu" and unit in {"ms", "us", "ns"}:
        whole = values // np.array(PER_MS[unit]).astype(values.dtype)
        return np.where((whole >= 0) & (whole < LATEST_MS), whole, -1).astype(np.int64)
    number = values.astype(np.float64) / PER_MS[unit]
    fine = np.isfinite(number) & (number >= 0) & (number < LATEST_MS)
    # A float of seconds holds whole milliseconds only to 1e-7 of one: without this 1.001 s becomes 1 000 ms.
    return np.where(fine, np.where(fine, np.floor(number + 1e-6), 0), -1).astype(np.int64)


def text_times(texts: pl.Series, form: str | None = None) -> tuple[Integers, str, str] | None:
    """Return (UTC ms int64[n], -1 where there is none; how it was read; what is not known), None for other text.

    ``form`` is how a person says that they are written (strptime). What is not known is the order of day and month:
    then the times are of no use, and the words say which two readings there are.
    """
    known = max(len(texts) - texts.null_count(), 1)
    if form is not None:
        fmt = form.replace("%f", "%6f")
        try:
            made = texts.str.to_datetime(fmt, strict=False, time_unit="ms", time_zone="UTC" if "%z" in form else None)
        except pl.exceptions.PolarsError:
            try:
                made = texts.str.to_date(form, strict=False).cast(pl.Datetime("ms"))
            except pl.exceptions.PolarsError:
                return None
        return _filled(made), f"as {form}", ""
    # The year first, or a month by its name, is the same in every country; only otherwise must the order be found out.
    for pattern, order in (
        (_YEAR_FIRST, (1, 3, 4)),
        (_YEAR_LAST, None),
        (_DAY_THEN_NAME, (4, 3, 1)),
        (_NAME_THEN_DAY, (4, 1, 3)),
    ):
        parts = texts.str.extract_groups(pattern).struct.unnest()
        if parts.height - parts.to_series(0).null_count() < _MOSTLY * known:
            continue
        if order is None:
            return _year_last(parts)
        year, month, day = order
        if pattern is not _YEAR_FIRST:
            parts = _numbered(parts, month)
        return (*_made(parts, year=year, month=month, day=day), "")
    return None


def _numbered(parts: pl.DataFrame, month: int) -> pl.DataFrame:
    """The parts with the number of a month in the place of its name."""
    name = parts.columns[month - 1]
    numbers = {month[:3]: str(place) for place, month in enumerate(_MONTHS, 1)}
    return parts.with_columns(pl.col(name).str.slice(0, 3).str.to_lowercase().replace_strict(numbers, default=None))


def _year_last(parts: pl.DataFrame) -> tuple[Integers, str, str]:
    one, other = (parts.to_series(place).cast(pl.Int64) for place in (0, 2))
    dots = (parts.to_series(1) == ".").any()
    month_first, zone = _made(parts, year=4, month=1, day=3)
    day_first, _ = _made(parts, year=4, month=3, day=1)
    # Dates with dots are written day first wherever they are written at all.
    if dots or (one > 12).any():
        return day_first, f"day first{zone and ', '}{zone}", ""
    if (other > 12).any():
        return month_first, f"month first{zone and ', '}{zone}", ""
    gaps = [_longest_gap(times) for times in (month_first, day_first)]
    if gaps[0] * _GAPS <= gaps[1]:
        return month_first, f"month first (day first would leave gaps of weeks){zone and ', '}{zone}", ""
    if gaps[1] * _GAPS <= gaps[0]:
        return day_first, f"day first (month first would leave gaps of weeks){zone and ', '}{zone}", ""
    mark = parts.to_series(1).drop_nulls()[0]
    year = "%Y" if parts.to_series(3).drop_nulls().str.len_chars().max() == 4 else "%y"
    clock = _clock_form(parts)
    forms = [f"--time-format '%{a}{mark}%{b}{mark}{year}{clock}'" for a, b in ("md", "dm")]
    return month_first, zone, f"day or month first? say {forms[0]} or {forms[1]}"


def _clock_form(parts: pl.DataFrame) -> str:
    """How the time of day is written, for the words of a question."""
    hour, second, half = (parts.to_series(place).drop_nulls() for place in (4, 6, 8))
    if not len(hour):
        return ""
    return (" %I:%M" if len(half) else " %H:%M") + (":%S" if len(second) else "") + (" %p" if len(half) else "")


def _longest_gap(times: Integers) -> int:
    known = np.sort(times[times >= 0])
    return int(np.diff(known).max(initial=0)) if len(known) > 1 else 0


def _made(parts: pl.DataFrame, *, year: int, month: int, day: int) -> tuple[Integers, str]:
    """Times from the parts of a pattern, -1 for the 31st of June, and what is said of their zone."""
    names = parts.columns
    number = {place: pl.col(names[place - 1]).cast(pl.Int32, strict=False) for place in (year, month, day, 5, 6, 7)}
    text = pl.col(names[7]).fill_null("").str.pad_end(3, "0").str.slice(0, 3)
    fraction = text.cast(pl.Int64, strict=False).fill_null(0)
    half = pl.col(names[8]).str.to_lowercase()
    hours = number[5].fill_null(0)
    # 12 PM is noon and 12 AM midnight, so that twelve counts as none.
    hours = pl.when(half == "p").then(hours % 12 + 12).when(half == "a").then(hours % 12).otherwise(hours)
    years = number[year]
    years = pl.when(years >= 100).then(years).otherwise(years + pl.when(years < _CENTURY).then(2000).otherwise(1900))
    minute, second = number[6].fill_null(0), number[7].fill_null(0)
    fits = (
        number[month].is_between(1, 12) & number[day].is_between(1, 31) & (hours < 24) & (minute < 60) & (second < 60)
    )
    # A time without a zone is taken for UTC, and the column's line says so.
    zone = pl.col(names[9]).fill_null("Z")
    offset = (
        pl.when(zone.str.contains(r"^[+\-]")).then(zone.str.replace(":", "", literal=True)).otherwise(pl.lit("+0000"))
    )
    minutes = offset.str.slice(1, 2).cast(pl.Int64) * 60 + offset.str.slice(3, 2).cast(pl.Int64)
    ahead = pl.when(offset.str.starts_with("-")).then(-minutes).otherwise(minutes)
    date = pl.concat_str(
        years.cast(pl.String).str.zfill(4),
        number[month].cast(pl.String).str.zfill(2),
        number[day].cast(pl.String).str.zfill(2),
        separator="-",
    ).str.to_date("%Y-%m-%d", strict=False)
    days = date.cast(pl.Int32).cast(pl.Int64)
    clock = (hours * 3_600 + minute * 60 + second).cast(pl.Int64) * 1_000 + fraction - ahead * 60_000
    made = parts.select(pl.when(fits).then(days * 86_400_000 + clock).fill_null(-1)).to_series().to_numpy()
    bare = parts.select((pl.col(names[0]).is_not_null() & pl.col(names[9]).is_null()).any()).item()
    return np.where(made < 0, -1, made).astype(np.int64), "no zone, so UTC" if bare else ""


def _filled(times: pl.Series) -> Integers:
    found: Integers = times.dt.epoch("ms").fill_null(-1).to_numpy().astype(np.int64)
    return found
