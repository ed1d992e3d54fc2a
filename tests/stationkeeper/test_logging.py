"""Logs: a line is one JSON object, whoever else writes to the same standard error."""

import json
import sys

import pytest
import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.process.run import configure_logging


class Pieces:
    """A stream that keeps what each single write brought, as an unbuffered one hands it on."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)

    def flush(self) -> None:
        """Have nothing to flush."""

    def isatty(self) -> bool:
        return False


def test_a_line_is_written_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    before = structlog.get_config()
    stream = Pieces()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging()
    try:
        structlog.get_logger().info(LogEvent.READY, role="tally")
    finally:
        structlog.configure(**before)
    (line,) = stream.written
    assert line.endswith("\n")
    assert json.loads(line) | {"timestamp": ""} == {"event": "ready", "level": "info", "role": "tally", "timestamp": ""}


def test_no_line_holds_the_password_of_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    before = structlog.get_config()
    stream = Pieces()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging()
    try:
        structlog.get_logger().error(LogEvent.READY, detail="https://mlflow:hunter2@registry does not answer")
    finally:
        structlog.configure(**before)
    assert "hunter2" not in "".join(stream.written)
    assert "https://***@registry" in "".join(stream.written)
