"""The stage over a log in memory and a real receiver: after the commit, again after a failure."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from stationkeeper.contracts.messages import (
    CureOutcome,
    Deployment,
    DeploymentAction,
    Level,
    Subject,
    SubjectState,
    SubjectType,
    Verdict,
    VerdictKind,
)
from stationkeeper.contracts.topics import Topics
from stationkeeper.notify import Notice, Notifier, NotifierSettings, Told, notifier_for
from stationkeeper.notify.stage import Notify, Telling
from stationkeeper.streams.errors import Fatal, Retryable
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.ports import Outgoing, Partition
from stationkeeper.streams.settings import KafkaSettings
from tests.messages import request
from tests.stationkeeper.notify.receiver import Receiver, receiving
from tests.waiting import LIMIT_S, until

pytestmark = pytest.mark.usefixtures("without_proxies")

TOPICS = Topics("told")
NOW = datetime(2026, 1, 5, 6, 1, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1_000)


def verdict(name: str = "v1", *, level: str = "page", kind: str = "data_drift", model: str = "fraud") -> Verdict:
    return Verdict(
        id=name,
        time=NOW,
        model=model,
        version="1",
        subject=Subject(type=SubjectType.FEATURE, name="method"),
        kind=VerdictKind(kind),
        level=Level(level),
        state=SubjectState.DRIFTING,
        cause="new_category",
        reason="method: values never seen before",
        rows=67,
        incident="inc-1",
        evidence={"counts": [1, 2, 3]},
    )


DEPLOYMENT = Deployment(
    id="dep-1",
    time=NOW,
    model="fraud",
    action=DeploymentAction.ROLLED_BACK,
    champion="1",
    canary="2",
    reason="worse",
    request="req-1",
)


class World:
    """One notifier over one log, driven turn by turn."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.now = NOW_MS
        self.log = MemoryLog(lambda: self.now)
        for topic in TOPICS.all():
            self.log.create(topic)
        self.kafka = KafkaSettings(prefix=TOPICS.prefix, instance="0", flush_interval=0, poll_timeout=0)

    def loop(self, notifier: Notifier | None = None, **more: Any) -> Loop:
        made = NotifierSettings.model_validate({"url": self.receiver.url, "timeout": f"{LIMIT_S:g}s", **more})
        stage = Notify("ops", made, notifier or notifier_for(made), TOPICS)
        name, log = stage.name, self.log
        ports = MemorySource(log, self.kafka, name), MemorySink(log, self.kafka, name), MemoryReader(log)
        return Loop(stage, *ports, self.kafka, now_ms=lambda: self.now)

    def verdicts(self, *given: Verdict) -> None:
        self.log.produce(TOPICS.verdicts.name, [one.encode() for one in given])

    def turn(self, loop: Loop, times: int = 4) -> None:
        for _ in range(times):
            self.now += 1_000
            # What a role's own thread does at each step: a failure that may pass is not the loop's end.
            loop._attempt(loop.turn)

    def told(self) -> list[str]:
        return [event["id"] for event in self.receiver.events()]


@pytest.fixture
def world() -> Iterator[World]:
    with receiving() as receiver:
        yield World(receiver)


def outcomes(loop: Loop) -> dict[str, float]:
    found = {one.labels[1]: one.value for one in loop.stage.samples() if one.metric == "stationkeeper_notices_total"}
    return {name: value for name, value in found.items() if value}


def test_only_what_is_committed_is_told(world: World):
    loop = world.loop()
    judge = MemorySink(world.log, world.kafka, "judge")
    judge.recover()
    judge.begin()
    judge.send([Outgoing(TOPICS.verdicts.name, verdict("aborted").encode())])
    world.turn(loop)
    judge.abort()
    judge.begin()
    judge.send([Outgoing(TOPICS.verdicts.name, verdict("kept").encode())])
    world.turn(loop)
    assert world.receiver.asked == []
    judge.commit({}, None)
    world.turn(loop)
    assert world.told() == ["kept"]


