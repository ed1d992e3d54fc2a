"""What happens to a record that its topic refuses for its size: a dead letter loses its value, any other is fatal."""

import hashlib

from stationkeeper.streams.dead_letters.letters import is_dead_letter, refused, without_value
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Outgoing

BATCH_BYTES = 48 * 1024
"""The size of a producer's batches, which a broker measures by the topic's limit for a record.

Less than the room that a dead-letter topic has beyond its source's limit, so that letters which fit are not refused
together. A larger record has a batch of its own.
"""


class Oversize:
    """Remembers the dead letters that were refused, so that they go without their value when they come by again.

    ``alone`` says that a batch holds one record, so that what is refused is too large by itself. A producer that
    starts with several to a batch is replaced by one of ``alone`` at the first refusal that may be the batch's.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self.alone = alone
        self._refused: set[bytes] = set()

    def fitted(self, record: Outgoing) -> Outgoing:
        """Return the record as it can be written."""
        # The hash of every letter would be paid for what hardly ever happens.
        if self._refused and is_dead_letter(record) and _fingerprint(record) in self._refused:
            return without_value(record)
        return record

    def refuse(self, record: Outgoing, reason: str) -> None:
        """Note a dead letter for its next coming; raises ``Fatal`` for any other record and for one already cut.

        Of a record that may have shared its batch nothing is said yet.
        """
        size = len(record.value or b"")
        if not self.alone and size < BATCH_BYTES:
            # Not yet its fault: the transaction is given up, and the next producer sends each record alone.
            self.alone = True
            return
        if not is_dead_letter(record) or not record.value:
            text = f"{record.topic} refused a record of {size} bytes ({reason}); raise its max.message.bytes"
            raise refused(record, Fatal(text))
        self._refused.add(_fingerprint(record))


def _fingerprint(record: Outgoing) -> bytes:
    digest = hashlib.sha256(record.value or b"")
    # Its address is among the headers: two letters with one value are told apart.
    digest.update(repr((record.topic, record.headers)).encode())
    return digest.digest()
