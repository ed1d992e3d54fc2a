"""What happens to a record that its topic refuses for its size: a dead letter loses its value, any other is fatal."""

import hashlib

from streams.dead_letters import is_dead_letter, refused, without_value
from streams.errors import Fatal
from streams.ports import Outgoing


class Oversize:
    """Remembers the dead letters that were refused, so that they go without their value when they come by again."""

    def __init__(self) -> None:
        self._refused: set[bytes] = set()

    def fitted(self, record: Outgoing) -> Outgoing:
        """Return the record as it can be written."""
        if self._refused and is_dead_letter(record) and _fingerprint(record) in self._refused:
            return without_value(record)
        return record

    def refuse(self, record: Outgoing, reason: str) -> None:
        """Note a dead letter for its next coming; raises ``Fatal`` for any other record and for one already cut."""
        if not is_dead_letter(record) or not record.value:
            size = len(record.value or b"")
            text = f"{record.topic} refused a record of {size} bytes ({reason}); raise its max.message.bytes"
            raise refused(record, Fatal(text))
        self._refused.add(_fingerprint(record))


def _fingerprint(record: Outgoing) -> bytes:
    digest = hashlib.sha256(record.value or b"")
    digest.update(repr((record.topic, record.headers)).encode())
    return digest.digest()
