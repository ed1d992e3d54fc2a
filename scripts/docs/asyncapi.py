"""The AsyncAPI 3.0 document of every topic and message, with Kafka bindings 0.5.0."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from scripts.docs.examples import EXAMPLES
from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.contracts.messages import (
    MESSAGES,
    Approval,
    Candidate,
    Deployment,
    FeatureEvent,
    InputDecision,
    LabelEvent,
    Message,
    PredictionEvent,
    RetrainRequest,
    Rollout,
    Verdict,
)
from stationkeeper.contracts.topics import DAY_MS, Topic, Topics, dead_letter_topic
from stationkeeper.streams.kafka.topics import DEAD_LETTER_RETENTION_MS

Json = dict[str, Any]

BINDING: Final = "0.5.0"
BINARY: Final = "application/vnd.stationkeeper.records+zstd"
DEAD_LETTER_RETENTION: Final = f"{DEAD_LETTER_RETENTION_MS // DAY_MS}d"

_PREFIX = "{prefix}"
_INPUTS = ((PredictionEvent, "predictions"), (FeatureEvent, "features"), (LabelEvent, "labels"))
_JSON_TOPICS: dict[str, type[Message]] = {
    "verdicts": Verdict,
    "retrain-requests": RetrainRequest,
    "candidates": Candidate,
    "rollouts": Rollout,
    "deployments": Deployment,
    "approvals": Approval,
    "input-decisions": InputDecision,
}


@dataclass(frozen=True, slots=True)
class Role:
    """What one role reads and writes, as suffixes of internal topics; ``inputs`` for the user's own topics."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


ROLES: Final = (
    Role(
        "tally",
        ("inputs", "references", "rollouts", "input-decisions", "tally-state"),
        ("panes", "joins", "dead-letters", "tally-state"),
    ),
    Role("join", ("joins", "join-state"), ("panes", "join-state")),
    Role(
        "judge",
        ("panes", "references", "rollouts", "judge-state"),
        ("verdicts", "retrain-requests", "history", "judge-state"),
    ),
    Role(
        "retrain",
        ("inputs", "retrain-requests", "approvals", "references", "rollouts", "retrain-state"),
        ("candidates", "references", "retrain-requests.dlq", "retrain-state"),
    ),
    Role("deploy", ("candidates", "history", "verdicts", "approvals", "rollouts"), ("rollouts", "deployments")),
    Role("serve", ("rollouts",), ("predictions",)),
    Role("notify", ("verdicts", "retrain-requests", "deployments"), ()),
)
"""Who reads and writes what; docs/events.md and the operations of the document are made from it."""


def suffix(topic: Topic) -> str:
    """Return a topic's name without its prefix."""
    return topic.name.removeprefix(f"{_PREFIX}.")


def internal_topics() -> tuple[Topic, ...]:
    """Return the internal topics with a placeholder for the prefix."""
    return Topics(_PREFIX).all()


def message_of(topic: Topic) -> type[Message] | None:
    """Return the JSON message that an internal topic carries; None for binary records and references."""
    return _JSON_TOPICS.get(suffix(topic))


