"""A producer that cannot begin a transaction is replaced, in both clients; so is a client that gives no answer."""

import threading
import weakref
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from kafka import errors

from stationkeeper.streams.errors import Fenced, Retryable
from stationkeeper.streams.kafka.sink import KafkaSink
from stationkeeper.streams.ports import Outgoing, Partition
from stationkeeper.streams.settings import KafkaSettings
from tests.waiting import until


class Broken:
    """A producer in its error state, which no abort ends."""

    def __init__(self, error):
        self.error = error

    def begin_transaction(self):
        raise self.error

    def abort_transaction(self, *_):
        pass

    def close(self, timeout=None):
        pass


def replaced(sink, error):
    broken = sink._client = Broken(error)
    with pytest.raises(Retryable):
        sink.begin()
    sink.abort()
    return sink._client is not broken


def test_kafka_pythons():
    assert replaced(KafkaSink(KafkaSettings(), "tally"), errors.KafkaError("in error state"))


def test_librdkafkas():
    confluent_kafka = pytest.importorskip("confluent_kafka", reason="needs stationkeeper[librdkafka]")
    from stationkeeper.streams.librdkafka.sink import ConfluentSink

    error = confluent_kafka.KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._STATE))
    assert replaced(ConfluentSink(KafkaSettings(), "tally"), error)


class Silent:
    """A producer as librdkafka 2.16 leaves it when its group coordinator is cut off: it forgets its time limit."""

    def __init__(self, silent):
        self.silent, self.released = silent, threading.Event()

    def _answer(self, name):
        if name == self.silent:
            self.released.wait()

    def begin_transaction(self):
        pass

    def flush(self, *_):
        return 0

    def send_offsets_to_transaction(self, *_):
        self._answer("send_offsets_to_transaction")

    def commit_transaction(self, *_):
        self._answer("commit_transaction")

    def abort_transaction(self, *_):
        raise AssertionError("asked of a producer that hangs: the abort would hang as well")


@pytest.mark.parametrize("silent", ["send_offsets_to_transaction", "commit_transaction"])
def test_librdkafka_that_forgets_its_time_limit_is_left_behind(silent, monkeypatch):
    pytest.importorskip("confluent_kafka", reason="needs stationkeeper[librdkafka]")
    from stationkeeper.streams.librdkafka import clients
    from stationkeeper.streams.librdkafka import sink as room

    monkeypatch.setattr(clients, "_GRACE_S", 0.0)
    sink = room.ConfluentSink(KafkaSettings(), "tally")
    monkeypatch.setattr(room.ConfluentSink, "_limit_s", 0.05)
    producer = sink._client = Silent(silent)
    sink.begin()
    try:
        # Half of the transaction's time for the offsets: the rest is for the client that begins anew.
        limit = 0.025 if silent == "send_offsets_to_transaction" else 0.05
        with pytest.raises(Retryable, match=f"no answer to {silent} within {limit:g} s"):
            sink.commit({Partition("panes", 0): 1}, None)
        sink.abort()
        assert sink._client is None
    finally:
        producer.released.set()


def test_a_producer_of_librdkafka_that_is_fenced_while_it_sends_says_so():
    confluent_kafka = pytest.importorskip("confluent_kafka", reason="needs stationkeeper[librdkafka]")
    from stationkeeper.streams.librdkafka.sink import ConfluentSink

    class Late:
        """A producer that takes nothing more, and learns only in its poll that another has its name."""

        def produce(self, *_, **__):
            raise confluent_kafka.KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._STATE))

        def poll(self, _seconds):
            raise confluent_kafka.KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._FENCED))

    sink = ConfluentSink(KafkaSettings(), "tally")
    sink._client = Late()
    with pytest.raises(Fenced):
        sink.send([Outgoing("scores", b"v", b"k")])


def test_a_consumer_of_librdkafka_that_never_closes_is_left_behind(monkeypatch):
    pytest.importorskip("confluent_kafka", reason="needs stationkeeper[librdkafka]")
    from stationkeeper.streams.librdkafka import clients
    from stationkeeper.streams.librdkafka import source as room

    monkeypatch.setattr(clients, "_GRACE_S", 0.0)
    monkeypatch.setattr(room, "ANSWER_S", 0.05)
    released = threading.Event()

    class Hanging:
        """A consumer whose close never ends."""

        def consume(self, **_):
            return []

        def close(self):
            released.wait()

    source = room.ConfluentSource(KafkaSettings(), "tally")
    source._client = Hanging()
    try:
        with pytest.raises(Retryable, match="no answer to leave"):
            source.close()
        source.close()
    finally:
        released.set()


