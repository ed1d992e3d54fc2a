"""A fetch by columns: the one file that reaches into kafka-python, for what it does a thousand times a fetch.

Two of its steps are done here instead: receiving a long answer (it takes 4 KiB from its socket at a time and copies
what came five times) and taking records apart (a Python step for each field). Everything else stays with the library:
connections, sessions, groups, the protocol, checksums, compression, and which batches belong to aborted transactions.
Why, with figures: docs/adr/read-record-batches-by-columns.md. tests/streams/kafka/test_fetch.py fails when the library
changes beneath it. The layout of a record is format v2 (KIP-98, https://kafka.apache.org/documentation/#recordbatch).
"""

import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt
from kafka import KafkaConsumer, errors
from kafka.consumer.fetcher import Fetcher, IsolationLevel
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import FetchRequest
from kafka.protocol.frame import KafkaBytes

# What is received where an answer may begin or end, and the least size of a field that is not copied. Each piece hands
# the interpreter to whoever computes, for up to 5 ms, so that with pieces of 4 KiB a fetch could not arrive while its
# predecessor was worked on; 64 KiB is one record of TLS four times over, and a small answer still fits one piece.
_PIECE: Final = 64 * 1024
# "Nothing yet", as a socket that does not block says it, with and without TLS.
_WAITING: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

Client = TypeVar("Client")


def columnar(consumer: KafkaConsumer) -> KafkaConsumer:
    """Let a consumer receive fetches in place and its ``poll`` return ``Columns``; returns the consumer.

    The one seam: without this call the library reads as it always did.
    """
    return by_columns(in_place(consumer))


def in_place(client: Client) -> Client:
    """Let every connection that a consumer opens from now on receive fetches in place; returns the consumer."""
    manager = client._client._manager  # type: ignore[attr-defined]  # noqa: SLF001 - nothing public chooses a transport
    build = manager._build_transport  # noqa: SLF001

    async def built(*node: Any, **options: Any) -> Any:
        transport = await build(*node, **options)
        transport._sock_recv = Receiving(transport)  # noqa: SLF001
        return transport

    manager._build_transport = built  # noqa: SLF001
    return client


class Frame(KafkaBytes):  # type: ignore[misc] # kafka-python has no types
    """The bytes of one answer, of which long fields are read as views."""

    def read(self, nbytes: int | None = None) -> bytes | memoryview:
        """Return the next bytes; a view of them where they are many."""
        at = self.tell()
        if nbytes is None or nbytes < _PIECE or at + nbytes > len(self):
            return super().read(nbytes)  # type: ignore[no-any-return]
        self.seek(at + nbytes)
        return memoryview(self)[at : at + nbytes]


