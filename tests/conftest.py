"""What every test may ask for: an outside tool, and the profile of the property tests."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from stationkeeper.streams.broker import FoundBroker, find_broker
from stationkeeper.streams.errors import Fatal
from tests.secured import SecuredBroker, secured_broker

# A deadline would test the machine. People search with new examples each time, CI repeats its own.
settings.register_profile("person", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("ci", settings.get_profile("person"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "person")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the files that take minutes evenly into the first two thirds of the run.

    Begun last, one process would play a story while the others are idle; begun together, their roles would wait for
    each other's. Files stay whole and the tests of each in order.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    long = [own for own in files.values() if own[0].get_closest_marker("slow")]
    quick = [own for own in files.values() if not own[0].get_closest_marker("slow")]
    gap = max(1, 2 * len(quick) // (3 * max(1, len(long))))
    dealt = [own for place, one in enumerate(long) for own in (one, *quick[place * gap : (place + 1) * gap])]
    items[:] = [item for own in (*dealt, *quick[len(long) * gap :]) for item in own]


@pytest.fixture(autouse=True)
def logging_as_found() -> Iterator[None]:
    """Undo what a test sets about logging: one that runs a verb with a level would silence the lines of later tests."""
    before, disabled = structlog.get_config(), logging.root.manager.disable
    yield
    structlog.configure(**before)
    logging.disable(disabled)


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Return a function that finds a program: without it the test is skipped, and in CI it fails."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            message = f"{name} is not installed; .ci/run names the Debian package that holds it"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        return path

    return find


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FoundBroker]:
    """Yield a real Kafka for the whole session; without one the test is skipped, and in CI it fails."""
    try:
        with find_broker(tmp_path_factory.mktemp("kafka")) as broker:
            yield broker
    except Fatal as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """Yield a real Kafka of our own that asks who is there; without Java the test is skipped, and in CI it fails."""
    try:
        with secured_broker(tmp_path_factory.mktemp("secured")) as broker:
            yield broker
    except Fatal as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
