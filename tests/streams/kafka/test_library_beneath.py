"""What we reach into of kafka-python is as it was when it was read: a new version must be read again, not only run."""

import hashlib
import inspect
from typing import Any

import kafka
import pytest
from kafka.consumer.fetcher import Fetcher
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.protocol.frame import KafkaBytes
from kafka.protocol.parser import KafkaProtocol
from kafka.record.default_records import DefaultRecordBatch

READ = "3.0.12"
# What streams/kafka/fetch.py subclasses, replaces or takes private fields of.
BENEATH: dict[Any, str] = {
    Fetcher.PartitionRecords: "cf2214c6a21884be",
    DefaultRecordBatch._maybe_uncompress: "35e0360528daf8bd",
    KafkaConnectionManager._build_transport: "0362b0a783871097",
    KafkaTCPTransport._sock_recv: "2594a6a62ec5a3e5",
    KafkaSSLTransport._sock_recv: "0a592f230c5c4455",
    KafkaProtocol: "3b83186a4c978ab2",
    KafkaBytes: "7b12af5a4b339828",
}


def digest(part: Any) -> str:
    return hashlib.sha256(inspect.getsource(part).encode()).hexdigest()[:16]


@pytest.mark.parametrize("part", BENEATH, ids=lambda part: part.__qualname__)
def test_a_part_of_the_library_that_we_reach_into_is_the_one_that_was_read(part: Any):
    assert digest(part) == BENEATH[part], (
        f"kafka-python {kafka.__version__} changed {part.__qualname__}, read in {READ}: compare it with "
        "streams/kafka/fetch.py, run tests/streams and tests/conformance, then write the new digest here"
    )


def test_another_source_has_another_digest():
    assert digest(test_another_source_has_another_digest) not in BENEATH.values()
