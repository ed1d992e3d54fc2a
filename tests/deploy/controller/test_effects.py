"""What follows a committed record outside the log, where a platform does not follow at once."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from structlog.testing import capture_logs

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.deploy.controller.effects import Effects
from stationkeeper.deploy.targets import Abilities, ChangedByOthers, Observation
from stationkeeper.streams.errors import Retryable

RECORD = Rollout(
    model="fraud",
    epoch=1,
    time=datetime(2026, 1, 1, tzinfo=UTC),
    phase=RolloutPhase.CANARY,
    champion="1",
    canary="2",
    weight_bp=100,
)


class Scripted:
    """A platform that does what it is told to at each call of ``apply``."""

    def __init__(self, name: str, act: Callable[[], None] = lambda: None) -> None:
        self.name, self.act = name, act
        self.applied = threading.Semaphore(0)

    def apply(self, rollout: Rollout) -> None:
        self.applied.release()
        self.act()

    def observe(self, model: str) -> Observation | None:
        return Observation("1", "2", 100, {"2": "too large"} if self.name == "second" else {})


def fails(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def test_a_target_that_waits_does_not_keep_the_record_from_another_and_is_told_once(monkeypatch):
    monkeypatch.setattr("stationkeeper.deploy.controller.effects._RETRY_S", 0.001)
    first, second = Scripted("first", fails(Retryable("the endpoint is Updating"))), Scripted("second")
    effects = Effects(None, (first, second))
    with capture_logs() as logs:
        effects.follow(RECORD)
        # Each tried three times: three looks at a platform that is not there yet.
        for target in (first, second):
            assert all(target.applied.acquire(timeout=10) for _ in range(3))
        effects.close()
    assert effects.problems() == {"fraud": "the endpoint is Updating"}
    assert effects.unfit("fraud", "2") == "second: too large"
    assert [one["event"] for one in logs] == [LogEvent.TARGET_WAITS]


def test_a_change_of_somebody_else_has_its_own_event():
    target = Scripted("first", fails(ChangedByOthers("weights are 9:1, not as we set them")))
    effects = Effects(None, (target,))
    with capture_logs() as logs:
        effects.follow(RECORD)
        assert target.applied.acquire(timeout=10)
        effects.close()
    assert [one["event"] for one in logs] == [LogEvent.TARGET_CHANGED]


def test_an_error_that_nobody_foresaw_is_told_with_its_class_and_the_other_models_are_served(monkeypatch):
    monkeypatch.setattr("stationkeeper.deploy.controller.effects._RETRY_S", 0.001)
    broken = Scripted("first", fails(KeyError("spec")))
    effects = Effects(None, (broken,))
    effects.follow(RECORD)
    assert all(broken.applied.acquire(timeout=10) for _ in range(2))
    assert effects.problems() == {"fraud": "KeyError: 'spec'"}
    broken.act = lambda: None
    effects.follow(RECORD.model_copy(update={"model": "churn"}))
    assert all(broken.applied.acquire(timeout=10) for _ in range(3))
    effects.close()
    assert effects.problems() == {}


class Weighing(Scripted):
    """A platform that keeps the weights it was told."""

    def __init__(self, name: str, abilities: Abilities) -> None:
        super().__init__(name)
        self.abilities, self.told = abilities, list[tuple[str, str | None, int]]()

    def apply(self, rollout: Rollout) -> None:
        self.told.append((rollout.champion, rollout.canary, rollout.weight_bp))
        super().apply(rollout)


def test_the_holdback_is_asked_of_those_who_can_split_it_and_of_no_others():
    held = {"phase": RolloutPhase.PROBATION, "champion": "2", "canary": None, "weight_bp": 0}
    record = RECORD.model_copy(update=held | {"controller": {"previous": "1", "holdback_bp": 50}})
    able, coarse = Abilities(holds_back=True), Abilities(holds_back=True, step_bp=100)
    targets = [Weighing("able", able), Weighing("coarse", coarse), Weighing("silent", Abilities())]
    effects = Effects(None, targets)
    effects.follow(record)
    assert all(one.applied.acquire(timeout=10) for one in targets)
    effects.close()
    assert [one.told[0] for one in targets] == [("2", "1", 50), ("2", None, 0), ("2", None, 0)]


def test_a_holdback_is_looked_after_at_the_pace_of_its_lease(monkeypatch):
    """Asked once a minute a lease of 30 s lapsed, and the old champion answered nobody for half of each minute."""
    monkeypatch.setattr("stationkeeper.deploy.controller.effects._WATCH_S", 0.001)
    held = {"phase": RolloutPhase.PROBATION, "champion": "2", "canary": None, "weight_bp": 0}
    target = Weighing("leased", Abilities(holds_back=True))
    effects = Effects(None, (target,))
    effects.follow(RECORD.model_copy(update=held | {"controller": {"previous": "1", "holdback_bp": 50}}))
    assert all(target.applied.acquire(timeout=10) for _ in range(3))
    effects.close()
