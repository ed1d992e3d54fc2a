"""Draw the status page's pages, light and dark, wide and narrow, as PNG files: ``python -m scripts.screenshots [DIR]``.

The pages are those of a role process in the middle of the fraud story (tests/stationkeeper/story.py), or with
``--url`` those of a running one; both are drawn by the Chromium of the machine. Without DIR the figures of docs/ are
drawn again: pages of the monitor's own roles after they have watched the demo's fraud scenario, in memory.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
from playwright.sync_api import sync_playwright
from sklearn.ensemble import HistGradientBoostingClassifier

from stationkeeper.demo.card_fraud import FraudScenario
from stationkeeper.monitor import profile
from stationkeeper.monitor.settings import HOUR_MS
from stationkeeper.process.web import WebServer, create_app
from tests.monitor.rig import Rig, fraud
from tests.stationkeeper import story

# Transactions a minute: a third of the demo's, so that two days of them are watched in a minute or two.
PER_MINUTE = 20.0
# How long after the new payment method the pages are drawn: the page has come, and both sides of the change show.
AFTER_MS = 2 * HOUR_MS

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


def watched() -> tuple[list[story.Role], str]:
    """Let the monitor's roles watch the fraud scenario past its change; returns them and the incident's id."""
    scenario = FraudScenario(per_minute=PER_MINUTE)
    training = scenario.training()
    names = [name for name in training.columns if name not in {"time", "label"}]
    coded = {name: training[name].unique().sort().to_list() for name in scenario.categorical}
    model = HistGradientBoostingClassifier(random_state=0).fit(_matrix(training, names, coded), training["label"])

    def scored(rows: pl.DataFrame) -> pl.DataFrame:
        score = model.predict_proba(_matrix(rows, names, coded))[:, 1] if rows.height else np.zeros(0)
        return rows.with_columns(pl.Series("score", np.round(score, 6)))

    rig = Rig({"fraud": fraud()}, partitions=1)
    past = scored(training).to_pandas()
    made = profile(past, model="fraud", version="1", time="time", prediction="score", label="label", pane="1m")
    rig.put_reference(made)
    onset = scenario.onset_ms or scenario.start_ms
    for chunk in scenario.chunks():
        if chunk.until_ms > onset + AFTER_MS:
            break
        asked = [
            {
                "kind": "prediction",
                "event_id": row["event_id"],
                "time": row["time"],
                "model": "fraud",
                "version": "1",
                "features": {name: row[name] for name in names},
                "prediction": row["score"],
            }
            for row in scored(chunk.asks).to_dicts()
        ]
        told = [{"kind": "label", "model": "fraud", **row} for row in chunk.labels.to_dicts()]
        for topic, events in (("scores", asked), ("outcomes", told)):
            rig.send(topic, [json.dumps(event).encode() for event in events])
        rig.turn(2)
    statuses = {role: rig.stage(role).status() for role in ("tally", "join", "judge")}
    (watched_model,) = statuses["judge"]["models"]
    paged = next(one for one in watched_model["incidents"] if one["level"] == "page")
    return [story.Role(role, status) for role, status in statuses.items()], paged["id"]


def _matrix(rows: pl.DataFrame, names: list[str], coded: dict[str, list[str]]) -> np.ndarray:
    """Features as numbers; a category that training did not have is missing."""
    columns = []
    for name in names:
        column = rows[name]
        if name in coded:
            place = {value: float(at) for at, value in enumerate(coded[name])}
            columns.append(np.array([place.get(value, np.nan) for value in column.to_list()]))
        else:
            columns.append(column.cast(pl.Float64).to_numpy())
    return np.stack(columns, axis=1)


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
            files = draw(server.url, options.folder, story.PATHS, widths=(1280, 375), whole=True)
        else:
            server.stop()
            roles, incident = watched()
            server = WebServer(create_app(roles, strict=True))
            server.start()
            named = {"status-fleet": "/", "status-incident": f"/incidents/{incident}"}
            files = draw(server.url, FIGURES, named, widths=(1100,), whole=False)
        server.stop()
    for file in files:
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
