"""The first configuration: what was named is sampled, looked at, written down, and read back as the roles read it."""

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import yaml

from stationkeeper.config import Config
from stationkeeper.events import Kind, ValueRules
from stationkeeper.init.infer import ColumnRoles, InitError, Sketch, sketch_events
from stationkeeper.init.names import likelihood
from stationkeeper.init.past import sketch_past
from stationkeeper.init.records import RecordSample, sampled
from stationkeeper.init.write import Sampled, asked, profile_command, render
from stationkeeper.streams.connect import reader_for
from stationkeeper.streams.ports import Reader
from stationkeeper.streams.settings import KafkaSettings

# By ending where the file is not there yet is no help; these say "a table" also of a name with a typing error.
TABLES: Final = frozenset({".csv", ".tsv", ".txt", ".parquet", ".pq"})
EVENT_FILES: Final = frozenset({".jsonl", ".ndjson", ".json"})


@dataclass(frozen=True, slots=True)
class FirstConfiguration:
    """The YAML, what was looked at, the command that profiles the table, and how the sample is read by it, in words."""

    text: str
    looked: tuple[Sketch, ...]
    profile: str | None
    proof: tuple[str, ...]


def first_configuration(
    source: str,
    topic: str | None,
    labels: str | None,
    model: str,
    kafka: KafkaSettings,
    rows: int,
    roles: ColumnRoles,
    rules: ValueRules,
    positive: str | None,
) -> FirstConfiguration:
    """Look at a file, a topic or both, and at a topic of labels; raises ``InitError`` where there is nothing to see.

    ``rules`` and ``positive`` are what a person said of a table's values; what the table itself tells is added.
    """
    path, told = Path(source), roles.fields
    # A file that does not exist is not taken for events: its name may be that of a topic.
    is_events = (
        topic is None and path.suffix.lower() in EVENT_FILES and path.exists() and not _holds_rows(path, rows, told)
    )
    past: Sketch | None = None
    if not is_events and (path.suffix.lower() in TABLES or path.exists()):
        past = sketch_past(path, rules, roles if topic is None else ColumnRoles(), positive)
        if topic is not None and (roles.named() or roles.left_out):
            # Beside a topic a field can be told of either side: a name that is no column is a path of its records.
            columns = {*past.features, *past.left_out, *(guess.path for guess in past.guesses)}
            mine = {name: column for name, column in told.items() if column in columns}
            told = {name: column for name, column in told.items() if name not in mine}
            past = sketch_past(path, rules, replace(roles, fields=mine), positive)
        else:
            told = {}
    # Neither a table nor a file: what was typed names a topic.
    elif not is_events:
        topic = source
    records: dict[Kind, RecordSample] = {}
    if is_events:
        records["prediction"] = _lines(path, rows)
    if topic is not None or labels is not None:
        with closing(reader_for(kafka, "init")) as reader:
            if topic is not None:
                records["prediction"] = sample_topic(reader, topic, rows, kafka.bootstrap)
            if labels is not None:
                records["label"] = sample_topic(reader, labels, rows, kafka.bootstrap)
    known: dict[Kind, tuple[str, ...]] = {}
    if past is not None:
        truth = past.guess("label")
        known = {"prediction": tuple(past.features), "label": () if truth is None else (truth.path,)}
    seen = {
        kind: sketch_events(one, kind, columns=known.get(kind, ()), told=told if kind == "prediction" else {})
        for kind, one in records.items()
    }
    for kind, sketch in seen.items():
        if not sketch.rows:
            raise InitError(_nothing(records[kind], sketch))
    main = seen.get("prediction", past)
    if main is None:
        raise InitError("give a FILE or a TOPIC of predictions beside --labels")
    of_labels = None if "label" not in seen else Sampled(labels, seen["label"])
    text = render(Sampled(topic, main), model=model, kafka=kafka, past=past, labels=of_labels)
    name = (main.models or (model,))[0]
    return FirstConfiguration(
        text,
        tuple(one for one in (past, *seen.values()) if one is not None),
        None if past is None else profile_command(past, name, None if main is past else main),
        (
            *([] if past is None else asked(past)),
            *_proof(text, records, {"prediction": topic or f"{name}.predictions", "label": labels or ""}),
        ),
    )


def sample_topic(reader: Reader, topic: str, rows: int, bootstrap: str) -> RecordSample:
    """Return the newest records of a topic, equally many of each partition; raises ``InitError`` for no topic."""
    partitions = reader.partitions(topic)
    if not partitions:
        raise InitError(f"there is no topic and no file called {topic!r} (broker {bootstrap})")
    bounds = reader.bounds(partitions)
    # Rounded up: with fewer rows than partitions each still gives one.
    each = -(-rows // len(partitions))
    # The newest: what a producer sent a year ago may have had another form.
    start = {p: max(first, end - each) for p, (first, end) in bounds.items()}
    batches = list(reader.read(partitions, start))
    values = [value for batch in batches for value in batch.values]
    headers = [header for batch in batches for header in (batch.headers or [()] * len(batch.values))]
    return sampled(f"topic {topic}", values[:rows], headers[:rows])


def _lines(path: Path, rows: int) -> RecordSample:
    with path.open("rb") as lines:
        return sampled(str(path), [line for _, line in zip(range(rows), lines, strict=False)])


def _holds_rows(path: Path, rows: int, told: Mapping[str, str]) -> bool:
    """Say whether a file of JSON lines is a table: flat objects in none of which an event's id is found.

    No role reads events without one, for no label finds them: such lines were exported from a warehouse. So were those
    in which nothing but its being another in each row speaks for an id, and no time is found that events could have.
    """
    if "event_id" in told:
        return False
    sample = _lines(path, rows)
    objects = sample.objects()
    if not objects or any(isinstance(cell, dict | list) for one in objects for cell in one.values()):
        return False
    sketch = sketch_events(sample, told=told)
    identity = sketch.guess("event_id")
    # The objects are flat, so a path is one key.
    named = identity is not None and likelihood("event_id", (identity.path,)) is not None
    return not sketch.own_form and not named and (identity is None or sketch.guess("time") is None)


def _nothing(sample: RecordSample, sketch: Sketch) -> str:
    why = f"{sample.source} holds no JSON objects to look at ({sketch.unreadable} records read)"
    # A zero byte begins no JSON text; it is how the frame of a schema registry begins.
    if any(value and value[0] == 0 for value in sample.values):
        why += (
            "; they begin with a schema registry's frame and are Avro or Protobuf: name a decoder (docs/extending.md)"
        )
    return why


def _proof(text: str, records: Mapping[Kind, RecordSample], topics: Mapping[Kind, str]) -> list[str]:
    """Read the samples back under the configuration as it is written: one line a topic."""
    # From the text, not from the values it was made of: what is proven is what a person will run.
    config = Config.parse(yaml.safe_load(text))
    lines = []
    for kind, sample in records.items():
        found: Counter[str] = sample.as_written(config, topics[kind])
        read = found.pop("read")
        failed = "".join(f", {count} × {code}" for code, count in found.most_common())
        mend = "" if read else ": fill in the lines marked with # in map:, then run check --sample"
        lines.append(f"{sample.source}: {read} of {len(sample.values)} records are read as written{failed}{mend}")
    return lines
