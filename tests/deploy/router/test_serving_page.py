"""docs/serving.md: its requests are sent to a running router, its settings are read."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stationkeeper.deploy.router.refusals import HTTP_STATUS
from stationkeeper.deploy.settings import ServeSettings
from tests.deploy.serving import Served

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")
ASKED = re.findall(r"^\$ curl (.+)\n(.+)$", PAGE, re.MULTILINE)


def alike(shown: Any, answered: Any) -> bool:
    """Whether an answer has the shape and the words of the page; ids that the router makes differ each time."""
    if isinstance(shown, dict):
        return shown.keys() == answered.keys() and all(alike(shown[key], answered[key]) for key in shown)
    if isinstance(shown, list):
        return len(shown) == len(answered) and all(map(alike, shown, answered))
    if isinstance(shown, float):
        return bool(shown == pytest.approx(answered, abs=1e-6))
    return bool(shown == answered)


def test_each_request_is_answered_as_shown(serve: Callable[..., Served]) -> None:
    served = serve()
    assert len(ASKED) == 5
    for words, shown in ASKED:
        _, body, address = shlex.split(words)
        _, answered = served.ask(address.removeprefix("http://localhost:8080"), body.encode())
        wanted = json.loads(shown)
        if "event_id" in wanted:
            wanted["event_id"] = answered.get("event_id")
        assert alike(wanted, answered), (answered, shown)


def test_each_code_stands_beside_its_status() -> None:
    rows = re.findall(r"^\| (`[^|]+) \| (\d{3}) \|", PAGE, re.MULTILINE)
    told = {code: int(status) for codes, status in rows for code in re.findall(r"`(\w+)`", codes)}
    assert told == {reason.value: status for reason, status in HTTP_STATUS.items()}


def test_the_settings_are_those_there_are_at_their_defaults() -> None:
    (block,) = re.findall(r"```yaml\n(serve:.+?)```", PAGE, re.DOTALL)
    assert ServeSettings.model_validate(yaml.safe_load(block)["serve"]) == ServeSettings()
