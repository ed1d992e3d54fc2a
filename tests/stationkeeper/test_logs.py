"""Logs: a line is one JSON object, whoever else writes to the same standard error."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.logs import LoggingSettings, configure_logging


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


@contextmanager
def logging_to_pieces(**settings: str) -> Iterator[Pieces]:
    """Configure the log as a role does, onto a stream that keeps each write; what was configured before comes back."""
    before, stream = structlog.get_config(), Pieces()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        configure_logging(LoggingSettings.model_validate(settings))
        yield stream
    structlog.configure(**before)


def test_a_line_is_written_in_one_piece() -> None:
    with logging_to_pieces() as stream:
        structlog.get_logger().info(LogEvent.READY, role="tally")
    (line,) = stream.written
    assert line.endswith("\n")
    assert json.loads(line) | {"timestamp": ""} == {"event": "ready", "level": "info", "role": "tally", "timestamp": ""}


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_line_holds_the_password_of_an_address(form: str) -> None:
    with logging_to_pieces(format=form) as stream:
        structlog.get_logger().error(LogEvent.READY, detail="https://mlflow:hunter2@registry does not answer")
    assert "hunter2" not in "".join(stream.written)
    assert "https://***@registry" in "".join(stream.written)


@pytest.mark.parametrize(("level", "said"), [("info", 3), ("warning", 2), ("error", 1)])
def test_a_level_leaves_out_what_is_below_it(level: str, said: int) -> None:
    with logging_to_pieces(level=level) as stream:
        for word in ("info", "warning", "error"):
            getattr(structlog.get_logger(), word)(LogEvent.READY)
    assert len(stream.written) == said


def test_the_console_form_is_for_people_and_has_no_colours_in_a_file() -> None:
    with logging_to_pieces(format="console") as stream:
        structlog.get_logger().info(LogEvent.READY, role="tally")
    (line,) = stream.written
    assert "[info     ] ready" in line
    assert "role=tally" in line
    assert "\x1b" not in line
