"""The processes that ``up`` keeps alive: which roles, how many monitors, and where each finds the others."""

import json
from pathlib import Path
from typing import Final

import structlog

from stationkeeper.config import Config, ConfigError
from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.process.supervisor import Child
from stationkeeper.process.wiring import peer_addresses, router_use

log = structlog.get_logger()

PORT_STEP: Final = 10
"""A further monitor listens this much higher than the one before it: above the other roles' ports, which follow the
first one's, and a round number that a person can count in."""


def monitor_names(config: Config, workers: int) -> dict[str, int]:
    """Return the port of each monitor; port 0 (any free one) leaves them without addresses that others could know."""
    first = config.http.monitor
    ports = {f"monitor-{slot}": first + PORT_STEP * slot if first else 0 for slot in range(workers)}
    taken = {config.http.retrain, config.http.deploy, config.serve.port}
    wrong = [f"{name} at {port}" for name, port in ports.items() if port > 65_535 or (port and port in taken)]
    if wrong:
        raise ConfigError(
            f"no port for {', '.join(wrong)}: monitors listen at http.monitor and every {PORT_STEP} above; move "
            "http.monitor, http.retrain, http.deploy or serve.port"
        )
    return ports


def children(config: Config, path: Path | None, workers: int) -> list[Child]:
    """Return the roles to run: monitors that share partitions and models, deploy, serve, and retrain where asked for.

    With several monitors each page asks all of them, so that any page shows every partition and model.
    """
    base = ("--config", str(path)) if path is not None else ()
    ports = monitor_names(config, workers)
    addresses: dict[str, str] = {}
    if workers > 1 and config.http.peers is None and config.http.monitor:
        alone = peer_addresses(config, "")
        host = alone["monitor"].rpartition(":")[0]
        addresses = {name: url for name, url in alone.items() if name != "monitor"}
        addresses |= {name: f"{host}:{port}" for name, port in ports.items()}

    def peers(own: str) -> dict[str, str]:
        others = {name: url for name, url in addresses.items() if name != own}
        return {"STATIONKEEPER__HTTP__PEERS": json.dumps(others)} if others else {}

    made = [
        Child(
            name,
            ("monitor", *base),
            {
                # The first is named like a monitor that is alone, and those of two machines are never named alike.
                "STATIONKEEPER__KAFKA__INSTANCE": f"{config.kafka.replica}-{slot}" if slot else config.kafka.replica,
                "STATIONKEEPER__HTTP__MONITOR": str(port),
                **peers(name),
            },
            "it watches",
            reloads=True,
        )
        for slot, (name, port) in enumerate(ports.items())
    ]
    roles = {"deploy": "it keeps the log of who is champion"}
    for role, (wanted, why) in {"serve": router_use(config), "retrain": _retrain_use(config)}.items():
        if wanted:
            roles[role] = why
        else:
            log.info(LogEvent.ROLE_LEFT_OUT, role=role, why=why)
    # The router loads models and listens for no change of its configuration.
    others = [Child(role, (role, *base), peers(role), why, reloads=role != "serve") for role, why in roles.items()]
    return [*made, *others]


def _retrain_use(config: Config) -> tuple[bool, str]:
    retrained = [name for name, model in config.models.items() if model.retrain is not None]
    return bool(retrained), f"retrain: of {', '.join(retrained)}" if retrained else "no model has retrain:"
