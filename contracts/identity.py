"""Names that are computed from content, so that a replay repeats the name and not the effect."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

# 80 bits: a billion ids of one kind collide with a chance of 4e-7, and an id still fits a line.
_ID_BYTES = 10


def content_id(prefix: str, *parts: object) -> str:
    """Return ``prefix-`` and 20 hex digits of a BLAKE2b hash over the JSON of ``parts``.

    Two calls agree exactly when prefix and parts agree; parts must be JSON values.
    """
    # Sorted keys and no spaces: the same content must give the same text, whatever order a dictionary was filled in.
    text = json.dumps([prefix, *parts], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _named(prefix, text.encode())


def plain_content_id(prefix: str, *parts: object) -> str:
    """Return the `content_id` several times faster, of parts whose numbers are all `plain_numbers` or `python_json`."""
    return _named(prefix, msgspec.json.encode([prefix, *parts], order="sorted"))


def plain_numbers(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which numbers Python and msgspec write in the same letters, as both do without an exponent."""
    size = np.abs(values)
    # Python writes an exponent below the first and from 1e16 on; msgspec's bounds lie beyond both.
    return np.asarray((size == 0) | ((size >= 1e-4) & (size < 1e15)), np.bool_)


def python_json(numbers: float | list[float]) -> msgspec.Raw:
    """Return numbers as Python writes them in JSON, for a part of `plain_content_id`."""
    return msgspec.Raw(json.dumps(numbers, separators=(",", ":")).encode())


def read_json(text: str | bytes) -> Any:
    """Return the value of a JSON text as Python's own reader does, in a third of the time.

    Raises ``ValueError`` for what is no JSON, NaN and Infinity among it, and ``RecursionError`` for what is too deep.
    """
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        # Encodings beside UTF-8, half a surrogate, and numbers beyond every float: Python reads them, or says what is
        # wrong in the words that people know.
        return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _named(prefix: str, text: bytes) -> str:
    return f"{prefix}-{hashlib.blake2b(text, digest_size=_ID_BYTES).hexdigest()}"


def incident_id(model: str, version: str, onset_ms: int, leader: str) -> str:
    """Name an incident by the model version it touches, its onset and the subject that led it."""
    return content_id("inc", model, version, onset_ms, leader)


def verdict_id(model: str, version: str, segment: str, subject: str, kind: str, time_ms: int) -> str:
    """Name a verdict by what it judges and the closed minute that decided it."""
    return content_id("ver", model, version, segment, subject, kind, time_ms)


def request_id(model: str, version: str, incident: str) -> str:
    """Name a retrain request: one incident of one model version has one request (invariant 8)."""
    return content_id("req", model, version, incident)


def candidate_id(request: str) -> str:
    """Name a candidate: one request yields at most one."""
    return content_id("cand", request)


def rollout_id(model: str, version: str, candidate: str) -> str:
    """Name a rollout by the candidate it carries to production."""
    return content_id("roll", model, version, candidate)


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of ``key`` by our own hash, the same in every process and language.

    The hash is the first eight bytes (big-endian) of BLAKE2b of the UTF-8 key, modulo ``partitions``.
    """
    # 64 bits leave the modulo no bias that could be measured, and every language has integers of 64.
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % partitions


def hash_ids(ids: Iterable[str], salt: bytes = b"") -> npt.NDArray[np.uint64]:
    """Return 64-bit salted BLAKE2b hashes of ``ids``; shape ``(n,)``, a Python loop for low-rate use."""
    return np.array(
        [int.from_bytes(hashlib.blake2b(i.encode(), digest_size=8, key=salt).digest(), "big") for i in ids],
        dtype=np.uint64,
    )
