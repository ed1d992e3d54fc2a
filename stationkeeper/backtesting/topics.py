"""A model's past on its own topics under a changed configuration: what would have paged, beside what did."""

from bisect import insort
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import yaml
from pydantic import ValidationError

from stationkeeper.backtesting.comparison import Side, SideBySide
from stationkeeper.config import Config
from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.messages import Deployment, Verdict
from stationkeeper.contracts.times import format_duration, parse_duration, to_ms
from stationkeeper.contracts.topics import Topics
from stationkeeper.contracts.wire import LABELS_HELD, JoinBatch, OutcomeDelta, Progress, WireError, decode
from stationkeeper.effective import is_span
from stationkeeper.explain.lineage import read_messages
from stationkeeper.monitor.core.reference import InvalidReference
from stationkeeper.monitor.judge import FROM_INPUTS, Decisions, Kept, PastReferences, Rejudge
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.streams.ports import Partition, Reader

NOT_OURS = frozenset({"retrain", "rollout", "name"})


class ReplayError(ValueError):
    """A past that cannot be replayed, or a change that cannot be read; the message says what to do."""


def model_of(config: Config, model: str) -> ModelSettings:
    """Return a model's settings; raises ``ReplayError`` that names those there are."""
    found = config.models.get(model)
    if found is None:
        raise ReplayError(f"the configuration has no model {model!r}; it has {', '.join(config.models) or 'none'}")
    return found


