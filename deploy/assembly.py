"""The room put together over real Kafka and MLflow: the server of ``serve`` and the stage of ``deploy``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from starlette.routing import BaseRoute

from contracts.topics import Topics
from deploy.controller import Deploy
from deploy.effects import Effects
from deploy.prediction_log import KafkaPredictionLog
from deploy.registry import MlflowRegistry
from deploy.router import Router
from deploy.server import Server
from deploy.settings import RolloutSettings, ServeSettings
from deploy.targets import Target
from deploy.traffic import TrafficTable
from streams.reader import KafkaReader
from streams.settings import KafkaSettings


def build_router(
    serve: ServeSettings, kafka: KafkaSettings, predictions: Mapping[str, str], tracking_uri: str
) -> Router:
    """Return the router of ``serve``; ``predictions`` is each model's predictions topic."""
    return Router(
        serve,
        predictions,
        Topics(kafka.prefix).rollouts.name,
        KafkaReader(kafka, "serve"),
        KafkaPredictionLog(kafka, serve),
        TrafficTable(MlflowRegistry(tracking_uri, serve.cache_dir)),
    )


def build_server(router: Router, extra: Sequence[BaseRoute] = ()) -> Server:
    """Return the HTTP routes of a router, with ``extra`` ones such as ``/metrics``; they start and close it."""
    return Server(router, extra)


def build_deploy(
    kafka: KafkaSettings,
    models: Mapping[str, RolloutSettings],
    tracking_uri: str,
    cache_dir: Path,
    *,
    clock: Literal["wall", "stream"],
    targets: Sequence[Target] = (),
) -> Deploy:
    """Return the stage of ``deploy``: the alias follows in MLflow, the built-in router follows the log by itself."""
    effects = Effects(MlflowRegistry(tracking_uri, cache_dir), targets)
    return Deploy(Topics(kafka.prefix), models, effects, clock)
