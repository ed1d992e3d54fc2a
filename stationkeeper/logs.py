"""How a process logs: one line an event, as JSON or for a terminal, with every credential hidden in both."""

import sys
from collections.abc import Mapping
from typing import Literal

import structlog

from stationkeeper.contracts.masking import masked
from stationkeeper.contracts.settings import Settings


class LoggingSettings(Settings):
    """From which level on a line is logged, and in which form: ``auto`` is ``console`` on a terminal, else ``json``.

    ``console`` without a terminal has no colours. An orderly start, each step of a rollout and each verdict are
    ``info``; what a role goes on after by itself is a ``warning``, what it cannot mend alone an ``error``.
    """

    # A quiet role logs a few lines an hour at info, and an incident without them has no history.
    level: Literal["info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


DEFAULTS = LoggingSettings()


def configure_logging(settings: LoggingSettings = DEFAULTS) -> None:
    """Send structured logs to standard error, from the level and in the form of the settings."""
    terminal = sys.stderr.isatty()
    console = terminal if settings.format == "auto" else settings.format == "console"
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=terminal) if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            # After the traceback is text and before anything is written: no line holds the password of an address.
            _mask_values,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        # A line in one piece: several roles may share one standard error, unbuffered in a container.
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _mask_values(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: _mask(value) for key, value in event.items()}


def _mask(value: object) -> object:
    """Return a field of a log line without credentials, whatever lists and maps it stands in."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {key: _mask(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_mask(inner) for inner in value]
    return value if isinstance(value, bool | int | float | None) else masked(str(value))
