"""``init``: a commented configuration from what a sample looks like, for a person to correct.

A guess says why it was made; what cannot be guessed is left as a commented line to fill in.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Final

import yaml

from stationkeeper.events.settings import JSON
from stationkeeper.init.infer import Sketch
from stationkeeper.streams.settings import KafkaSettings

# What needs no quotes in YAML, also within braces: words and paths of letters, digits and a few signs.
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
# How many fields that are no features are named; a wide record may have hundreds, and the rest is counted.
_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Sampled:
    """An input topic, where one is named, and what its sample looks like."""

    topic: str | None
    sketch: Sketch


def render(
    events: Sampled, *, model: str, kafka: KafkaSettings, past: Sketch | None = None, labels: Sampled | None = None
) -> str:
    """Return the configuration as commented YAML; it parses, and ``check`` says what is still missing.

    ``events`` is the sample of the topic, or of a file in its place, or the table itself. ``past`` is a file of past
    predictions beside a topic: the features that both have are the reference's. ``labels`` is a topic of labels.
    """
    sketch = events.sketch
    lines = [
        f"# Guessed from {sketch.rows} rows of {sketch.source}"
        + (f"; {sketch.unreadable} more were not JSON objects" if sketch.unreadable else "")
        + ". Read every line, then: stationkeeper check",
        "clock: wall                       # stream: time is the highest event time seen (replays)",
        "kafka:",
        f"  bootstrap: {_scalar(kafka.bootstrap)}",
        f"  prefix: {_scalar(kafka.prefix)}           # our own topics are named {kafka.prefix}.panes and so on",
        *_security(kafka),
        "models:",
    ]
    # The models that the sample names; the name given is for samples that name none.
    names = sketch.models or (model,)
    for name in names:
        lines += _model(events, name, names[0], past, labels)
    return "\n".join(lines) + "\n"


def _security(kafka: KafkaSettings) -> list[str]:
    """Write how the sample was reached, a password apart: that has no place in a file that people pass on."""
    told = kafka.security.model_dump(mode="json", exclude_defaults=True, exclude={"password", "key_password"})
    lines = [f"    {key}: {_scalar(str(value))}" for key, value in told.items()]
    if kafka.security.password is not None:
        lines.append("    # password_file: or password_env:    # the password itself is not written here")
    client = [] if kafka.client == KafkaSettings().client else [f"  client: {kafka.client}"]
    return [*client, *(["  security:", *lines] if told else [])]


def _model(events: Sampled, name: str, first: str, past: Sketch | None, labels: Sampled | None) -> list[str]:
    """Write one model; those after the ``first`` of a topic repeat its block, for a topic is read in one way."""
    sketch, same = events.sketch, name != first
    table = sketch if sketch.table else past
    lines = [f"  {_scalar(name)}:"]
    if table is not None:
        lines += _columns(table, name, sketch if table is not sketch else None)
    topic = events.topic or f"{first}.predictions"
    kinds = sketch.kinds or ("prediction",)
    # Models of one topic share one block of YAML: written twice, the two could be edited apart.
    several = len(sketch.models) > 1
    if kinds == ("label",):
        lines.append(f"    predictions: {_scalar(f'{first}.predictions')}    # the sample holds labels only: name it")
        lines += ["    labels: *labels"] if same else _input("labels", topic, sketch, name, anchor=several)
    elif sketch.table:
        lines.append(f"    predictions: {_scalar(topic)}      # events in our own form: docs/events.md")
    elif same:
        lines.append("    predictions: *predictions")
    else:
        lines += _input("predictions", topic, sketch, name, anchor=several or len(kinds) > 1)
    lines += [f"    {kind}s: *predictions" for kind in ("feature", "label") if kind in kinds and len(kinds) > 1]
    if labels is not None and labels.topic is not None and "label" not in kinds:
        block = _input("labels", labels.topic, labels.sketch, name, anchor=several)
        lines += ["    labels: *labels"] if same else block
    elif "label" not in kinds:
        lines.append(
            f"    # labels: {first}.labels         # without labels: drift and quality only, performance unknown"
        )
    told = (table, None if labels is None else labels.sketch, None if sketch.table else sketch)
    lines += _values([one for one in told if one is not None])
    return [
        *lines,
        "    false_pages: 1 per 30 days     # the whole model: every feature, segment and window together",
        "    # pane: 1m                     # what is counted together; decisions are made on closed panes",
        "    # lateness: 2m                 # events later than this behind their partition are counted as late",
        "    # segments: []                 # e.g. [country]: each gets its own watch, inside the same budget",
    ]


def _columns(table: Sketch, name: str, events: Sketch | None) -> list[str]:
    """Say what the table's columns were taken for, and the command that profiles it."""
    lines = [f"    # {guess.field}: column {guess.path!r} of {table.source} ({guess.why})" for guess in table.guesses]
    lines += [f"    # {line}" for line in asked(table)]
    lines += _left_out(table)
    lines += _strangers(table, events) if events is not None else []
    # Of what YAML takes for the end of a line, or does not take at all, the repr: the command itself is printed below.
    command = "".join(c if c.isprintable() else repr(c)[1:-1] for c in profile_command(table, name, events))
    return [*lines, "    # The reference that drift is measured against:", f"    #   {command}"]


