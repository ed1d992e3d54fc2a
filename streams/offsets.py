"""Where reading begins: pure decisions about offsets, the same over Kafka and the in-memory log."""

from collections.abc import Collection, Mapping
from typing import Literal

from streams.errors import Fatal
from streams.ports import Partition


def resume_at(partition: Partition, wanted: int, bounds: tuple[int, int]) -> tuple[int, int]:
    """Return where to go on and how many offsets retention took before they were read.

    ``bounds`` are the partition's first and end offset. An offset past the end raises ``Fatal``: the log is not
    the one that was read before.
    """
    first, end = bounds
    if wanted > end:
        raise Fatal(
            f"{partition.topic}/{partition.index} ends at {end} but this group has read to {wanted}: the topic was "
            "deleted and created again, or a broker lost data. Reset the group's offsets and the stage's state first"
        )
    return max(wanted, first), max(first - wanted, 0)


def start_offset(
    partition: Partition,
    bounds: tuple[int, int],
    *,
    restored: Mapping[Partition, int],
    committed: Mapping[Partition, int],
    known_topics: Collection[str],
    first_start: Literal["earliest", "latest"],
) -> tuple[int, int]:
    """Return where a newly assigned partition starts, and how many offsets were lost to retention.

    The stage's own state comes first, then the group's committed offset. A partition without either is read from
    its beginning when its topic has been read before (the topic was enlarged), else as ``first_start`` says.
    """
    if partition in restored:
        return resume_at(partition, restored[partition], bounds)
    if partition in committed:
        return resume_at(partition, committed[partition], bounds)
    if partition.topic in known_topics or first_start == "earliest":
        return bounds[0], 0
    return bounds[1], 0