def test_librdkafka_that_could_not_begin_is_gone_at_once(monkeypatch):
    confluent_kafka = pytest.importorskip("confluent_kafka", reason="needs stationkeeper[librdkafka]")
    from stationkeeper.streams.librdkafka import sink as room

    made = []

    class Late:
        """A producer whose brokers are away; while it lives it begins as they come back, and fences the next."""

        def __init__(self, _options):
            made.append(weakref.ref(self))

        def init_transactions(self, _seconds):
            raise confluent_kafka.KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT))

    monkeypatch.setattr(room, "Producer", Late)
    monkeypatch.setattr(room, "explained", nullcontext)
    sink = room.ConfluentSink(KafkaSettings(), "tally")
    for _ in range(3):
        with suppress(Retryable):
            sink.recover()
    assert len(made) == 3
    # The thread that asked it may still be on its way out.
    until(lambda: all(one() is None for one in made), "each is gone")


def test_a_client_of_librdkafka_that_asks_a_controller_that_is_gone_is_replaced(monkeypatch):
    confluent_kafka = pytest.importorskip("confluent_kafka", reason="needs stationkeeper[librdkafka]")
    from stationkeeper.streams.librdkafka import clients

    made, timed_out = [], confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT)

    class Admin:
        """The first knows a controller that was lost, and waits for it as often as it is asked."""

        def __init__(self, _options):
            made.append(self)

        def describe_topics(self, _topics, **_):
            answer: Future[SimpleNamespace] = Future()
            if self is made[0]:
                answer.set_exception(confluent_kafka.KafkaException(timed_out))
            else:
                answer.set_result(SimpleNamespace(topic_id=confluent_kafka.Uuid(1, 2)))
            return {"in": answer}

    monkeypatch.setattr(clients, "AdminClient", Admin)
    asker = clients.Asker(KafkaSettings(), "tally")
    with pytest.raises(Retryable, match="look up the ids of topics"):
        asker.topic_ids(["in"])
    assert asker.topic_ids(["in"]) == {"in": f"{1:016x}{2:016x}"}
    assert len(made) == 2


@pytest.mark.parametrize("silent", [0, 1])
def test_bounds_that_a_lost_leader_did_not_tell_are_no_bounds(monkeypatch, silent):
    """Taken for an end, the library's word for no answer is that of an empty log, and a role's state begins anew."""
    pytest.importorskip("confluent_kafka", reason="needs stationkeeper[librdkafka]")
    from stationkeeper.streams.librdkafka import clients

    made, asked = [], []

    class Admin:
        """Its second partition's leader is lost: one of its answers never comes, and is given as the library does."""

        def __init__(self, _options):
            made.append(self)

        def list_offsets(self, specs, **_):
            asked.append(specs)
            found: dict[Any, Future[SimpleNamespace]] = {}
            for place in specs:
                found[place] = Future()
                lost = self is made[0] and place.partition == 1 and len(asked) == silent + 1
                found[place].set_result(SimpleNamespace(offset=-1001 if lost else 7))
            return found

    monkeypatch.setattr(clients, "AdminClient", Admin)
    asker = clients.Asker(KafkaSettings(), "tally")
    places = [Partition("state", 0), Partition("state", 1)]
    with pytest.raises(Retryable, match="no answer for state/1"):
        asker.bounds(places)
    assert asker.bounds(places) == dict.fromkeys(places, (7, 7))
    assert len(made) == 2


def test_a_coordinator_that_finds_a_transaction_over_has_found_nobody_newer():
    """Its end was taken before the broker was lost, and is refused when it is asked for again, after the epoch."""
    confluent_kafka = pytest.importorskip("confluent_kafka", reason="needs stationkeeper[librdkafka]")
    from stationkeeper.streams.librdkafka.sink import ConfluentSink

    def answering(code):
        error = confluent_kafka.KafkaException(confluent_kafka.KafkaError(code, "Failed to end transaction", True))
        sink = ConfluentSink(KafkaSettings(), "tally")
        broken: Any = Broken(error)
        broken.abort_transaction = Mock(side_effect=error)
        sink._former, sink._former_open = broken, True
        return sink

    ours = answering(confluent_kafka.KafkaError.INVALID_TXN_STATE)
    ours.ask(Partition("in", 0), None)
    assert not ours.alive
    with pytest.raises(Fenced):
        answering(confluent_kafka.KafkaError._FENCED).ask(Partition("in", 0), None)
