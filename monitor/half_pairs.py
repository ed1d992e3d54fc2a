"""Halves of surrogate pairs in JSON text: what JavaScript leaves when it cuts a string; no UTF-8 text may hold one."""

import re

_ESCAPE = re.compile(
    rb"\\(?:ud[89ab][\da-f]{2}\\ud[c-f][\da-f]{2}|(ud[89a-f][\da-f]{2})|.)",
    re.IGNORECASE | re.DOTALL,
)
"""An escape within a string: both halves of a pair, one half alone (the group), or any other."""


def mended(value: bytes) -> bytes:
    """Return JSON text with U+FFFD in place of each half that stands alone, of the same length. O(bytes)."""
    return _ESCAPE.sub(lambda found: found[0] if found[1] is None else rb"\ufffd", value)
