"""Bytes of a delimited text file as columns of texts: its character set, separator, header and rows of wrong length."""

import codecs
import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import zstandard

from stationkeeper.tables.columns import BROKEN, EXAMPLE, TableRefused

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; the longer one that begins like a shorter one goes first."""

SEPARATORS: Final = (",", ";", "\t", "|")

# Bytes looked at for zeros, which UTF-16 without a mark has in every second place of plain text. Chosen: a header and
# some rows; half of it may be one long header, double tells no more.
_SNIFFED: Final = 4_096
# Characters of a file in which its header is looked for: 1 000 names of a thousand characters. Chosen: at half, a wide
# table with long names would be read by the wrong separator; double only takes longer on a file that is none.
_HEADER: Final = 1_000_000

_FILLING: Final = b"\0\r\n"
# First piece of a zstd frame, doubled while the frame lasts: the library copies what lies behind a frame, so that the
# whole rest at once would take the square of a file of many frames. Chosen: half calls twice, double copies twice.
_PIECE: Final = 4_096


@dataclass(frozen=True, slots=True)
class Texts:
    """Columns of texts by name (null: an empty cell) and the number of each row in its file, from 1.

    ``columns`` holds a pair for each field of the header, in order, so that two may have one name. ``notes`` say what
    was found out or left out of the whole file.
    """

    columns: tuple[tuple[str, pl.Series], ...]
    rows: npt.NDArray[np.int64]
    notes: tuple[str, ...]


def unpacked(data: bytes, source: str) -> bytes:
    """Return what gzip or zstd packed, else the bytes as they are; raises ``TableRefused`` for a damaged archive."""
    try:
        if data.startswith(b"\x1f\x8b"):
            return gzip.decompress(data)
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            return b"".join(_frames(data))
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise TableRefused(f"{source} cannot be unpacked: {error}") from error
    return data


def _frames(data: bytes) -> Iterator[bytes]:
    """Yield what each frame of zstd holds; raises ``EOFError`` where the last is cut off, which the library reads."""
    view, at = memoryview(data), 0
    # What fills a tape's or a disk's last block up, or ends a line, is no frame.
    while at < len(data) and (data[at] not in _FILLING or data[at:].strip(_FILLING)):
        frame, size = zstandard.ZstdDecompressor().decompressobj(), _PIECE
        while not frame.eof:
            if at >= len(data):
                raise EOFError("it is cut off")
            piece = view[at : at + size]
            yield frame.decompress(piece)
            at += len(piece) - len(frame.unused_data)
            size *= 2


def decoded(data: bytes, source: str, encoding: str | None) -> tuple[str, str | None]:
    """Return the text and, where the character set was found out and is not UTF-8, what it was taken for.

    Raises ``TableRefused`` where ``encoding`` is unknown or does not fit.
    """
    guessed = encoding
    if encoding is None:
        guessed = next((name for mark, name in _MARKS if data.startswith(mark)), None) or _unmarked(data)
    try:
        text = data.decode(str(guessed))
    except LookupError:
        raise TableRefused(f"--encoding {guessed}: no such encoding; write utf-8, cp1252, latin-1, utf-16 …") from None
    except UnicodeDecodeError as error:
        raise TableRefused(
            f"{source} is not {guessed} ({error.reason} at byte {error.start}); say --encoding"
        ) from None
    note = None
    if encoding is None and guessed not in {"utf-8", "utf-8-sig"}:
        shown = next((word for word in text[:_HEADER].split() if not word.isascii()), "")
        sample = f", as in {shown[:EXAMPLE]!r}" if shown else ""
        note = f"encoding: not UTF-8, read as {guessed}{sample}; another one? say --encoding"
    return text, note


def _unmarked(data: bytes) -> str:
    head = data[:_SNIFFED]
    # Plain text has a zero in every second place; a quarter leaves room for letters of other scripts.
    if head.count(0) > len(head) // 4:
        return "utf-16-be" if head[:1] == b"\0" else "utf-16-le"
    # UTF-8 first, since almost no other text is valid UTF-8; what cp1252 leaves undefined, Latin-1 always decodes.
    for name in ("utf-8", "cp1252"):
        try:
            data.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return "latin-1"


def read_text(data: bytes, source: str, encoding: str | None = None, rows: int | None = None) -> Texts:
    """Return a delimited text file as columns of texts; ``rows`` takes the first ones only.

    Raises ``TableRefused`` for a file without header or rows, and for one whose rows do not fit its header. O(bytes).
    """
    text, note = decoded(data, source, encoding)
    notes = [note] if note else []
    # Before anything looks for line ends: a file from an old Mac has no line feed at all.
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff\n")
    first = text.split("\n", 1)[0]
    # Excel writes and obeys this line; read as the header it would be the only column.
    if first.lower().startswith("sep=") and len(first.strip()) == 5:
        separator: str | None = first.strip()[4]
        text = text[len(first) + 1 :]
    else:
        separator = None
    # No text holds a NUL after decoding; this is a spreadsheet's own format or another encoding.
    if "\0" in text:
        raise TableRefused(f"{source} holds NUL characters: no text table; is it another kind of file, or --encoding?")
    separator = separator or _separator(text[:_HEADER])
    names, used = _header(text[:_HEADER], separator)
    if not any(name.strip() for name in names):
        raise TableRefused(f"{source}: the first line names no column")
    if _is_data(names):
        raise TableRefused(
            f"{source}: the first line ({first[:EXAMPLE]!r}) looks like data; put a line with the columns' names above"
        )
    raw = text.encode()
    skip = len(text[:used].encode())
    body, numbers, found, quoted = _lines(raw[skip:], separator, len(names), source, rows)
    notes += found
    if not len(numbers):
        raise TableRefused(f"{source}: no rows")
    fields = [f"f{place}" for place in range(len(names))]
    try:
        frame = pl.read_csv(
            io.BytesIO(body),
            has_header=False,
            schema=dict.fromkeys(fields, pl.String),
            separator=separator,
            quote_char='"' if quoted else None,
            truncate_ragged_lines=True,
            missing_columns="insert",
        )
    except pl.exceptions.PolarsError as error:
        raise TableRefused(f"{source} cannot be read as a table: {str(error).splitlines()[0]}") from error
    # Counted twice on purpose: a quote that never closes swallows rows, and polars does not say so.
    if frame.height != len(numbers):
        raise TableRefused(f"{source}: quotes that do not close; {frame.height} rows read of {len(numbers)}")
    # Files that were put together bring each their header along; as a row it would make a category of its own name.
    again = frame.select(
        pl.all_horizontal(pl.col(f).str.strip_chars() == n.strip() for f, n in zip(fields, names, strict=True))
    )
    heads = again.to_series().fill_null(value=False)
    if len(names) > 1 and heads.any():
        shown = int(numbers[int(heads.arg_max() or 0)])
        notes.append(f"left out: {int(heads.sum()):,} rows that repeat the header (the first is row {shown})")
        frame, numbers = frame.filter(~heads), numbers[~heads.to_numpy()]
        if not len(numbers):
            raise TableRefused(f"{source}: no rows")
    pairs = tuple((name.strip(), frame[field]) for name, field in zip(names, fields, strict=True))
    return Texts(pairs, numbers, tuple(notes))


def _separator(head: str) -> str:
    """The one that splits the header into most fields; among equals the one that splits the next lines so, too."""

    def score(mark: str) -> tuple[int, int]:
        # Twenty lines: enough that a comma inside a text is not taken for a separator in all of them.
        rows = [row for _, row in zip(range(20), csv.reader(io.StringIO(head), delimiter=mark), strict=False)]
        return len(rows[0]) if rows else 0, sum(len(row) == len(rows[0]) for row in rows)

    # Python refuses fields beyond 128 KiB with an error of its own; a header is judged by our bound.
    csv.field_size_limit(_HEADER)
    return max(SEPARATORS, key=score)


def _header(head: str, separator: str) -> tuple[list[str], int]:
    """The names, and how many characters of the text they take; a name may hold a line break."""
    lines = io.StringIO(head)
    names = next(csv.reader(lines, delimiter=separator), [])
    return names, min(len(head), lines.tell())


def _is_data(names: list[str]) -> bool:
    """Whether a header holds nothing but numbers: then it is a row."""
    given = [name.strip() for name in names if name.strip()]
    return len(given) > 1 and all(name.replace(".", "", 1).lstrip("+-").isdigit() for name in given)


def _lines(
    body: bytes, separator: str, width: int, source: str, most: int | None
) -> tuple[bytes, npt.NDArray[np.int64], list[str], bool]:
    """The rows of the right width, their numbers, notes on the others, and whether quotes hold. O(bytes) by columns."""
    if not body.strip():
        raise TableRefused(f"{source}: no rows")
    # The last row of a file without an end of line is a row like the others.
    if not body.endswith(b"\n"):
        body += b"\n"
    raw = np.frombuffer(body, np.uint8)
    inside = np.bitwise_xor.accumulate(raw == ord('"'))
    # Quotes that do not come in pairs are inches and no quotes.
    quoted = not inside[-1]
    outside = ~inside if quoted else np.ones(len(raw), np.bool_)
    ends = np.flatnonzero((raw == ord("\n")) & outside) + 1
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    fields = np.searchsorted(np.flatnonzero((raw == ord(separator)) & outside), np.stack([starts, ends]))
    fields = fields[1] - fields[0] + 1
    blank = ends - starts <= 1
    numbers: npt.NDArray[np.int64] = np.cumsum(~blank)
    # Separators at a line's end are no values of their own.
    wrong = (fields != width) & ~blank
    for line in np.flatnonzero(fields > width).tolist():
        rest = body[starts[line] : ends[line]].rstrip(b"\n").rstrip(separator.encode())
        wrong[line] = rest.count(separator.encode()) + 1 > width
    notes = []
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        share = wrong.sum() / max((~blank).sum(), 1)
        common = ", ".join(f"{n} × {k}" for k, n in Counter(fields[wrong].tolist()).most_common(3))
        text = (
            f"{int(wrong.sum()):,} rows have not the header's {width} fields ({common} fields; the first is row "
            f"{int(numbers[at])}: {body[starts[at] : ends[at]].decode(errors='replace').strip()[:EXAMPLE]!r})"
        )
        if share > BROKEN:
            raise TableRefused(f"{source}: {text}; is {separator!r} the separator, and are texts with it in quotes?")
        notes.append(f"left out: {text}")
    kept = np.flatnonzero(~wrong & ~blank)
    kept = kept[: len(kept) if most is None else most]
    if len(kept) != len(starts):
        body = b"".join([body[starts[line] : ends[line]] for line in kept.tolist()])
    return body, numbers[kept], notes, quoted
