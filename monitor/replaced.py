"""Watches whose reference a newer one replaced for the same version: they end, and so do the incidents they hold."""

from collections.abc import Iterator, Mapping

from monitor.pending import WatchKey
from monitor.references import References

GRACE_PANES = 5
"""Panes for which the counts of both references may still come, from partitions that see the new one later."""


def replaced(
    seen: Mapping[WatchKey, int], references: References, model: str, now: int, pane: int
) -> Iterator[tuple[WatchKey, str]]:
    """Yield the watches whose reference is no longer in force, each with the digest that is.

    A watch is replaced once the new reference's own has been seen and its own was not for ``GRACE_PANES``.
    """
    for key, at in sorted(seen.items()):
        reference = references.of(model, key.version)
        if reference is None or reference.digest == key.digest:
            continue
        after = seen.get(key._replace(digest=reference.digest))
        if after is not None and after > at and now - at > GRACE_PANES * pane:
            yield key, reference.digest
