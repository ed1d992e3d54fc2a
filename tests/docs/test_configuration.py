"""The mappings of docs/configuration.md read the records beside them as it says, and the defaults it prints are so."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stationkeeper.check.sample import lines_of
from stationkeeper.config import Config, ModelConfig
from stationkeeper.contracts.times import parse_duration
from stationkeeper.events import EventReader, forms
from stationkeeper.events.settings import InputMapping

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(
    r"^```yaml\n(.*?)^```\n\n```json\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
)


def configured(block: dict[str, Any]) -> ModelConfig:
    return Config.parse({"models": {"fraud": block}}).models["fraud"]


@pytest.mark.parametrize(("mapping", "record", "line"), EXAMPLES)
def test_a_mapping_reads_the_record_beside_it_as_the_page_says(mapping: str, record: str, line: str) -> None:
    value = json.dumps(json.loads(record)).encode()
    found = []
    for form in forms([configured(yaml.safe_load(mapping))]).values():
        reading = EventReader(form).discover([value])
        found += [one for events in reading.events for one in lines_of(events)]
    assert line.strip() in found


def test_the_page_shows_examples_and_names_every_key_of_a_mapping() -> None:
    assert len(EXAMPLES) >= 6
    assert PAGE.count("```yaml") == len(EXAMPLES)
    assert [key for key in InputMapping.model_fields if f"| `{key}` |" not in PAGE] == []


def test_the_defaults_are_the_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| ", PAGE.partition("## What a model may say")[2], re.MULTILINE)
    assert len(rows) >= 8
    for key, shown in rows:
        default = ModelConfig.model_fields[key].default
        read = {int: parse_duration, float: float}.get(type(default), str)
        assert read(shown) == default, key
