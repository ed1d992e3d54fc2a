"""Puts rooms together: a configuration in, the loops of each role out."""

import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import structlog

from stationkeeper.access import client_context
from stationkeeper.config import Config, ConfigError, ModelConfig, load
from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.masking import masked, printable
from stationkeeper.contracts.plugins import IMPORT_PATH, PluginError, PluginGroup, load_plugin
from stationkeeper.contracts.topics import Topics
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.events import MappingError, RefusedModel, forms, load_decoder
from stationkeeper.logs import configure_logging
from stationkeeper.monitor.status import ModelView
from stationkeeper.notify.notifier import notifier_for
from stationkeeper.notify.stage import Notify, Telling
from stationkeeper.page.fleet_status import PeerRoles
from stationkeeper.process.listener import NO_BODY_BYTES, Access
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.ports import Outgoing, Reader, Sink, Stage
from stationkeeper.streams.settings import KafkaSettings

if TYPE_CHECKING:
    # The monitor starts without what judges canaries.
    from stationkeeper.deploy.analysis import Analyses
    from stationkeeper.process.otlp import Otlp

# The judge commits at least five times a second: a verdict then leaves soon after the pane that decided it, while the
# tally may gather for longer.
JUDGE_FLUSH_MS = 200
WORK_DIRECTORY = Path(".stationkeeper") / "work"

T = TypeVar("T")


def topics_of(config: Config) -> Topics:
    """Return the internal topics; joins are kept as long as the longest label horizon."""
    horizons = [model.label_horizon for model in config.models.values()]
    # All models share the joins topic: the one whose labels may come latest decides how long it is kept.
    return Topics(config.kafka.prefix, label_horizon_ms=max(horizons)) if horizons else Topics(config.kafka.prefix)


def input_topics(config: Config) -> list[str]:
    """Return every input topic of every model."""
    return sorted({mapping.topic for model in config.models.values() for mapping in model.topics().values()})


def role_config(path: Path | None, role: str, held: str | None = None) -> Config:
    """Return the configuration that a role runs by: without the models whose entries are wrong, each told in the log.

    So are those that read a topic otherwise than a model before them, or name an extension that is not there. Raises
    ``ConfigError`` where anything else is wrong, or nothing is left to watch. ``held`` is as `load` takes it.
    """
    config = load(path, refuse=True, held=held)
    configure_logging(config.logging)
    try:
        _fit(list(config.models.values()), role)
    except (MappingError, PluginError):
        config = config.without(_unfit(config, role))
    if config.refused and not config.models:
        raise ConfigError("\n".join(one.why for one in config.refused))
    if not config.models:
        raise ConfigError("models: is empty; add a model, or let stationkeeper init write one from a sample")
    for one in config.refused:
        structlog.get_logger().error(LogEvent.MODEL_REFUSED, role=role, model=one.name, reason=one.why)
    return config


def _fit(models: list[ModelConfig], role: str) -> None:
    """Raise ``MappingError`` or ``PluginError`` where a role could not begin with these models together."""
    # The others read no events: what is wrong with a decoder is no reason not to serve.
    if role not in {"monitor", "retrain"}:
        return
    readers = [model for model in models if role == "monitor" or model.retrain is not None]
    read = {mapping.topic for model in readers for mapping in model.topics().values()}
    for topic, form in forms(models).items():
        if topic in read:
            load_decoder(form.decoder)
    for model in models if role == "monitor" else ():
        load_detectors(model)


def _unfit(config: Config, role: str) -> list[RefusedModel]:
    """Return the models that do not fit beside those before them; the others are read as if they were not there."""
    sound: list[ModelConfig] = []
    found: list[RefusedModel] = []
    for name, model in config.models.items():
        try:
            _fit([*sound, model], role)
        except MappingError as error:
            # Without its topics: no role ever read them in two ways, so that they were the others' alone.
            found.append(RefusedModel(name, masked(f"models.{name}: {error}")))
        except PluginError as error:
            inputs = {kind: frozenset([mapping.topic]) for kind, mapping in model.topics().items()}
            found.append(RefusedModel(name, masked(f"models.{name}: {error}"), inputs))
        else:
            sound.append(model)
    return found


def load_detectors(model: ModelConfig) -> None:
    """Import the detectors that a model names by their path; raises ``PluginError``.

    The judge imports them when a model's state is restored, which is too late to refuse the configuration.
    """
    for name in filter(IMPORT_PATH.fullmatch, model.detectors):
        load_plugin(PluginGroup.DETECTORS, name)