def asked(table: Sketch) -> list[str]:
    """Say which answer or truth was not found, and which columns are watched as features though they may be it."""
    lines = []
    for field, names in table.unsure.items():
        one = len(names) == 1
        watched = f", and {_inline(names[:_SHOWN])} would be watched as {'a feature' if one else 'features'}"
        known = f"if {'it' if one else 'one of them'} is the {field} say" if names else "say"
        lines.append(f"no {field} was found{watched if names else ''}; {known} --field {field}=COLUMN")
    return lines


def _values(told: Sequence[Sketch]) -> list[str]:
    """Write how values are read, so that reference and events obey the same rules, and which class scores are about.

    The first that knows the positive class says it; one that only asks comes last.
    """
    values = [guess for sketch in told for guess in sketch.values]
    lines = ["    values:                        # how texts are read, in files and in events"] if values else []
    for guess in values:
        one, many = str(guess.value), guess.value if isinstance(guess.value, tuple) else None
        shown = _scalar(one) if many is None else f"[{', '.join(map(_scalar, many))}]"
        lines.append(f"      {guess.key}: {shown}    # {_line(guess.why)}")
    known = [sketch.positive for sketch in told if sketch.positive is not None]
    for guess in sorted(known, key=lambda one: one.value is None)[:1]:
        value = "# positive: " if guess.value is None else f"positive: {_scalar(str(guess.value))}    "
        lines.append(f"    {value}# {_line(guess.why)}")
    lines += [
        f"    # absent_is: negative          # only {sketch.lone_label!r} came: do the others never get a label?"
        for sketch in told
        if sketch.lone_label is not None
    ]
    return lines


def _line(words: str) -> str:
    """Return words for a comment, which is one line."""
    return " ".join(words.split())


def _left_out(sketch: Sketch, indent: str = "    ") -> list[str]:
    shown = [f"{indent}# not watched: {path!r}: {why}" for path, why in [*sketch.left_out.items()][:_SHOWN]]
    more = len(sketch.left_out) - len(shown)
    return [*shown, f"{indent}# and {more} more are not watched"] if more else shown


def profile_command(table: Sketch, name: str, events: Sketch | None = None) -> str:
    """Return the command that makes the reference of a table; with ``events`` of the features that they bring, too."""
    options = {"time": "--time", "prediction": "--prediction", "label": "--label"}
    found = [f"{options[g.field]} {quote(g.path)}" for g in table.guesses if g.field in options]
    brought = _brought(events) if events is not None else table.features
    # With no name in common the topic's names are other ones: all columns are kept, and the lines above say which to
    # map.
    features = [path for path in table.features if path in brought] or list(table.features)
    codes = [path for path in table.categorical if path in features]
    version = [] if events is None or events.version is None else [f"--version {quote(events.version)}"]
    command = ["stationkeeper profile", quote(table.source), "--model", quote(name), *version, *found]
    command += ["--features", quote(_listed(features))]
    return " ".join(command + (["--categorical", quote(_listed(codes))] if codes else []))


