"""``init``: a commented configuration guessed from a sample of a topic or a file, for a person to correct.

A guess is made from names and values and says why; what cannot be guessed is left as a commented line to fill in.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import yaml

MAX_DEPTH: Final = 6
OWN_KINDS: Final = frozenset({"prediction", "feature", "label"})
CONTRACT_FIELDS: Final = ("event_id", "time", "model", "version", "prediction", "label")
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "event_id": ("event_id", "eventid", "id", "request_id", "requestid", "transaction_id", "uuid", "inference_id"),
    "time": ("time", "timestamp", "ts", "event_time", "eventtime", "occurred_at", "created_at", "date", "datetime"),
    "model": ("model", "model_name", "modelname", "model_id"),
    "version": ("version", "model_version", "modelversion"),
    "prediction": ("prediction", "score", "probability", "proba", "y_pred", "predicted", "output", "pred"),
    "label": ("label", "target", "y_true", "truth", "actual", "outcome", "ground_truth", "y"),
}
_EPOCH: Final = (("s", 1e8, 1e10), ("ms", 1e11, 1e13), ("us", 1e14, 1e16), ("ns", 1e17, 1e19))


@dataclass(frozen=True, slots=True)
class Guess:
    """One contract field: the path it was found under and why it was taken."""

    field: str
    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Sketch:
    """What a sample looks like: the models in it, the guesses, and the paths left over as features."""

    source: str
    own_form: bool
    models: tuple[str, ...]
    kinds: tuple[str, ...]
    guesses: tuple[Guess, ...]
    features: tuple[str, ...]
    time_unit: str | None
    rows: int
    unreadable: int

    def guess(self, field: str) -> Guess | None:
        """Return the guess for a contract field, if there is one."""
        return next((guess for guess in self.guesses if guess.field == field), None)


def sketch_events(values: Iterable[bytes], source: str) -> Sketch:
    """Look at JSON events; what is not a JSON object is counted as unreadable."""
    events: list[dict[str, Any]] = []
    unreadable = 0
    for value in values:
        try:
            event = json.loads(value)
        except ValueError:
            event = None
        if isinstance(event, dict):
            events.append(event)
        else:
            unreadable += 1
    kinds = tuple(sorted({str(event.get("kind")) for event in events} & OWN_KINDS))
    own = bool(kinds) and all({"event_id", "time", "model", "kind"} <= event.keys() for event in events)
    columns: dict[str, list[Any]] = {}
    for event in events:
        for path, leaf in _leaves(event):
            columns.setdefault(path, []).append(leaf)
    models = tuple(sorted({str(event["model"]) for event in events})) if own else ()
    return _sketch(columns, source, len(events), unreadable, own_form=own, models=models, kinds=kinds)


def sketch_table(columns: Mapping[str, Sequence[Any]], source: str) -> Sketch:
    """Look at the columns of a table of past predictions."""
    rows = max((len(values) for values in columns.values()), default=0)
    return _sketch({name: list(values) for name, values in columns.items()}, source, rows, 0)


def _sketch(
    columns: Mapping[str, list[Any]],
    source: str,
    rows: int,
    unreadable: int,
    *,
    own_form: bool = False,
    models: tuple[str, ...] = (),
    kinds: tuple[str, ...] = (),
) -> Sketch:
    taken: dict[str, Guess] = {}
    for field in CONTRACT_FIELDS:
        for path, values in columns.items():
            if path in {guess.path for guess in taken.values()}:
                continue
            last = re.sub(r"[^a-z0-9_]", "", path.rsplit(".", 1)[-1].lower())
            if last in _NAMES[field] and _fits(field, values):
                taken[field] = Guess(field, path, f"named {path.rsplit('.', 1)[-1]!r}")
                break
    if "event_id" not in taken:
        unique = next((path for path, values in columns.items() if _is_key(values) and len(values) == rows), None)
        if unique is not None and rows > 1:
            taken["event_id"] = Guess("event_id", unique, f"{rows} different texts in {rows} rows")
    used = {guess.path for guess in taken.values()}
    # A list is no feature, and neither is an object's path that one odd record filled with a plain value.
    left = tuple(
        path
        for path, values in columns.items()
        if path not in used
        and path != "kind"
        and not any(isinstance(value, list | dict) for value in values)
        and not any(other.startswith(f"{path}.") for other in columns)
    )
    time = taken.get("time")
    unit = _time_unit(columns[time.path]) if time else None
    return Sketch(source, own_form, models, kinds, tuple(taken.values()), left, unit, rows, unreadable)


def _leaves(value: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        path = f"{prefix}{key}"
        if isinstance(inner, dict) and depth < MAX_DEPTH:
            yield from _leaves(inner, f"{path}.", depth + 1)
        else:
            yield path, inner


def _fits(field: str, values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    if not known:
        return False
    if field == "time":
        return _time_unit(known) is not None
    if field == "event_id":
        # A topic may hold a record twice or thrice: an id need not be unique, only mostly.
        texts = all(isinstance(value, str) for value in known) and 2 * len(set(known)) >= len(known)
        return texts or all(isinstance(value, int) and not isinstance(value, bool) for value in known)
    return all(isinstance(value, str | int | float | bool) for value in known)


def _is_key(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values) and len(set(values)) == len(values)


def _time_unit(values: Sequence[Any]) -> str | None:
    first = next((value for value in values if value is not None), None)
    if isinstance(first, datetime):
        return "rfc3339"
    if isinstance(first, str):
        try:
            datetime.fromisoformat(first)
        except ValueError:
            return None
        return "rfc3339"
    if isinstance(first, int | float) and not isinstance(first, bool):
        return next((unit for unit, low, high in _EPOCH if low <= first < high), None)
    return None


def render(sketch: Sketch, *, model: str, bootstrap: str, topic: str | None) -> str:
    """Return the configuration as commented YAML; it parses, and ``check`` says what is still missing."""
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
        lines += _model(sketch, name, topic)
    return "\n".join(lines) + "\n"


def _model(sketch: Sketch, name: str, topic: str | None) -> list[str]:
    target = topic or f"{name}.predictions"
    lines = [f"  {_scalar(name)}:"]
    if topic is None:
        lines += _columns(sketch, name)
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


def _columns(sketch: Sketch, name: str) -> list[str]:
    """Say what the table's columns were taken for, and the command that profiles it."""
    options = {"time": "--time", "prediction": "--prediction", "label": "--label"}
    found = [f"{options[g.field]} {g.path}" for g in sketch.guesses if g.field in options]
    skipped = [g for g in sketch.guesses if g.field not in options]
    lines = [f"    # {guess.field}: column {guess.path!r} ({guess.why})" for guess in sketch.guesses]
    features = [path for path in sketch.features if path not in {guess.path for guess in skipped}]
    command = " ".join(
        ["stationkeeper profile", sketch.source, "--model", name, *found, "--features", ",".join(features)]
    )
    return [*lines, "    # The reference that drift is measured against:", f"    #   {command}"]


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
