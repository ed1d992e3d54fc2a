"""The sticky split: a keyed hash gives each entity a fixed place on the ramp, so a rising weight only adds entities."""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

# Basis points: a weight of .01 % is the smallest step that a person can mean.
BUCKETS: Final = 10_000
# 64 bits make the bias of the modulo less than 1e-15.
_HASH_BYTES: Final = 8


def rollout_salt(model: str, epoch: int) -> str:
    """Return the key of one rollout's split, 32 hex digits; another epoch picks other entities first."""
    return hashlib.blake2b(f"{model}\0{epoch}".encode(), digest_size=16, person=b"rollout-split").hexdigest()


def buckets(salt: str, entities: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return each entity's bucket in [0, 10000), shape ``(n,)``: BLAKE2b keyed with ``salt``, modulo 10 000.

    64 hash bits make the modulo's bias below 1e-15. One hash an entity, about 1 us.
    """
    keyed = hashlib.blake2b(digest_size=_HASH_BYTES, key=salt.encode())
    digests = bytearray()
    for entity in entities:
        one = keyed.copy()
        one.update(entity.encode("utf-8", "surrogatepass"))
        digests += one.digest()
    return (np.frombuffer(bytes(digests), dtype=">u8") % BUCKETS).astype(np.int64)


def to_canary(salt: str, entities: Sequence[str], weight_bp: int) -> npt.NDArray[np.bool_]:
    """Return which entities the canary answers at ``weight_bp`` basis points, shape ``(n,)``.

    An entity is the canary's when its bucket is below the weight: whoever was in at 1 % is in at 5 %.
    """
    if weight_bp <= 0:
        return np.zeros(len(entities), dtype=np.bool_)
    if weight_bp >= BUCKETS:
        return np.ones(len(entities), dtype=np.bool_)
    return buckets(salt, entities) < weight_bp
