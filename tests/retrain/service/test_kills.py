"""Kills and pauses spread over retrainings: one candidate each, no stray version or alias, no request lost.

Prints what was seen, without the limits of time of a test::

    export STATIONKEEPER_RELIABILITY_ROUNDS=200
    python -m pytest --timeout 0 -o faulthandler_timeout=0 -s tests/retrain/service/test_kills.py
"""

import multiprocessing
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest

from stationkeeper.retrain.core.reasons import RequestStage
from stationkeeper.retrain.training import process
from stationkeeper.retrain.training.train import main as train
from stationkeeper.streams.errors import Fatal, Retryable
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.settings import KafkaSettings
from tests.reliability.ledger import long_form, rounds
from tests.retrain.bank import Bank, a_request
from tests.retrain.service.test_stage import KILLS, World
from tests.waiting import until

# Disturbances of one retraining: more of them only begin the same steps again.
A_REQUEST = 10
# Turns of ten milliseconds after a stage was reached: a step takes up to some hundred of them, so that most are hit
# within. Turns of one would spend the processor that the steps need.
MOST_TURNS = 60
KAFKA = KafkaSettings(flush_interval=0, poll_timeout=10)

# Imported once for all trainings of the drill: a fresh interpreter takes seconds, and what it imports is not on trial.
SERVER = multiprocessing.get_context("forkserver")
LOADED = [
    *("tests.retrain.service.test_kills", "stationkeeper.retrain.training.training"),
    *("onnxruntime", "skl2onnx", "sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline"),
]


def forked(arguments: Sequence[str], environment: Mapping[str, str], log: str) -> None:
    """Train in a session of its own with the environment and the log that a training has."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    with Path(log).open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.exit(train([*arguments]))


class ForkedTraining:
    """What `TrainingProcess` asks of `subprocess.Popen`, forked from a server that has imported everything."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], stdout: BinaryIO, **_: object) -> None:
        # Without the parent's id: here that is the server, which lives as long as the tests do.
        self._process = SERVER.Process(target=forked, args=(command[-2:-1], dict(env), stdout.name), daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> None:
        # A training that was killed has ended: the bound is for a test that would otherwise hang.
        self._process.join(60)
        assert self._process.exitcode is not None


@pytest.fixture
def cheap_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    # Read by the server when it starts; its threads would not live in what is forked from it.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    SERVER.set_forkserver_preload(LOADED)
    instead = SimpleNamespace(Popen=ForkedTraining, DEVNULL=subprocess.DEVNULL, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr(process, "subprocess", instead)


def versions(world: World, request: str) -> list[str]:
    client = world.registry._connection.client("look")
    found = client.search_model_versions(f"name = 'bank' and tags.`stationkeeper.request` = '{request}'")
    return sorted(str(version.version) for version in found)


def disturb(world: World, loop: Loop, request: str, rng: random.Random, seen: Counter[str]) -> Loop:
    """Run to a random moment of a random stage, then kill the process, or let it sleep while another takes over."""
    stage = rng.choice(KILLS)
    world.run(
        loop,
        lambda: (
            world.stage_of(request) is not None and (world.stage_of(request) is stage or _behind(world, request, stage))
        ),
    )
    for _ in range(rng.randrange(MOST_TURNS)):
        loop.turn()
    seen[f"in {world.stage_of(request)}"] += 1
    if rng.random() < 0.5:
        seen["kills"] += 1
        return world.restart()
    # The old one is not ended: its step goes on in its thread, and what it flushes later must be refused.
    seen["pauses"] += 1
    asleep = loop
    world.loops.remove(asleep)
    awake = world.restart()
    world.loops.insert(0, asleep)
    awake.turn()
    # Awake again: whatever it wants to write, it is not the owner any more.
    with pytest.raises((Fatal, Retryable)):
        turn_for_ever(asleep)
    asleep.close()
    return awake


def _within(seen: Counter[str]) -> int:
    """Return how many disturbances came before their retraining had ended."""
    return seen["kills"] + seen["pauses"] - seen["in candidate"]


def turn_for_ever(loop: Loop) -> None:
    """Turn until it raises; ends by itself in a test that would otherwise hang."""
    for _ in range(10_000):
        loop.turn()


def _behind(world: World, request: str, stage: RequestStage) -> bool:
    now = world.stage_of(request)
    order: list[RequestStage] = list(KILLS)
    return now is not None and (now.final or (now in order and order.index(now) > order.index(stage)))


# Two hundred real trainings take longer than CI has: `test_stage` kills a retraining at each stage there, once.
@pytest.mark.slow
@pytest.mark.skipif(not long_form(), reason="takes minutes: STATIONKEEPER_RELIABILITY_ROUNDS says how many")
@pytest.mark.usefixtures("cheap_trainings")
def test_retrainings_that_are_killed_and_paused_give_one_candidate_each(bank: Bank, tmp_path: Path) -> None:
    rng, seen = random.Random(20_261_129), Counter[str]()
    world = World(bank, tmp_path, bank.settings, bank.registry, KAFKA)
    world.traffic()
    asked = 0
    try:
        loop = world.restart()
        while _within(seen) < rounds():
            request = f"req-k{asked}"
            asked += 1
            world.ask(a_request(bank.champion.version).model_copy(update={"id": request}).encode())
            for _ in range(min(A_REQUEST, rounds() - _within(seen))):
                loop = disturb(world, loop, request, rng, seen)
                # What comes behind its end disturbs another retraining.
                if world.stage_of(request) in _FINAL:
                    break
            world.run(loop, lambda request=request: world.stage_of(request) in _FINAL)  # type: ignore[misc]
            assert world.stage_of(request) is RequestStage.CANDIDATE, world.states()[request].detail
            # What a sleeper registered after its successor had cleaned is found at the next start.
            loop = world.restart()
            (candidate,) = [one for one in world.candidates() if one.request == request]
            world.run(loop, lambda request=request, c=candidate: versions(world, request) == [c.version])  # type: ignore[misc]
            named = until(lambda: world.registry.alias("bank", "challenger"), "an alias")
            assert named == candidate.version
        assert len(world.candidates()) == asked == len(world.states())
    finally:
        for one in world.loops:
            one.close()
        told = ", ".join(f"{count} {what}" for what, count in sorted(seen.items()))
        sys.stdout.write(f"\n{asked} retrainings, {told}: {len(world.candidates())} candidates\n")


_FINAL = frozenset(stage for stage in RequestStage if stage.final)