class Receiving:
    """What takes the place of a transport's ``_sock_recv``: bytes for the parser, or what broke the connection.

    The parser is given all bytes but those that were written to its frame, which it must not see twice.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __call__(self) -> tuple[bytes, Exception | None]:
        """Return what has come for the parser, which is nothing while the middle of an answer is received."""
        try:
            return self._received(), None
        except _WAITING:
            return b"", None
        except Exception as error:  # noqa: BLE001 - as in the library: what gets past this ends the reading unnoticed
            return b"", errors.KafkaConnectionError(error)

    def _received(self) -> bytes:
        sock = self._transport._sock  # noqa: SLF001
        frame = self._frame()
        # The last byte is the parser's, which then takes the frame as it would have.
        while frame is not None and (missing := len(frame) - frame.tell() - 1) > 0:
            at = frame.tell()
            with memoryview(frame) as whole, whole[at : at + missing] as rest:
                size = sock.recv_into(rest)
            if not size:
                raise ConnectionError("socket disconnected")
            frame.seek(at + size)
            # A short read empties a plain socket; TLS gives one of its own records at a time, however many wait.
            if size < missing and not isinstance(sock, ssl.SSLSocket):
                return b""
        data: bytes = sock.recv(_PIECE)
        if not data:
            raise ConnectionError("socket disconnected")
        return data

    def _frame(self) -> Frame | None:
        """The frame of a fetch whose middle is being received."""
        parser = getattr(self._transport.get_protocol(), "parser", None)
        if parser is None or not parser._receiving:  # noqa: SLF001
            return None
        frame = parser._rbuffer  # noqa: SLF001
        if isinstance(frame, Frame):
            return frame
        waiting = parser.in_flight_requests
        if len(frame) <= _PIECE or not waiting or waiting[0].request_api_key != FetchRequest.API_KEY:
            return None
        mine = parser._rbuffer = Frame(len(frame))  # noqa: SLF001
        mine.write(memoryview(frame)[: frame.tell()])
        return mine


Integers = npt.NDArray[np.int64]


class Pieces(Sequence[bytes | None]):
    """The byte strings ``data[first[i]:last[i]]``, None where ``last`` lies before ``first``.

    For what is there with every record and hardly ever looked at, as its key: to cut all of them out costs as much as
    half of what else a record's layout takes. Keeps ``data`` for as long as it lives.
    """

    __slots__ = ("_data", "_first", "_last")

    def __init__(self, data: bytes, first: Integers, last: Integers) -> None:
        self._data, self._first, self._last = data, first, last

    def __len__(self) -> int:
        return len(self._first)

    @overload
    def __getitem__(self, at: int) -> bytes | None: ...
    @overload
    def __getitem__(self, at: slice) -> "Pieces": ...
    def __getitem__(self, at: int | slice) -> "Pieces | bytes | None":
        if isinstance(at, slice):
            return Pieces(self._data, self._first[at], self._last[at])
        first, last = int(self._first[at]), int(self._last[at])
        return None if last < first else self._data[first:last]

    def __iter__(self) -> Iterator[bytes | None]:
        data, places = self._data, zip(self._first.tolist(), self._last.tolist(), strict=True)
        if (self._last >= self._first).all():
            return iter([data[first:last] for first, last in places])
        return iter([None if last < first else data[first:last] for first, last in places])


Bytes = npt.NDArray[np.uint8]
Headers = tuple[tuple[str, bytes | None], ...]

# A zigzag varint of ten bytes carries 63 bits of shift; more is a damaged one.
_VARINT_BITS: Final = 63
# The timestamp type of a batch whose times are the broker's (KIP-32).
_LOG_APPEND_TIME: Final = 1
_SPARE: Final = bytes(64)
"""Behind the last record, so that a damaged length is found by comparing and not by running out of bytes."""
_TWO_BYTES: Final = [2 + ((low & 127) >> 1) for low in range(256)]
"""How far a record reaches by the first of its length's two bytes, which hold 64 to 8191; the second adds 64 a unit."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Records by field: ``offsets`` and ``timestamps`` (ms) int64[n].

    A consumer ``by_columns`` extends the list that its ``poll`` returns by these: its length counts records, and
    going through it gives the whole as one item.
    """

    offsets: Integers
    timestamps: Integers
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers]

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator["Columns"]:
        yield self

    def part(self, first: int, last: int | None = None) -> "Columns":
        """Return the records in [first, last)."""
        some = slice(first, last)
        return Columns(
            self.offsets[some], self.timestamps[some], self.keys[some], self.values[some], self.headers[some]
        )


# What a poll without records gives, made once.
NOTHING = Columns(np.empty(0, np.int64), np.empty(0, np.int64), (), (), ())


def joined(parts: Sequence[Columns]) -> Columns:
    """Return several parts as one."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return NOTHING
    return Columns(
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.timestamps for part in parts]),
        tuple(chain.from_iterable(part.keys for part in parts)),
        tuple(chain.from_iterable(part.values for part in parts)),
        tuple(chain.from_iterable(part.headers for part in parts)),
    )


class OpenBatch(NamedTuple):
    """The records of one batch, decompressed, and what their offsets and times (ms) are counted from."""

    data: Any
    records: int
    offset: int
    timestamp: int
    appended: bool


