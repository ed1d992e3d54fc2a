"""Who started this process: when that one dies, however it dies, so does this one, and what it started."""

import os
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Final

# How long a process may outlive its parent, chosen: two of them must not hold one port or fill one directory, and a
# look costs nothing.
PARENT_CHECK_S: Final = 0.5
# sysexits.h calls 71 an error of the operating system; nobody is left to read it but a log.
EXIT_ORPHANED: Final = 71


def end_with(parent: int, end: Callable[[], object] = lambda: None, patience_s: float = 0.0) -> None:
    """Watch the process ``parent``: when it is gone call ``end``, and leave at once ``patience_s`` later."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        end()
        time.sleep(patience_s)
        os._exit(EXIT_ORPHANED)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def guard(process: int) -> "subprocess.Popen[bytes]":
    """Start a guard that ends ``process`` when this one is gone; for programs of others, which watch nobody.

    The guard waits for the end of a pipe that only this process holds. Kill the guard before the process is collected.
    """
    script = 'read -r _; kill -TERM "$1"; kill -CONT "$1"'
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "guard", str(process)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
