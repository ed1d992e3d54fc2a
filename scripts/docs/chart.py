"""What the Helm chart takes from the code: the schema of its values, our topics, and the rights of each Kafka user."""

from typing import Any, Final

from scripts.docs.acls import Right, rights
from stationkeeper.config import ModelConfig
from stationkeeper.contracts.times import format_duration
from stationkeeper.contracts.topics import Topic, Topics
from stationkeeper.effective import schema as configuration_schema
from stationkeeper.streams.kafka.topics import dead_letter_for

Json = dict[str, Any]

# One that divides by every slack that `Topics` may take, so that the slack can be read back from its retention.
_HORIZON_MS: Final = 1 << 40
_KINDS: Final = {"topic": "topic", "group": "group", "transactional-id": "transactionalId"}

_TEXT: Final[Json] = {"type": "string"}
_BOOL: Final[Json] = {"type": "boolean"}
_COUNT: Final[Json] = {"type": "integer", "minimum": 1}
_SECONDS: Final[Json] = {"type": "integer", "minimum": 0}
_MAP: Final[Json] = {"type": "object"}
_TEXTS: Final[Json] = {"type": "array", "items": _TEXT}
_OBJECTS: Final[Json] = {"type": "array", "items": _MAP}


def _closed(**properties: Json) -> Json:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _role(**more: Json) -> Json:
    pod = _closed(
        labels=_MAP,
        annotations=_MAP,
        nodeSelector=_MAP,
        tolerations=_OBJECTS,
        affinity=_MAP,
        priorityClassName=_TEXT,
        env=_OBJECTS,
        envFrom=_OBJECTS,
        secrets=_TEXTS,
    )
    return _closed(replicas=_COUNT, resources=_MAP, preStopSeconds=_SECONDS, pod=pod, **more)


def values_schema() -> Json:
    """Return the JSON Schema of the chart's values; ``config`` is the whole configuration of the program."""
    configuration = configuration_schema()
    definitions = configuration.pop("$defs")
    dialect = configuration.pop("$schema")
    volume = {"size": _TEXT, "storageClassName": {"type": ["string", "null"]}, "enabled": _BOOL}
    labelled = {"enabled": _BOOL, "labels": _MAP}
    values = _closed(
        config=configuration,
        image=_closed(
            monitor=_TEXT,
            full=_TEXT,
            tag=_TEXT,
            pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
            pullSecrets=_TEXTS,
        ),
        nameOverride=_TEXT,
        fullnameOverride=_TEXT,
        env=_OBJECTS,
        envFrom=_OBJECTS,
        secrets=_TEXTS,
        terminationGracePeriodSeconds=_COUNT,
        monitor=_role(persistence=_closed(**volume)),
        retrain=_role(enabled=_BOOL, persistence=_closed(**volume, existingClaim=_TEXT)),
        deploy=_role(enabled=_BOOL, rules=_OBJECTS),
        serve=_role(enabled=_BOOL, service=_closed(type=_TEXT, annotations=_MAP)),
        serviceAccount=_closed(create=_BOOL, name=_TEXT, annotations=_MAP),
        podDisruptionBudget=_closed(enabled=_BOOL, maxUnavailable={"type": ["integer", "string"]}),
        networkPolicy=_closed(enabled=_BOOL, metricsFrom=_OBJECTS, serveFrom=_OBJECTS, egress=_OBJECTS),
        serviceMonitor=_closed(**labelled, interval=_TEXT, authorization=_MAP, tlsConfig=_MAP),
        prometheusRule=_closed(**labelled),
        dashboards=_closed(**labelled, annotations=_MAP),
        strimzi=_closed(
            apiVersion=_TEXT,
            cluster=_TEXT,
            namespace=_TEXT,
            topics=_closed(enabled=_BOOL, replicas=_COUNT),
            users=_closed(
                enabled=_BOOL,
                people={"type": "array", "items": {"enum": ["setup", "operator", "reader"]}},
                protocol={"enum": ["SASL_SSL", "SASL_PLAINTEXT"]},
            ),
        ),
        keda=_closed(
            enabled=_BOOL, minReplicas=_COUNT, maxReplicas=_COUNT, lagThreshold=_COUNT, authenticationRef=_TEXT
        ),
        # Helm gives every chart these; a parent chart writes the first.
        **{"global": _MAP},
    )
    return {"$schema": dialect, "title": "Values of the chart stationkeeper", "$defs": definitions, **values}


def kafka_objects() -> Json:
    """Return our topics and the rights of each user, with places for the prefix and for the topics of the models.

    ``{predictions}`` and ``{others}`` stand for each topic of that kind, ``{input}`` for each of either. Of a topic
    with ``horizon`` the retention is the longest label horizon and one ``horizon_slack``-th of it.
    """
    made = Topics("{prefix}", label_horizon_ms=_HORIZON_MS)
    usual = {topic.name: topic for topic in Topics("{prefix}").all()}
    letters = dead_letter_for("{input}")
    default = ModelConfig.model_fields["label_horizon"].default
    users: dict[str, list[Json]] = {}
    for right in rights("{prefix}", ["{predictions}"], ["{others}"]):
        users.setdefault(right.user, []).append(_right(right))
    return {
        "label_horizon": format_duration(default),
        "horizon_slack": _HORIZON_MS // (made.joins.retention_ms - _HORIZON_MS),
        "topics": [_topic(one, horizon=one.retention_ms != usual[one.name].retention_ms) for one in made.all()],
        "dead_letters": _topic(letters, horizon=False),
        "users": users,
    }


def _topic(topic: Topic, *, horizon: bool) -> Json:
    return {"name": topic.name, "partitions": topic.partitions, "config": topic.config(), "horizon": horizon}


def _right(right: Right) -> Json:
    return {
        "type": _KINDS[right.kind],
        "name": right.name,
        "pattern": "prefix" if right.prefixed else "literal",
        "operations": list(right.operations),
    }
