"""What the README shows is true: its configuration loads, its events are read, its links lead somewhere."""

import json
import re
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
