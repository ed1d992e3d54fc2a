"""A broker of its own, which the tests may kill, and the ledger of the run."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker import LocalBroker
from streams.errors import Fatal, Retryable
from tests.reliability.bank import Bank
from tests.reliability.ledger import PAGE, ROUNDS_VARIABLE, Ledger


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """Yield a local broker that nobody else uses."""
    local = LocalBroker(tmp_path_factory.mktemp("kafka"))
    try:
        local.__enter__()
    except (Fatal, Retryable) as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    try:
        yield local
    finally:
        local.stop()


@pytest.fixture(scope="package")
def ledger() -> Iterator[Ledger]:
    """Yield the ledger and print it at the end."""
    found = Ledger()
    yield found
    sys.stdout.write("\n" + found.table() + "\n")


@pytest.fixture(scope="package")
def bank(broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """Yield a bank whose log grows from fault to fault, so that the last audit covers them all."""
    found = Bank(broker, tmp_path_factory.mktemp("bank"), seed=1)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="package", autouse=True)
def page(request: pytest.FixtureRequest, ledger: Ledger) -> Iterator[None]:
    """Write docs/reliability.md after a run of many rounds without a failure."""
    failed = request.session.testsfailed
    yield
    if ROUNDS_VARIABLE in os.environ and request.session.testsfailed == failed and len(ledger.rows) > 1:
        rounds = os.environ[ROUNDS_VARIABLE]
        Path(PAGE).write_text(ledger.page(f"make reliability ROUNDS={rounds}"))