def document(version: str) -> Json:
    """Return the whole AsyncAPI document; ``version`` is that of the messages' project."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Stationkeeper",
            "version": version,
            "license": {"name": "Apache-2.0"},
            "description": (
                "Everything Stationkeeper reads from and writes to Kafka. Made by `python -m scripts.docs.publish`."
            ),
        },
        "defaultContentType": "application/json",
        "channels": dict(_channels()),
        "operations": dict(_operations()),
        "components": {"schemas": _schemas(), "messages": dict(_messages())},
    }


def _schemas() -> Json:
    _, schema = models_json_schema(
        [(message, "validation") for message in MESSAGES], ref_template="#/components/schemas/{model}"
    )
    definitions: Json = schema["$defs"]
    return definitions


def _messages() -> Iterator[tuple[str, Json]]:
    for message in MESSAGES:
        yield (
            message.schema_name,
            {
                "name": message.schema_name,
                "title": message.__name__,
                "summary": (message.__doc__ or "").splitlines()[0],
                "contentType": "application/json",
                "payload": {"$ref": f"#/components/schemas/{message.__name__}"},
                "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": BINDING}},
                "examples": [{"payload": EXAMPLES[message]}],
            },
        )
    yield (
        "records",
        {
            "name": "records",
            "title": "Binary records",
            "summary": "A format byte, then zstd of a msgpack list of records (contracts/wire.py), or a role's state.",
            "contentType": BINARY,
            "payload": {"type": "string", "format": "binary"},
        },
    )
    yield (
        "reference",
        {
            "name": "reference",
            "title": "Reference",
            "summary": "The frozen bins of a model version.",
            "contentType": "application/json",
            "payload": {"type": "object"},
        },
    )
    own = ("topic", "partition", "offset", "timestamp", "error.detail", "stage", "value.sha256", "value.bytes")
    yield (
        "dead-letter",
        {
            "name": "dead-letter",
            "title": "Dead letter",
            "summary": "A rejected record: value and key byte-identical, the reason in headers.",
            "contentType": "application/octet-stream",
            "payload": {"type": "string", "format": "binary"},
            "headers": {
                "type": "object",
                "required": ["stationkeeper.error.code", "stationkeeper.topic", "stationkeeper.offset"],
                "properties": {
                    "stationkeeper.error.code": {"type": "string", "enum": [code.value for code in DeadLetterCode]},
                    **{f"stationkeeper.{name}": {"type": "string"} for name in own},
                },
            },
        },
    )


def _message_ref(channel: str, name: str) -> Json:
    return {"$ref": f"#/channels/{channel}/messages/{name}"}


def _carried(topic: Topic) -> str:
    message = message_of(topic)
    if message is not None:
        return message.schema_name
    if suffix(topic).endswith(dead_letter_topic("")):
        return "dead-letter"
    return "reference" if suffix(topic) == "references" else "records"


def _channels() -> Iterator[tuple[str, Json]]:
    for message, name in _INPUTS:
        yield (
            name,
            {
                "address": f"{{model}}.{name}",
                "description": f"A topic of yours, named under `models.<model>.{name}`; only read.",
                "parameters": {"model": {"description": "Any name you like; the configuration says which topic."}},
                "messages": {message.schema_name: {"$ref": f"#/components/messages/{message.schema_name}"}},
                "bindings": {"kafka": {"bindingVersion": BINDING}},
            },
        )
    yield (
        "dead-letters",
        {
            "address": "{input}.dlq",
            "description": f"Rejected records of an input topic, kept {DEAD_LETTER_RETENTION}.",
            "parameters": {"input": {"description": "The input topic."}},
            "messages": {"dead-letter": {"$ref": "#/components/messages/dead-letter"}},
            "bindings": {"kafka": {"partitions": 1, "bindingVersion": BINDING}},
        },
    )
    for topic in internal_topics():
        carried = _carried(topic)
        yield (
            suffix(topic),
            {
                "address": topic.name,
                "description": f"Carries {topic.carries}; key: {topic.key}.",
                "parameters": {"prefix": {"description": "kafka.prefix", "default": "stationkeeper"}},
                "messages": {carried: {"$ref": f"#/components/messages/{carried}"}},
                "bindings": {"kafka": _binding(topic)},
            },
        )


def _binding(topic: Topic) -> Json:
    return {
        "partitions": topic.partitions,
        "topicConfiguration": {
            "cleanup.policy": topic.cleanup.split(","),
            "retention.ms": topic.retention_ms,
            "max.message.bytes": topic.max_message_bytes,
        },
        "bindingVersion": BINDING,
    }


def _operations() -> Iterator[tuple[str, Json]]:
    carried = {suffix(topic): _carried(topic) for topic in internal_topics()}
    carried |= {name: message.schema_name for message, name in _INPUTS} | {"dead-letters": "dead-letter"}
    for role in ROLES:
        reads = [name for _, name in _INPUTS] if "inputs" in role.reads else []
        reads += [name for name in role.reads if name != "inputs"]
        for action, channels in (("receive", reads), ("send", role.writes)):
            for channel in channels:
                yield (
                    f"{role.name}-{action}-{channel}",
                    {
                        "action": action,
                        "channel": {"$ref": f"#/channels/{channel}"},
                        "messages": [_message_ref(channel, carried[channel])],
                    },
                )
