"""A disk that takes no files, or a store that is away, is no fault of the rows: a request waits, and says for what."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from stationkeeper.retrain.core.reasons import RequestStage
from stationkeeper.retrain.service.steps import Steps
from stationkeeper.retrain.snapshot import SnapshotStore
from stationkeeper.retrain.training.process import TrainingProcess
from stationkeeper.streams.errors import Retryable, StoreUnreachable
from stationkeeper.streams.loop import Loop
from tests.retrain.bank import a_request
from tests.retrain.service.test_stage import World, world
from tests.small_disk import small_disk

__all__ = ["world"]


def waits(loop: Loop) -> bool:
    return not loop.ready() and any("waits for the disk" in reason for reason in loop.reasons())


def test_no_step_of_a_request_fails_with_the_disk(world: World, monkeypatch: pytest.MonkeyPatch):
    failed: list[str] = []

    def once(owner: type, name: str, error: Exception) -> None:
        real = getattr(owner, name)

        def step(*arguments, **more):
            if name not in failed:
                failed.append(name)
                raise error
            return real(*arguments, **more)

        monkeypatch.setattr(owner, name, step)

    once(Steps, "survey", PermissionError(13, "Permission denied", str(world.directory / "work" / "x")))
    # A library in Rust raises errors of its own, without a number.
    once(Steps, "snapshot", ValueError("parquet: underlying IO error: No space left on device (os error 28)"))
    once(TrainingProcess, "start", OSError(28, "No space left on device"))
    once(Steps, "gate", OSError(30, "Read-only file system"))
    once(Steps, "register", OSError(122, "Disk quota exceeded"))
    world.traffic()
    world.ask(a_request(world.bank.champion.version).encode())
    loop, unready = world.restart(), set[int]()

    def finished() -> bool:
        if waits(loop):
            unready.add(len(failed))
        return world.finished()

    world.run(loop, finished)
    assert failed == ["survey", "snapshot", "start", "gate", "register"]
    assert unready == {1, 2, 3, 4, 5}
    state = world.states()["req-1"]
    assert (state.stage, state.attempts) == (RequestStage.CANDIDATE, 0), state.detail
    assert len(world.candidates()) == 1
    assert loop.ready()


@pytest.mark.parametrize(
    ("error", "event"),
    [(Retryable("no broker answers"), "broker_unreachable"), (StoreUnreachable("no MLflow"), "registry_unreachable")],
)
def test_what_a_request_waits_for_is_what_the_log_says(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, event: str
):
    asked: list[str] = []

    def survey(*_, **__):
        asked.append("survey")
        raise error

    monkeypatch.setattr(Steps, "survey", survey)
    world.traffic()
    world.ask(a_request(world.bank.champion.version).encode())
    with capture_logs() as logs:
        loop = world.restart()
        world.run(loop, lambda: bool(asked) and any(line["event"].endswith("unreachable") for line in logs))
    told = {line["event"] for line in logs if line["event"].endswith("unreachable")}
    assert told == {event}
    assert not world.states()["req-1"].stage.final


def test_a_request_outlives_a_disk_that_is_read_only_and_full(world: World):
    with small_disk(world.directory / "disk", 24) as disk:
        world.bank = replace(world.bank, snapshots=SnapshotStore(disk.path / "snapshots"))
        world.directory = disk.path
        disk.read_only(on=True)
        world.traffic()
        world.ask(a_request(world.bank.champion.version).encode())
        loop = world.restart()
        world.run(loop, lambda: waits(loop))
        disk.read_only(on=False)
        disk.fill()
        world.run(loop, lambda: any("No space left" in reason for reason in loop.reasons()))
        assert world.stage_of() is RequestStage.SNAPSHOT
        disk.free()
        world.run(loop, lambda: world.stage_of() is RequestStage.TRAINING)
        disk.fill()
        world.run(loop, lambda: waits(loop))
        assert (world.stage_of(), world.states()["req-1"].attempts) == (RequestStage.TRAINING, 0)
        disk.free()
        world.run(loop, world.finished)
        assert world.stage_of() is RequestStage.CANDIDATE, world.states()["req-1"].detail
        assert len(world.candidates()) == 1
        assert loop.ready()
