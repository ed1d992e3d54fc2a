"""What is received in place is what kafka-python's own parser makes of the same bytes, however they arrive."""

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from kafka.net.transport import KafkaTCPTransport
from kafka.protocol.consumer import FetchRequest, FetchResponse
from kafka.protocol.parser import KafkaProtocol

from stationkeeper.streams.kafka.fetch import Frame, Receiving
from tests.conformance.worlds import KafkaWorld, everything, poll_rows, take_over
from tests.waiting import until

VERSION = 12
Answer = FetchResponse[VERSION]
Topic = Answer.FetchableTopicResponse


def answer(correlation: int, size: int) -> bytes:
    """Return a broker's answer to a fetch, with so many bytes of records."""
    partition = Topic.PartitionData(partition_index=0, high_watermark=9, records=bytes(range(256)) * (size // 256))
    made = Answer(responses=[Topic(topic="scores", partitions=[partition])])
    made.with_header(correlation)
    return bytes(made.encode(framed=True, header=True))


class Connection:
    """What a transport needs to know of a connection: its parser, and what that made of the bytes."""

    def __init__(self, answers: int) -> None:
        self.parser = KafkaProtocol(client_id="test")
        for _ in range(answers):
            self.parser.send_request(FetchRequest[VERSION]())
        self.got: list[Any] = []

    def take(self, data: bytes) -> None:
        for correlation, response in self.parser.receive_bytes(data):
            [topic] = response.responses
            self.got.append((correlation, bytes(topic.partitions[0].records)))


class Line:
    """A transport over one end of a pair of sockets."""

    def __init__(self, answers: int, ends: tuple[socket.socket, socket.socket] | None = None) -> None:
        mine, self.theirs = ends or socket.socketpair()
        mine.setblocking(False)
        self.transport = KafkaTCPTransport(None, mine)
        self.connection = Connection(answers)
        self.transport.set_protocol(self.connection)
        self.receive = Receiving(self.transport)
        self.seen = 0

    def drain(self) -> Exception | None:
        """Take what has come, as the library does: only while the socket is readable."""
        while select.select([self.transport._sock], [], [], 0)[0]:
            data, error = self.receive()
            if error:
                return error
            self.seen += len(data)
            self.connection.take(data)
        return None


def tls_pair(home: Path) -> tuple[socket.socket, socket.socket]:
    """Return both ends of a line over TLS, with a certificate of our own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    day, today = timedelta(days=1), datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), today - day, today + day)
    (home / "broker.pem").write_bytes(
        made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(home / "broker.pem")
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    mine, theirs = socket.socketpair()
    found: list[socket.socket] = []
    greeting = threading.Thread(target=lambda: found.append(server.wrap_socket(theirs, server_side=True)))
    greeting.start()
    ours = client.wrap_socket(mine)
    greeting.join()
    return ours, found[0]


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line(3)
    yield made
    made.transport._sock.close()
    made.theirs.close()


@given(st.lists(st.sampled_from([0, 256, 64 * 1024, 200 * 1024, 400 * 1024]), min_size=1, max_size=3), st.data())
def test_answers_are_those_of_the_librarys_parser_wherever_they_are_cut(sizes: list[int], data: Any) -> None:
    sent = b"".join(answer(at + 1, size) for at, size in enumerate(sizes))
    expected = Connection(len(sizes))
    expected.take(sent)
    line = Line(len(sizes))
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=5))
    places = sorted({0, *cuts, *range(0, len(sent), 50_000), len(sent)})
    for first, last in pairwise(places):
        line.theirs.sendall(sent[first:last])
        assert line.drain() is None
    line.theirs.close()
    assert "disconnected" in str(line.drain())
    line.transport._sock.close()
    assert line.connection.got == expected.got
    assert len(expected.got) == len(sizes)


def test_the_middle_of_a_long_answer_does_not_pass_through_the_parser(line: Line) -> None:
    line.theirs.sendall(answer(1, 1024))
    line.drain()
    assert line.seen > 1024
    line.seen, sent = 0, answer(2, 1 << 20)
    for first in range(0, len(sent), 100_000):
        line.theirs.sendall(sent[first : first + 100_000])
        line.drain()
    assert [len(records) for _, records in line.connection.got] == [1024, 1 << 20]
    assert line.seen <= 2 * 64 * 1024


def test_a_line_that_breaks_in_the_middle_of_an_answer_is_told(line: Line) -> None:
    line.theirs.sendall(answer(1, 400 * 1024)[:100_000])
    assert line.drain() is None
    assert isinstance(line.connection.parser._rbuffer, Frame)
    line.theirs.close()
    assert "disconnected" in str(line.drain())


def test_over_tls_an_answer_is_taken_whole_though_the_socket_was_readable_once(tmp_path: Path) -> None:
    line = Line(1, tls_pair(tmp_path))
    sent = answer(1, 400 * 1024)
    writing = threading.Thread(target=line.theirs.sendall, args=(sent,))
    writing.start()
    until(lambda: line.drain() is None and line.connection.got, "the answer")
    writing.join()
    assert isinstance(line.transport._sock, ssl.SSLSocket)
    assert line.seen <= 2 * 64 * 1024
    assert len(line.connection.got[0][1]) == 400 * 1024
    # Nothing that TLS has taken from the line waits unseen for the line to be readable again.
    assert line.transport._sock.pending() == 0
    line.transport._sock.close()
    line.theirs.close()


def test_what_fails_in_any_way_breaks_the_connection_and_not_the_reading(line: Line) -> None:
    line.connection.parser = object()  # a library whose parser is another
    line.theirs.sendall(b"x")
    assert isinstance(line.drain(), Exception)


def test_long_fields_are_views_and_short_ones_bytes() -> None:
    frame = Frame(100_000)
    frame.write(bytes(range(250)) * 400)
    frame.seek(10)
    assert frame.read(5) == bytes(range(10, 15))
    long = frame.read(70_000)
    assert isinstance(long, memoryview)
    assert bytes(long) == (bytes(range(250)) * 400)[15:70_015]
    assert frame.tell() == 70_015
    # More than is left ends at the end, as in the library.
    assert len(frame.read(70_000)) == 100_000 - 70_015


@pytest.mark.broker
def test_a_members_and_a_readers_fetches_are_received_in_place(kafka: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[int] = []

    class Noted(Frame):
        def __init__(self, size: int) -> None:
            super().__init__(size)
            frames.append(size)

    monkeypatch.setattr("stationkeeper.streams.kafka.fetch.Frame", Noted)
    world = KafkaWorld(kafka.bootstrap)
    try:
        topic = world.create("in", 1)
        values = [bytes([at]) * 300_000 for at in range(4)]
        world.produce(topic, values)
        source = world.source(world.settings())
        source.subscribe([topic])
        take_over(source)
        assert [value for *_, value in poll_rows(source, 4)] == values
        assert frames
        frames.clear()
        assert [value for *_, value in everything(world, topic)] == values
        assert frames
    finally:
        world.close()
