"""Run docs/tutorial.md as a newcomer would, command by command: ``python -m scripts.tutorial [--install]``.

The commands are taken from the page; only addresses are replaced by free ones. What a block shows below a command must
be in what the command prints. Times of all steps are printed; without ``--install`` the first step is left out and the
programs of this environment are used.
"""

import argparse
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"(?:^<!-- run: (?P<how>.+?) -->\n)?^```console\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
# A cold start of the broker and the monitor on a busy machine takes half of it; whoever waits longer waits for a fault.
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the page: its heading, its line, what must be seen, and how it is run."""

    step: str
    line: str
    shown: tuple[str, ...]
    how: str = ""


def commands(text: str) -> Iterator[Command]:
    """Yield the commands of a page in order."""
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        step = part.splitlines()[0]
        for block in BLOCK.finditer(part):
            lines = block["body"].splitlines()
            starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
            for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
                shown = tuple(line.strip() for line in lines[start + 1 : end] if line.strip())
                yield Command(step, lines[start][2:], shown, block["how"] or "")


@dataclass(slots=True)
class Newcomer:
    """Somebody who types the commands: a directory, an environment, terminals that keep running."""

    directory: Path
    environment: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    outputs: list[tuple[str, str]] = field(default_factory=list)

    def run(self, command: Command) -> str:
        """Run one command to its end, or to the words that say it is ready; returns what it printed.

        Raises ``RuntimeError`` with the output when it fails or prints something else than the page shows.
        """
        kind, _, words = command.how.partition(" until ") if "until" in command.how else (command.how, "", "")
        words = command.how.removeprefix("until ") if command.how.startswith("until ") else words
        deadline = time.monotonic() + PATIENCE_S
        if kind == "background":
            return self._background(command, words, deadline)
        while True:
            code, text = self._type(command.line)
            missing = [line for line in command.shown if like(line) not in like(text)]
            if code == 0 and not missing and words in text:
                self.outputs.append((command.line, text))
                return text
            if not words or time.monotonic() > deadline:
                raise RuntimeError(f"$ {command.line}\n{text}\nexit {code}; not seen: {missing or words}")
            time.sleep(0.5)

    def _type(self, line: str) -> tuple[int, str]:
        """Run a line in the shell that is kept open: its directory and variables outlive it."""
        script = f'{line}\ncode=$?\npwd > "$TUTORIAL_STATE/pwd"\nenv -0 > "$TUTORIAL_STATE/env"\nexit $code'
        with tempfile.TemporaryDirectory() as state:
            done = subprocess.run(
                ["bash", "-c", script],  # noqa: S607 - the shell of whoever runs this
                cwd=self.directory,
                env={**self.environment, "TUTORIAL_STATE": state},
                capture_output=True,
                text=True,
                check=False,
                timeout=600,
            )
            self.directory = Path((Path(state) / "pwd").read_text().strip())
            pairs = (Path(state) / "env").read_text().split("\0")
        kept = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        self.environment = {name: value for name, value in kept.items() if name != "TUTORIAL_STATE"}
        return done.returncode, done.stdout + done.stderr

    def _background(self, command: Command, words: str, deadline: float) -> str:
        log = self.directory / f".terminal-{len(self.running)}.log"
        with log.open("wb") as out:
            self.running.append(
                subprocess.Popen(
                    shlex.split(command.line),
                    cwd=self.directory,
                    env=self.environment,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        while time.monotonic() < deadline:
            text = log.read_text(encoding="utf-8", errors="replace")
            if seen(words, text) and all(like(line) in like(text) for line in command.shown):
                return text
            if self.running[-1].poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"$ {command.line}\n{log.read_text(errors='replace')}\nnot seen: {words}")

    def leave(self) -> None:
        """Press Ctrl-C in every terminal, the last opened first."""
        for process in reversed(self.running):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def seen(words: str, text: str) -> bool:
    """Return whether all of the words, parted by commas, are on one line."""
    return any(all(word.strip() in line for word in words.split(",")) for line in text.splitlines())


def like(text: str) -> str:
    """Return a text with every number replaced: the page shows one run, and times and counts differ."""
    return re.sub(r"\d[\d.,:]*", "#", text)


# What the page names and a run of it has elsewhere: the broker, the monitor's port, the checkout. The longest is first.
_NAMED = re.compile(r"127\.0\.0\.1:9092|9092|9101|'\.\[")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def run(directory: Path, *, install: bool = False, kafka: str | None = None) -> tuple[Newcomer, dict[str, float]]:
    """Run the page in a directory; returns what the newcomer saw and the seconds of each step.

    ``kafka`` is a broker that is there already (host:port): none is started.
    """
    (directory / "docs").symlink_to(ROOT / "docs")
    address, http = kafka or f"127.0.0.1:{free_port()}", free_port()
    ours = {"127.0.0.1:9092": address, "9092": address.rpartition(":")[2], "9101": str(http), "'.[": f"'{ROOT}["}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STATIONKEEPER")}
    environment |= {
        "STATIONKEEPER__HTTP__MONITOR": str(http),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    newcomer = Newcomer(directory, environment)
    seconds: dict[str, float] = {}
    try:
        for command in commands(PAGE.read_text(encoding="utf-8")):
            if (command.how == "install" and not install) or (
                kafka and command.line.startswith("stationkeeper broker")
            ):
                continue
            # At once: a free port may hold the digits of another one that the page names.
            line = _NAMED.sub(lambda found: ours[found[0]], command.line)
            began = time.monotonic()
            newcomer.run(Command(command.step, line, command.shown, command.how))
            seconds[command.step] = seconds.get(command.step, 0.0) + time.monotonic() - began
    finally:
        newcomer.leave()
    return newcomer, seconds


def main(arguments: list[str]) -> int:
    """Run the tutorial in a directory of its own and print the time of each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--install", action="store_true", help="also install into a fresh environment, as step 1 says")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tutorial-") as folder:
        _, seconds = run(Path(folder), install=options.install)
    for step, spent in seconds.items():
        print(f"{spent:6.1f} s  {step}")
    print(f"{sum(seconds.values()):6.1f} s  all steps; the rest of a quarter of an hour is for reading")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
