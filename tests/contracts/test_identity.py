import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.identity import content_id, hash_ids, incident_id, partition_of, read_json, request_id


def test_an_id_is_the_hash_of_its_parts_by_hand():
    text = b'["req","fraud","3","inc-1"]'
    assert request_id("fraud", "3", "inc-1") == "req-" + hashlib.blake2b(text, digest_size=10).hexdigest()


@given(st.tuples(st.text(), st.text(), st.text()), st.tuples(st.text(), st.text(), st.text()))
def test_two_requests_share_an_id_only_when_all_parts_agree(one, other):
    assert (request_id(*one) == request_id(*other)) == (one == other)


def test_parts_cannot_be_moved_from_one_field_to_the_next():
    assert content_id("x", "ab", "c") != content_id("x", "a", "bc")
    assert incident_id("m", "1", 5, "amount") != incident_id("m", "15", 5, "amount")


@given(st.text(), st.integers(1, 50))
def test_a_key_has_one_partition(key, partitions):
    found = partition_of(key, partitions)
    assert 0 <= found < partitions
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    assert found == int.from_bytes(digest, "big") % partitions


@pytest.mark.parametrize(("key", "partition"), [("fraud", 1), ("flights", 1)])
def test_a_key_keeps_its_partition_over_releases(key, partition):
    # printf fraud | b2sum -l 64, modulo 6
    assert partition_of(key, 6) == partition


def test_hashes_depend_on_the_salt_and_differ():
    ids = [f"e{i}" for i in range(1_000)]
    assert len(set(hash_ids(ids).tolist())) == 1_000
    assert not (hash_ids(ids) == hash_ids(ids, b"salt")).any()


SPELLED = ['{"a": 1e400, "b": [1, 2.5, null]}', '"\\ud800"', str(10**400), '{"a": 1, "a": 2}', b"\xef\xbb\xbf1"]


@pytest.mark.parametrize("text", SPELLED)
def test_json_is_read_as_python_reads_it(text: str | bytes) -> None:
    assert read_json(text) == json.loads(text)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{", b"\xff", "1 2"])
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(text)
