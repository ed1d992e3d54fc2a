"""A backtest decides as the daemon would: the same streams through both, verdict for verdict."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from stationkeeper.backtesting.replay import Replay, ReplaySettings
from stationkeeper.backtesting.table import Table, table_of
from stationkeeper.contracts.messages import Verdict
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.reference import Reference
from stationkeeper.monitor.settings import DAY_MS, HOUR_MS, ModelSettings
from stationkeeper.tables import Parts, read_frame
from tests.monitor.rig import START, Rig, fraud

Columns = dict[str, Any]


@dataclass(frozen=True)
class Stream:
    """Columns with ``time`` in epoch ms; the first ``known`` rows are the reference's, the rest is judged."""

    columns: Columns
    known: int
    label_delay: np.ndarray[Any, Any] | None = None
    pane: str = "1h"
    adoption: str = "14d"
    maturity: str = "6h"
    budget: str = "1 per 5 days"
    ordered: bool = True
    source: str = "history"
    more: dict[str, Any] = field(default_factory=dict)


def world(times: np.ndarray[Any, Any], seed: int = 0) -> Columns:
    rng = np.random.default_rng(seed)
    rows = len(times)
    score = np.round(rng.beta(1.0, 3.0, rows), 3)
    return {
        "time": times,
        "amount": np.round(rng.normal(0.0, 1.0, rows), 4),
        "country": rng.choice(["de", "fr", "us"], rows, p=[0.5, 0.3, 0.2]),
        "score": score,
        "label": (rng.random(rows) < score).astype(int),
    }


