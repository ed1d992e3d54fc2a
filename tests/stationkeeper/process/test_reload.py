"""SIGHUP: models and budgets change in the same process; what is wrong or cannot change so is refused whole."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import structlog
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from stationkeeper.commands import loop
from stationkeeper.config import Config, ConfigError, load
from stationkeeper.notify.stage import Telling
from stationkeeper.process import run
from stationkeeper.process.listener import Access
from stationkeeper.process.reload import Reload, fixed_changes
from stationkeeper.process.wiring import deploy_stage, monitor_stages, retrain_stage
from tests.stationkeeper import story
from tests.waiting import LIMIT_S, until

WATCHED = "models: {fraud: {predictions: scores, false_pages: 1 per 30 days}}\n"
TWO = "models: {{fraud: {{predictions: scores}}, churn: {{predictions: {}}}}}\n"


def asked(path: Path, text: str) -> tuple[Reload, bool, dict[str, Any]]:
    """What a role that runs by WATCHED does with another file, and what it logs."""
    path.write_text(WATCHED)
    reload = Reload(path, load(path, {}), monitor_stages)
    assert not reload.due()
    path.write_text(text)
    reload._ask(signal.SIGHUP, None)
    with structlog.testing.capture_logs() as logged:
        due = reload.due()
        assert not reload.due()
    return reload, due, dict(logged[0])


def test_another_budget_is_taken(tmp_path: Path):
    reload, due, said = asked(tmp_path / "c.yaml", WATCHED.replace("30 days", "7 days"))
    assert (due, reload.accepted) == (True, True)
    assert (said["event"], said["changed"]) == ("config_reloaded", ["fraud"])


def test_a_refused_entry_that_was_mended_or_taken_out_is_news(tmp_path: Path):
    path = tmp_path / "c.yaml"
    for mended in (TWO.format("rates"), WATCHED):
        path.write_text(TWO.format("rates, window: often"))
        reload = Reload(path, load(path, {}, refuse=True), monitor_stages)
        reload._ask(signal.SIGHUP, None)
        with structlog.testing.capture_logs() as logged:
            # Wrong as it was: a role that runs takes the whole file or nothing of it.
            assert not reload.due()
        assert logged[0]["event"] == "config_refused"
        path.write_text(mended)
        reload._ask(signal.SIGHUP, None)
        with structlog.testing.capture_logs() as logged:
            assert reload.due()
        assert "churn" in logged[0]["changed"]


def test_nothing_new_stops_nothing(tmp_path: Path):
    reload, due, said = asked(tmp_path / "c.yaml", WATCHED)
    assert (due, reload.accepted, said["changed"]) == (False, False, [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("models: {fraud: {predictions: scores, false_pags: 3}}\n", "did you mean 'false_pages'"),
        ("models: [", "is not YAML"),
        ("models: {}\n", "models: is empty"),
        (f"{WATCHED}kafka: {{prefix: other}}\nclock: stream\n", "clock, kafka.prefix: holds from a start only"),
        # What only the building of the role finds: the running one would end, and its successor not begin.
        (TWO.format("{topic: scores, time_unit: s}"), "topic 'scores' is read in two ways"),
        (TWO.format("{topic: more, decoder: 'not.there:Decoder'}"), "'not.there:Decoder' of stationkeeper.decoders"),
        ("models: {fraud: {predictions: scores, detectors: ['not.there:Rule']}}\n", "'not.there:Rule' of station"),
    ],
    ids=["misspelt", "no yaml", "no model", "fixed", "two ways", "no decoder", "no detector"],
)
def test_what_is_wrong_is_refused_whole(tmp_path: Path, text: str, reason: str):
    reload, due, said = asked(tmp_path / "c.yaml", text)
    assert (due, reload.accepted, said["event"]) == (False, False, "config_refused")
    assert reason in said["reason"]


@pytest.mark.parametrize("stage", [None, retrain_stage, deploy_stage], ids=["monitor", "retrain", "deploy"])
def test_a_role_is_built_without_broker_and_registry_and_leaves_nothing(stage: Any, tmp_path: Path):
    path = tmp_path / "c.yaml"
    retrained = "labels: labels, retrain: {trainer: gradient-boosting}"
    around = f"kafka: {{bootstrap: 'nobody:1'}}\nregistry: {{tracking_uri: 'sqlite:///{tmp_path}/none/mlflow.db'}}\n"
    path.write_text(f"{around}models: {{fraud: {{predictions: scores, {retrained}}}}}\n")
    closes: list[Mock] = []

    def build(config: Any) -> list[Any]:
        built: list[Any] = monitor_stages(config) if stage is None else [stage(config)]
        for one in built:
            one.close = Mock(wraps=one.close)
            closes.append(one.close)
        return built

    reload = Reload(path, load(path, {}), build)
    reload._ask(signal.SIGHUP, None)
    threads = threading.active_count()
    with structlog.testing.capture_logs() as logged:
        assert not reload.due()
    assert logged[0]["event"] == "config_reloaded"
    assert [one.call_count for one in closes] == [1] * (3 if stage is None else 1)
    assert threading.active_count() == threads
    assert [one.name for one in tmp_path.iterdir()] == ["c.yaml"]


@pytest.fixture
def signals() -> Iterator[None]:
    """Handlers and mask as before, whatever a test makes of them."""
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    before, mask = [signal.getsignal(number) for number in numbers], signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


# Begins itself again once; what follows gets SIGHUP before it listens.
AGAIN = """
import os, signal, threading
from stationkeeper.config import Config
from stationkeeper.process.reload import Reload
reload = Reload(None, Config(), lambda _: [])
if os.environ.pop("FIRST", None):
    reload.begin_again(threading.Event())
