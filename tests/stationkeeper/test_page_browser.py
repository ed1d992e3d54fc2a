"""The status page in a real browser: light and dark, wide and narrow, by keyboard, without network, without script."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from stationkeeper.process.web import WebServer, create_app
from stationkeeper.report.gather import from_log, write
from stationkeeper.streams.memory.ports import MemoryReader
from tests.stationkeeper import story
from tests.stationkeeper.report.test_gather import TOPICS, log

pytestmark = pytest.mark.browser

LOOKS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 375)]
PATHS = story.PATHS | {"missing": "/models/nobody"}
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.fixture(scope="module")
def browser(tool: Callable[[str], str]) -> Iterator[Browser]:
    # Chromium's sandbox needs a user of its own; a container's root has none.
    sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tool("chromium"), args=sandbox)
        yield browser
        browser.close()


def opened(browser: Browser, url: str, scheme: str = "light", width: int = 1280, *, script: bool = True) -> Page:
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        bypass_csp=True,
        java_script_enabled=script,
    )
    page = context.new_page()
    page.goto(url)
    return page


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_no_accessibility_rule_of_level_a_or_aa_is_broken(
    browser: Browser, canary_url: str, path: str, scheme: str, width: int
) -> None:
    page = opened(browser, canary_url + path, scheme, width)
    found = Axe().run(page, options={"runOnly": LEVELS}).response
    assert found["passes"], "axe looked at nothing"
    assert [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []
    page.context.close()


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_the_report_breaks_no_rule_either_and_fits_a_phone(
    browser: Browser, tmp_path: Path, scheme: str, width: int
) -> None:
    path = tmp_path / "report.html"
    write(from_log(MemoryReader(log()), TOPICS, "fraud"), path)
    page = opened(browser, path.as_uri(), scheme, width, script=True)
    assert [v["id"] for v in Axe().run(page, options={"runOnly": LEVELS}).response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_phone_never_scrolls_the_page_sideways(browser: Browser, canary_url: str, path: str) -> None:
    page = opened(browser, canary_url + path, width=375)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.context.close()


def test_dark_is_dark_and_light_is_light(browser: Browser, canary_url: str) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        page = opened(browser, canary_url, scheme)
        shade = page.evaluate("getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)")
        shades[scheme] = sum(shade)
        page.context.close()
    assert shades["dark"] < 150
    assert shades["light"] > 600


def test_unknown_looks_different_from_steady_beyond_colour(browser: Browser, canary_url: str) -> None:
    page = opened(browser, canary_url)
    unknown, steady = page.locator(".models .chip.unknown").first, page.locator(".models .chip.steady").first
    assert (unknown.inner_text().split(), steady.inner_text().split()) == (["?", "unknown"], ["✓", "steady"])
    border = "e => getComputedStyle(e).borderTopStyle"
    assert (unknown.evaluate(border), steady.evaluate(border)) == ("dashed", "solid")
    page.context.close()


def test_the_keyboard_reaches_the_incident_and_its_details(browser: Browser, canary_url: str) -> None:
    page = opened(browser, canary_url)
    wanted = page.get_by_role("link", name="The inputs changed").first
    for _ in range(30):
        page.keyboard.press("Tab")
        if wanted.evaluate("e => e === document.activeElement"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/incidents/{story.INCIDENT}")
    assert "payment_method" in page.locator("h1").inner_text()
    page.context.close()


def test_the_loop_lights_exactly_one_stage(browser: Browser, canary_url: str) -> None:
    page = opened(browser, f"{canary_url}/models/fraud")
    lit = page.locator("[aria-current=step]")
    assert lit.count() == 1
    assert "Canary" in lit.inner_text()
    page.context.close()


def test_nothing_is_asked_from_another_host_and_nothing_fails(browser: Browser, canary_url: str) -> None:
    page = browser.new_page()
    asked, errors = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    for path in ("/", "/models/fraud", f"/incidents/{story.INCIDENT}"):
        page.goto(canary_url + path, wait_until="networkidle")
    assert [url for url in asked if not url.startswith((canary_url, "data:"))] == []
    assert errors == []
    page.close()


def test_without_script_everything_is_there(browser: Browser, canary_url: str) -> None:
    page = opened(browser, f"{canary_url}/models/fraud", script=False)
    assert page.locator("figure svg").count() > 5
    assert not page.get_by_role("button", name="Pause").is_visible()
    page.context.close()


def test_a_change_appears_by_itself_is_announced_and_can_be_paused(browser: Browser) -> None:
    role = story.healthy_moment()[1]
    server = WebServer(create_app([role], strict=True))
    server.start()
    try:
        context = browser.new_context()
        page = context.new_page()
        page.clock.install()
        page.goto(server.url)
        assert page.locator("h1").inner_text() == "fraud is steady."
        page.get_by_role("button", name="Pause").click()
        role._status = story.judge(story.model(story.SEEN, drifting=True))
        page.clock.fast_forward(20_000)
        assert page.locator("h1").inner_text() == "fraud is steady."
        page.get_by_role("button", name="Pause").click()
        page.clock.fast_forward(20_000)
        page.locator("h1", has_text="fraud is drifting.").wait_for()
        assert page.locator("#announce").inner_text() == "fraud is drifting."
        context.close()
    finally:
        server.stop()
