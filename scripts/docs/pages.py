"""The generated pages: docs/events.md from messages, topics and codes, docs/metrics.md from the metrics."""

import json
from collections.abc import Iterable, Mapping
from textwrap import wrap
from typing import Any

from scripts.docs.asyncapi import BINDING, DEAD_LETTER_RETENTION, ROLES, internal_topics, message_of, suffix
from scripts.docs.examples import EXAMPLES
from stationkeeper.contracts.codes import DEAD_LETTER_HELP, Outcome
from stationkeeper.contracts.log_events import LOG_EVENT_HELP
from stationkeeper.contracts.messages import MESSAGES, Message, Verdict
from stationkeeper.contracts.metrics import METRICS
from stationkeeper.contracts.times import format_duration

_NOTE = "<!-- Written by `python -m scripts.docs.publish`; change contracts/ and run `make docs`. -->"
_PREFIXES = (
    ("ver-", "a verdict", "model, version, segment, subject, kind, time of the closed pane"),
    ("inc-", "an incident", "model, version, onset, leading subject"),
    ("req-", "a retrain request", "model, version, incident"),
    ("cand-", "a candidate", "request"),
    ("roll-", "a rollout", "model, version, candidate"),
)


def _prose(text: str) -> list[str]:
    return wrap(" ".join(text.split()), 118, break_long_words=False, break_on_hyphens=False)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return a Markdown table; bars inside cells are escaped."""
    head = list(head)

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *(line(row) for row in rows), ""]


def json_type(schema: Mapping[str, Any]) -> str:
    """Return the type of a JSON Schema property in words, e.g. ``number | null``, ``"champion" | "canary"``."""
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(json_type(option) for option in schema["anyOf"]))
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "string" and schema.get("format") == "date-time":
        return "RFC 3339 time"
    if kind == "array":
        return f"list of {json_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {json_type(schema['additionalProperties'])}"
    return kind


def fields(schema: Mapping[str, Any]) -> list[str]:
    """Return the table of a message's fields: name, type, whether it must be there, meaning."""
    required = set(schema.get("required", ()))
    properties: Mapping[str, Mapping[str, Any]] = schema["properties"]
    described = any("description" in value for value in properties.values())
    head = ["field", "type", "required", *(["meaning"] if described else [])]
    rows = []
    for name, value in properties.items():
        row = [f"`{name}`", json_type(value), "yes" if name in required else ""]
        rows.append([*row, str(value.get("description", ""))] if described else row)
    return table(head, rows)


def _message(message: type[Message]) -> list[str]:
    schema = message.model_json_schema()
    lines = [f"### {message.schema_name}", "", *str(message.__doc__).replace("``", "`").split("\n"), ""]
    lines = [line.strip() for line in lines]
    lines += fields(schema)
    nested: Mapping[str, Mapping[str, Any]] = schema.get("$defs", {})
    for name, part in nested.items():
        first = str(part.get("description", "")).splitlines()[0].replace("``", "`")
        if "enum" in part:
            lines += [f"`{name}`: {', '.join(f'`{value}`' for value in part['enum'])}. {first}", ""]
        else:
            lines += [f"`{name}`: {first}", "", *fields(part)]
    example = json.dumps(EXAMPLES[message], ensure_ascii=False, indent=1)
    lines += ["```json", example, "```", ""]
    return lines


def _topics() -> list[str]:
    writers: dict[str, list[str]] = {}
    readers: dict[str, list[str]] = {}
    for role in ROLES:
        for name in role.writes:
            writers.setdefault(name, []).append(role.name)
        for name in role.reads:
            readers.setdefault(name, []).append(role.name)
    rows = []
    for topic in internal_topics():
        name, message = suffix(topic), message_of(topic)
        kept = "until replaced" if topic.retention_ms < 0 else format_duration(topic.retention_ms)
        if name == "joins":
            kept = "label horizon"
        carries = f"[{message.schema_name}](#{message.schema_name})" if message else topic.carries
        rows.append(
            [
                f"`<prefix>.{name}`",
                carries,
                topic.key,
                str(topic.partitions),
                kept,
                ", ".join(writers.get(name, ["you, by `stationkeeper requests` and `deployments`"])),
                ", ".join(readers.get(name, ["you"])),
            ]
        )
    return table(["topic", "carries", "key", "partitions", "kept", "written by", "read by"], rows)