def changed_settings(running: ModelSettings, assignments: list[str]) -> ModelSettings:
    """Return the settings with ``key=value`` laid over them, keys with dots for blocks; raises ``ReplayError``."""
    data = running.model_dump()
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        *blocks, last = key.strip().split(".")
        place: Any = data
        for block in blocks:
            place = place.get(block) if isinstance(place, dict) else None
        if not sign or not isinstance(place, dict) or last not in place:
            raise ReplayError(
                f"--set {assignment!r}: write KEY=VALUE with a key of the model, such as "
                "false_pages='1 per 7 days' or quality.learn_traffic=0d"
            )
        try:
            # YAML, as in the file: `0.02` is a number there and `30d` a text.
            place[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ReplayError(
                f"--set {assignment!r}: {value!r} is not YAML; a text with : or # stands in quotes"
            ) from None
    try:
        return type(running).model_validate(data)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ReplayError(f"--set: {problems}") from None


def differences(running: ModelSettings, changed: ModelSettings) -> tuple[list[str], list[str]]:
    """Return the settings that differ, in words: those that a replay of panes obeys, and those that it cannot."""
    before, after = running.model_dump(mode="json"), changed.model_dump(mode="json")
    obeyed, ignored = [], []
    for key in sorted(after.keys() - NOT_OURS):
        if before.get(key) == after[key]:
            continue
        words = f"{key}: {_value(key, before.get(key))} → {_value(key, after[key])}"
        if key in FROM_INPUTS:
            ignored.append(f"{words} is not replayed: history holds what was counted under the old value")
        else:
            obeyed.append(words)
    extra = sorted(set(changed.segments) - set(running.segments))
    if extra:
        ignored.append(f"history holds no panes of the segments {', '.join(extra)}")
    # Panes add to longer ones and cannot be cut.
    if changed.pane % running.pane:
        raise ReplayError(
            f"pane {format_duration(changed.pane)} is not a multiple of {format_duration(running.pane)}: history holds "
            "panes of that length, which can be added and not split"
        )
    return obeyed, ignored


def _value(key: str, value: object) -> object:
    if isinstance(value, int) and value and is_span(ModelSettings.model_fields[key]):
        return format_duration(value)
    return value


def replay_topic(
    reader: Reader,
    topics: Topics,
    running: ModelSettings,
    changed: ModelSettings | None = None,
    *,
    since: str | None = None,
    until: str | None = None,
    said: Callable[[Verdict, str], None] = lambda *_: None,
    progress: Callable[[float], None] = lambda _: None,
) -> SideBySide:
    """Judge a model's past anew from the history topic, under one configuration or two, and compare.

    The whole of history is judged so that bags, evidence and adoption are what they were; ``said`` gets each verdict of
    the period with the name of its configuration, ``progress`` the share of the log that is done. Raises
    ``ReplayError`` where there is no history. One core step a pane and configuration.
    """
    model = running.name
    partition = Partition(topics.history.name, partition_of(model, topics.history.partitions))
    if partition not in reader.partitions(topics.history.name):
        raise ReplayError(f"there is no topic {topics.history.name}; has `stationkeeper monitor` run with this prefix?")
    # Asked first: a pane length that cannot be replayed is refused before the log is read.
    changes, notes = differences(running, changed) if changed is not None else ([], [])
    champions = _champions(reader, topics, model)
    pairs = [("running", running)] + ([("changed", changed)] if changed is not None else [])
    sides = tuple(Side(name, _rejudge(reader, topics, settings, champions)) for name, settings in pairs)
    first, last = bounds(reader, partition, model)
    start, end = period(since, until, first, last + running.pane)
    for record, share in _records(reader, partition, model):
        # What comes behind the period is left out, what came before is not: evidence is made of it.
        if _stamp(record) >= end:
            continue
        for side in sides:
            _hear(side, side.judge.take(record), start, said)
        progress(share)
    for side in sides:
        _hear(side, side.judge.finish(), start, said)
    if any(side.judge.unfit for side in sides):
        notes.append(f"{max(side.judge.unfit for side in sides)} records of panes of another length were left out")
    logged = tuple(
        verdict
        for verdict in read_messages(reader, topics.verdicts.name, Verdict)
        if verdict.model == model and start <= to_ms(verdict.time) < end
    )
    return SideBySide(model, start, end, sides, logged, tuple(changes), tuple(notes))


def _hear(side: Side, decided: Decisions | None, start: int, said: Callable[[Verdict, str], None]) -> None:
    if decided is None:
        return
    for verdict in decided.verdicts:
        if to_ms(verdict.time) >= start:
            side.verdicts.append(verdict)
            said(verdict, side.name)
    side.requests += [request for request in decided.requests if to_ms(request.time) >= start]


def _rejudge(
    reader: Reader, topics: Topics, settings: ModelSettings, champions: Mapping[str, list[tuple[int, str]]]
) -> Rejudge:
    references = PastReferences({settings.name: settings}, champions)
    for batch in reader.read(list(reader.partitions(topics.references.name))):
        for key, value in zip(batch.keys, batch.values, strict=True):
            if key is None or not key.startswith(f"{settings.name}/".encode()):
                continue
            try:
                references.put_reference(key, value)
            except InvalidReference as error:
                raise ReplayError(
                    f"the reference {key.decode(errors='backslashreplace')} cannot be read: {error}"
                ) from error
    return Rejudge(settings, references)


def _champions(reader: Reader, topics: Topics, model: str) -> dict[str, list[tuple[int, str]]]:
    """Who was champion since when, from the deployments topic."""
    found: list[tuple[int, str]] = []
    for record in read_messages(reader, topics.deployments.name, Deployment):
        if record.model == model:
            insort(found, (to_ms(record.time), record.champion))
    return {model: found} if found else {}


def bounds(reader: Reader, partition: Partition, model: str) -> tuple[int, int]:
    """Return the first and the last moment that history holds of a model; raises ``ReplayError`` for none."""
    stamps = [_stamp(record) for record, _ in _records(reader, partition, model)]
    if not stamps:
        raise ReplayError(f"the topic {partition.topic} holds no pane of {model!r} yet")
    return min(stamps), max(stamps)


def _records(reader: Reader, partition: Partition, model: str) -> Iterator[tuple[Kept, float]]:
    low, high = reader.bounds([partition])[partition]
    for batch in reader.read([partition]):
        share = min((batch.next_offset - low) / max(high - low, 1), 1.0)
        for value in batch.values:
            if value is None:
                continue
            try:
                records = decode(value)
            except WireError as error:
                raise ReplayError(f"{partition.topic}: {error}") from error
            for record in records:
                if isinstance(record, JoinBatch):
                    continue
                # Of progress, history holds how far the labels of a closed pane were, under the model as its topic.
                held = (record.source, record.topic) if isinstance(record, Progress) else (LABELS_HELD, record.model)
                if held == (LABELS_HELD, model):
                    yield record, share


def _stamp(record: Kept) -> int:
    if isinstance(record, Progress):
        return record.next_offset
    return record.known_at if isinstance(record, OutcomeDelta) else record.start


def period(since: str | None, until: str | None, first: int, end: int) -> tuple[int, int]:
    """Return the period in ms: ``since`` is a span before its end (30d) or a time, ``until`` a time."""
    stop = min(_moment(until, "--until"), end) if until else end
    if since is None:
        return first, stop
    try:
        return max(first, stop - parse_duration(since)), stop
    except ValueError:
        return max(first, _moment(since, "--since")), stop


def _moment(text: str, option: str) -> int:
    try:
        return to_ms(datetime.fromisoformat(text))
    except ValueError as error:
        raise ReplayError(f"{option} {text}: {error}; write 30d or 2026-01-31T12:00:00Z") from None
