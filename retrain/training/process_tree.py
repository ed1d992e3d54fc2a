"""Every process of one training, however it forked: found, measured and ended together.

A control group (v2) tells them exactly, where this process may make one. Elsewhere three marks do together: the
session that the training leads, a variable of the environment that children inherit, and descent, which stays whole
because the training takes in orphans below it (``take_in_orphans``). What escapes all three without a control group is
a process that left the session, wiped its environment and lost its parent after the training itself had crashed.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARKER: Final = "STATIONKEEPER_TRAINING"
"""The variable that marks the processes of a training; its value is the training's own."""

SWEEPS: Final = 20
"""How often the processes are looked for again while some still appear, chosen: a program that forks as it is killed is
gone after two or three; without a bound a fork bomb would hold the role."""

# prctl(2): the process becomes the parent of its orphaned descendants.
_PR_SET_CHILD_SUBREAPER: Final = 36
_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """A control group (v2) that holds a training and all that it starts."""

    path: Path

    @classmethod
    def make(cls, name: str) -> "ControlGroup | None":
        """Make a group below our own; None where the kernel has none of version 2 or we may not write there."""
        own = _own_group()
        if own is None:
            return None
        try:
            (own / name).mkdir()
        except OSError:
            return None
        return cls(own / name)

    def add(self, pid: int) -> bool:
        """Put a process into the group; says whether it is in it."""
        try:
            (self.path / "cgroup.procs").write_text(str(pid))
        except OSError:
            return False
        return True

    def members(self) -> set[int]:
        """Return the processes in the group."""
        try:
            return {int(line) for line in (self.path / "cgroup.procs").read_text().split()}
        except OSError:
            return set()

    def end(self) -> None:
        """Kill all that is in the group; the kernel leaves none out, even one that forks meanwhile."""
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")

    def remove(self) -> None:
        """Remove the group; one whose last process is just ending stays, empty, and holds nothing."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """The processes of the training that ``leader`` leads and ``marker`` marks."""

    leader: int
    marker: str
    group: ControlGroup | None = None

    def members(self) -> set[int]:
        """Return the living processes, the leader too; O(processes of the machine). Empty without ``/proc``."""
        found = self.group.members() if self.group is not None else set()
        parents: dict[int, int] = {}
        for pid, (parent, session) in _processes().items():
            parents[pid] = parent
            if self.leader in (pid, session) or _is_marked(pid, self.marker):
                found.add(pid)
        while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
            found |= more
        return found

    def resident_bytes(self) -> int:
        """Return the memory that all of them hold, pages they share counted once: anonymous and shared, not files."""
        return sum(_resident(pid) for pid in self.members())

    def end(self, spare: Collection[int] = ()) -> None:
        """Kill all but ``spare`` at once, and those that appear meanwhile."""
        if self.group is not None and not spare:
            self.group.end()
        for _ in range(SWEEPS):
            found = self.members().difference(spare)
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if not found:
                break
        if self.leader not in spare:
            # Where there is no /proc, the group of the leader is all that can be told.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.leader, signal.SIGKILL)


def take_in_orphans() -> None:
    """Make this process the parent of descendants that lose theirs; without effect where the kernel cannot."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _own_group() -> Path | None:
    """Return the directory of the v2 control group that this process is in."""
    try:
        groups = (_PROC / "self" / "cgroup").read_text().splitlines()
        mounts = (_PROC / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return None
    # proc(5): "0::/path" is the one of version 2; a mount's fifth field is where, its type follows the lone hyphen.
    inside = next((line[3:] for line in groups if line.startswith("0::")), None)
    where = next((line.split()[4] for line in mounts if " - cgroup2 " in line), None)
    return Path(where) / inside.strip("/") if inside is not None and where is not None else None


def _processes() -> dict[int, tuple[int, int]]:
    """Return parent and session of each living process of the machine."""
    found = {}
    for path in _PROC.glob("[0-9]*/stat"):
        try:
            # The second field is the program's name in brackets, which may hold blanks and brackets itself.
            state, parent, _, session, *_ = path.read_text(errors="replace").rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        # One that has ended and waits to be collected holds nothing and cannot be killed.
        if state != "Z":
            found[int(path.parent.name)] = (int(parent), int(session))
    return found


def _is_marked(pid: int, marker: str) -> bool:
    try:
        content = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return f"{MARKER}={marker}".encode() in content.split(b"\0")


def _resident(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    # Pss shares a page among those who map it; files that are mapped can be dropped by the kernel and do not count.
    held = (line.split()[1] for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return 1024 * sum(int(kilobytes) for kilobytes in held)
