"""The judge of others' controllers reads the log when it is asked, and nothing else is its state."""

import pytest

from stationkeeper.contracts.wire import encode
from stationkeeper.deploy.analysis import Analyses
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from tests.deploy.core.ramp import POLICY
from tests.deploy.world import TOPICS, arms


def log() -> MemoryLog:
    made = MemoryLog()
    made.create(TOPICS.history)
    return made


def put(made: MemoryLog, *values: bytes) -> None:
    made.produce(TOPICS.history.name, values, keys=[b"fraud"] * len(values))


def judge(made: MemoryLog) -> Analyses:
    return Analyses(lambda: MemoryReader(made), TOPICS.history.name, {"fraud": POLICY})


def test_a_judge_that_was_started_again_says_the_same():
    made = log()
    put(made, *(arms(index, {"1": (900, 18), "2": (100, 2)}) for index in range(10)))
    first = judge(made)
    before = first.answer("fraud")
    assert (before["verdict"], before["champion"], before["canary"]) == ("Inconclusive", "1", "2")
    # The last minute is not over.
    assert (before["minutes"], before["rows_canary"]) == (9, 900)
    put(made, b"\xffno record", *(arms(index, {"1": (900, 18), "2": (100, 9)}) for index in range(10, 70)))
    after = first.answer("fraud")
    assert after["verdict"] == "Failed"
    assert after["code"] == "harm"
    assert judge(made).answer("fraud") == after


def test_hooks_answer_what_flagger_asks():
    made = log()
    one = judge(made)
    put(made, arms(0, {"1": (900, 9)}), arms(1, {"1": (900, 9)}))
    assert [one.allows(hook, "fraud")[0] for hook in ("rollback", "advance", "promotion")] == [False, False, False]
    put(made, *(arms(index, {"1": (500, 10), "2": (500, 10)}) for index in range(2, 5)))
    assert [one.allows(hook, "fraud")[0] for hook in ("rollback", "advance", "promotion")] == [False, True, False]
    put(made, *(arms(index, {"1": (500, 10), "2": (500, 10)}) for index in range(5, 120)))
    answers = [one.allows(hook, "fraud", labels=False) for hook in ("rollback", "advance", "promotion")]
    assert [yes for yes, _ in answers] == [False, True, True]
    assert answers[2][1].startswith("Successful: no worse than its margin")
    put(made, *(arms(index, {"1": (500, 10), "2": (500, 60)}) for index in range(120, 150)))
    assert [one.allows(hook, "fraud")[0] for hook in ("rollback", "advance", "promotion")] == [True, False, False]


def test_versions_that_nobody_saw_are_named_with_those_that_are_there():
    made = log()
    put(made, *(arms(index, {"1": (500, 10), "2": (500, 10)}) for index in range(5)))
    found = judge(made).answer("fraud", canary="7")
    assert found["verdict"] == "Inconclusive"
    assert found["reason"].startswith("no closed minute holds rows of both arms (champion 1, canary 7)")
    assert (found["minutes"], found["since"]) == (0, None)


def test_records_of_other_models_and_a_topic_that_is_not_there():
    made = log()
    put(made, encode([]))
    assert judge(made).answer("fraud")["code"] == "not_compared"
    with pytest.raises(Retryable, match="does not exist yet"):
        judge(MemoryLog()).answer("fraud")
    with pytest.raises(KeyError):
        judge(made).answer("loans")
