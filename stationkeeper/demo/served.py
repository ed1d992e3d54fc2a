"""Reads predictions and labels back from their topics and joins them: what the model did."""

from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from stationkeeper.events import DEFAULT_POSITIVE, EventReader, Form, forms, outcomes
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.registry import POSITIVE
from stationkeeper.streams.ports import Reader

_SCHEMA: Final = {
    "kind": pl.String,
    "event_id": pl.String,
    "time": pl.Int64,
    "version": pl.String,
    "prediction": pl.Float64,
    "flagged": pl.Boolean,
    "label": pl.Boolean,
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """How a stretch of the stream was served; ``precision`` and ``recall`` are None without a case to count.

    ``confidence`` is the mean distance of the score from the coin flip, doubled: 1 is certain, 0 knows nothing.
    """

    name: str
    events: int
    labelled: int
    flagged: int
    true: int
    precision: float | None
    recall: float | None
    confidence: float | None


def read_served(reader: Reader, model: ModelSettings) -> pl.DataFrame:
    """Return one row an event: event_id, time, version, prediction, flagged, label, label_time (null while unknown)."""
    found = pl.concat([_table(reader, form) for form in forms([model]).values()])
    # As the tally counts: the first of an id. A router that answered twice after an outage logs it twice.
    first = found.unique(["kind", "event_id"], keep="first", maintain_order=True)
    known = first.filter(pl.col("kind") == "label").select("event_id", "label", label_time="time")
    return (
        first.filter(pl.col("kind") == "prediction")
        .drop("kind", "label")
        .join(known, on="event_id", how="left")
        .sort("time")
    )


def stretch(served: pl.DataFrame, name: str, start_ms: int, end_ms: int) -> Stretch:
    """Return how the events of ``[start, end)`` were served."""
    rows = served.filter((pl.col("time") >= start_ms) & (pl.col("time") < end_ms))
    known = rows.filter(pl.col("label").is_not_null())
    hits = known.filter(pl.col("flagged") & pl.col("label")).height
    flagged, true = known.filter("flagged").height, known.filter("label").height
    confidence = rows.select(((pl.col("prediction") - 0.5).abs() * 2).mean()).item()
    return Stretch(
        name=name,
        events=rows.height,
        labelled=known.height,
        flagged=flagged,
        true=true,
        precision=hits / flagged if flagged else None,
        recall=hits / true if true else None,
        confidence=confidence,
    )


def taken_over_ms(served: pl.DataFrame, version: str, promoted_ms: int) -> int:
    """Return the first moment from which no version that ``version`` replaced answers any more (ms, stream clock).

    The record of a promotion comes first and the router follows it within about a wall-clock second, which in a demo
    is many stream minutes: what the old version answers in them is not yet the cure.
    """
    before = pl.col("time") < promoted_ms
    replaced = served.filter(before & (pl.col("version") != version))["version"].unique().to_list()
    late = served.filter(~before & pl.col("version").is_in(replaced))["time"].to_numpy()
    # Behind the last answer of a replaced version: from there on every answer is the new one's.
    return int(late.max()) + 1 if len(late) else promoted_ms


def _table(reader: Reader, form: Form) -> pl.DataFrame:
    """The events of a topic: kind, event_id, time, and version, prediction and flagged, or label."""
    read = EventReader(replace(form, extras=("event_id", "action")))
    frames = [pl.DataFrame(schema=_SCHEMA)]
    for batch in reader.read(list(reader.partitions(form.topic))):
        for events in read.read(batch.values, batch.headers).events:
            kept: dict[str, Any] = {"kind": events.kind, "event_id": events.extras["event_id"], "time": events.time}
            if events.label is not None:
                kept["label"] = outcomes(events, DEFAULT_POSITIVE) == 1.0
            elif events.prediction is not None:
                kept["version"] = [events.owners[owner][1] for owner in events.owner.tolist()]
                kept["prediction"] = events.prediction.numbers().values
                kept["flagged"] = [action == POSITIVE for action in events.extras["action"]]
            frames.append(pl.DataFrame(kept, schema_overrides=_SCHEMA))
    return pl.concat(frames, how="diagonal")
