"""A disk of its own that a test may fill and make read-only: a tmpfs, which only root can mount."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted directory of a few megabytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filling = path / "filling"

    def fill(self) -> None:
        """Leave no byte free."""
        with self._filling.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4_096))
            except OSError:
                return

    def free(self) -> None:
        """Give the room back."""
        self._filling.unlink()

    def read_only(self, *, on: bool) -> None:
        """Let nobody write, or let them again; what is open for writing keeps a disk from it."""
        subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.path)], check=True)


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mount one; the test is skipped where that is not allowed."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root with CAP_SYS_ADMIN")
    try:
        yield SmallDisk(path)
    finally:
        # Lazily: a child that is ending may still have a file open.
        subprocess.run(["umount", "-l", str(path)], check=True)