def events_page() -> str:
    """Return docs/events.md."""
    outcomes = ", ".join(f"`{outcome.value}`" for outcome in Outcome)
    codes = [[f"`{code.value}`", text] for code, text in DEAD_LETTER_HELP.items()]
    lines = [
        "# Events",
        "",
        _NOTE,
        "",
        *_prose(f"""What Stationkeeper reads from Kafka and what it writes. JSON Schemas: `contracts/schemas/`; the
            same as AsyncAPI 3.0 with Kafka bindings {BINDING}: `contracts/asyncapi.json`. Times are UTC. A missing
            value is `null`. NaN and infinities, which JSON does not have and `json.dumps` writes, are read:
            NaN is null, and in a feature an infinity is counted as not finite. An id, model or version may be a whole
            number: 7 is "7"."""),
        "",
        "## What you send",
        "",
        *_prose("""One JSON object a record, to topics of your own; topics in another form are read through a mapping in
            the configuration. Unknown fields are ignored. The key should be `event_id`: whether an event is a duplicate
            or late is decided within its partition."""),
        "",
        *_prose("""A topic whose values are not JSON text names a `decoder:` beside its `topic:`. `json` is the default;
            `confluent-json` takes off the five bytes that Confluent's JSON serialisers put before the text; any other
            is an entry point of `stationkeeper.decoders`, or an import path `package.module:Name`, of a class with
            `decode(value, headers)`. It returns JSON text, an object, or the dead-letter code that refuses the record;
            `stationkeeper.events.conformance.check_decoder` tries it. What it gives is then read by the same rules,
            through the same mapping, as JSON. Dead letters keep the value as it came."""),
        "",
    ]
    for message in MESSAGES:
        if message is Verdict:
            lines += ["## What comes out", ""]
        lines += _message(message)
    lines += [
        "## Topics",
        "",
        *_prose("""`<prefix>` is `kafka.prefix`, by default `stationkeeper`. The numbers of partitions are fixed: keys
            are placed by them. Topics without a JSON message carry versioned binary records (a format byte, zstd,
            msgpack; `contracts/wire.py`)."""),
        "",
        *_topics(),
        "## Names made from content",
        "",
        "An id is a prefix and 20 hex digits of a BLAKE2b hash, so a replay repeats the name and not the effect.",
        "",
        *table(["prefix", "names", "hash of"], [[f"`{p}`", what, of] for p, what, of in _PREFIXES]),
        "## What becomes of a record",
        "",
        *_prose(f"Every record that is read ends in exactly one way: {outcomes}; they sum to received."),
        "",
        *_prose(f"""A rejected record goes to `<input>.dlq` (kept {DEAD_LETTER_RETENTION}) with value and key as they
            came, its own headers, and these: `stationkeeper.topic`, `.partition`, `.offset`, `.timestamp`,
            `.error.code`, `.error.detail` (a field's name or a limit, never a value) and `.stage`.
            `kafka.dead_letters.connect_headers` adds Kafka Connect's names. Codes:"""),
        "",
        *table(["code", "what it means and what to do"], codes),
        "With `oversize` the value is absent; `stationkeeper.value.sha256` and `.value.bytes` say what it was.",
        "",
        "## Log events",
        "",
        "Every log line is one JSON object whose `event` is one of these; its data are fields beside it.",
        "",
        *table(["event", "meaning"], [[f"`{e.value}`", text] for e, text in LOG_EVENT_HELP.items()]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def metrics_page() -> str:
    """Return docs/metrics.md."""
    rows = [[f"`{m.name}`", m.kind, ", ".join(f"`{label}`" for label in m.labels), m.unit, m.help] for m in METRICS]
    lines = [
        "# Metrics",
        "",
        _NOTE,
        "",
        *_prose("""Every role serves `/metrics` on its port, in the Prometheus text format or, if asked, OpenMetrics. A
            series that is no longer known is withdrawn, not frozen. Totals are the committed ones, exported by the
            partition's owner only, so that they survive a restart and a takeover."""),
        "",
        *_prose("""Beside these every process exports what the Prometheus client tells of any process on Linux, by the
            names that ready-made dashboards read: `process_cpu_seconds_total`, `process_resident_memory_bytes`,
            `process_virtual_memory_bytes`, `process_open_fds`, `process_max_fds` and `process_start_time_seconds`."""),
        "",
        *table(["metric", "kind", "labels", "unit", "meaning"], rows),
    ]
    return "\n".join(lines).rstrip() + "\n"