os.kill(os.getpid(), signal.SIGHUP)
reload.listen()
print("asked" if reload._asked else "not asked")
"""


def test_sighup_waits_for_the_process_that_follows_to_listen(tmp_path: Path):
    script = tmp_path / "again.py"
    script.write_text(AGAIN)
    # Without a terminal, as a daemon is.
    done = subprocess.run(
        [sys.executable, str(script)],
        check=False,
        env={**os.environ, "FIRST": "1"},
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert (done.returncode, done.stdout) == (0, "asked\n"), done.stderr


# Takes another file, begins itself again with it, and says by which budget it runs; the file changes in between.
CHECKED = """
import os, signal, sys, threading
from pathlib import Path
from stationkeeper.process.reload import Reload, handed_over
from stationkeeper.process.wiring import role_config
path = Path(sys.argv[1])
config = role_config(path, "monitor", handed_over())
if os.environ.pop("FIRST", None):
    reload = Reload(path, config, lambda _: [])
    reload.listen()
    path.write_text(path.read_text().replace("30 days", "7 days"))
    os.kill(os.getpid(), signal.SIGHUP)
    assert reload.due()
    path.write_text("models: [")
    os.kill(os.getpid(), signal.SIGHUP)
    reload.begin_again(threading.Event())
reload = Reload(path, config, lambda _: [])
reload.listen()
print(config.models["fraud"].false_pages, "asked" if reload._asked else "not asked", handed_over())
"""


def test_a_role_that_begins_again_runs_by_what_was_checked_whatever_the_file_holds_now(tmp_path: Path):
    script, path = tmp_path / "again.py", tmp_path / "c.yaml"
    script.write_text(CHECKED)
    # Longer than a pipe holds.
    path.write_text(WATCHED + "#" * 100_000)
    done = subprocess.run(
        [sys.executable, str(script), str(path)],
        check=False,
        env={**os.environ, "FIRST": "1"},
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=LIMIT_S,
    )
    # A SIGHUP that came after the file was taken is not lost: it is about the file as it is now.
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["1 per 7 days asked None"]), done.stderr


@pytest.mark.parametrize(
    "verb", [loop.monitor, loop.retrain, loop.deploy, loop.up], ids=["monitor", "retrain", "deploy", "up"]
)
def test_sighup_waits_from_the_first_moment_of_a_verb(
    verb: Callable[[Path], int], signals: None, monkeypatch: pytest.MonkeyPatch
):
    held: list[bool] = []

    def read(path: Path, **_: object) -> None:
        held.append(is_held(signal.SIGHUP))
        raise ConfigError(str(path))

    # The first thing that a verb does.
    monkeypatch.setattr("stationkeeper.process.wiring.load", read)
    with pytest.raises(ConfigError):
        verb(Path("not-there.yaml"))
    assert held == [True]


def is_held(number: signal.Signals) -> bool:
    return number in signal.pthread_sigmask(signal.SIG_BLOCK, [])


class Draining(story.Role):
    """A role that gets SIGTERM while it drains for a reload."""

    def __init__(self, ended: threading.Event) -> None:
        super().__init__("tally", {})
        self._ended = ended

    def run(self, stop: threading.Event) -> None:
        assert stop.wait(30)
        os.kill(os.getpid(), signal.SIGTERM)
        assert self._ended.wait(30)


def test_sigterm_while_a_reload_drains_is_the_first_signal_and_ends_the_role(
    signals: None, monkeypatch: pytest.MonkeyPatch
):
    begun: list[str] = []
    monkeypatch.setattr(os, "execv", lambda program, _arguments: begun.append(program))
    ended = run.stop_on_signals()
    role: Any = Draining(ended)
    reload = Reload(None, Config(), lambda _: [])
    monkeypatch.setattr(reload, "due", lambda: True)
    assert run.run_loops([role], ("127.0.0.1", 0), ended=ended, access=Access(), reload=reload) == 0
    reload.begin_again(ended)
    assert not begun
    ended.clear()
    reload.begin_again(ended)
    assert begun == [sys.executable]
    assert is_held(signal.SIGTERM)


class Hanging(story.Role):
    """The loop of a notifier whose receiver hangs: told to end it says so, and does not."""

    stage = None

    def __init__(self) -> None:
        super().__init__("notify-ops", {})
        self.told_to_end, self.answered = threading.Event(), threading.Event()

    def run(self, stop: threading.Event) -> None:
        stop.wait()
        self.told_to_end.set()
        self.answered.wait()


class Ending(story.Role):
    """A role whose own drain lasts until the notifier was told to end."""

    def __init__(self, beside: Hanging) -> None:
        super().__init__("tally", {})
        self._beside = beside

    def run(self, stop: threading.Event) -> None:
        assert stop.wait(LIMIT_S)
        assert self._beside.told_to_end.wait(LIMIT_S)


def test_a_receiver_that_hangs_is_told_to_end_with_the_loops_and_holds_up_no_reload(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "RECEIVERS_S", 0.0)
    reload = Reload(None, Config(), lambda _: [])
    monkeypatch.setattr(reload, "due", lambda: True)
    reload.accepted = True
    hanging: Any = Hanging()
    role: Any = Ending(hanging)
    # Watched beside the real one: only what was waited for tells an end after 0 s from one after the whole drain.
    telling = Telling({"ops": lambda: hanging})
    stop = Mock(wraps=telling.stop)
    monkeypatch.setattr(telling, "stop", stop)
    try:
        ended, access = threading.Event(), Access()
        assert run.run_loops([role], ("127.0.0.1", 0), ended=ended, access=access, reload=reload, telling=telling) == 0
    finally:
        hanging.answered.set()
    stop.assert_called_once_with(0.0)


def test_every_key_but_the_models_is_fixed(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text(WATCHED)
    running = load(path, {})
    path.write_text(f"{WATCHED}drain: 5s\nhttp: {{monitor: 1}}\nregistry: {{tracking_uri: other}}\n")
    assert fixed_changes(running, load(path, {})) == ["registry.tracking_uri", "http.monitor", "drain"]


@pytest.mark.broker
def test_a_running_monitor_takes_another_budget_as_the_same_process(kafka: Any, tmp_path: Path):
    prefix = f"reload-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_topics([NewTopic(f"{prefix}.scores", 1, 1)])
    admin.close()
    path, log = tmp_path / "stationkeeper.yaml", tmp_path / "log"
    around = f"kafka: {{bootstrap: '{kafka.bootstrap}', prefix: {prefix}}}\nhttp: {{monitor: 0}}\n"
    models = WATCHED.replace("scores", f"{prefix}.scores")
    path.write_text(around + models)

    def told(event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    command = [sys.executable, "-m", "stationkeeper", "monitor", "--config", str(path)]
    with log.open("wb") as out:
        # Without a terminal, as a daemon is.
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path, start_new_session=True)
    try:
        until(lambda: any("roles" in line for line in told("ready")), "the monitor is ready")
        path.write_text(around + models.replace("false_pages", "false_pags"))
        os.kill(process.pid, signal.SIGHUP)
        until(lambda: told("config_refused"), "the mistake is refused")
        path.write_text(around + models.replace("30 days", "7 days"))
        os.kill(process.pid, signal.SIGHUP)
        until(lambda: sum("roles" in line for line in told("ready")) == 2, "the monitor is ready again")
        assert process.poll() is None
        assert told("config_reloaded")[0]["changed"] == ["fraud"]
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
