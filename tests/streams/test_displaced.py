"""A member whose name the group gave to another: a successor's process ends ours, a late answer of our own does not."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.errors import Displaced, Fenced, Retryable
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.ports import Outgoing, Partition
from tests.conformance.worlds import ConfluentWorld, take_over
from tests.waiting import until

pytestmark = pytest.mark.broker


@pytest.fixture
def world(kafka: FoundBroker) -> Iterator[ConfluentWorld]:
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: stationkeeper[librdkafka]")
    made = ConfluentWorld(kafka.bootstrap)
    yield made
    made.close()


def loop_of(world: ConfluentWorld, topic: str) -> tuple[Loop, Any]:
    stage: Any = Mock(inputs=(topic,), tables=())
    stage.configure_mock(name="role")
    stage.changelog.return_value, stage.start_offsets.return_value, stage.flush.return_value = [], {}, []
    stage.stopped.return_value = frozenset()
    stage.hindered.return_value, stage.samples.return_value, stage.status.return_value = None, (), {}
    settings = world.settings()
    return Loop(stage, world.source(settings), world.sink(settings), world.reader(settings), settings), stage


def holds(loop: Loop, topic: str) -> bool:
    loop._attempt(loop.turn)
    return loop._assigned == {Partition(topic, 0)} and not loop._stale


def joined(world: ConfluentWorld) -> tuple[str, Loop, Any]:
    """A topic, a member that has its partition, and the member's stage."""
    topic = world.create("in", 1)
    loop, stage = loop_of(world, topic)
    until(lambda: holds(loop, topic), "it has its partition")
    return topic, loop, stage


