"""The story's statuses, a served role process and a browser, for the tests of what people see."""

import os
import shutil
from collections.abc import Iterator

import pytest

from stationkeeper.process.web import WebServer, create_app
from tests.stationkeeper import story


@pytest.fixture
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the product posts, which obeys a proxy, reaches the test's own receiver wherever the test runs."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The real browser; a machine without it skips, CI installs it."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="session")
def canary_url() -> Iterator[str]:
    """A role process in the middle of the fraud story."""
    server = WebServer(create_app(story.canary_moment(), strict=True))
    server.start()
    yield server.url
    server.stop()
