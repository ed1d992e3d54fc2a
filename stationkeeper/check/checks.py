"""``check``: finds what would fail later, before anything runs; each finding says what to do."""

from collections.abc import Iterator, Mapping
from contextlib import closing

from stationkeeper.check.baselines import KnownReferences, baselines, known_references
from stationkeeper.check.finding import SetupCheck
from stationkeeper.check.inputs import check_inputs
from stationkeeper.check.platform import check_notifiers, check_platform
from stationkeeper.config import Config
from stationkeeper.contracts.plugins import PluginError
from stationkeeper.contracts.times import format_duration
from stationkeeper.contracts.topics import Topic
from stationkeeper.events import MappingError, forms, load_decoder
from stationkeeper.process.wiring import input_topics, reader_for, topics_of
from stationkeeper.streams.errors import Fatal, Retryable
from stationkeeper.streams.kafka.topic_config import differences, topic_config
from stationkeeper.streams.kafka.topics import admin_client, ensure_inputs, ensure_internal
from stationkeeper.streams.ports import Reader


def run_checks(config: Config, *, sample: int = 0, create: bool = False) -> Iterator[SetupCheck]:
    """Look at everything a role would need, finding by finding; a broker that is away ends the look at it alone."""
    yield _models(config)
    try:
        inputs = forms(list(config.models.values()))
        # A decoder that cannot be loaded is found here, before a role of it starts and stops.
        for form in inputs.values():
            load_decoder(form.decoder)
    except (MappingError, PluginError) as error:
        yield SetupCheck("input mappings", "failed", str(error))
        return
    yield SetupCheck("input mappings", "ok", f"{len(inputs)} topic(s) read in one way each")
    try:
        yield from _topics(config, create=create)
        yield from _settings(config)
        yield from _retention(config)
        with closing(reader_for(config, "check")) as reader:
            known = known_references(reader, topics_of(config))
            yield from _baselines(config, reader, known)
            yield from check_inputs(config, reader, known, sample)
    except (Retryable, Fatal) as error:
        yield SetupCheck("Kafka", "failed", str(error))
    # Also with the broker away: registry, trainers and targets do not need it, and one look should find all.
    yield from check_platform(config)
    yield from check_notifiers(config)


def _models(config: Config) -> SetupCheck:
    if not config.models:
        return SetupCheck("configuration", "failed", "models: is empty; let stationkeeper init write one from a sample")
    parts = [
        f"{name}: {model.false_pages}, pane {format_duration(model.pane)}"
        + ("" if model.labels else ", no labels: performance stays unknown")
        + ("" if model.retrain else ", no retrain: section: requests have no taker")
        for name, model in config.models.items()
    ]
    return SetupCheck("configuration", "ok", "; ".join(parts))


def _topics(config: Config, *, create: bool) -> Iterator[SetupCheck]:
    # Our own topics are ours to make: a broker that makes them by itself gives them its defaults, with one partition.
    created = ensure_internal(config.kafka, topics_of(config))
    yield SetupCheck("internal topics", "ok", f"{len(created)} created, all have their partitions")
    missing = ensure_inputs(config.kafka, input_topics(config), create_inputs=create)
    if missing and not create:
        text = f"{', '.join(missing)} do not exist; create them, or run check --create"
        yield SetupCheck("input topics", "failed", text)
    else:
        new = f", {len(missing)} of them new" if missing else ""
        yield SetupCheck("input topics", "ok", f"{len(input_topics(config))} exist{new}")


def _settings(config: Config) -> Iterator[SetupCheck]:
    """Compare our own topics, which someone else may have made, with how we would have made them."""
    topics = topics_of(config).all()
    with admin_client(config.kafka) as admin:
        kept = {topic.name: topic_config(admin, topic.name) for topic in topics}
    for topic in topics:
        wrong = list(differences(topic, kept[topic.name]))
        if wrong:
            has = ", ".join(f"{name}={value}" for name, value, _ in wrong)
            needs = ", ".join(f"{name}={value}" for name, _, value in wrong)
            lost = "state is lost after its retention" if "compact" in topic.cleanup else "records are lost"
            # Only a wrong cleanup loses what is kept; the rest costs time, or a record is refused and told.
            harm = lost if any(name == "cleanup.policy" for name, _, _ in wrong) else "it costs time or refuses records"
            yield SetupCheck(f"settings of {topic.name}", "warning", f"has {has}: {harm}. Set {needs}")


