"""SIGHUP: a role goes on with changed models and budgets, as the same process; what is wrong changes nothing.

A changed model changes every state that is built on it, so the role writes what it has absorbed and begins again from
its log, which a start does anyway: no second way to the same state that could differ from the first.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkstemp
from types import FrameType
from typing import Final

import structlog
from pydantic import BaseModel

from stationkeeper.config import Config, ConfigError, load, text_of
from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.process.supervisor import PARENT
from stationkeeper.streams.ports import Stage

log = structlog.get_logger()

# The descriptor from which a role that begins again reads the configuration that was checked for it.
_CHECKED: Final = "STATIONKEEPER_CHECKED"


def fixed_changes(running: Config, wanted: Config) -> list[str]:
    """Return the keys that differ and hold only from a start of the process: all but ``models``."""
    found: list[str] = []
    for name in Config.model_fields:
        old, new = getattr(running, name), getattr(wanted, name)
        if name == "models" or old == new:
            continue
        if isinstance(old, BaseModel) and isinstance(new, BaseModel):
            inner = type(old).model_fields
            found += [f"{name}.{key}" for key in inner if getattr(old, key) != getattr(new, key)]
        else:
            found.append(name)
    return found


def on_sighup(handle: Callable[[int, FrameType | None], object]) -> None:
    """Call ``handle`` at SIGHUP, also at one that waited blocked since the start, unless a terminal sends it.

    A terminal that closes ends what runs in it.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        signal.signal(signal.SIGHUP, handle)
    # Only now: the default action ends the process.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])


def hand_over(text: str) -> None:
    """Leave a text to the process that takes the place of this one, in a file without a name: it may hold passwords."""
    if sys.platform == "linux":
        # In memory, for the disks of a container may be read-only.
        held = os.memfd_create("checked")
    else:
        held, name = mkstemp()
        Path(name).unlink()
    with os.fdopen(os.dup(held), "wb") as file:
        file.write(text.encode())
    os.set_inheritable(held, True)  # noqa: FBT003 - os takes it by position alone
    os.environ[_CHECKED] = str(held)


def handed_over() -> str | None:
    """Return, once, what `hand_over` left to this process; None where it was started by somebody else."""
    held = os.environ.pop(_CHECKED, None)
    if held is None:
        return None
    with os.fdopen(int(held), "rb") as file:
        file.seek(0)
        return file.read().decode()


class Reload:
    """What SIGHUP asks of a role whose configuration is the file ``path`` and that runs by ``running``.

    ``stages`` builds the role of a configuration without asking a broker or a registry: what it raises is refused.
    """

    def __init__(self, path: Path | None, running: Config, stages: Callable[[Config], Sequence[Stage]]) -> None:
        self._path, self._running, self._stages = path, running, stages
        # The role takes it out of its environment when it begins to watch its parent.
        self._parent = os.environ.get(PARENT)
        self._asked = False
        self._checked: str | None = None
        self.accepted = False

    def listen(self) -> None:
        """Take SIGHUP as the wish to reload."""
        on_sighup(self._ask)

    def due(self) -> bool:
        """Read the file again where that was asked for; return whether the role must begin again with it."""
        if not self._asked:
            return False
        self._asked = False
        try:
            wanted, text = self._wanted()
        except ConfigError as error:
            log.error(LogEvent.CONFIG_REFUSED, reason=f"{error}; the role goes on as before")
            return False
        old, new = self._running.models, wanted.models
        # What was refused is told no more once it is right, or gone.
        refused = {one.name for one in self._running.refused}
        changed = sorted(refused | {name for name in {*old, *new} if old.get(name) != new.get(name)})
        log.info(LogEvent.CONFIG_RELOADED, changed=changed)
        self.accepted, self._checked = bool(changed), text
        return self.accepted

    def _wanted(self) -> tuple[Config, str | None]:
        """Return the configuration of the file, and its text.

        Raises ``ConfigError`` where this role could not begin with it.
        """
        text = None if self._path is None else text_of(self._path)
        wanted = load(self._path, held=text)
        if fixed := fixed_changes(self._running, wanted):
            raise ConfigError(f"{', '.join(fixed)}: holds from a start only; restart the role, or take it back")
        if not wanted.models:
            raise ConfigError("models: is empty")
        try:
            built = self._stages(wanted)
        except Exception as error:
            # Of any kind: it may come out of an extension, and each would end the role that begins again with it.
            raise ConfigError(str(error) or repr(error)) from error
        for stage in built:
            stage.close()
        return wanted, text

    def begin_again(self, ended: threading.Event) -> None:
        """Replace this process by one with the same arguments and process id; return where it was told to end.

        The configuration is handed to it as it was checked.
        """
        # What comes from here on waits for the process that follows, which would otherwise end by a SIGHUP that comes
        # before it listens, or go on although a SIGTERM came to the one before.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
        if ended.is_set():
            return
        if self._parent is not None:
            os.environ[PARENT] = self._parent
        # The file may have changed since, into what nobody checked.
        if self._checked is not None:
            hand_over(self._checked)
        # Asked again meanwhile: the process that follows looks at the file then. By this thread, as those of numpy hold
        # nothing back and would take it.
        if self._asked:
            signal.raise_signal(signal.SIGHUP)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line, no shell

    def _ask(self, _number: int, _frame: object) -> None:
        self._asked = True