def _listed(names: Iterable[str]) -> str:
    """Return names as the options read them (``commands.options.names_of``): with commas, and quotes where needed."""
    text = io.StringIO()
    csv.writer(text).writerow(names)
    return text.getvalue().removesuffix("\r\n")


def _strangers(table: Sketch, events: Sketch) -> list[str]:
    """Name the features that only one of the two sides has: a name that differs is watched on neither."""
    brought = _brought(events)
    columns = {*table.features, *(guess.path for guess in table.guesses)}
    lines = []
    if missing := [path for path in table.features if path not in brought]:
        named = _inline(missing)
        lines.append(f"    # Not in the topic, so not in the reference: {named}. Another name there? Map it below")
    if unknown := [name for name in brought if name not in columns]:
        lines.append(f"    # Not in {table.source}, so not watched: {_inline(unknown)}")
    return lines


def _brought(events: Sketch) -> tuple[str, ...]:
    """Return the names under which a topic's features are watched."""
    return tuple(events.features)


def _inline(names: Iterable[str]) -> str:
    """Return names for a comment, which is one line."""
    return ", ".join(name if _PLAIN.fullmatch(name) else repr(name) for name in names)


def _input(key: str, topic: str, sketch: Sketch, model: str, *, anchor: bool) -> list[str]:
    """Write one input: a topic's name where it is in our own form, else how its records are read.

    With ``anchor`` the block has a name under which it is repeated further down, for a topic is read in one way.
    """
    name = f" &{key}" if anchor else ""
    if sketch.own_form and sketch.time_unit in {"ms", None} and sketch.decoder == JSON:
        return [f"    {key}:{name} {_scalar(topic)}      # events in our own form: docs/events.md"]
    lines = [f"    {key}:{name}", f"      topic: {_scalar(topic)}"]
    if sketch.decoder != JSON:
        lines.append(f"      decoder: {sketch.decoder}    # the records begin with a schema registry's frame")
    if not sketch.own_form:
        lines += _mapping(key, sketch, model)
    if sketch.time_unit is not None:
        lines.append(f"      time_unit: {sketch.time_unit}")
    return lines


def _mapping(key: str, sketch: Sketch, model: str) -> list[str]:
    lines = ["      map:"]
    # A record that does not say its version still needs one; "1" is what a first version is called everywhere.
    constants = {"model": model, "version": "1"} if key == "predictions" else {"model": model}
    kind = ("kind",) if sketch.guess("kind") else ()
    answers = (
        ("label",) if key == "labels" else ("version", "prediction", *(("label",) if "label" in sketch.kinds else ()))
    )
    for field in (*kind, "event_id", "time", "model", *answers):
        guess = sketch.guess(field)
        if guess is not None:
            lines.append(f"        {field}: {_scalar(guess.path)}    # {guess.why}")
            constants.pop(field, None)
        elif field not in constants:
            lines.append(f"        # {field}: path.to.{field}    # not found in the sample; fill in")
    if key == "predictions":
        lines.append("        features:" if sketch.features else "        features: {}    # none was found; fill in")
        lines += [f"          {_scalar(name)}: {_scalar(path)}" for name, path in sketch.features.items()]
    elif len(lines) == 1:
        lines[0] += " {}"
    lines += _left_out(sketch, "      ")
    if constants:
        pairs = ", ".join(f"{field}: {_scalar(value)}" for field, value in constants.items())
        lines.append(f"      constants: {{{pairs}}}")
    return lines


def _scalar(value: str) -> str:
    """Return a text as a YAML scalar of one line, quoted where YAML would read something else."""
    if _PLAIN.fullmatch(value) and isinstance(yaml.safe_load(value), str):
        return value
    # So wide that YAML never breaks it: a folded scalar below a key would not be one line.
    quoted = yaml.safe_dump(value, default_style='"', width=10_000_000, allow_unicode=True)
    return quoted.rstrip("\n")