def _baselines(config: Config, reader: Reader, known: KnownReferences) -> Iterator[SetupCheck]:
    """Say for each model which reference is in force, and how far one without order of time has been adopted."""
    for baseline in baselines(known, reader, topics_of(config), config.models):
        yield SetupCheck(f"reference of {baseline.model}", "ok" if baseline.known else "warning", baseline.words)


def _retention(config: Config) -> Iterator[SetupCheck]:
    """Compare how long topics are kept with what is read back: the label horizon and the training history."""
    joins = topics_of(config).joins
    names = [*input_topics(config), joins.name]
    with admin_client(config.kafka) as admin:
        kept = {name: topic_config(admin, name) for name in names}
    warned = False
    for found in retention_warnings(config, kept, joins):
        warned = True
        yield found
    yield from clock_warnings(config, kept)
    if not warned:
        yield SetupCheck("retention", "ok", "inputs are kept for the label horizon and the training history")


def retention_warnings(config: Config, kept: Mapping[str, Mapping[str, str]], joins: Topic) -> Iterator[SetupCheck]:
    """Yield what would be lost, given the configuration of each topic that exists."""
    # Of topics that exist: a missing one has been told.
    for name in sorted(set(input_topics(config)) & {topic for topic, found in kept.items() if found}):
        # Kafka's own default where a broker does not say.
        if "compact" in kept[name].get("cleanup.policy", "delete"):
            yield SetupCheck(
                f"cleanup of {name}",
                "warning",
                "is compacted: of records with one key all but the last are lost before or after they are counted, and "
                "verify cannot count them again. Set cleanup.policy=delete",
            )
        if int(kept[name].get("retention.bytes", -1)) >= 0:
            yield SetupCheck(
                f"retention of {name}",
                "warning",
                f"is also cut at {int(kept[name]['retention.bytes']):,} bytes a partition (retention.bytes): how long "
                "that is depends on the traffic, and what is cut before it is read is lost. Set retention.bytes=-1",
            )
    for name, model in config.models.items():
        for kind, mapping in model.topics().items():
            retention = _retention_ms(kept, mapping.topic)
            if retention is None:
                continue
            lost = []
            if model.labels is not None and kind != "label" and retention < model.label_horizon:
                late = format_duration(model.label_horizon)
                lost.append(
                    f"labels of {name} count for up to {late} (label_horizon): performance keeps what it needs, but a "
                    f"{kind} whose label comes later than its retention cannot be trained on"
                )
            if model.retrain is not None and retention < model.retrain.data.history:
                history = format_duration(model.retrain.data.history)
                lost.append(
                    f"{name} trains on up to {history} (retrain.data.history): older rows come from earlier snapshots "
                    "or are lost"
                )
            if lost:
                text = f"keeps {format_duration(retention)} of {kind}s. {'; '.join(lost)}. Raise retention.ms"
                yield SetupCheck(f"retention of {mapping.topic}", "warning", text)
    horizon = max((model.label_horizon for model in config.models.values()), default=0)
    retention = _retention_ms(kept, joins.name)
    if retention is not None and retention < joins.retention_ms:
        yield SetupCheck(
            f"retention of {joins.name}",
            "warning",
            f"keeps {format_duration(retention)}, labels count for up to {format_duration(horizon)} (label_horizon): "
            "after a restart without its local cache the join has lost older predictions. Raise retention.ms to "
            f"{joins.retention_ms}, which is somewhat more: a store is rebuilt from a step of the horizon on",
        )


def clock_warnings(config: Config, kept: Mapping[str, Mapping[str, str]]) -> Iterator[SetupCheck]:
    """Yield the inputs whose records carry their producers' clocks, by which events ahead of time are recognised."""
    if config.clock != "wall":
        return
    for name in sorted(input_topics(config)):
        if kept.get(name, {}).get("message.timestamp.type") == "CreateTime":
            yield SetupCheck(
                f"clock of {name}",
                "warning",
                "records are stamped by their producers: where a producer's clock is ahead, its events of the future "
                "are counted and those of all others become late. Set message.timestamp.type=LogAppendTime",
            )


def _retention_ms(kept: Mapping[str, Mapping[str, str]], topic: str) -> int | None:
    """How long a topic keeps records, None for ever or where it does not exist."""
    retention = int(kept.get(topic, {}).get("retention.ms", -1))
    return None if retention < 0 else retention
