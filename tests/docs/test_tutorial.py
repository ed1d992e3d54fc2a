"""The tutorial is true: its commands run as they stand, and lead a newcomer to the drift that was put there."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from scripts.tutorial import PAGE, commands, like, run, seen
from stationkeeper.streams.broker import FoundBroker


@pytest.mark.broker
def test_a_newcomer_sees_the_drift_of_an_own_model(kafka: FoundBroker, tmp_path: Path) -> None:
    newcomer, seconds = run(tmp_path, kafka=kafka.bootstrap)
    assert len(seconds) == 10
    printed = {line.split(" --")[0]: text for line, text in newcomer.outputs}
    explained = printed["stationkeeper explain loans"]
    (onset,) = set(re.findall(r"the change began (\S+);", explained))
    began = datetime.fromtimestamp((tmp_path / "loans" / "past.csv").stat().st_mtime).astimezone() - timedelta(hours=8)
    # What was planted is found: what moved, and when to within an hour of the eight.
    assert "data_drift of feature channel" in explained
    assert abs(datetime.fromisoformat(onset) - began) < timedelta(hours=1)
    # The table by hand gives the effect that was decided on.
    effects = re.findall(r"^  effect: ([\d.]+)% of", explained, re.MULTILINE)
    by_hand = re.findall(r"effect = .* = ([\d.]+)% of the rows", explained)
    assert effects
    assert effects == by_hand
    assert "<svg" in (tmp_path / "loans" / "loans.html").read_text()
    model = json.loads(next(text for line, text in newcomer.outputs if line.startswith("curl")))
    assert [incident["cause"] for incident in model["incidents"]] == ["joint"]


def test_the_commands_are_found_with_what_they_must_show() -> None:
    found = list(commands(PAGE.read_text(encoding="utf-8")))
    assert [command.step for command in found if command.how == "install"] == ["1. Install"] * 3
    (broker,) = [command for command in found if command.line.startswith("stationkeeper broker")]
    assert broker.how == "background until export STATIONKEEPER_KAFKA"
    assert broker.shown[-1] == "export STATIONKEEPER_KAFKA=127.0.0.1:9092"
    assert seen('"event": "ready", "roles"', 'x\n{"roles": [], "event": "ready"}')
    assert like("fell from 3.5% at 10:15") == like("fell from 12% at 9:00")
