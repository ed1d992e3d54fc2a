"""Looking into a dead-letter topic: what was rejected and why, one record whole, and sending records again."""

import base64
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from stationkeeper.contracts.topics import dead_letter_topic
from stationkeeper.streams.dead_letters.letters import CONNECT, PREFIX
from stationkeeper.streams.ports import Headers, Outgoing, Partition, Reader

REPLAYED: Final = PREFIX + "replayed"
"""On a record that was sent again, and on its receipt in the dead-letter topic: the address it came from."""

_CODE = PREFIX + "error.code"


@dataclass(frozen=True, slots=True)
class Letter:
    """One rejected record; ``headers`` are the record's own, ``value`` is None where the broker refused its size."""

    source: Partition
    offset: int
    code: str
    detail: str
    time: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    replayed: bool = False

    @property
    def address(self) -> str:
        """Return where the record came from: topic/partition/offset."""
        return f"{self.source.topic}/{self.source.index}/{self.offset}"

    def to_json(self) -> dict[str, Any]:
        """Return the whole record as JSON values; bytes that are no UTF-8 text as ``base64:...``."""
        return {
            "address": self.address,
            "code": self.code,
            "detail": self.detail,
            "time": self.time,
            "replayed": self.replayed,
            "key": _text(self.key),
            "value": _text(self.value),
            "headers": {name: _text(value) for name, value in self.headers},
        }


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay did: the addresses that were sent again and, with the reason, those that were not."""

    sent: tuple[str, ...]
    skipped: tuple[str, ...]


def letters(reader: Reader, topic: str) -> Iterator[Letter]:
    """Yield the rejected records of an input topic in the order of their rejection; O(dead-letter topic)."""
    found: dict[str, Letter] = {}
    done: set[str] = set()
    for batch in reader.read(reader.partitions(dead_letter_topic(topic))):
        for row, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            headers = batch.headers[row] if batch.headers else ()
            own: dict[str, str] = {}
            for name, text in headers:
                # The first of a name is ours, see `dead_letter`; a producer may send any bytes.
                own.setdefault(name, text.decode(errors="replace"))
            if _CODE in own:
                letter = _letter(own, headers, key, value)
                if letter is None:
                    continue
                # After offsets were reset a record is read, and rejected, once more under its address: the last letter
                # says what the present version thinks of it.
                found[letter.address] = letter
            elif REPLAYED in own:
                done.add(own[REPLAYED])
    # After all were read: a receipt lies behind its letter, in another partition where somebody added some.
    for address, letter in found.items():
        yield replace(letter, replayed=address in done)


def _letter(own: dict[str, str], headers: Headers, key: bytes | None, value: bytes | None) -> Letter | None:
    """The letter, None where its headers do not say where it came from: somebody else wrote to the topic."""
    partition, offset = own.get(PREFIX + "partition", ""), own.get(PREFIX + "offset", "")
    # One record of another's making must not hide all the letters beside it.
    if PREFIX + "topic" not in own or not (partition.isdecimal() and offset.isdecimal()):
        return None
    foreign = tuple((name, text) for name, text in headers if not name.startswith((PREFIX, CONNECT)))
    return Letter(
        source=Partition(own[PREFIX + "topic"], int(partition)),
        offset=int(offset),
        code=own[_CODE],
        detail=own.get(PREFIX + "error.detail", ""),
        time=own.get(PREFIX + "timestamp", ""),
        key=key,
        value=value,
        headers=foreign,
    )


def summary(reader: Reader, topic: str) -> list[dict[str, Any]]:
    """Return a row for each code of an input's rejected records: count, replayed, newest time and its detail."""
    rows: dict[str, dict[str, Any]] = {}
    for letter in letters(reader, topic):
        row = rows.setdefault(
            letter.code,
            {"topic": topic, "code": letter.code, "count": 0, "replayed": 0, "newest": "", "detail": "", "address": ""},
        )
        row["count"] += 1
        row["replayed"] += letter.replayed
        # RFC 3339 in UTC at one precision sorts as text; of equal times the later letter counts.
        if letter.time >= row["newest"]:
            row |= {"newest": letter.time, "detail": letter.detail, "address": letter.address}
    return sorted(rows.values(), key=lambda row: (-row["count"], row["code"]))


def show(reader: Reader, address: str) -> Letter:
    """Return the rejected record that came from ``topic/partition/offset``.

    Raises ``LookupError`` that says what an address is, or that the record was not rejected.
    """
    topic, _, rest = address.strip().rpartition("/")
    topic, _, partition = topic.rpartition("/")
    # isdecimal, because int() takes "+1" and " 1" as well, which no letter bears, and refuses a superscript.
    if not topic or not partition.isdecimal() or not rest.isdecimal():
        raise LookupError(f"{address!r} is no address; write topic/partition/offset, e.g. fraud.predictions/2/1042")
    for letter in letters(reader, topic):
        if (letter.source.index, letter.offset) == (int(partition), int(rest)):
            return letter
    raise LookupError(f"{address} is not in {dead_letter_topic(topic)}; it was not rejected, or its retention ended")


def replay(
    reader: Reader,
    topic: str,
    produce: Callable[[Sequence[Outgoing]], None],
    *,
    codes: Collection[str] = (),
    addresses: Collection[str] = (),
) -> ReplayResult:
    """Send rejected records again, byte-identical, to the partition they came from; all, or those that are named.

    ``produce`` takes the records and their receipts in one call; where it writes them in one transaction, a record is
    sent again once however often this is called. A sent record carries its old address in the header ``REPLAYED``.
    """
    wanted = {address.strip() for address in addresses}
    out: list[Outgoing] = []
    sent, skipped = [], []
    for letter in letters(reader, topic):
        if (codes and letter.code not in codes) or (wanted and letter.address not in wanted):
            continue
        wanted.discard(letter.address)
        if letter.replayed:
            # Sent twice it would be counted twice: dedupe knows ids only of the last `dedupe` offsets.
            skipped.append(f"{letter.address}: was sent again before")
        elif letter.value is None:
            skipped.append(f"{letter.address}: holds no value ({letter.code})")
        else:
            mark = (REPLAYED, letter.address.encode())
            source = letter.source
            out.append(Outgoing(source.topic, letter.value, letter.key, source.index, (*letter.headers, mark)))
            # The receipt lies where the letter lies, so that whoever lists it next knows, also on another machine. Its
            # value is empty and not null, which would be a tombstone.
            out.append(Outgoing(dead_letter_topic(topic), b"", letter.address.encode(), None, (mark,)))
            sent.append(letter.address)
    # Named and not found is said: a mistyped address would look like success.
    skipped += [f"{address}: is not in {dead_letter_topic(topic)}" for address in sorted(wanted)]
    if out:
        produce(out)
    return ReplayResult(tuple(sent), tuple(skipped))


def _text(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()
