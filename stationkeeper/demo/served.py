"""What the model really did: predictions and labels read back from their topics and joined, nothing else."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from stationkeeper.streams.ports import Reader

_PREDICTION: Final = {
    "event_id": pl.String,
    "time": pl.Int64,
    "version": pl.String,
    "arm": pl.String,
    "prediction": pl.Float64,
    "action": pl.String,
}
_LABEL: Final = {"event_id": pl.String, "label": pl.Boolean}


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


def read_served(reader: Reader, predictions: str, labels: str) -> pl.DataFrame:
    """Return one row an event: time, version, arm, prediction, flagged, label (null while unknown)."""
    asked = _table(reader, predictions, _PREDICTION)
    known = _table(reader, labels, _LABEL).unique("event_id", keep="first")
    return (
        asked.unique("event_id", keep="first")
        .join(known, on="event_id", how="left")
        .with_columns(flagged=pl.col("action") == "positive")
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
    return int(late.max()) + 1 if len(late) else promoted_ms


def _table(reader: Reader, topic: str, schema: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    lines = [
        value for batch in reader.read(list(reader.partitions(topic))) for value in batch.values if value is not None
    ]
    if not lines:
        return pl.DataFrame(schema=schema)
    return pl.read_ndjson(b"\n".join(lines), schema=schema)
