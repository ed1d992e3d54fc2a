"""Binary records packed into values that fit a Kafka record."""

from collections.abc import Iterable

from msgspec import structs

from stationkeeper.contracts.wire import (
    JOIN_ROW,
    PART_BYTES,
    ArmDelta,
    JoinBatch,
    OutcomeDelta,
    PaneDelta,
    Record,
    encode,
    format_of,
)

# Below the 512 KiB of ``PART_BYTES``, so that a batch with its names still fits one part; join rows hardly compress,
# and Kafka's default for the largest record is 1 MiB.
JOIN_BYTES = 448 * 1024


def packed(records: Iterable[Record]) -> list[bytes]:
    """Return records as values of one format each, of at most about ``PART_BYTES`` uncompressed.

    Those of one format stay in their order; corrections come behind everything that they correct.
    """
    out: list[bytes] = []
    held: list[Record] = []
    size = 0
    # Outcomes of several classes take turns between formats: in their order each turn would be a value of its own.
    for record in sorted(records, key=lambda one: (isinstance(one, OutcomeDelta) and not one.rows, format_of(one))):
        # A record's names, numbers and frame beside its arrays; too much only cuts a packet early.
        mine = 128 + _bytes_of(record)
        # By format: an older reader passes over a whole value that it cannot read, panes and arms beside it.
        if held and (size + mine > PART_BYTES or format_of(record) != format_of(held[-1])):
            out.append(encode(held))
            held, size = [], 0
        held.append(record)
        size += mine
    if held:
        out.append(encode(held))
    return out


def _bytes_of(record: Record) -> int:
    match record:
        case PaneDelta():
            return len(record.counts) + len(record.steps)
        case JoinBatch():
            return len(record.rows)
        case ArmDelta():
            return len(record.scores) + len(record.latencies) + len(record.groups)
        case OutcomeDelta():
            return len(record.scored) + len(record.confusion) + sum(map(len, record.actions.values()))
        case _:
            return 0


def split_join(batch: JoinBatch) -> list[JoinBatch]:
    """Return join rows in batches that fit one record."""
    if len(batch.rows) <= JOIN_BYTES:
        return [batch]
    step = JOIN_BYTES // JOIN_ROW.itemsize * JOIN_ROW.itemsize
    return [structs.replace(batch, rows=batch.rows[first : first + step]) for first in range(0, len(batch.rows), step)]
