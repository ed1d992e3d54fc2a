"""Verbs for rejected records: count them by code, look at one, send them back."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stationkeeper.commands.options import ConfigOption, JsonOption, print_json, print_rows
from stationkeeper.commands.topics import partition_states
from stationkeeper.contracts.codes import DEAD_LETTER_HELP, DeadLetterCode

if TYPE_CHECKING:
    from stationkeeper.config import Config

Topic = Annotated[str, typer.Argument(help="The input topic, as list prints it.", show_default=False)]
Address = Annotated[str, typer.Argument(help="topic/partition/offset, as list prints it.", show_default=False)]
Codes = Annotated[list[DeadLetterCode] | None, typer.Option("--code", help="Only these codes.")]
Addresses = Annotated[list[str] | None, typer.Option("--address", help="Only these records.")]


def _rejecting(config: "Config") -> list[str]:
    """Return the topics beside which dead letters lie: every model's inputs, and the requests to retrain."""
    from stationkeeper.process.wiring import input_topics, topics_of

    return [*input_topics(config), topics_of(config).requests.name]


def list_rejected(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List rejected records by topic and code, with the newest one's address, and say which topics stopped."""
    from stationkeeper.process.wiring import open_reader
    from stationkeeper.streams.dead_letters.box import summary

    with open_reader(config) as (settings, reader, topics):
        states = partition_states(settings, reader, topics).values()
        # Partitions of one topic may have stopped for two reasons, each with a verb of its own.
        said: dict[str, dict[str, None]] = {}
        for state in states:
            if state.stopped:
                said.setdefault(state.partition.topic, {})[state.stopped] = None
        stops = {topic: "; ".join(words) for topic, words in said.items()}
        rows = [row for topic in _rejecting(settings) for row in summary(reader, topic)]
    # Nothing is rejected any more of a topic that stopped: the list alone would read as if the trouble were over.
    rows = [{**row, "stopped": stops.get(row["topic"], "")} for row in rows]
    for words in stops.values():
        typer.echo(f"not read any more: {words}", err=True)
    if json:
        # A topic may stop and keep no letter: it is a row that counts none.
        told = {row["topic"] for row in rows}
        print_json(
            [*rows, *({"topic": one, "count": 0, "stopped": words} for one, words in stops.items() if one not in told)]
        )
    else:
        columns = ("topic", "code", "count", "replayed", "newest", "detail", "address")
        print_rows(rows, columns, empty="no dead letter is kept" if stops else "no record was rejected")


def show_rejected(address: Address, config: ConfigOption = None) -> int:
    """Show one rejected record whole, as JSON: code and what to do, key, value, headers."""
    from stationkeeper.process.wiring import open_reader
    from stationkeeper.streams.dead_letters.box import show

    with open_reader(config) as (_settings, reader, _):
        try:
            letter = show(reader, address)
        except LookupError as error:
            typer.secho(str(error), err=True, fg="red")
            return 1
    # By text and not by code: a letter of a newer version may carry a code that this one does not know.
    known = {code.value: text for code, text in DEAD_LETTER_HELP.items()}
    print_json(letter.to_json() | {"help": known.get(letter.code, "")})
    return 0


def replay_rejected(
    topic: Topic,
    code: Codes = None,
    address: Addresses = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Send rejected records back to their topic, byte-identical and each once, in one transaction."""
    from stationkeeper.process.wiring import open_reader
    from stationkeeper.streams.connect import sink_for
    from stationkeeper.streams.dead_letters.box import replay
    from stationkeeper.streams.ports import Outgoing

    with open_reader(config) as (settings, reader, _):
        if topic not in (known := _rejecting(settings)):
            raise typer.BadParameter(f"{topic!r} is no topic of which records are rejected; topics: {', '.join(known)}")
        sink = sink_for(settings.kafka, f"dead-letters.{topic}")

        def produce(records: Sequence[Outgoing]) -> None:
            sink.begin()
            sink.send(records)
            sink.commit({}, None)

        try:
            # Whoever replays this topic at the same time is fenced before the letters are read, so none goes twice.
            sink.recover()
            done = replay(reader, topic, produce, codes=[c.value for c in code or ()], addresses=address or ())
        finally:
            sink.close()
    if json:
        print_json({"topic": topic, "sent": done.sent, "skipped": done.skipped})
        return
    typer.echo(f"{len(done.sent)} records went back to {topic}")
    for reason in done.skipped:
        typer.echo(f"not sent: {reason}", err=True)


DEAD_LETTER_VERBS: dict[str, Callable[..., Any]] = {
    "list": list_rejected,
    "show": show_rejected,
    "replay": replay_rejected,
}
