"""Our server alone in a process: ``ours.py PORT BOOTSTRAP MODELS ACK CLIENT LINGER`` with real topics."""

import sys
from pathlib import Path

from stationkeeper.deploy.router.prediction_log import KafkaPredictionLog
from stationkeeper.deploy.router.router import Router
from stationkeeper.deploy.router.server import Server
from stationkeeper.deploy.router.traffic import TrafficTable
from stationkeeper.deploy.settings import ServeSettings
from stationkeeper.process.listener import Access, bound, server_for
from stationkeeper.streams.connect import reader_for
from stationkeeper.streams.settings import KafkaSettings


class Directories:
    """A registry whose versions are directories; the MLflow one answers at start and at a swap only."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def fetch(self, model: str, version: str) -> Path:
        """Return where a version lies."""
        return self.root / model / version


def main(port: str, bootstrap: str, models: str, ack: str, client: str, linger: str) -> None:
    """Serve until ended."""
    kafka = KafkaSettings.model_validate({"bootstrap": bootstrap, "prefix": "serving", "client": client})
    settings = ServeSettings.model_validate({"ack": ack, "client": client} | ({"linger": linger} if linger else {}))
    router = Router(
        settings,
        {"small": "small.predictions"},
        "serving.rollouts",
        reader_for(kafka, "serve"),
        KafkaPredictionLog(kafka, settings),
        TrafficTable(Directories(Path(models))),  # type: ignore[arg-type]
    )
    socket = bound("127.0.0.1", int(port), "serve.port")
    server_for(Server(router).app, Access(max_body_bytes=None)).run(sockets=[socket])


if __name__ == "__main__":
    main(*sys.argv[1:])
