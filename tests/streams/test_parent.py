"""What a process leaves behind when it is killed: nothing."""

import subprocess
import sys
from pathlib import Path

from tests.waiting import until


def test_a_guarded_process_ends_with_whoever_guards_it_and_a_guard_that_is_ended_does_nothing():
    program = (
        "import subprocess, sys; from stationkeeper.streams.parent import guard;"
        "start = lambda: subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL, start_new_session=True);"
        "left, let_go = start(), start(); kept = guard(left.pid); ended = guard(let_go.pid);"
        "ended.kill(); ended.communicate();"
        "print(left.pid, let_go.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    left, let_go = (int(word) for word in parent.stdout.readline().split())
    assert runs(left)
    parent.kill()
    parent.communicate()
    until(lambda: not runs(left), "the guarded process has ended too")
    assert runs(let_go)
    subprocess.run(["kill", str(let_go)], check=True)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
