"""A role process: its loops in threads, its HTTP side, and an orderly end on SIGTERM."""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.masking import masked
from stationkeeper.contracts.metrics import Sample
from stationkeeper.events import RefusedModel
from stationkeeper.notify.stage import Telling
from stationkeeper.page.fleet_status import Fleet, PeerRoles
from stationkeeper.process.listener import Access
from stationkeeper.process.supervisor import PARENT
from stationkeeper.process.web import WebServer, create_app, telemetry_of
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.parent import end_with

if TYPE_CHECKING:
    # The monitor starts without what judges canaries.
    from stationkeeper.deploy.analysis import Analyses
    from stationkeeper.process.otlp import Otlp
    from stationkeeper.process.reload import Reload

# What a role may need after its drain to leave: the HTTP server five seconds at most, then a collector three.
LEAVE_S = 8.0
# Chosen: a receiver that answers has been told within it; without it each reload would tell some notices again, and
# with more a receiver that hangs would keep the monitor from its new configuration.
RECEIVERS_S = 1.0

log = structlog.get_logger()


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = threading.Event()

    def handle(number: int, _frame: object) -> None:
        if stop.is_set():
            raise SystemExit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def leave_with_parent(drain_s: float) -> None:
    """End this process in good order when the ``up`` that started it is gone, however it went; alone do nothing."""
    # Taken out, so that what this process starts looks for nobody.
    parent = os.environ.pop(PARENT, "")
    if parent.isdigit():
        end_with(int(parent), lambda: os.kill(os.getpid(), signal.SIGTERM), drain_s + LEAVE_S)


def run_loops(  # noqa: PLR0913 - what a role's process has, each by its name
    loops: Sequence[Loop],
    listen: tuple[str, int],
    *,
    ended: threading.Event,
    access: Access,
    peers: PeerRoles | None = None,
    drain_s: float = 20.0,
    analyses: "Analyses | None" = None,
    reload: "Reload | None" = None,
    telling: Telling | None = None,
    otlp: "Otlp | None" = None,
    refused: Sequence[RefusedModel] = (),
) -> int:
    """Run loops until ``ended`` (``stop_on_signals``); when one of them must stop, all stop. Returns the exit code.

    A stopped loop writes what it has absorbed and leaves. One that has not done so after ``drain_s``, because no broker
    answers, is left behind uncommitted and the exit code is 1: what it had absorbed is read again. A ``reload`` that is
    due stops them as a signal does. Beside them the host and port of ``listen`` are served, and ``telling`` tells until
    they end, which no receiver delays: by the same deadline at a signal, by ``RECEIVERS_S`` at a reload.
    ``otlp`` sends the samples of ``/metrics`` until then. ``refused`` models are shown as such, and make nothing
    unready.
    """
    # Apart from `ended`, which only signals set: one that comes while a reload drains is the first, and not the second.
    stop = threading.Event()
    began = time.monotonic()
    telling = telling or Telling({})
    others = access, telling

    def more() -> list[Sample]:
        return [sample for one in others for sample in one.samples()]

    app = create_app(loops, peers=peers, more=more, analyses=analyses, refused=refused)
    if otlp is not None:
        otlp.start(telemetry_of(Fleet(loops, refused=refused), more).samples)
    web = WebServer(app, *listen, access)
    web.start()
    failed: list[str] = []

    def run(loop: Loop) -> None:
        try:
            loop.run(stop)
        except Fatal as error:
            failed.append(f"{loop.role}: {error}")
        except Exception as error:
            log.exception(LogEvent.FATAL, role=loop.role)
            failed.append(f"{loop.role}: {error!r}")
        finally:
            stop.set()

    # Daemons, so that neither a second signal nor the end of the drain waits for a broker.
    threads = [threading.Thread(target=run, args=(loop,), name=loop.role, daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    telling.start()
    _wait(loops, ended, stop, reload, web.url, began)
    deadline = time.monotonic() + drain_s
    telling.end()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0.0))
    left = max(deadline - time.monotonic(), 0.0)
    telling.stop(min(left, RECEIVERS_S) if reload is not None and reload.accepted else left)
    failed += _left_behind(threads, drain_s)
    web.stop()
    if otlp is not None:
        otlp.stop()
    for message in failed:
        print(masked(message), file=sys.stderr)  # noqa: T201 - the last word of a process that must stop
    return 1 if failed else 0


def _left_behind(threads: Sequence[threading.Thread], drain_s: float) -> list[str]:
    """Say of each loop that has not ended that it is left, and return it in words."""
    late = [thread.name for thread in threads if thread.is_alive()]
    for role in late:
        log.error(LogEvent.DRAIN_TIMEOUT, role=role, seconds=drain_s)
    return [f"{role}: not drained within {drain_s:g} s; nothing is lost, its open work is read again" for role in late]


def _wait(
    loops: Sequence[Loop],
    ended: threading.Event,
    stop: threading.Event,
    reload: "Reload | None",
    url: str,
    began: float,
) -> None:
    """Return once ``stop`` is set, which a signal or a reload that is due sets here; say when all loops are ready."""
    announced = False
    # What a signal, the end of a loop or a reload waits at most.
    while not stop.wait(0.05):
        if ended.is_set() or (reload is not None and reload.due()):
            stop.set()
        if not announced and all(loop.ready() for loop in loops):
            announced = True
            seconds = round(time.monotonic() - began, 2)
            log.info(LogEvent.READY, roles=[loop.role for loop in loops], url=url, seconds=seconds)
