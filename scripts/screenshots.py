"""Draw the status page's pages, light and dark, wide and narrow, as PNG files: ``python -m scripts.screenshots [DIR]``.

The pages are those of a role process in the middle of the fraud story (tests/stationkeeper/story.py), or with
``--url`` those of a running one; both are drawn by the Chromium of the machine.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from stationkeeper.process.web import WebServer, create_app
from tests.stationkeeper import story

PATHS = {
    "fleet": "/",
    "model": "/models/fraud",
    "unknown": "/models/churn",
    "subject": "/models/fraud/subjects/amount",
    "incident": f"/incidents/{story.INCIDENT}",
}


SCRIPTED = {"fleet": PATHS["fleet"], "incident": PATHS["incident"]}
"""The two that docs/operations.md shows."""

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "figures"


def draw(url: str, folder: Path, paths: dict[str, str], *, widths: tuple[int, ...], whole: bool) -> list[Path]:
    """Write one PNG per page, colour scheme and width, and return them; ``whole`` takes what lies below, too."""
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("chromium is not installed; .ci/run names the Debian package that holds it")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=sandbox)
        for dark in (False, True):
            for width in widths:
                page = browser.new_page(
                    viewport={"width": width, "height": 1_000}, color_scheme="dark" if dark else "light"
                )
                for name, path in paths.items():
                    page.goto(url + path)
                    kind = "" if len(widths) == 1 else "-wide" if width > 500 else "-narrow"
                    file = folder / f"{name}-{'dark' if dark else 'light'}{kind}.png"
                    page.screenshot(path=str(file), full_page=whole)
                    files.append(file)
                page.close()
        browser.close()
    return files


def main(arguments: list[str]) -> int:
    """Draw the story's pages, the first page of a running process, or the figures of the documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", type=Path, nargs="?", help="where to; without it the figures of docs/ are drawn again"
    )
    parser.add_argument("--url", help="a running process; default: the fraud story")
    options = parser.parse_args(arguments)
    if options.url and options.folder:
        files = draw(options.url, options.folder, {"fleet": "/"}, widths=(1280, 375), whole=True)
    else:
        server = WebServer(create_app(story.canary_moment(), strict=True))
        server.start()
        if options.folder:
            files = draw(server.url, options.folder, PATHS, widths=(1280, 375), whole=True)
        else:
            named = {f"status-{name}": path for name, path in SCRIPTED.items()}
            files = draw(server.url, FIGURES, named, widths=(1100,), whole=False)
        server.stop()
    for file in files:
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
