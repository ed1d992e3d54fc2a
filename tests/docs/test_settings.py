"""The configuration that a page shows is read as the page says: the defaults it prints are the defaults."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from stationkeeper.config import Config
from stationkeeper.deploy.settings import RolloutSettings
from stationkeeper.retrain.settings import RetrainSettings

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str) -> list[Any]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


@pytest.mark.parametrize(
    ("page", "key", "kind"),
    [("docs/retraining.md", "retrain", RetrainSettings), ("docs/canary.md", "rollout", RolloutSettings)],
)
def test_printed_defaults_are_the_defaults(page: str, key: str, kind: type[BaseModel]) -> None:
    (printed,) = [block[key] for block in blocks(page) if block.keys() == {key}]
    assert kind.model_validate(printed) == kind()


@pytest.mark.parametrize("page", ["README.md", "docs/retraining.md"])
def test_whole_configurations_load(page: str) -> None:
    whole = [block for block in blocks(page) if "models" in block]
    assert whole
    for block in whole:
        assert Config.parse(block).models