def by_columns(consumer: KafkaConsumer) -> KafkaConsumer:
    """Let a consumer's ``poll`` return ``Columns`` in its lists, one for each part of a fetch; returns the consumer."""
    consumer._fetcher.PartitionRecords = ColumnarRecords  # noqa: SLF001 - nothing public chooses how records are read
    return consumer


class ColumnarRecords(Fetcher.PartitionRecords):  # type: ignore[misc] # kafka-python has no types
    """What one fetch brought of one partition, handed out in parts as its base class does."""

    def __init__(self, fetch_offset: int, tp: Any, records: Any, **options: Any) -> None:
        super().__init__(fetch_offset, tp, records, **options)
        self._fetched = records
        self._next_inline_exception: Exception | None = None
        self._columns: Columns | None = None
        self._taken = 0
        self._end = fetch_offset

    def take(self, n: int | None = None) -> Columns:
        """Return the next ``n`` records (all that are left); an error comes after the records before it."""
        columns = self._columns = self._read() if self._columns is None else self._columns
        part = columns.part(self._taken, None if n is None else self._taken + n)
        if not len(part):
            self._maybe_raise_next_inline_exception()
        self._taken += len(part)
        if self._taken < len(columns):
            self.next_fetch_offset = int(part.offsets[-1]) + 1
            return part
        self.next_fetch_offset = self._end
        if self._next_inline_exception is None:
            self.drain()
        return part

    def _read(self) -> Columns:
        batches: list[OpenBatch] = []
        try:
            batches.extend(self._open_batches())
        except Exception as error:  # noqa: BLE001 - raised by ``take``, once the records before it are handed out
            self._next_inline_exception = error
        try:
            columns = read(batches)
        except CorruptRecordError as error:
            self._next_inline_exception, self._end = error, self.fetch_offset
            return NOTHING
        columns = columns.part(int(np.searchsorted(columns.offsets, self.fetch_offset)))
        self.records_read += len(columns)
        self.bytes_read += sum(len(opened.data) for opened in batches)
        return columns

    def _open_batches(self) -> Iterator[OpenBatch]:
        """The batches that are to be handed out, as the base class chooses them."""
        batch = self._fetched.next_batch()
        while batch is not None:
            if batch.magic != 2:
                raise CorruptRecordError(f"{self.topic_partition} holds records of format {batch.magic}, not 2")
            if self.check_crcs and not batch.validate_crc():
                raise CorruptRecordError(f"a batch of {self.topic_partition} at offset {batch.base_offset} is damaged")
            self.leader_epoch = batch.leader_epoch
            opened = None if self._left_out(batch) else _opened(batch)
            if opened is not None:
                yield opened
            # The end of a batch outlives its last record, which compaction may have removed.
            self._end = batch.next_offset
            batch = self._fetched.next_batch()

    def _left_out(self, batch: Any) -> bool:
        """Whether a batch is a marker or belongs to a transaction that was aborted."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


def _opened(batch: Any) -> OpenBatch:
    batch._maybe_uncompress()  # noqa: SLF001 - the library gives a batch's bytes only record by record
    appended = batch.timestamp_type == _LOG_APPEND_TIME
    timestamp = batch.max_timestamp if appended else batch.first_timestamp
    data = memoryview(batch._buffer)[batch._pos :]  # noqa: SLF001
    return OpenBatch(data, batch.records_count, batch.base_offset, timestamp, appended)


def read(batches: list[OpenBatch]) -> Columns:
    """Return the records of batches in their order; raises ``CorruptRecordError`` where lengths do not agree.

    One Python step a record finds where it begins; fields are then read in all records at once. O(bytes).
    """
    data = b"".join([*(opened.data for opened in batches), _SPARE])
    raw = np.frombuffer(data, np.uint8)
    per = [np.full(opened.records, at) for at, opened in enumerate(batches)]
    which = np.concatenate([np.empty(0, np.int64), *per])
    try:
        size, at = varints(raw, _begins(data, batches))
        ends = at + size
        # A byte of attributes, of which none is in use.
        delta, at = varints(raw, at + 1)
        step, at = varints(raw, at)
        *places, at = _places(raw, at)
        keys = Pieces(data, *places)
        *places, at = _places(raw, at)
        values = list(Pieces(data, *places))
        count, at = varints(raw, at)
        headers: list[Headers] = [()] * len(at)
        for row in np.flatnonzero(count).tolist():
            headers[row], at[row] = _headers(data, int(at[row]), int(count[row]))
    except IndexError as error:
        raise CorruptRecordError(f"a record's fields do not fit its length: {error}") from error
    if (at != ends).any():
        raise CorruptRecordError(f"record {int(np.flatnonzero(at != ends)[0])} of a fetch is not as long as it says")
    appended = np.array([opened.appended for opened in batches], np.bool_)[which]
    base = np.array([opened.timestamp for opened in batches], np.int64)[which]
    offsets = np.array([opened.offset for opened in batches], np.int64)[which] + step
    return Columns(offsets, np.where(appended, base, base + delta), keys, values, headers)


def _begins(data: bytes, batches: list[OpenBatch]) -> Integers:
    """Where each record begins, with its length."""
    begins: list[int] = []
    begin, two = begins.append, _TWO_BYTES
    at = limit = 0
    for opened in batches:
        limit += len(opened.data)
        for _ in range(opened.records):
            begin(at)
            low, high = data[at], data[at + 1]
            if high < 128 <= low:
                at += two[low] + (high << 6)
            elif low < 128:
                at += 1 + (low >> 1)
            else:
                size, after = varints(np.frombuffer(data, np.uint8), np.array([at]))
                at = int(after[0]) + max(int(size[0]), 0)
        # A record that is too long leads past the end of its batch, wherever the next one would be looked for.
        if at > limit:
            raise CorruptRecordError("a record of a fetch runs past the end of its batch")
        if at != limit:
            raise CorruptRecordError(f"{limit - at} bytes are left behind the last record of a batch")
    return np.array(begins, np.int64)


def varints(raw: Bytes, at: Integers) -> tuple[Integers, Integers]:
    """Return the zigzag varints at positions ``at`` int64[n] and where each ends; raises ``IndexError`` past the end.

    By hand: the bytes 0xAC 0x02 are 0x2C + (2 << 7) = 300, and zigzag makes that 150.
    """
    byte = raw[at].astype(np.int64)
    value, after = byte & 127, at + 1
    more, shift = np.flatnonzero(byte > 127), 7
    while len(more):
        if shift > _VARINT_BITS:
            raise IndexError("a varint of more than ten bytes")
        byte = raw[after[more]].astype(np.int64)
        value[more] |= (byte & 127) << shift
        after[more] += 1
        more, shift = more[byte > 127], shift + 7
    return ((value >> 1) & np.iinfo(np.int64).max) ^ -(value & 1), after


def _places(raw: Bytes, at: Integers) -> tuple[Integers, Integers, Integers]:
    """Where the byte strings at these positions begin and end (before they begin: null), and where each is passed."""
    size, first = varints(raw, at)
    # Not by the sum, which a damaged length could make overflow.
    if (size > len(raw) - first).any():
        raise IndexError("a value runs past the end")
    last = first + size
    return first, np.where(size < 0, first - 1, last), np.where(size < 0, first, last)


def _headers(data: bytes, at: int, count: int) -> tuple[Headers, int]:
    """The headers of one record and where they end."""
    if count < 0:
        raise CorruptRecordError(f"a record says that it has {count} headers")
    raw, found = np.frombuffer(data, np.uint8), []
    for _ in range(count):
        *places, after = _places(raw, np.array([at]))
        [name] = Pieces(data, *places)
        *places, after = _places(raw, after)
        [value] = Pieces(data, *places)
        if name is None:
            raise CorruptRecordError("a header has no name")
        # By the protocol a name is UTF-8; one that is not shows its bytes, and stops no record behind it.
        found.append((name.decode(errors="backslashreplace"), value))
        at = int(after[0])
    return tuple(found), at
