"""The stream that the faults meet: deterministic events with disorder, duplicates, poison, and a shift."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

START = 1_767_225_600_000
STEP_MS = 100
JITTER_MS = 30_000
SHIFT_AT = 3_000
PARTITIONS = 3
NEVER = 1 << 60

Change = Callable[[int, dict[str, Any]], None]
"""What a fault does to an event by its number; it must be a function of the number alone."""


def draw(number: int, salt: str = "") -> int:
    """Return 32 bits that depend on the event's number alone."""
    return int.from_bytes(hashlib.blake2b(f"{salt}{number}".encode(), digest_size=4).digest(), "big")


def unchanged(number: int, row: dict[str, Any]) -> None:
    """Leave an event as it is."""


@dataclass(frozen=True, slots=True)
class Stream:
    """How dirty the stream is, as one in so many records (0: never), when it begins, and when a feature shifts."""

    poison: int = 100
    duplicate: int = 20
    shift_at: int = SHIFT_AT
    start: int = START
    step_ms: int = STEP_MS
    partitions: int = PARTITIONS
    change: Change = unchanged

    def row(self, number: int) -> dict[str, Any]:
        """Return one prediction: it is a function of its number."""
        u, v = draw(number, "u") / 2**32, draw(number, "v") / 2**32
        shift = 1.5 if number >= self.shift_at else 0.0
        row = {
            "kind": "prediction",
            "event_id": f"e{number}",
            "time": self.start + number * self.step_ms + draw(number, "t") % JITTER_MS,
            "model": "fraud",
            "version": "1",
            "features": {
                "amount": round(2 * u - 1 + shift, 6),
                "age": round(3 * v, 6),
                "country": ("de", "fr", "us")[draw(number, "c") % 3],
            },
            "prediction": round(u * v, 6),
        }
        self.change(number, row)
        return row

    def event(self, number: int) -> bytes:
        """Return one prediction as it is sent."""
        return json.dumps(self.row(number)).encode()

    def spoilt(self, number: int) -> bytes:
        """Return a record that is no event: cut off, no UTF-8, no object, without an id, not finite, or too deep."""
        good = self.event(number)
        return (
            good[:-7],
            b"\xff" + good,
            b"[%d]" % number,
            good.replace(b"event_id", b"id"),
            good.replace(b'"prediction": ', b'"prediction": Infinity, "was": '),
            good.replace(b'"prediction": ', b'"prediction": ' + b"1" * 5_000 + b', "was": '),
            b'{"deep": ' + b"[" * 2_000 + b"%d" % number + b"]" * 2_000 + b"}",
        )[draw(number, "p") % 7]

    def records(self, first: int, count: int) -> Iterator[tuple[int, bytes]]:
        """Yield (partition, value) of the events ``first`` up to ``first + count``, with their dirt between them."""
        for number in range(first, first + count):
            partition = number % self.partitions
            if self.poison and draw(number, "poison") % self.poison == 0:
                yield partition, self.spoilt(number)
            else:
                yield partition, self.event(number)
            earlier = number - 5 * self.partitions
            if self.duplicate and earlier >= first and draw(number, "again") % self.duplicate == 0:
                yield partition, self.event(earlier)
