"""Texts as values: which words mean a missing value, how a number is written; one rule for files and events.

A text is a number if it is written with the decimal mark that the configuration names, whatever currency, percent sign
and thousands it carries. ``number_of`` reads one text, ``numbers_of`` a column, and both read the same.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from stationkeeper.events.settings import DecimalMark, ValueRules

if TYPE_CHECKING:
    import polars as pl

# No number is meant by any of these, so that in a feature of numbers they are missing values and not broken data: what
# pandas, R, spreadsheets and databases write for one. In a feature of text each may be a value (NA is Namibia).
NULL_WORDS: Final = frozenset(
    {
        *("", "NA", "N/A", "n/a", "na", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "none", "NONE"),
        *("?", "-", "--", "#N/A", "#NA", "<NA>", "NaT", "\\N", "."),
    }
)

# Signs and the short names that spreadsheets put beside an amount; other letters make a text no number.
_CURRENCY: Final = r"[$€£¥₹₽₩₺฿]|EUR|USD|GBP|CHF|JPY|CNY|INR|CAD|AUD|SEK|NOK|DKK|PLN|CZK|kr\.?|zł"
# What may stand between groups of three digits beside the other mark: apostrophe, space, and the no-break, narrow and
# thin spaces of spreadsheets.
_GROUP: Final = "'\u2019 \u00a0\u202f\u2009"
_MINUS: Final = ("-", "\u2212")


def _form(mark: DecimalMark, other: DecimalMark) -> str:
    """The pattern of a number; it is read by Python's and by polars' engine, so it looks neither back nor ahead."""
    sign = rf"([+{_MINUS[1]}\-])?"
    digits = rf"([0-9]{{1,3}}(?:[{_GROUP}{other}][0-9]{{3}})+|[0-9]*)(?:\{mark}([0-9]*))?([eE][+\-]?[0-9]+)?"
    return rf"^\s*(\()?{sign}\s*(?:{_CURRENCY})?\s*{sign}{digits}\s*(?:{_CURRENCY})?\s*(%)?\s*\)?\s*$"


PATTERNS: Final = {".": _form(".", ","), ",": _form(",", ".")}
_COMPILED: Final = {mark: re.compile(pattern) for mark, pattern in PATTERNS.items()}


def number_of(text: str, decimal: DecimalMark) -> float | None:
    """Return the number that a text is, None for other text; a percent sign divides by a hundred.

    By hand with ``","``: ``1.234,50 €`` is 1234.5, ``14,9%`` .149, ``(3)`` -3; ``1.5`` is None, for 5 is no group.
    """
    found = _COMPILED[decimal].match(text)
    if found is None:
        return None
    bracket, before, after, whole, part, exponent, percent = found.groups()
    digits = re.sub(r"[^0-9]", "", whole)
    # A bare sign or currency matches the pattern and is no number.
    if not digits and not part:
        return None
    value = float(f"{digits or '0'}.{part or '0'}{exponent or ''}")
    negative = (bracket is not None) ^ (before in _MINUS) ^ (after in _MINUS)
    return (-value if negative else value) / (100.0 if percent else 1.0)


def plain_value(value: object, rules: ValueRules, *, numeric: bool) -> object:
    """Return what one value of a feature stands for: a text may be null or a number."""
    if not isinstance(value, str):
        return value
    # Before the number: a configured word may look like one (-999).
    if value in rules.na or (numeric and value in NULL_WORDS):
        return None
    number = number_of(value, rules.decimal) if numeric and rules.decimal is not None else None
    return value if number is None else number


def holds_missing_word(labels: Sequence[object], rules: ValueRules) -> bool:
    """Return whether a label among these is a text that stands for a missing value: as null, it is no label."""
    return any(word in labels for word in rules.na)


def texts_as_numbers(values: Sequence[object], rules: ValueRules) -> Sequence[object]:
    """Return values with numbers for the texts that are some by the rules' decimal mark; O(n), no step a text."""
    places = [] if rules.decimal is None else [i for i, value in enumerate(values) if isinstance(value, str)]
    if not places or rules.decimal is None:
        return values
    import polars as pl

    found = numbers_of(pl.Series([values[i] for i in places], dtype=pl.String), rules.decimal).to_list()
    made = list(values)
    for i, number in zip(places, found, strict=True):
        if number is not None and values[i] not in rules.na:
            made[i] = number
    return made


def numbers_of(texts: "pl.Series", decimal: DecimalMark) -> "pl.Series":
    """Return a column of texts as numbers, Float64 with null where ``number_of`` finds none. O(n), no step a value."""
    import polars as pl

    parts = texts.str.extract_groups(PATTERNS[decimal]).struct.unnest()
    bracket, before, after, whole, part, exponent, percent = (pl.col(name) for name in parts.columns)
    digits, rest = whole.str.replace_all(r"[^0-9]", "").fill_null(""), part.fill_null("")
    value = pl.concat_str(
        pl.when(digits == "").then(pl.lit("0")).otherwise(digits),
        pl.lit("."),
        pl.when(rest == "").then(pl.lit("0")).otherwise(rest),
        exponent.fill_null(""),
    ).cast(pl.Float64, strict=False)
    minus = (before.is_in(_MINUS).fill_null(value=False)) ^ (after.is_in(_MINUS).fill_null(value=False))
    negative = bracket.is_not_null() ^ minus
    scaled = value / pl.when(percent.is_null()).then(1.0).otherwise(100.0)
    signed = pl.when(negative).then(-scaled).otherwise(scaled)
    any_digit = whole.is_not_null() & ((digits != "") | (rest != ""))
    return parts.select(pl.when(any_digit).then(signed).alias(texts.name)).to_series()
