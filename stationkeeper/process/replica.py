"""The name of a replica, claimed before it joins: a newcomer with the name of a living process leaves, not that one."""

import socket
import sys
import time
from typing import Final

import structlog
from kafka import errors

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.streams.errors import Fenced
from stationkeeper.streams.kafka.clients import translated
from stationkeeper.streams.kafka.topics import admin_client
from stationkeeper.streams.settings import KafkaSettings

# Beyond the session after which the broker drops a member that is dead: its timer may have begun a request later.
MARGIN_S: Final = 3.0
# Chosen: half asks the coordinator more often for nothing, double delays a start after a crash elsewhere by a second.
EVERY_S: Final = 1.0

log = structlog.get_logger()
_marks: dict[str, int] = {}


def claim(settings: KafkaSettings, role: str) -> None:
    """Make sure that no living process is this replica of ``role``; raises ``Fenced`` where one is.

    The broker would give the name to whoever comes last and stop the one that works. A member that was left behind by
    a process of this machine that is gone is taken over at once (Linux); any other is watched until the broker drops
    it, which a dead one suffers within ``session_timeout``. Raises ``Retryable`` while no broker answers.
    """
    member = settings.member(role)
    alone = _mark(member)
    deadline = time.monotonic() + settings.session_timeout / 1_000 + MARGIN_S
    told = False
    while (host := _holder(settings, role)) is not None:
        if alone and host == _own_address(settings.bootstrap):
            return
        if not told:
            told = True
            log.warning(LogEvent.INSTANCE_HELD, role=role, member=member, host=host)
        if time.monotonic() > deadline:
            raise Fenced(
                f"another process, at {host}, runs as {member} and goes on; this one stops. Give each replica a "
                f"kafka.instance of its own (STATIONKEEPER__KAFKA__INSTANCE=…), here it is {settings.replica!r}"
            )
        time.sleep(EVERY_S)


def _mark(member: str) -> bool:
    """Hold a name of this machine for as long as this process lives; return whether no other process holds it."""
    if member in _marks:
        return True
    if sys.platform != "linux":
        return False
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        # An abstract name ends with its process, however that ends, and is per network namespace as addresses are. The
        # kernel takes 108 bytes; two members alike in the first 90 merely wait for the broker instead.
        mark.bind(b"\0stationkeeper." + member.encode()[:90])
    except OSError:
        mark.close()
        return False
    _marks[member] = mark.detach()
    return True


def _holder(settings: KafkaSettings, role: str) -> str | None:
    """Return the address of the group's member with this replica's name, None without one."""
    group = settings.group(role)
    with admin_client(settings) as admin, translated(f"ask who is in group {group}"):
        try:
            found = admin.describe_groups([group])[group]
        except errors.GroupIdNotFoundError:
            return None
    hosts = [one["client_host"] for one in found["members"] if one["group_instance_id"] == settings.member(role)]
    return hosts[0].lstrip("/") if hosts else None


def _own_address(bootstrap: str) -> str | None:
    """Return the address under which the first server that answers sees this machine, without NAT between."""
    for server in bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=EVERY_S) as found:
                return str(found.getsockname()[0])
        except (OSError, ValueError):
            continue
    return None
