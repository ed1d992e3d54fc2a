"""The stream that the faults meet: deterministic events with disorder, duplicates, poison, and a shift."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

START = 1_767_225_600_000
STEP_MS = 100
JITTER_MS = 30_000
SHIFT_AT = 3_000
PARTITIONS = 3


@dataclass(frozen=True, slots=True)
class Dirt:
    """How dirty the stream is, as one in so many records; 0 for never."""

    poison: int = 100
    duplicate: int = 20


def draw(number: int, salt: str = "") -> int:
    """Return 32 bits that depend on the event's number alone."""
    return int.from_bytes(hashlib.blake2b(f"{salt}{number}".encode(), digest_size=4).digest(), "big")


def event(number: int) -> bytes:
    """Return one prediction: the payload is a function of its number."""
    u, v = draw(number, "u") / 2**32, draw(number, "v") / 2**32
    shift = 1.5 if number >= SHIFT_AT else 0.0
    time = START + number * STEP_MS + draw(number, "t") % JITTER_MS
    return json.dumps(
        {
            "kind": "prediction",
            "event_id": f"e{number}",
            "time": time,
            "model": "fraud",
            "version": "1",
            "features": {
                "amount": round(2 * u - 1 + shift, 6),
                "age": round(3 * v, 6),
                "country": ("de", "fr", "us")[draw(number, "c") % 3],
            },
            "prediction": round(u * v, 6),
        }
    ).encode()


def poison(number: int) -> bytes:
    """Return a record that is no event: cut off, no UTF-8, not an object, or without an id."""
    good = event(number)
    return (good[:-7], b"\xff" + good, b"[%d]" % number, good.replace(b"event_id", b"id"))[draw(number, "p") % 4]


def stream(first: int, count: int, dirt: Dirt) -> Iterator[tuple[int, bytes]]:
    """Yield (partition, value) of the events ``first`` up to ``first + count``, with their dirt between them."""
    for number in range(first, first + count):
        partition = number % PARTITIONS
        if dirt.poison and draw(number, "poison") % dirt.poison == 0:
            yield partition, poison(number)
        else:
            yield partition, event(number)
        earlier = number - 5 * PARTITIONS
        if dirt.duplicate and earlier >= first and draw(number, "again") % dirt.duplicate == 0:
            yield partition, event(earlier)
