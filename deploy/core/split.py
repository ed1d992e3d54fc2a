"""The sticky split: a keyed hash gives each entity a fixed place on the ramp, so a rising weight only adds entities.

While a promotion is provisional the split goes on, with the old champion in the canary's place (``as_served``).
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.deploy.core.state import memory

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


def as_served(rollout: Rollout) -> Rollout:
    """Return the record as a target that can hold back splits it: on probation the old champion is served as a canary.

    So both versions are seen in the same minutes: compared with the past alone, a fault of the weekend would look like
    the new version's. A record without a holdback is returned as it is.
    """
    if rollout.phase is not RolloutPhase.PROBATION:
        return rollout
    state = memory(rollout)
    if not state.holdback_bp or state.previous is None:
        return rollout
    # A salt of its own, or the holdback would be those very entities that the canary had first: they would change
    # versions twice.
    salt = rollout_salt(f"{rollout.model}\0holdback", rollout.epoch)
    return rollout.model_copy(update={"canary": state.previous, "weight_bp": state.holdback_bp, "salt": salt})
