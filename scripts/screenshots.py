"""Draw the status page's pages, light and dark, wide and narrow, as PNG files: ``python -m scripts.screenshots DIR``.

The pages are those of a role process in the middle of the fraud story (tests/stationkeeper/story.py), or with
``--url`` those of a running one; both are drawn by the Chromium of the machine.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from stationkeeper.web import WebServer, create_app
from tests.stationkeeper import story

PATHS = {
    "fleet": "/",
    "model": "/models/fraud",
    "unknown": "/models/churn",
    "subject": "/models/fraud/subjects/amount",
    "incident": f"/incidents/{story.INCIDENT}",
}


def draw(url: str, folder: Path, paths: dict[str, str]) -> list[Path]:
    """Write one PNG per page, colour scheme and width, and return them."""
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("chromium is not installed; .ci/run names the Debian package that holds it")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=sandbox)
        for dark in (False, True):
            for width in (1280, 375):
                page = browser.new_page(
                    viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
                )
                for name, path in paths.items():
                    page.goto(url + path)
                    file = folder / f"{name}-{'dark' if dark else 'light'}-{'wide' if width > 500 else 'narrow'}.png"
                    page.screenshot(path=str(file), full_page=True)
                    files.append(file)
                page.close()
        browser.close()
    return files


def main(arguments: list[str]) -> int:
    """Draw the story's pages, or the first page of a running process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", help="a running process; default: the fraud story")
    options = parser.parse_args(arguments)
    if options.url:
        files = draw(options.url, options.folder, {"fleet": "/"})
    else:
        server = WebServer(create_app(story.canary_moment(), strict=True))
        server.start()
        files = draw(server.url, options.folder, PATHS)
        server.stop()
    for file in files:
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
