"""``init``: a commented configuration from what a sample looks like, for a person to correct.

A guess says why it was made; what cannot be guessed is left as a commented line to fill in.
"""

from shlex import quote

import yaml

from stationkeeper.init.infer import Sketch


def render(sketch: Sketch, *, model: str, bootstrap: str, topic: str | None, past: Sketch | None = None) -> str:
    """Return the configuration as commented YAML; it parses, and ``check`` says what is still missing.

    ``past`` is a file of past predictions beside a topic: the features that both have are the reference's.
    """
    lines = [
        f"# Guessed from {sketch.rows} rows of {sketch.source}"
        + (f"; {sketch.unreadable} more were not JSON objects" if sketch.unreadable else "")
        + ". Read every line, then: stationkeeper check",
        "clock: wall                       # stream: time is the highest event time seen (replays)",
        "kafka:",
        f"  bootstrap: {_scalar(bootstrap)}",
        "  prefix: stationkeeper           # our own topics are named stationkeeper.panes, stationkeeper.verdicts, …",
        "models:",
    ]
    for name in sketch.models or (model,):
        lines += _model(sketch, name, topic, past)
    return "\n".join(lines) + "\n"


def _model(sketch: Sketch, name: str, topic: str | None, past: Sketch | None) -> list[str]:
    target = topic or f"{name}.predictions"
    lines = [f"  {_scalar(name)}:"]
    if topic is None or past is not None:
        lines += _columns(past or sketch, name, sketch if topic is not None else None)
    if sketch.own_form or topic is None:
        lines.append(f"    predictions: {_scalar(target)}      # events in our own form: docs/events.md")
    else:
        lines += _mapping(sketch, name, target)
    lines += [
        f"    # labels: {name}.labels         # without labels: drift and quality only, performance is unknown",
        "    false_pages: 1 per 30 days     # the whole model: every feature, segment and window together",
        "    # pane: 1m                     # what is counted together; decisions are made on closed panes",
        "    # lateness: 2m                 # events later than this behind their partition are counted as late",
        "    # segments: []                 # e.g. [country]: each gets its own watch, inside the same budget",
    ]
    return lines


def _columns(table: Sketch, name: str, events: Sketch | None) -> list[str]:
    """Say what the table's columns were taken for, and the command that profiles it."""
    lines = [f"    # {guess.field}: column {guess.path!r} of {table.source} ({guess.why})" for guess in table.guesses]
    lines += _strangers(table, events) if events is not None else []
    command = profile_command(table, name, events)
    return [*lines, "    # The reference that drift is measured against:", f"    #   {command}"]


def profile_command(table: Sketch, name: str, events: Sketch | None = None) -> str:
    """Return the command that makes the reference of a table; with ``events`` of the features that they bring, too."""
    options = {"time": "--time", "prediction": "--prediction", "label": "--label"}
    found = [f"{options[g.field]} {quote(g.path)}" for g in table.guesses if g.field in options]
    brought = _brought(events) if events is not None else table.features
    features = [path for path in table.features if path in brought] or list(table.features)
    codes = [path for path in table.categorical if path in features]
    command = ["stationkeeper profile", quote(table.source), "--model", quote(name), *found]
    command += ["--features", quote(",".join(features))]
    return " ".join(command + (["--categorical", quote(",".join(codes))] if codes else []))


def _strangers(table: Sketch, events: Sketch) -> list[str]:
    """Name the features that only one of the two sides has: a name that differs is watched on neither."""
    brought = _brought(events)
    columns = {*table.features, *(guess.path for guess in table.guesses)}
    lines = []
    if missing := [path for path in table.features if path not in brought]:
        named = ", ".join(missing)
        lines.append(f"    # Not in the topic, so not in the reference: {named}. Another name there? Map it below")
    if unknown := [name for name in brought if name not in columns]:
        lines.append(f"    # Not in {table.source}, so not watched: {', '.join(unknown)}")
    return lines


def _brought(events: Sketch) -> tuple[str, ...]:
    """Return the names under which a topic's features are watched."""
    if events.own_form:
        return tuple(path.removeprefix("features.") for path in events.features if path.startswith("features."))
    return tuple(path.rsplit(".", 1)[-1] for path in events.features)


def _mapping(sketch: Sketch, name: str, topic: str) -> list[str]:
    lines = ["    predictions:", f"      topic: {_scalar(topic)}", "      map:"]
    constants = {"model": name, "version": "1"}
    for field in ("event_id", "time", "model", "version", "prediction"):
        guess = sketch.guess(field)
        if guess is not None:
            lines.append(f"        {field}: {_scalar(guess.path)}    # {guess.why}")
            constants.pop(field, None)
        elif field not in constants:
            lines.append(f"        # {field}: path.to.{field}    # not found in the sample; fill in")
    features = ", ".join(f"{_scalar(path.rsplit('.', 1)[-1])}: {_scalar(path)}" for path in sketch.features)
    lines.append(f"        features: {{{features}}}")
    if constants:
        pairs = ", ".join(f"{key}: {_scalar(value)}" for key, value in constants.items())
        lines.append(f"      constants: {{{pairs}}}")
    if sketch.time_unit is not None:
        lines.append(f"      time_unit: {sketch.time_unit}")
    return lines


def _scalar(value: str) -> str:
    """Return a text as a YAML scalar, quoted where YAML would read something else."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).split("\n", 1)[0]
