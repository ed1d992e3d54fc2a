"""Every command that a page shows is run here, parsed by the real command line, or listed with the reason why not."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks.__main__ import programs
from stationkeeper.cli import USAGE_ERROR, app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(console|bash|sh|shell)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIRST = "stationkeeper|make|python|python3|promtool|amtool|docker|curl|pip|uv|helm|kubectl|systemctl|systemd-analyze"
SPAN = re.compile(rf"(?<!`)`((?:{FIRST}) [^`\n]+)`(?!`)")
SUFFIXES = {".yaml", ".yml", ".csv", ".json", ".parquet", ".html"}

# Programs of others that a page shows: what keeps each line true.
ELSEWHERE = {
    "promtool": "run with these files by tests/ops/test_rules.py",
    "amtool": "run with these files by tests/ops/test_monitoring.py",
    "docker": "the stack needs Docker, which continuous integration has not; tests/ops/test_compose.py reads its files",
    "pip": "run by `python -m scripts.tutorial --install`",
    "uv": "installs from the network; `python -m scripts.tutorial --install` runs the same with pip",
    "curl": "run by the tutorial",
    "dvc": "the same subcommands are run by tests/retrain/snapshot/test_dvc.py",
    "helm": "its chart is rendered where Helm is installed",
    "kubectl": "needs a cluster",
    "systemctl": "needs systemd",
    "systemd-analyze": "needs systemd",
    "export": "run by the tutorial",
    "cd": "run by the tutorial",
    "mkdir": "run by the tutorial",
    "head": "run by the tutorial",
    ".": "run by `python -m scripts.tutorial --install`",
    "git": "fetches this repository",
}
# Answers that need neither broker nor network: these are run as they stand.
CHEAP = {
    "stationkeeper --help",
    "stationkeeper --version",
    "stationkeeper init --help",
    "stationkeeper --show-completion",
    "python -m scripts.docs.publish",
}

NAMED_SHELL = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
"""Completion of the shell that is named, whatever shell started the tests: under `sh` there is none."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A command and the page that shows it."""

    page: str
    line: str

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def shown() -> list[Shown]:
    found: set[Shown] = set()
    for page in PAGES:
        text, name = page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))
        for block in BLOCK.finditer(text):
            lines = [line[2:] if block[1] == "console" else line for line in block[2].splitlines()]
            prompts = [line.startswith("$ ") for line in block[2].splitlines()]
            taken = [x for x, prompt in zip(lines, prompts, strict=True) if prompt or block[1] != "console"]
            found |= {Shown(name, line) for line in taken if line.strip() and not line.startswith("#")}
        found |= {Shown(name, match[1]) for match in SPAN.finditer(BLOCK.sub("", text))}
    return sorted(found, key=str)


def words_of(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    stops = [words.index(mark) for mark in ("|", "&&", ">", ";") if mark in words]
    return words[: min(stops, default=len(words))]


def parse(words: list[str]) -> None:
    """Parse a command line to its end by the real commands; raises the usage error that a person would see."""
    command: Any = typer.main.get_command(app)
    name = "stationkeeper"
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in command.commands, f"{name!r} is none of {', '.join(command.commands)}"
        command = command.commands[name]
    if rest and rest[0] in {"--help", "--version", "--show-completion", "--install-completion"}:
        return
    if not rest and (hasattr(command, "commands") or any(p.required for p in command.params)):
        return  # a verb that is spoken of, without what it needs
    # A placeholder (FILE, MODEL, ROWS) stands for a name, a number and a file that is there.
    command.make_context(name, ["7" if re.fullmatch(r"[A-Z]+|…", word) else word for word in rest])


@pytest.mark.parametrize("command", shown(), ids=str)
def test_a_shown_command_exists(command: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").touch()
    words = words_of(command.line)
    for word in words:
        path = Path(word)
        if path.suffix in SUFFIXES and not path.is_absolute() and ".." not in word and "*" not in word:
            (tmp_path / path.parent).mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
    first = words[0]
    if first == "stationkeeper":
        try:
            parse(words[1:])
        except USAGE_ERROR as error:
            pytest.fail(f"{command}: {error.format_message()}")
    elif first == "make":
        target = words[1]
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"{command}: no such target"
        if target == "bench" and (named := [w.removeprefix("ARGS=") for w in words if w.startswith("ARGS=")]):
            name = named[0].split()[0]
            assert name in programs() or name.isupper(), command
    elif first in {"python", "python3"}:
        if words[1] == "-m" and words[2] == "benchmarks":
            assert len(words) == 3 or words[3] in programs(), command
        elif words[1] == "-m":
            assert importlib.util.find_spec(words[2]) is not None, command
        else:
            assert (ROOT / words[1].removeprefix("../")).exists(), command
    else:
        assert first in ELSEWHERE, f"{command}: run it in a test, or say in this file why not"


def test_pages_show_commands_and_the_cheap_ones_are_run() -> None:
    lines = {command.line.split("  #")[0].strip() for command in shown()}
    assert len(lines) > 50
    for line in CHEAP & lines:
        words = shlex.split(line)
        program = [sys.executable, "-m", "stationkeeper"] if words[0] == "stationkeeper" else [sys.executable]
        done = subprocess.run(
            [*program, *words[1:], *(["bash"] if line.endswith("completion") else [])],
            cwd=ROOT,
            env={**os.environ, **NAMED_SHELL},
            check=False,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, bool(done.stdout) or "publish" in line) == (0, True), done.stderr


def test_a_wrong_command_is_noticed() -> None:
    with pytest.raises(AssertionError, match="'rollback' is none of"):
        parse(["deployments", "rollback", "fraud"])
    with pytest.raises(USAGE_ERROR):
        parse(["report", "--modell", "fraud"])
    with pytest.raises(AssertionError, match="'shout' is none of"):
        parse(["shout"])


def leaves(command: Any, name: str = "") -> dict[str, Any]:
    """Every verb by its whole name."""
    if not hasattr(command, "commands"):
        return {name.strip(): command}
    found: dict[str, Any] = {name.strip(): command} if command.invoke_without_command else {}
    for inner, one in command.commands.items():
        found |= leaves(one, f"{name} {inner}")
    return found


def test_every_verb_that_answers_answers_in_json() -> None:
    # These run until a signal, or print nothing but JSON.
    silent = {
        "up",
        "monitor",
        "retrain",
        "deploy",
        "serve",
        "broker",
        "backtest",
        "dump",
        "dead-letters show",
        "config schema",
    }
    verbs = leaves(typer.main.get_command(app))
    without = {name for name, verb in verbs.items() if not any("--json" in p.opts for p in verb.params)}
    assert without == silent


def test_completion_completes() -> None:
    asked = {"_STATIONKEEPER_COMPLETE": "complete_bash", "COMP_WORDS": "stationkeeper dep", "COMP_CWORD": "1"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("stationkeeper"))],
        env={**os.environ, **asked},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["deploy", "deployments"], done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered_for_a_shell(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stationkeeper", "--show-completion", shell],
        env={**os.environ, **NAMED_SHELL},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "stationkeeper" in done.stdout) == (0, True), done.stderr