def prepare_topics(config: Config, *, create_inputs: bool = True, dead_letters: bool = True) -> list[str]:
    """Create our own topics and the dead-letter topics; returns the input topics that did not exist before.

    Without ``dead_letters`` neither those nor the inputs are looked at: a role that writes none has no right to them.
    """
    from stationkeeper.streams.kafka.topics import ensure_inputs, ensure_internal

    ensure_internal(config.kafka, topics_of(config))
    if not dead_letters:
        return []
    missing = ensure_inputs(config.kafka, input_topics(config), create_inputs=create_inputs)
    if missing and not create_inputs:
        # A role of whose inputs none is there is well and reads nothing, for as long as nobody makes them.
        structlog.get_logger().warning(
            LogEvent.TOPIC_MISSING,
            topics=missing,
            do="start what writes them, run stationkeeper check --create, or correct their names under models:",
        )
    return missing


def address_of(host: str, port: int, scheme: str = "http") -> str:
    """Return the address to dial for one that is listened on: all addresses of a machine include its own."""
    host = "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host  # noqa: S104 - a comparison
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def peer_addresses(config: Config, own: str) -> dict[str, str]:
    """Return where the page of one role finds the others: as configured, else on this machine at their ports."""
    if config.http.peers is not None:
        return {name: address for name, address in config.http.peers.items() if name != own}
    # Without a model to retrain that role does not run, and its port would be shown as one that does not answer.
    retrained = any(model.retrain is not None for model in config.models.values())
    ports = {"monitor": config.http.monitor, "retrain": config.http.retrain if retrained else 0}
    ports["deploy"] = config.http.deploy
    http = config.http
    return {name: address_of(http.host, port, _scheme(config)) for name, port in ports.items() if port and name != own}


def _scheme(config: Config) -> str:
    return "https" if config.http.tls else "http"


def access_to(config: Config, max_body_bytes: int | None = NO_BODY_BYTES) -> Access:
    """Return who may ask the ports of a role, under the names that the configuration gives them anywhere."""
    urls = [*(config.http.peers or {}).values(), *(target.url for target in config.targets if target.url)]
    named = {name for url in urls if (name := urlsplit(url).hostname)}
    hosts = sorted(named | {config.http.host, config.serve.host, socket.gethostname()} - {""})
    return _readable(lambda: Access.of(config.http, [host.lower() for host in hosts], max_body_bytes))


def peers_of(config: Config, own: str) -> PeerRoles:
    """Return the other roles as the page of one asks them: with the first caller's secret, by TLS where it is on."""
    # The first that the configuration lists: all of them may ask, and a page needs one.
    token = next(iter(_readable(config.http.secrets).values()), None)
    tls, context = config.http.tls, None
    if tls is not None:
        context = _readable(lambda: client_context(tls.ca_file, "http.tls.ca_file"))
    return PeerRoles(peer_addresses(config, own), token=token, context=context)


def _readable(read: Callable[[], T]) -> T:
    """Return what is read from files and variables; raises ``ConfigError`` with the name of what cannot be."""
    try:
        return read()
    except ValueError as error:
        raise ConfigError(str(error)) from None


def loop_for(
    stage: Stage,
    settings: KafkaSettings,
    prepare: Callable[[], object] = lambda: None,
    traced: Callable[[Sink], Sink] = lambda sink: sink,
) -> Loop:
    """Return the loop of a stage over a real broker; ``traced`` may look at what it commits.

    The judge looks five times a second whether it has something to write, so that a closed minute's verdicts do not
    wait for a whole flush interval after the tally's; while nothing came in it writes nothing.
    """
    from stationkeeper.streams.connect import reader_for, sink_for, source_for

    name = stage.name
    if name == "judge":
        settings = settings.model_copy(update={"flush_interval": min(settings.flush_interval, JUDGE_FLUSH_MS)})
    reader = reader_for(settings, name)
    # Partition counts do not depend on the horizon, so any set of topics of this prefix has them.
    internal = {topic.name: topic.partitions for topic in Topics(settings.prefix).all()}
    return Loop(
        stage,
        source_for(settings, name),
        traced(sink_for(settings, name)),
        reader,
        settings,
        internal=internal,
        prepare=prepare,
    )


def otlp_for(config: Config, role: str) -> "Otlp | None":
    """Return what exports the metrics and spans of a role, where the configuration names a collector."""
    if config.otlp is None:
        return None
    from stationkeeper.process.otlp import Otlp

    return Otlp(config.otlp, role, config.kafka.replica)


def telling_for(config: Config, prepare: Callable[[str], object] = lambda _: None) -> Telling:
    """Return what tells the configured notifiers; raises ``ConfigError`` where one of them cannot be made."""
    topics, stages = topics_of(config), dict[str, Notify]()
    for name, settings in config.notifiers.items():
        try:
            stages[name] = Notify(name, settings, notifier_for(settings), topics)
        except ValueError as error:
            raise ConfigError(f"notifiers.{name}: {error}") from None

    def loop_of(stage: Notify) -> Callable[[], Loop]:
        return lambda: loop_for(stage, config.kafka, lambda: prepare(stage.name))

    return Telling({name: loop_of(stage) for name, stage in stages.items()})


