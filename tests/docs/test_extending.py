"""The examples of docs/extending.md run, each through the suite that it shows."""

import re
from pathlib import Path

import pytest

from stationkeeper import extending
from stationkeeper.contracts.plugins import PluginGroup

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.findall(r"^class (\w+)", block, re.MULTILINE)[0])
def test_an_example_conforms(block: str):
    exec(compile(block, "docs/extending.md", "exec"), {"__name__": "example"})


def test_an_example_that_breaks_a_promise_fails():
    broken = BLOCKS[0].replace("rollout.epoch >= known.epoch", "True")
    assert broken != BLOCKS[0]
    with pytest.raises(extending.NotConforming, match="older epoch"):
        exec(compile(broken, "docs/extending.md", "exec"), {"__name__": "example"})


def test_every_kind_of_extension_is_on_the_page():
    assert all(f"`{group.value}`" in PAGE for group in PluginGroup)
    assert all(name in PAGE for name in extending.__all__ if name.startswith("check_"))
