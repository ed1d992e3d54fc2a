"""What a training starts ends with it, and all of it together stays within the limits; each trainer here breaks one."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stationkeeper.retrain.training import process, process_tree
from stationkeeper.retrain.training.job import LOG_FILE, TrainingError
from stationkeeper.retrain.training.process import TimedOut, TrainingProcess, environment, log_tail
from stationkeeper.retrain.training.process_tree import ControlGroup, ProcessTree
from tests.retrain.training.test_training import ONE_WINDOW, job_of, wait
from tests.waiting import until

HERE = "tests.retrain.training.test_process_tree"

ESCAPE = "import os, sys, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(600)"
"""A daemon as servers and `nohup` make them: in a session of its own, with nobody who waits for it."""


def start_escaped(clean: bool) -> int:
    """Start a process that leaves the session and loses its parent; return its id."""
    fork = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {ESCAPE!r}])"
    env = {"PATH": os.environ["PATH"]} if clean else None
    done = subprocess.Popen([sys.executable, "-c", fork], stdout=subprocess.PIPE, env=env)
    assert done.stdout is not None
    found = int(done.stdout.readline())
    done.stdout.close()
    done.wait()
    return found


class Daemons:
    """Leaves a daemon, and one with an environment of its own; then fails or hangs."""

    def __init__(self, pids: str, then: str) -> None:
        self.pids, self.then = Path(pids), then

    def fit(self, data):
        left = f"{start_escaped(clean=False)} {start_escaped(clean=True)}"
        data.progress(0.5, "epoch 1 of 2")
        part = self.pids.with_suffix(".part")
        part.write_text(left)
        part.replace(self.pids)
        if self.then == "fail":
            raise RuntimeError("and now")
        time.sleep(600)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("then", ["hang", "fail"])
def test_daemons_of_a_trainer_end_with_it_where_no_control_group_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
):
    monkeypatch.setattr(process_tree, "_own_group", lambda: None)
    pids = tmp_path / "pids"
    job = job_of(tmp_path, trainer=f"{HERE}:Daemons", parameters={"pids": str(pids), "then": then}, windows=ONE_WINDOW)
    running = TrainingProcess.start(job, tmp_path / "run", 60.0)
    until(pids.exists, "the daemons run")
    left = [int(one) for one in pids.read_text().split()]
    running.deadline = 0.0 if then == "hang" else running.deadline
    found = wait(running)
    if then == "hang":
        assert found == TimedOut(60.0, "fit 1 of 4, 3333 rows: epoch 1 of 2")
    else:
        assert isinstance(found, TrainingError)
        assert found.detail == "RuntimeError: and now"
    assert [pid for pid in left if alive(pid)] == []


def test_a_control_group_ends_what_wiped_its_marks():
    group = ControlGroup.make(f"stationkeeper-test-{os.getpid()}")
    if group is None:
        pytest.skip("this machine lets us make no control group of version 2")
    script = f"import os, sys; sys.stdin.readline(); from {HERE} import start_escaped as start;"
    script += "print(start(clean=True), flush=True); os.abort()"
    leader = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert group.add(leader.pid)
    found, _ = leader.communicate("go\n")
    assert alive(int(found))
    ProcessTree(leader.pid, "none", group).end()
    until(lambda: not alive(int(found)), "the daemon has ended")
    leader.wait()
    until(lambda: not group.members(), "the group is empty")
    group.remove()
    assert not group.path.exists()


def test_all_processes_together_stay_within_a_limit(tmp_path: Path):
    hold = "import os, sys; held = b'x' * 40_000_000; print(flush=True); sys.stdin.read()"
    fork = f"import subprocess as s, sys; [s.Popen([sys.executable, '-c', {hold!r}]) for _ in 'ab']; sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", fork], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    limits = {"memory_bytes": 2**30, "disk_bytes": 2**30}
    running = TrainingProcess(
        tmp_path, job_of(tmp_path).model_copy(update=limits), child, ProcessTree(child.pid, "none"), 1e18, 1.0
    )
    child.stdout.readline()
    child.stdout.readline()
    assert running.poll() is None
    for limit, said in (("memory_bytes", "out of memory"), ("disk_bytes", "out of disk")):
        running.job = job_of(tmp_path).model_copy(update=limits | {limit: 60_000_000 if "mem" in limit else 1_000})
        fault = running._past_a_limit()
        assert fault is not None
        assert (fault.final, fault.cause) == (True, "limit")
        assert said in fault.detail
    running._look = 0.0
    assert isinstance(running.poll(), TrainingError)
    assert running.tree.members() == set()
    child.stdin.close()
    child.stdout.close()


def test_a_log_keeps_its_end_and_no_more(tmp_path: Path):
    log = tmp_path / LOG_FILE
    with log.open("ab") as file:
        for _ in range(6):
            file.write(b"x" * 1_000_000 + b"\n")
        file.write(b"the word before\n")
        file.flush()
        process.cut_log(tmp_path)
        file.write(b"the last word\n")
    assert log_tail(tmp_path).endswith("the word before\nthe last word")
    assert log.read_bytes() == b"the last word\n"
    assert sum(path.stat().st_size for path in tmp_path.glob(f"{LOG_FILE}*")) < process.LOG_KEPT + 100


def test_a_training_sees_no_secret_that_is_not_named(tmp_path: Path):
    own = {"PATH": "/bin", "LC_ALL": "C.UTF-8", "KAFKA_PASSWORD": "one", "STORE_KEY": "two", "https_proxy": "three"}
    job = job_of(tmp_path).model_copy(update={"environment": ("STORE_KEY", "ABSENT")})
    found = environment(own, job, "mark")
    assert {name for name in own if name in found} == {"PATH", "LC_ALL", "STORE_KEY"}
    assert "ABSENT" not in found


def test_a_group_is_made_below_our_own_or_not_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(process_tree, "_own_group", lambda: tmp_path / "absent")
    assert ControlGroup.make("one") is None
    assert ProcessTree(os.getpid(), "none").resident_bytes() > 1024**2
