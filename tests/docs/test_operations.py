"""What the guides for operators name exists: commands, files, metrics, headings."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from contracts.metrics import BY_NAME
from stationkeeper.cli import app

ROOT = Path(__file__).resolve().parents[2]
GUIDES = ("docs/operations.md", "docs/runbooks.md", "docs/status-api.md")
COMMAND = re.compile(r"`stationkeeper ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)((?: [^`]*)?)`")


def commands() -> list[tuple[str, str, str]]:
    return sorted({(guide, m[1], m[2]) for guide in GUIDES for m in COMMAND.finditer((ROOT / guide).read_text())})


@pytest.mark.parametrize(("guide", "verbs", "rest"), commands())
def test_a_command_in_a_guide_exists_with_its_options(guide: str, verbs: str, rest: str) -> None:
    found: Any = typer.main.get_command(app)
    for verb in verbs.split():
        if not hasattr(found, "commands"):
            break
        inner = found.commands.get(verb)
        assert inner is not None, f"{guide} names `stationkeeper {verbs}`; known: {', '.join(found.commands)}"
        found = inner
    options = {option for parameter in found.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", rest)) <= options


@pytest.mark.parametrize("guide", GUIDES)
def test_a_metric_in_a_guide_is_exported_and_a_path_exists(guide: str) -> None:
    text = (ROOT / guide).read_text()
    named = set(re.findall(r"(?<![\w:])stationkeeper_[a-z_]+[a-z]", text))
    assert named <= set(BY_NAME) | {"stationkeeper_records"}
    for path in re.findall(r"`((?:ops|tests|scripts|docs|contracts)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([^)#h][^)#]*)", text):
        assert (ROOT / guide).parent.joinpath(target).exists(), target
