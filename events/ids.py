"""Event ids as 64-bit salted hashes, a batch at once: what deduplication and the label join compare."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

# The constants of SplitMix64 (Steele, Lea and Flood 2014, variant 13 of Stafford's mixers): 2^64 over the golden ratio,
# two multipliers and three shifts. They are part of the stored state and of the joins' partitioning: another one
# forgets all ids.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


def salt_of(text: str) -> np.uint64:
    """Return the 64-bit salt that a text stands for."""
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def mix(values: Hashes) -> Hashes:
    """Return the SplitMix64 finaliser of each value (Steele, Lea and Flood 2014): a bijection that scatters bits."""
    z = (values ^ (values >> _S30)) * _FIRST
    z = (z ^ (z >> _S27)) * _SECOND
    return z ^ (z >> _S31)


def hash_ids(ids: Sequence[str], salt: np.uint64, lengths: Hashes | None = None) -> Hashes:
    """Return a 64-bit hash of each id, uint64[n], the same in every process, batch and version.

    The id's UTF-8, padded with zeros to eight-byte words, is folded word by word (an id's own length is folded in
    first, so padding cannot make two ids equal). ``lengths`` are the characters of each id, if they are at hand.
    O(total length), no Python step per id for ASCII.
    """
    n = len(ids)
    if not n:
        return np.empty(0, np.uint64)
    try:
        lengths = np.fromiter(map(len, ids), np.uint64, n) if lengths is None else lengths
        padded = _words(ids, lengths)
    except UnicodeEncodeError:
        # Half a surrogate pair is allowed in JSON: such an id is odd, and still one.
        raw = [one.encode("utf-8", "surrogatepass") for one in ids]
        lengths = np.fromiter(map(len, raw), np.uint64, n)
        padded = _padded(np.array(raw, dtype=np.bytes_))
    words = padded.shape[1] // 8
    columns = padded.view("<u8")
    with np.errstate(over="ignore"):
        hashed = mix(salt ^ (lengths * _GOLDEN))
        for word in range(words):
            # Words beyond an id's end leave its hash alone: it must not depend on the longest id of its batch.
            used = lengths > np.uint64(8 * word)
            folded = mix(hashed ^ columns[:, word]) + _GOLDEN
            hashed = folded if used.all() else np.where(used, folded, hashed)
        return mix(hashed)


def _words(ids: Sequence[str], lengths: Hashes) -> npt.NDArray[np.uint8]:
    """ASCII ids as rows of bytes; ids of one length, as generated ones are, by one join: a third of the time."""
    longest = int(lengths.max())
    if longest != lengths.min():
        return _padded(np.array(ids, dtype=np.bytes_))
    joined = np.frombuffer("".join(ids).encode("ascii"), np.uint8).reshape(len(ids), longest)
    return _padded(joined)


def _padded(text: npt.NDArray[np.bytes_] | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Texts, or rows of bytes, padded with zeros to eight-byte words: at least one."""
    rows = text if text.dtype == np.uint8 else text.view(np.uint8).reshape(len(text), -1)
    padded = np.zeros((len(rows), -(-max(rows.shape[1], 1) // 8) * 8), np.uint8)
    padded[:, : rows.shape[1]] = rows
    return padded