def test_each_kind_is_told_in_words_with_a_link_and_without_counts(world: World):
    loop = world.loop(tell=[told.value for told in Told], page="https://status.bank/")
    world.verdicts(
        verdict("p"),
        verdict("w", level="warn"),
        verdict("i", level="inform"),
        verdict("r", level="inform", kind="recovered"),
        verdict("c", level="warn", kind="cure"),
    )
    asked = request(NOW_MS)
    again = [asked, asked.model_copy(update={"withdrawn": "rejected by anna"})]
    cured = asked.model_copy(update={"cure": CureOutcome.CURED})
    world.log.produce(TOPICS.requests.name, [one.encode() for one in (*again, cured)])
    world.log.produce(TOPICS.deployments.name, [DEPLOYMENT.encode()])
    world.turn(loop)
    told = {event["id"]: event for event in world.receiver.events()}
    kinds = {name: event["told"] for name, event in told.items()}
    assert kinds == {
        "p": "page",
        "w": "warn",
        "r": "recovered",
        "c": "cure",
        asked.id: "request",
        f"{asked.id}/withdrawn": "request",
        "dep-1": "deployment",
    }
    assert told["p"]["text"] == "page: fraud 1: data_drift: method: values never seen before"
    assert told["p"]["url"] == "https://status.bank/incidents/inc-1"
    assert told["dep-1"]["text"] == "deployment: fraud: rolled back: worse"
    assert told["dep-1"]["url"] == "https://status.bank/models/fraud"
    assert not any("counts" in body for body in world.receiver.bodies)


def test_levels_and_models_that_nobody_asked_for_are_not_told(world: World):
    loop = world.loop(tell=["page"], models=["fraud"])
    world.verdicts(verdict("w", level="warn"), verdict("other", model="flights"), verdict("mine"))
    world.turn(loop)
    assert world.told() == ["mine"]
    assert loop.stage.inputs == (TOPICS.verdicts.name,)


def test_a_receiver_that_was_away_is_told_once_and_nothing_is_committed_before(world: World):
    loop = world.loop()
    world.receiver.answer = lambda _: 503
    world.verdicts(verdict("v1"), verdict("v2"))
    world.turn(loop, 8)
    assert world.told() == []
    here = Partition(TOPICS.verdicts.name, 0)
    assert loop._source.committed([here]).get(here, 0) == 0
    world.receiver.answer = lambda _: 204
    world.turn(loop, 8)
    assert world.told() == ["v1", "v2"]
    assert loop._source.committed([here])[here] == 2
    assert outcomes(loop)["told"] == 2
    assert outcomes(loop)["retried"] >= 2


def test_one_notice_that_the_receiver_stumbles_over_delays_itself_alone(world: World):
    loop = world.loop()
    world.receiver.answer = lambda body: 500 if json.loads(body)["id"] == "bad" else 204
    world.verdicts(verdict("bad"), verdict("good"))
    world.turn(loop, 8)
    world.verdicts(verdict("later"))
    world.turn(loop, 8)
    # Told once each, though all is read again until the bad one is done with.
    assert world.told() == ["good", "later"]
    world.now += 24 * 3_600_000
    world.turn(loop, 8)
    assert outcomes(loop)["expired"] == 1
    world.verdicts(verdict("after"))
    world.turn(loop)
    assert world.told() == ["good", "later", "after"]


