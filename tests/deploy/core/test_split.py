import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.deploy.core.split import BUCKETS, buckets, rollout_salt, to_canary

entities = st.lists(st.text(max_size=20), max_size=30)


@given(entities, st.integers(0, BUCKETS), st.integers(0, BUCKETS), st.integers(0, 50))
def test_a_rising_weight_only_adds_entities(ids, one, other, epoch):
    salt = rollout_salt("fraud", epoch)
    low, high = sorted((one, other))
    below, above = to_canary(salt, ids, low), to_canary(salt, ids, high)
    assert not (below & ~above).any()


@given(entities, st.integers(0, BUCKETS))
def test_an_entity_goes_where_it_goes_alone(ids, weight):
    salt = rollout_salt("fraud", 1)
    together = to_canary(salt, ids, weight)
    assert together.tolist() == [bool(to_canary(salt, [one], weight)[0]) for one in ids]


def test_shares_are_uniform_and_rollouts_are_independent():
    ids = [f"card-{i}" for i in range(100_000)]
    first, second = buckets(rollout_salt("fraud", 1), ids), buckets(rollout_salt("fraud", 2), ids)
    counts = np.bincount(first // 100, minlength=100)
    chi2 = ((counts - 1_000) ** 2 / 1_000).sum()
    # 99 degrees of freedom: mean 99, standard deviation 14.1.
    assert 99 - 4 * 14.1 < chi2 < 99 + 4 * 14.1
    both = ((first < 1_000) & (second < 1_000)).mean()
    assert abs(both - 0.01) < 0.002


def test_the_split_is_the_same_in_every_process():
    # BLAKE2b-64 of the entity, keyed with the salt, big-endian, modulo 10 000: written out for other languages.
    salt, ids = rollout_salt("fraud", 1), ["card-1", "card-2", "ü"]
    digests = [hashlib.blake2b(one.encode(), digest_size=8, key=salt.encode()).digest() for one in ids]
    assert buckets(salt, ids).tolist() == [int.from_bytes(one, "big") % 10_000 for one in digests] == [7844, 57, 8609]
    assert to_canary(salt, ids, 58).tolist() == [False, True, False]
    assert not to_canary(salt, ids, 57).any()


def test_weights_at_the_ends_take_nobody_and_everybody():
    ids = ["a", "b", "c"]
    assert not to_canary("s", ids, 0).any()
    assert to_canary("s", ids, BUCKETS).all()