def even(days: float, per_hour: int) -> np.ndarray[Any, Any]:
    return START + np.arange(int(days * 24 * per_hour)) * (HOUR_MS // per_hour)


def quiet() -> Stream:
    return Stream(world(even(6, 40)), 2_400)


def shifted() -> Stream:
    columns = world(even(6, 40), 1)
    columns["amount"][4_000:] += 0.6
    return Stream(columns, 2_400)


def back_again() -> Stream:
    columns = world(even(9, 40), 2)
    columns["country"][4_000:4_800] = "fr"
    return Stream(columns, 2_400)


def daily_batch() -> Stream:
    """Eight hundred rows from 2:00 on, each day, the last day cut in half; the reference knows ten days."""
    starts = START + np.arange(24) * DAY_MS + 2 * HOUR_MS
    times = (starts[:, None] + np.arange(200) * 1_600).reshape(-1)[:-100]
    return Stream(world(times, 3), 2_000)


def two_weeks_of_batches() -> Stream:
    """The rhythm is known here, and one day's batch does not come."""
    starts = START + np.delete(np.arange(24), 19) * DAY_MS + 2 * HOUR_MS
    times = (starts[:, None] + np.arange(200) * 1_600).reshape(-1)
    return Stream(world(times, 4), 3_000)


def late_labels() -> Stream:
    """The concept turns, fraud is told at once and the rest after ten hours, which is later than ``label_maturity``.

    How late they come is learned by class, and their cohorts wait so long.
    """
    columns = world(even(8, 60), 5)
    columns["label"][6_000:] ^= np.random.default_rng(1).random(len(columns["label"]) - 6_000) < 0.35
    delay = np.where(columns["label"] == 1, HOUR_MS, np.where(columns["amount"] > 0.5, 8, 10) * HOUR_MS)
    return Stream(columns, 3_600, label_delay=delay)


def broken() -> Stream:
    columns = world(even(6, 40), 6)
    columns["amount"][4_000:4_600] = np.nan
    return Stream(columns, 2_400)


def adopting() -> Stream:
    """Training rows have no order of time: what differs is held back, then judged by what was learned."""
    columns = world(even(10, 40), 7)
    columns["amount"][2_400:] += 0.3
    columns["amount"][7_000:] += 1.0
    return Stream(columns, 2_400, ordered=False, source="training", adoption="3d")


def minutes_of_a_daily_batch() -> Stream:
    """As the daemon's default pane sees it: five minutes of rows a day; live days teach that the rest is silent."""
    starts = START + np.arange(24) * DAY_MS + 2 * HOUR_MS
    times = (starts[:, None] + np.arange(150) * 2_000).reshape(-1)
    return Stream(world(times, 10), 750, pane="1m")


def weeks() -> Stream:
    """Five days are known, weekends bring a tenth: no rhythm of the week can be known yet."""
    hours = np.arange(24 * 28)
    weekend = (START // DAY_MS + 3 + hours // 24) % 7 >= 5
    per_hour = np.where(weekend, 3, 30)
    times = np.concatenate(
        [START + h * HOUR_MS + np.arange(n) * (HOUR_MS // n) for h, n in zip(hours, per_hour, strict=True)]
    )
    return Stream(world(times, 8), 2_000)


def silence() -> Stream:
    """Two weeks and more are known, then nothing comes for eighteen hours."""
    times = even(22, 20)
    gap = (times >= START + 18 * DAY_MS) & (times < START + 18 * DAY_MS + 18 * HOUR_MS)
    return Stream(world(times[~gap], 9), 16 * 24 * 20)


STREAMS: tuple[Callable[[], Stream], ...] = (
    quiet,
    shifted,
    back_again,
    daily_batch,
    minutes_of_a_daily_batch,
    two_weeks_of_batches,
    late_labels,
    broken,
    adopting,
    weeks,
    silence,
)


UNCHANGED = (quiet, daily_batch, minutes_of_a_daily_batch, weeks)
"""Worlds in which nothing changes: nobody is paged."""


def reference_of(stream: Stream) -> Reference:
    known = {name: values[: stream.known] for name, values in stream.columns.items()}
    more: dict[str, Any] = {"time": "time", "pane": stream.pane} if stream.ordered else {}
    if not stream.ordered:
        known.pop("time")
    return profile(known, model="fraud", prediction="score", label="label", salt="rig", source=stream.source, **more)


def settings_of(stream: Stream) -> ModelSettings:
    return fraud(
        pane=stream.pane,
        window="1d",
        lateness="0s",
        adoption=stream.adoption,
        label_maturity=stream.maturity,
        false_pages=stream.budget,
    )


def said_by_the_daemon(stream: Stream, reference: Reference) -> list[Verdict]:
    rig = Rig({"fraud": settings_of(stream)}, partitions=1)
    rig.put_reference(reference)
    columns, delay = stream.columns, stream.label_delay
    events, labels = list[dict[str, Any]](), list[dict[str, Any]]()
    for i in range(stream.known, len(columns["time"])):
        time, amount = int(columns["time"][i]), float(columns["amount"][i])
        features = {"amount": None if np.isnan(amount) else amount, "country": str(columns["country"][i])}
        event = {"event_id": f"e{i}", "time": time, "model": "fraud"}
        score = float(columns["score"][i])
        events.append({**event, "kind": "prediction", "version": "1", "features": features, "prediction": score})
        label = {**event, "kind": "label", "label": int(columns["label"][i])}
        labels.append({**label, "time": time + (0 if delay is None else int(delay[i]))})
    labels.sort(key=lambda label: label["time"])
    last = events[-1]["time"]
    # In steps, as events come: the labels that are told by then, then the predictions. Labels that come by their class
    # and an adoption period that ends need steps of a pane: a daemon that catches up judges labels with what has come
    # since, so by what the panes after them taught.
    step = 6 * HOUR_MS if delay is None and stream.ordered else HOUR_MS
    for until in range(events[0]["time"], last + step, step):
        for topic, waiting in (("outcomes", labels), ("scores", events)):
            due = [event for event in waiting if event["time"] < until + step]
            del waiting[: len(due)]
            rig.send(topic, [json.dumps(event).encode() for event in due])
            rig.turn(2)
    rig.turn(6)
    return rig.verdicts()


def said_by_a_backtest(stream: Stream, reference: Reference) -> list[Verdict]:
    settings = settings_of(stream)
    judged = {name: values[stream.known :] for name, values in stream.columns.items()}
    made = table_of(read_frame(judged, parts=Parts("time", "score", "label")))
    if stream.label_delay is not None:
        assert made.times is not None
        known = made.times + stream.label_delay[stream.known :]
        made = Table(made.columns, made.index, made.times, known, made.prediction, made.label)
    replay = Replay(
        made,
        ReplaySettings(
            settings.budget,
            settings.pane,
            settings.window,
            maturity=settings.label_maturity,
            adoption=settings.adoption or None,
            learn_traffic=settings.quality.learn_traffic,
        ),
        reference,
    )
    return [verdict for verdict, _ in replay.run()]


def compared(verdict: Verdict) -> tuple[Any, ...]:
    onset = None if verdict.onset is None else verdict.onset.time
    kind, subject = verdict.kind.value, verdict.subject
    return verdict.time, kind, subject.name, subject.check, verdict.level.value, onset, verdict.reason


@pytest.mark.parametrize("make", STREAMS, ids=lambda make: make.__name__)
def test_a_backtest_says_what_the_daemon_says(make: Callable[[], Stream]):
    stream = make()
    reference = reference_of(stream)
    daemon = [compared(verdict) for verdict in said_by_the_daemon(stream, reference)]
    if make in UNCHANGED:
        assert [said for said in daemon if said[4] == "page"] == []
    assert [compared(verdict) for verdict in said_by_a_backtest(stream, reference)] == daemon