def monitor_stages(config: Config, count_partitions: Callable[[str], int] | None = None) -> list[Stage]:
    """Return tally, join and judge; ``count_partitions`` replaces asking the broker (benchmarks)."""
    from stationkeeper.monitor.join import Join
    from stationkeeper.monitor.judge import Judge
    from stationkeeper.monitor.tally import Tally

    for model in config.models.values():
        load_detectors(model)
    topics, letters = topics_of(config), config.kafka.dead_letters
    return [
        Tally(config.models, topics, clock=config.clock, dead_letters=letters, refused=config.refused),
        Join(config.models, topics, config.join),
        Judge(
            config.models,
            topics,
            view=ModelView,
            clock=config.clock,
            partitions=count_partitions or partition_counter(config),
        ),
    ]


def partition_counter(config: Config) -> Callable[[str], int]:
    """Return what counts a topic's partitions, over a reader of its own that is opened when first asked."""
    readers: list[Reader] = []

    def count(topic: str) -> int:
        if not readers:
            readers.append(reader_for(config, "partitions"))
        return len(readers[0].partitions(topic))

    return count


def timezones_of(config: Config) -> dict[str, str]:
    """Return by model whose clock tells its hours."""
    return {name: model.timezone for name, model in config.models.items()}


def retrain_stage(
    config: Config, work_directory: Path = WORK_DIRECTORY, open_reader: Callable[[], Reader] | None = None
) -> Stage:
    """Return the retrain stage for the models that have a ``retrain:`` section."""
    from stationkeeper.profiling.fresh_version import build_reference
    from stationkeeper.registry import Registry
    from stationkeeper.retrain.service.stage import Retrain
    from stationkeeper.retrain.service.steps import ModelInputs, Steps
    from stationkeeper.retrain.snapshot import SnapshotStore

    found = forms(list(config.models.values()), config.refused)
    models = {
        name: ModelInputs(
            name,
            tuple(found[topic] for topic in dict.fromkeys(mapping.topic for mapping in model.topics().values())),
            model.retraining(),
            # On the stream clock an event moves the clock itself: no event is of the future.
            model.skew if config.clock == "wall" else None,
            model.absence(),
        )
        for name, model in config.models.items()
        if model.retrain is not None
    }
    steps = Steps(
        models=models,
        registry=Registry(config.registry),
        snapshots=SnapshotStore.of(config.snapshots),
        open_reader=open_reader or (lambda: reader_for(config, "snapshot")),
        build_reference=partial(build_reference, timezones=timezones_of(config)),
        work_dir=work_directory,
        kept_since=partial(topic_kept_since, config.kafka),
    )
    return Retrain(models, topics_of(config), steps, refused=[one.name for one in config.refused])


def topic_kept_since(kafka: KafkaSettings, topic: str) -> tuple[int, int] | None:
    """Return since when (ms) the broker has kept all of a topic, None where it may not or cannot be told."""
    from stationkeeper.streams.kafka.topic_config import kept_since, topic_config
    from stationkeeper.streams.kafka.topics import admin_client

    try:
        with admin_client(kafka) as admin:
            return kept_since(topic_config(admin, topic), int(time.time() * 1_000))
    except Fatal:
        # Nothing else of the role needs DescribeConfigs: where it may not, or the broker does not know that question,
        # what is left of the topic tells.
        return None


def target_settings(config: Config) -> list[TargetSettings]:
    """Return the targets with what nobody wrote: addresses of router and registry, a caller that the router lets in."""
    own: dict[str, Any] = {
        "url": address_of(config.serve.host, config.serve.port, _scheme(config)),
        "token": next(iter(config.http.callers.values()), None),
        "ca_file": config.http.tls and config.http.tls.ca_file,
    }

    def completed(target: TargetSettings) -> TargetSettings:
        missing = {key: value for key, value in own.items() if getattr(target, key) is None and value is not None}
        if target.kind == "mlflow-alias":
            options = {"tracking_uri": config.registry.tracking_uri, **target.options}
            return target.model_copy(update={"options": options})
        return target.model_copy(update=missing) if target.kind == "router" else target

    return list(map(completed, config.targets))


