"""How fast production is back on its champion: log and targets by themselves, and a rehearsal that moves nothing."""

from collections.abc import Iterator
from itertools import count

import pytest

from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.drill import rehearsed, restored
from stationkeeper.deploy.targets import Observation
from stationkeeper.streams.errors import Retryable
from tests.deploy.serving import record

ALONE = Observation("1", None, 0)


class Following:
    """A target that is on the champion after so many looks; ``away`` looks are not answered."""

    def __init__(self, name: str, looks: int, away: int = 0, then: Observation = ALONE) -> None:
        self.name, self._looks, self._away, self._then = name, looks, away, then
        self.applied: list[Rollout] = []

    def apply(self, rollout: Rollout) -> None:
        self.applied.append(rollout)

    def observe(self, model: str) -> Observation | None:
        self._looks, self._away = self._looks - 1, self._away - 1
        if self._away >= 0:
            raise Retryable("the server does not answer")
        return self._then if self._looks < 0 else Observation("1", "2", 500)


OUT = record(canary="2", weight_bp=500)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stationkeeper.deploy.drill._EVERY_S", 0.0)


def ticks() -> Iterator[float]:
    return (float(one) for one in count())


def test_each_is_timed_until_it_has_the_champion_alone():
    records = iter([record(canary="2", weight_bp=500), record(), record()])
    clock = ticks()
    found = restored(
        OUT, "1", lambda: next(records), [Following("near", 0, away=1), Following("far", 2)], 60, clock.__next__
    )
    assert {one.what: one.seconds is not None for one in found} == {"log": True, "near": True, "far": True}
    seconds = {one.what: one.seconds for one in found}
    assert seconds["log"] < seconds["far"]
    assert seconds["near"] < seconds["far"]


def test_one_that_is_not_back_within_the_limit_is_told_with_what_it_serves():
    clock = ticks()
    found = restored(OUT, "1", record, [Following("stuck", 1_000)], 10, clock.__next__)
    assert [(one.what, one.seconds) for one in found if one.what == "stuck"] == [("stuck", None)]
    assert found[-1].seen == "champion 1, 5 % to 2"


def test_of_two_targets_of_one_kind_the_one_that_is_not_back_is_told():
    clock = ticks()
    found = restored(OUT, "1", record, [Following("http", 0), Following("http", 1_000)], 10, clock.__next__)
    assert [(one.what, one.seconds is None) for one in found] == [("log", False), ("http", False), ("http", True)]


def test_a_candidate_that_waited_may_follow_at_once_and_the_one_that_was_out_may_not_stay():
    follows = Following("http", 0, then=Observation("1", "3", 100))
    found = restored(OUT, "1", lambda: record(canary="3", weight_bp=100, epoch=2), [follows], 10, ticks().__next__)
    assert [one.seconds is not None for one in found] == [True, True]
    still = restored(OUT, "1", lambda: OUT, [Following("http", 1_000)], 10, ticks().__next__)
    assert [one.seconds for one in still] == [None, None]


def test_a_rehearsal_applies_the_record_that_is_in_force_and_no_other():
    target, away = Following("near", 0), Following("away", 0, away=1)
    one, other = rehearsed(record(), [target, away])
    assert target.applied == [record()]
    assert one.seconds is not None
    assert (other.seconds, other.seen) == (None, "the server does not answer")
