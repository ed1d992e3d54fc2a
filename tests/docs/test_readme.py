"""What the README shows is true: its configuration loads, its events are read, its links lead somewhere."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stationkeeper.config import Config, load
from stationkeeper.contracts.messages import LabelEvent, PredictionEvent

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_ten_line_configuration_loads():
    (block,) = blocks("yaml")
    assert len(block.splitlines()) <= 10
    config = Config.parse(yaml.safe_load(block))
    assert config.models["fraud"].retrain is not None


def test_the_events_are_events():
    (block,) = blocks("json")
    prediction, label = re.split(r"\n(?=\{)", block.strip())
    read = PredictionEvent.decode(prediction.encode())
    assert read.model_dump(exclude_unset=True).keys() == json.loads(prediction).keys()
    assert LabelEvent.decode(label.encode()).event_id == read.event_id


def test_the_first_look_prints_what_it_shows(tmp_path: Path) -> None:
    block = next(block for block in blocks("console") if "--compare" in block)
    lines = block.splitlines()
    history, backtest = (line[2:] for line in lines if "loans.py" in line or "--compare" in line)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-e", "-c", f"{history}\n{backtest}"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    shown = [line for line in lines if not line.startswith("$ ")]
    assert len(shown) >= 4
    assert [line for line in shown if line not in done.stdout + done.stderr] == []
    assert "<svg" in (tmp_path / "report.html").read_text()
    (page,) = [
        one
        for one in map(json.loads, (tmp_path / "verdicts.jsonl").read_text().splitlines())
        if one.get("level") == "page"
    ]
    assert f"`{page['reason']}`" in README
    # The customers change in the middle of the file's last week; a page before that would be a false one.
    assert page["row"] > 25_920


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_make_targets_named_in_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {
        target
        for page in ("README.md", "CONTRIBUTING.md")
        for target in re.findall(r"(?:^\$ |`)make ([a-z]+)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {"demo", "test", "lint"} <= named
    assert {target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()


def test_the_configuration_of_the_stack_loads():
    config = load(ROOT / "ops" / "stationkeeper.yaml", env={})
    assert config.http.host == "0.0.0.0"


def test_what_the_readme_quotes_is_on_the_page_that_it_names():
    rows = re.findall(r"^\|.*\| `([^`]+)` \| (.*) \| \[\w+\]\((docs/\w+\.md)\) \|$", README, re.MULTILINE)
    assert len(rows) >= 6
    for command, printed, page in rows:
        text = (ROOT / page).read_text(encoding="utf-8")
        quotes = [quote.replace("\\|", "|") for quote in re.findall(r'"([^"]+)"', printed)]
        assert quotes, command
        assert [quote for quote in quotes if quote not in text] == [], f"{page} no longer says so; mend the README"