def hears(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next poll tell that the group gave the member's name to another."""
    monkeypatch.setattr(loop._source, "poll", Mock(side_effect=[Displaced("its name was given to another member")]))


def goes_on(loop: Loop, stage: Any, topic: str) -> None:
    """See the member join anew, with its state read once more, and close it."""
    until(lambda: holds(loop, topic), "it has its partition again")
    assert stage.assigned.call_count == 2
    loop.close()


def succeeded(world: ConfluentWorld) -> tuple[str, Loop, Loop]:
    """A topic, a member that has its partition, and the process that has taken its place since."""
    topic, loop, _ = joined(world)
    successor, _ = loop_of(world, topic)
    until(lambda: holds(successor, topic), "the successor has its partition")
    return topic, loop, successor


def write(loop: Loop, topic: str) -> None:
    """Commit a record, as a result of the member's own."""
    loop._sink.begin()
    loop._sink.send([Outgoing(topic, b"1")])
    loop._sink.commit({}, None)


def fail(loop: Loop, topic: str, *, ended: bool) -> None:
    """Leave the producer as a commit does that failed; not ``ended``: nor did the abort go through."""
    sink: Any = loop._sink
    sink.begin()
    sink.send([Outgoing(topic, b"1")])
    if ended:
        sink.abort()
    else:
        sink._former, sink._client, sink._former_open, sink._open = sink._client, None, True, False
    loop._stale = True
    assert sink._client is None


def ends(loop: Loop) -> bool:
    """Take a step; nothing but what it raises ends the wait."""
    loop._attempt(loop.turn)
    return False


def test_a_member_that_its_own_late_answer_fenced_joins_anew(world: ConfluentWorld) -> None:
    topic, loop, stage = joined(world)
    # The same name joins with no producer begun before it, as only this very process does.
    late = world.source(world.settings())
    late.subscribe([topic])
    take_over(late)
    until(lambda: not loop._attempt(loop.turn), "it hears of the other member")
    late.close()
    goes_on(loop, stage, topic)


def test_a_member_without_a_producer_that_its_own_late_answer_fenced_joins_anew(
    world: ConfluentWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a commit was never answered: no producer is left to ask by, and its coordinator alone tells."""
    topic, loop, stage = joined(world)
    write(loop, topic)
    loop._sink._client = None  # type: ignore[attr-defined]
    hears(loop, monkeypatch)
    assert not loop._attempt(loop.turn)
    monkeypatch.undo()
    goes_on(loop, stage, topic)


def test_a_producer_knows_whether_another_of_its_name_has_begun_since(world: ConfluentWorld) -> None:
    topic = world.create("in", 1)
    loop, _ = loop_of(world, topic)
    sink: Any = loop._sink
    assert not sink.latest()
    write(loop, topic)
    assert sink.latest()
    # What an abort leaves, with another epoch where records had no answer, is the same producer.
    fail(loop, topic, ended=True)
    assert sink.latest()
    other, _ = loop_of(world, topic)
    other._sink.recover()
    assert not sink.latest()
    other.close()
    loop.close()


def test_what_a_commit_did_not_confirm_is_not_this_producers(world: ConfluentWorld) -> None:
    """Of two that started together the second has begun before the first asks: its epoch is not the first's."""
    topic = world.create("in", 1)
    loop, _ = loop_of(world, topic)
    other, _ = loop_of(world, topic)
    sink: Any = loop._sink
    sink.begin()
    sink.send([Outgoing(topic, b"1")])
    other._sink.recover()
    with pytest.raises((Fenced, Retryable)):
        sink.commit({}, None)
    assert not sink.latest()
    other.close()
    loop.close()


def test_a_producer_that_a_start_of_its_own_may_have_fenced_accuses_nobody(
    world: ConfluentWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, loop, _ = joined(world)
    fail(loop, topic, ended=True)
    sink: Any = loop._sink
    # As where the coordinator took a start whose answer was lost.
    unheard, _ = loop_of(world, topic)
    unheard._sink.recover()
    sink._unheard, sink._epoch = True, None
    hears(loop, monkeypatch)
    with pytest.raises(Fenced, match="cannot be told"):
        loop._attempt(loop.turn)
    monkeypatch.undo()
    unheard.close()
    loop.close()


def test_a_fenced_producer_whose_records_say_nothing_is_not_let_in(
    world: ConfluentWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """confluent-kafka forgets to say why a flush of a fenced producer failed: the end of the transaction tells."""
    topic, loop, successor = succeeded(world)
    fail(loop, topic, ended=True)
    sink: Any = loop._sink
    monkeypatch.setattr(sink._records, "written", lambda producer, limit_s: producer.flush(limit_s) and None)
    with pytest.raises(Fenced):
        sink.ask(Partition(topic, 0), None)
    loop.close()
    successor.close()


def test_a_member_without_a_producer_ends_and_leaves_its_successor_alone(world: ConfluentWorld) -> None:
    """A producer that began only now would fence the successor's, and find itself let in."""
    topic, loop, successor = succeeded(world)
    # As a commit leaves it that was never answered.
    loop._sink._client = None  # type: ignore[attr-defined]

    with pytest.raises(Fenced, match="give each replica its own"):
        until(lambda: ends(loop), "it hears of the successor")
    successor._sink.abandon(Partition(topic, 0), successor._source.group())
    assert successor._attempt(successor.turn)
    loop.close()
    successor.close()


@pytest.mark.parametrize("ended", [True, False])
def test_a_member_whose_commit_failed_asks_by_the_producer_of_before(
    world: ConfluentWorld, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """The leader that was lost takes a commit along: the producer is thrown away before the late answer is heard of.

    The broker that is lost may coordinate the group, too, of which nothing is asked therefore.
    """
    topic, loop, stage = joined(world)
    fail(loop, topic, ended=ended)
    sink: Any = loop._sink
    ask = sink._ask

    def without_group(call: Any, *arguments: Any, **limits: Any) -> None:
        if call.__name__ == "send_offsets_to_transaction":
            raise Retryable("librdkafka gave no answer")
        ask(call, *arguments, **limits)

    monkeypatch.setattr(sink, "_ask", without_group)
    # As after records without an answer, for which the library asks for another epoch.
    sink._epoch = None
    hears(loop, monkeypatch)
    assert not loop._attempt(loop.turn)
    monkeypatch.undo()
    goes_on(loop, stage, topic)


def test_a_member_whose_commit_failed_and_whose_successor_runs_ends(
    world: ConfluentWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, loop, successor = succeeded(world)
    fail(loop, topic, ended=True)
    hears(loop, monkeypatch)
    with pytest.raises(Fenced, match="another process runs"):
        loop._attempt(loop.turn)
    assert successor._attempt(successor.turn)
    loop.close()
    successor.close()


@pytest.mark.parametrize("answer", ["UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION"])
def test_a_member_that_the_group_has_forgotten_joins_anew(
    world: ConfluentWorld, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """A coordinator that was elected meanwhile knows the late answer's member alone; it has let the producer in."""
    errors = pytest.importorskip("confluent_kafka")
    topic, loop, stage = joined(world)
    sink: Any = loop._sink
    ask, refused = sink._ask, errors.KafkaException(errors.KafkaError(getattr(errors.KafkaError, answer), "Failed"))

    def refuse(call: Any, *arguments: Any, **limits: Any) -> None:
        ask(call, *arguments, **limits)
        if call.__name__ == "send_offsets_to_transaction":
            monkeypatch.setattr(sink, "_ask", ask)
            raise refused

    monkeypatch.setattr(sink, "_ask", refuse)
    hears(loop, monkeypatch)
    assert not loop._attempt(loop.turn)
    monkeypatch.undo()
    goes_on(loop, stage, topic)


def test_a_member_whose_successor_runs_ends(world: ConfluentWorld) -> None:
    _, loop, successor = succeeded(world)

    with pytest.raises(Fenced, match="another process runs"):
        until(lambda: ends(loop), "it hears of the successor")
    # Nor is the successor fenced by what was tried.
    assert successor._attempt(successor.turn)
    loop.close()
    successor.close()