def router_use(config: Config) -> tuple[bool, str]:
    """Return whether the router of ``serve`` is asked for on this machine, and why or why not.

    The router is the target where nobody wrote one; then it is asked for by ``serve:`` or by a model that is retrained,
    for without either there is nothing that it would move.
    """
    own = address_of(config.serve.host, config.serve.port)
    routers = [target for target in config.targets if target.kind == "router"]
    if "targets" in config.model_fields_set:
        near = any(target.url is None or target.url.rstrip("/") == own for target in routers)
        named = ", ".join(f"{target.kind} {target.url or ''}".strip() for target in config.targets) or "none"
        return near or "serve" in config.model_fields_set, f"targets: {named}"
    retrained = [name for name, model in config.models.items() if model.retrain is not None]
    if "serve" in config.model_fields_set:
        return True, "serve: is configured"
    if retrained:
        return True, f"a router is the target of {', '.join(retrained)}, which is retrained"
    return False, "no model has retrain:, and neither serve: nor targets: asks for a router; write serve: {} for one"


def deploy_stage(config: Config) -> Stage:
    """Return the canary controller."""
    from stationkeeper.deploy.controller.effects import Effects
    from stationkeeper.deploy.controller.queries import Queries
    from stationkeeper.deploy.controller.stage import Deploy
    from stationkeeper.deploy.targets import target_for
    from stationkeeper.registry import Registry

    # The cache of `serve`: on one machine a version is fetched once for both.
    registry = Registry(config.registry, config.serve.cache_dir)
    asked = router_use(config)[0] or "targets" in config.model_fields_set
    targets = list(map(target_for, target_settings(config))) if asked else []
    rollouts = {name: model.rollout for name, model in config.models.items()}
    labelled = [name for name, model in config.models.items() if model.labels is not None]
    refused = [one.name for one in config.refused]
    effects, queries = Effects(registry, targets), Queries({name: one.queries for name, one in rollouts.items()})
    return Deploy(topics_of(config), rollouts, effects, config.clock, labelled, refused, queries)


def analyses_for(config: Config) -> "Analyses":
    """Return the judge of others' controllers, by each model's own rollout settings."""
    from stationkeeper.deploy.analysis import Analyses

    policies = {
        name: model.rollout.policy(labels_expected=model.labels is not None) for name, model in config.models.items()
    }
    return Analyses(lambda: reader_for(config, "analysis"), topics_of(config).history.name, policies)


def router_for(config: Config) -> Any:
    """Return the router of ``serve``."""
    from stationkeeper.deploy.router.prediction_log import KafkaPredictionLog
    from stationkeeper.deploy.router.router import Router
    from stationkeeper.deploy.router.traffic import TrafficTable
    from stationkeeper.registry import Registry

    registry = Registry(config.registry, config.serve.cache_dir)
    return Router(
        config.serve,
        {name: model.predictions.topic for name, model in config.models.items()},
        topics_of(config).rollouts.name,
        reader_for(config, "serve"),
        KafkaPredictionLog(config.kafka, config.serve),
        TrafficTable(registry),
        [one.name for one in config.refused],
    )


def reader_for(config: Config, name: str = "cli") -> Reader:
    """Return a reader of the configured broker, over the configured client."""
    from stationkeeper.streams.connect import reader_for as reader_over

    return reader_over(config.kafka, name)


def publish(config: Config, record: Outgoing) -> None:
    """Write one record of a person or a tool in a transaction of its own; raises ``Retryable`` or ``Fatal``."""
    from stationkeeper.streams.connect import sink_for

    # A transactional id of its own: two people deciding at once must not fence each other. Twelve digits are enough for
    # all that decide while the broker remembers one (a week).
    sink = sink_for(config.kafka, f"cli-{uuid.uuid4().hex[:12]}")
    try:
        sink.begin()
        sink.send([record])
        sink.commit({}, None)
    finally:
        sink.close()


def plain_producer(config: Config) -> Any:
    """Return a plain producer, as the applications around us use one; the demo plays them."""
    from kafka import KafkaProducer

    # As `client` sends: events of 5 ms together.
    return KafkaProducer(
        acks="all", linger_ms=5, compression_type="lz4", **config.kafka.connection("stationkeeper.edge")
    )


def told_config(path: Path | None) -> Config:
    """Return the configuration for a verb that is about one model, or none; wrong ones are told on the error stream."""
    config = load(path, refuse=True)
    for one in config.refused:
        # Line by line, as a name or key may hold what moves a terminal's cursor.
        why = "\n".join(map(printable, one.why.split("\n")))
        print(f"without model {one.name}: {why}", file=sys.stderr)  # noqa: T201 - stdout is the verb's answer
    return config


@contextmanager
def open_reader(path: Path | None, *, whole: bool = False) -> Iterator[tuple[Config, Reader, Topics]]:
    """Yield the configuration, a reader and the topics for a verb that only reads.

    One that must miss no model takes the ``whole`` configuration or none.
    """
    config = load(path) if whole else told_config(path)
    reader = reader_for(config)
    try:
        yield config, reader, topics_of(config)
    finally:
        reader.close()
