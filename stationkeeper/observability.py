"""What a process tells about itself and to whom: the blocks ``logging:`` and ``otlp:``."""

from typing import Annotated, Literal

from pydantic import Field

from stationkeeper.contracts.settings import Duration, Settings


class LoggingSettings(Settings):
    """From which level on a line is logged, and in which form: ``auto`` is ``console`` on a terminal, else ``json``.

    ``console`` without a terminal has no colours. An orderly start, each step of a rollout and each verdict are
    ``info``; what a role goes on after by itself is a ``warning``, what it cannot mend alone an ``error``.
    """

    # A quiet role logs a few lines an hour at info, and an incident without them has no history.
    level: Literal["info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
