"""Verbs for input topics: which are read and how far, and a person's word on one that was stopped."""

import time as clock
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stationkeeper.commands.options import ConfigOption, JsonOption, print_json, print_rows

if TYPE_CHECKING:
    from stationkeeper.config import Config
    from stationkeeper.contracts.topics import Topics
    from stationkeeper.monitor.tally import PartitionState
    from stationkeeper.streams.ports import Partition, Reader

Topic = Annotated[str, typer.Argument(help="The input topic, as list prints it.", show_default=False)]
Person = Annotated[str, typer.Option("--by", help="Who decides; kept with the decision.")]


def list_topics(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List input topics by partition: how far they are read, and why one is not read any more."""
    from stationkeeper.process.wiring import input_topics, open_reader

    rows: list[dict[str, Any]] = []
    with open_reader(config) as (settings, reader, topics):
        states = partition_states(settings, reader, topics)
        for topic in input_topics(settings):
            mine = {partition: state for partition, state in states.items() if partition.topic == topic}
            bounds = reader.bounds(reader.partitions(topic))
            # Both: a partition that nobody has read yet has no state, one of a topic that was deleted has no end.
            for partition in sorted({*mine, *bounds}):
                state, end = mine.get(partition), bounds.get(partition, (None, None))[1]
                read_to = None if state is None else state.next_offset
                stopped = "" if state is None else state.stopped
                rows.append(
                    {"topic": topic, "partition": partition.index, "read_to": read_to, "end": end, "stopped": stopped}
                )
    if json:
        print_json(rows)
    else:
        print_rows(rows, ("topic", "partition", "read_to", "end", "stopped"), empty="no model has an input topic")


def resume(topic: Topic, by: Person = "unknown", config: ConfigOption = None, json: JsonOption = False) -> int:
    """Read a topic on that was stopped for its rejected records; those written until now may be rejected."""
    return _decide(topic, "resume", by, config, json=json)


def accept_new(topic: Topic, by: Person = "unknown", config: ConfigOption = None, json: JsonOption = False) -> int:
    """Read a topic from its beginning that was deleted and created again; one that lost its end, from there on."""
    return _decide(topic, "accept_new", by, config, json=json)


def _decide(topic: str, action: Literal["resume", "accept_new"], by: str, config: Any, *, json: bool) -> int:
    from stationkeeper.contracts.messages import InputDecision
    from stationkeeper.contracts.times import to_datetime
    from stationkeeper.process.wiring import input_topics, open_reader, publish
    from stationkeeper.streams.kafka.topics import admin_client, topic_ids
    from stationkeeper.streams.ports import Outgoing

    with open_reader(config) as (settings, reader, topics):
        if topic not in (known := input_topics(settings)):
            raise typer.BadParameter(f"{topic!r} is no input topic of a model; topics: {', '.join(known) or 'none'}")
        with admin_client(settings.kafka) as admin:
            ids = topic_ids(admin, [topic])
        # Asked of the broker and not of the state: the decision names the topic by the id that it has now.
        if topic not in ids:
            typer.secho(f"{topic} does not exist: create it first", err=True, fg="red")
            return 1
        mine = {p: state for p, state in partition_states(settings, reader, topics).items() if p.topic == topic}
        ends = {p: end for p, (_, end) in reader.bounds(reader.partitions(topic)).items()}
        if refusal := _refusal(topic, action, ids[topic], mine, ends):
            typer.secho(refusal, err=True, fg="red")
            return 1
        word = InputDecision(
            time=to_datetime(round(clock.time() * 1_000)),
            topic=topic,
            action=action,
            topic_id=ids[topic],
            ends={partition.index: end for partition, end in ends.items()},
            by=by,
        )
        publish(settings, Outgoing(topics.input_decisions.name, word.encode(), f"{topic}/{action}".encode()))
    if json:
        print_json(word.model_dump(mode="json"))
        return 0
    then = {
        "resume": "is read on; records up to now may be rejected, later ones can stop it again",
        "accept_new": "is read as the topic it is now",
    }
    typer.echo(f"{topic} {then[action]}. A running monitor does so within seconds, another one when it starts")
    return 0


def _refusal(
    topic: str,
    action: str,
    present: str,
    states: "Mapping[Partition, PartitionState]",
    ends: "Mapping[Partition, int]",
) -> str:
    """Return why a decision would change nothing, empty where it would."""
    if not any(state.stopped for state in states.values()):
        return f"{topic} is not stopped; stationkeeper topics list shows how far it is read"
    # Another id, or an end before what was read: deleted and created again, or restored from a backup.
    other = any(state.topic_id not in {"", present} for state in states.values())
    new = other or any((state.next_offset or 0) > ends.get(partition, 0) for partition, state in states.items())
    if action == "resume" and new:
        return f"{topic} is another topic than was read before; stationkeeper topics accept-new {topic} reads it"
    if action == "accept_new" and not new:
        return f"{topic} is the topic that was read before; stationkeeper topics resume {topic} reads it on"
    return ""


def partition_states(settings: "Config", reader: "Reader", topics: "Topics") -> "dict[Partition, PartitionState]":
    """Return what the tally keeps of each input partition."""
    from stationkeeper.monitor.tally import PartitionState
    from stationkeeper.process.wiring import input_topics
    from stationkeeper.streams.ports import Partition

    values: dict[bytes, bytes] = {}
    for batch in reader.read(reader.partitions(topics.tally_state.name)):
        for key, value in zip(batch.keys, batch.values, strict=True):
            if key is not None and value is not None:
                values[key] = value
            elif key is not None:
                values.pop(key, None)
    found = {}
    for name in input_topics(settings):
        # Also of partitions that are gone: their state is what tells that a topic was read before.
        indexes = {int(key.split(b"/")[1]) for key in values if key.startswith(f"{name}/".encode())}
        for index in sorted(indexes):
            state = found[Partition(name, index)] = PartitionState(Partition(name, index), 0)
            state.restore(values)
    return found


TOPIC_VERBS: dict[str, Callable[..., Any]] = {"list": list_topics, "resume": resume, "accept-new": accept_new}
