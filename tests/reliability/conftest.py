"""Brokers of their own, which the tests may kill, banks on them, and the ledger of the run."""

import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from stationkeeper.streams.broker import LocalBroker
from stationkeeper.streams.errors import Fatal, Retryable
from tests.reliability.bank import Bank
from tests.reliability.drill import CLIENTS
from tests.reliability.ledger import Ledger, long_form
from tests.reliability.page import Kept, keep, table
from tests.reliability.proxy import Proxy

LEDGER = Ledger()
ACCESS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
"""A broker that keeps to access lists, and lets everybody do what none forbids."""

MakeBank = Callable[..., Bank]


@contextmanager
def started(local: LocalBroker) -> Iterator[LocalBroker]:
    """Start a broker; without the means to, the test is skipped, and in CI it fails."""
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
def proxy() -> Iterator[Proxy]:
    """Yield the proxy before the broker's second listener."""
    with Proxy() as found:
        yield found


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory, proxy: Proxy) -> Iterator[LocalBroker]:
    """Yield a local broker that nobody else uses; its second listener is reached through the proxy."""
    directory = tmp_path_factory.mktemp("kafka")
    with started(LocalBroker(directory, advertised=proxy.port, more=ACCESS)) as local:
        proxy.target = local.nodes[0].second_port
        yield local


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """Yield three brokers."""
    with started(LocalBroker(tmp_path_factory.mktemp("cluster"), nodes=3)) as local:
        yield local
        for node in local.nodes:
            # Three controllers that are asked to stop at once wait for each other.
            local.kill(node.id)


@pytest.fixture(scope="package")
def ledger() -> Iterator[Ledger]:
    """Yield the ledger and print it at the end."""
    yield LEDGER
    sys.stdout.write("\n" + table(list(map(Kept.of, LEDGER.rows))) + "\n")


@pytest.fixture(scope="module")
def bank(broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """Yield a bank whose log grows from fault to fault, so that the last audit of a file covers them all."""
    found = Bank(broker, tmp_path_factory.mktemp("bank"))
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    """Return the client of a test's workers."""
    return str(request.param)


@pytest.fixture(autouse=True)
def through(request: pytest.FixtureRequest, client: str, ledger: Ledger) -> None:
    """Let the rows and the banks that tests share know the client of this test."""
    ledger.client = client
    for shared in ("bank", "spread"):
        if shared in request.fixturenames:
            request.getfixturevalue(shared).client = client


@pytest.fixture
def make_bank(broker: LocalBroker, client: str, tmp_path: Path) -> Iterator[MakeBank]:
    """Yield a function that makes a bank of one test's own."""
    with ExitStack() as closing:

        def make(**options: Any) -> Bank:
            found = Bank(broker, tmp_path, client=client, **options)
            closing.callback(found.close)
            return found

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Mark the row of a test that failed: the page shows it."""
    report = yield
    if report.when == "call" or (report.when == "setup" and not report.passed):
        LEDGER.end()
    if report.failed:
        LEDGER.failed(item.name.partition("[")[0])
    return report


@pytest.fixture(scope="package", autouse=True)
def page(request: pytest.FixtureRequest, ledger: Ledger) -> Iterator[None]:
    """Keep the rows of ``make reliability`` and write docs/reliability.md: all of it, or the rows that were run."""
    yield
    chosen = request.config.option.keyword or any("::" in name or ".py" in name for name in request.config.args)
    rows = ledger.rows[: ledger.whole]
    if long_form() and rows:
        keep(rows, whole=not chosen and ledger.ended == len(request.session.items))