def test_many_that_the_receiver_stumbles_over_silence_nothing_behind_them(world: World):
    loop = world.loop()
    world.receiver.answer = lambda body: 500 if json.loads(body)["id"].startswith("bad") else 204
    bad = [verdict(f"bad{number}") for number in range(6)]
    world.verdicts(verdict("good0"), *bad[:3], verdict("good1"), *bad[3:], verdict("good2"))
    world.turn(loop, 30)
    assert sorted(world.told()) == ["good0", "good1", "good2"]
    world.verdicts(verdict("later"), verdict("bad6"), verdict("bad7"))
    world.turn(loop, 30)
    assert sorted(world.told()) == ["good0", "good1", "good2", "later"]
    here = Partition(TOPICS.verdicts.name, 0)
    assert loop._source.committed([here]).get(here, 0) == 0
    world.receiver.answer = lambda _: 204
    world.turn(loop, 8)
    assert world.told()[4:] == [f"bad{number}" for number in range(8)]
    assert loop._source.committed([here])[here] == 12


def test_after_an_outage_it_is_told_in_order(world: World):
    loop = world.loop()
    world.receiver.answer = lambda _: 503
    names = [f"v{number}" for number in range(9)]
    world.verdicts(*map(verdict, names))
    world.turn(loop, 30)
    # No round asks a receiver that is away more than the three and the one that could show that it is not.
    assert [json.loads(body)["id"] for body in world.receiver.asked[:5]] == ["v0", "v1", "v2", "v8", "v0"]
    world.receiver.answer = lambda _: 204
    world.turn(loop, 8)
    assert world.told() == names


def test_one_that_is_to_leave_asks_a_receiver_that_hangs_no_second_time(world: World):
    asked: list[str] = []
    hangs, ends = threading.Event(), threading.Event()

    class Hanging:
        def notify(self, notice: Notice) -> None:
            asked.append(notice.id)
            hangs.set()
            assert ends.wait(LIMIT_S)
            raise Retryable("timed out")

    world.verdicts(*(verdict(f"v{number}") for number in range(5)))
    telling = Telling({"ops": lambda: world.loop(Hanging())})
    telling.start()
    assert hangs.wait(LIMIT_S)
    telling.end()
    ends.set()
    telling.stop(LIMIT_S)
    assert asked == ["v0"]
    assert world.log.groups[world.kafka.group("notify-ops")].committed.get(Partition(TOPICS.verdicts.name, 0), 0) == 0


def test_what_will_never_be_taken_is_given_up(world: World):
    loop = world.loop()
    world.receiver.answer = lambda body: 400 if json.loads(body)["id"] == "bad" else 204
    world.verdicts(verdict("bad"), verdict("good"))
    world.turn(loop)
    assert world.told() == ["good"]
    assert outcomes(loop) == {"told": 1, "refused": 1}


def test_after_a_crash_it_is_told_again_under_the_same_id(world: World):
    loop = world.loop()
    world.turn(loop)

    def lost(*_: object, **__: object) -> None:
        raise Fatal("the process ends here")

    loop._sink.commit = lost  # type: ignore[method-assign]
    world.verdicts(verdict("v1"))
    with pytest.raises(Fatal):
        world.turn(loop)
    assert world.told() == ["v1"]
    second = world.loop()
    world.turn(second)
    assert world.told() == ["v1", "v1"]


def test_a_record_that_nobody_can_read_is_passed_over(world: World):
    loop = world.loop()
    world.log.produce(TOPICS.verdicts.name, [b"{", verdict("v1").encode()])
    world.turn(loop)
    assert world.told() == ["v1"]


def test_what_ends_one_of_them_ends_nothing_else(world: World):
    def broken() -> Loop:
        raise RuntimeError("an extension's own fault")

    telling = Telling({"broken": broken, "ops": world.loop})
    telling.start()
    world.verdicts(verdict("v1"))
    until(lambda: world.told() == ["v1"], "told")
    telling.stop(LIMIT_S)
    assert ("ops", "told") in {sample.labels for sample in telling.samples()}


def test_a_notice_says_what_a_later_version_adds_and_an_older_reader_leaves_out():
    one = Notice(id="v1", told=Told.PAGE, time=NOW, model="fraud", text="moved")
    assert Notice.decode(one.encode()[:-1] + b', "of_the_future": 1}') == one
