"""Bytes kept small in memory, by the compression that values on a topic have."""

import threading
from typing import Final

import zstandard

# zstd's fastest: what is squeezed is packed again at the next touch, so time counts more than the last tenth of size.
_LEVEL: Final = 1
# A damaged length must not ask for all memory; 1 GiB is far above the largest pane that limits allow.
_MAX_BYTES: Final = 1 << 30


class _Contexts(threading.local):
    """A thread's own compressor and decompressor: a new one costs ten times the work on a kB."""

    def __init__(self) -> None:
        self.squeezing = zstandard.ZstdCompressor(level=_LEVEL)
        self.expanding = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def squeeze(data: bytes) -> bytes:
    """Return bytes from which ``expand`` makes the same again; counts take about half of what they did."""
    # A copy, because the library leaves what it returns in the room that the worst case would have taken.
    return bytes(memoryview(_contexts.squeezing.compress(data)))


def expand(data: bytes) -> bytes:
    """Return what ``squeeze`` was given."""
    return _contexts.expanding.decompress(data, max_output_size=_MAX_BYTES)
