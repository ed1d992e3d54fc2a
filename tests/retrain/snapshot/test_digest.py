"""A snapshot's name: the same rows have one SHA-256 on every run and machine, however they come.

The digests stand here as text. Whatever changes one gives the rows of every snapshot that is kept a second name: a
champion's rows are not found again by those who make them, and the lineage of old versions points elsewhere.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from stationkeeper.retrain.snapshot.events import (
    ACTION,
    DRAWN,
    EVENT_ID,
    LABEL,
    LABEL_TIME,
    TIME,
    VERSION,
    EventColumns,
)
from stationkeeper.retrain.snapshot.frames import EventFrames
from stationkeeper.retrain.snapshot.rows import LabelledRows
from stationkeeper.retrain.snapshot.snapshot import SnapshotStore
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from tests.retrain.bank import LABELS, PREDICTIONS, START, TOPICS

# The version of the lock: a file's footer names its writer, so that another one gives other bytes.
PYARROW = "25.0.1"
WRITTEN = "2319e008ee4de44dbd30fde237a9a7aa6d000f8197d968b7906efbd5eccfc91e"
READ = "8f8c1d36658cf628081497d301acac3104e201cfecd0e89635e3b690713a8ac2"

# More than a row group, whose size is part of the bytes.
ROWS = 70_536


def same_writer() -> None:
    assert pa.__version__ == PYARROW, (
        "another pyarrow gives old rows new names: say so in CHANGELOG.md, write them here"
    )


def written() -> pl.DataFrame:
    """Rows of every kind of column, by arithmetic alone: a generator of random numbers may change."""
    at = pl.int_range(ROWS, eager=True)
    label = pl.when(at % 7 < 3).then(None).when(at % 5 == 0).then(pl.lit("fraud")).otherwise(pl.lit("legit"))
    return pl.select(
        pl.format("e{}", at.cast(pl.String).str.zfill(6)).alias(EVENT_ID),
        # Three rows a moment, which their ids part.
        (START + at // 3).alias(TIME),
        pl.when(at < 40_000).then(pl.lit("3")).otherwise(pl.lit("4")).alias(VERSION),
        label.alias(LABEL),
        pl.when(label.is_not_null()).then(START + at // 3 + at % 1_000).alias(LABEL_TIME),
        pl.when(at % 11 == 0).then(pl.lit("block")).otherwise(pl.lit("approve")).alias(ACTION),
        pl.when(at % 11 > 0).then((at % 8 + 1) / 8.0).alias(DRAWN),
        pl.when(at % 17 > 0).then(pl.format("köln-{}", at % 29)).alias("place"),
        pl.when(at % 13 > 0).then((at * 37 % 10_007) / 16.0 - 300).alias("amount"),
        (at % 3 == 0).alias("foreign"),
    )


@pytest.mark.parametrize("piece", [ROWS, 65_536, 7_001])
def test_rows_have_one_name_however_they_are_cut(tmp_path: Path, piece: int) -> None:
    same_writer()
    rows = written()
    made = SnapshotStore(tmp_path).write((rows[at : at + piece] for at in range(0, ROWS, piece)), {"model": "bank"})
    assert made.digest == WRITTEN


def events(first: int, until: int) -> tuple[list[bytes], list[bytes]]:
    predictions, labels = [], []
    for n in range(first, until):
        about = {"event_id": f"tx-{n:04d}", "model": "bank"}
        features = {"amount": n * 37 % 1_009 / 8, "method": ("card", "transfer", None)[n % 3], "foreign": n % 2 == 0}
        sent = {"kind": "prediction", "time": START + n // 2, "version": "1", "features": features, "prediction": 0.5}
        predictions.append(json.dumps(about | sent).encode())
        if n % 4:
            labels.append(json.dumps(about | {"kind": "label", "time": START + n, "label": n % 9 == 0}).encode())
    return predictions, labels


@pytest.mark.parametrize(("batches", "held"), [([2_000], None), ([1, 499, 500, 1_000], None), ([700, 1_300], 20_000)])
def test_events_become_rows_of_one_name_however_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: Sequence[int], held: int | None
) -> None:
    same_writer()
    if held is not None:
        # They outgrow memory: joined bucket by bucket, and written in pieces.
        monkeypatch.setattr("stationkeeper.retrain.snapshot.frames.HELD_BYTES", held)
        monkeypatch.setattr("stationkeeper.retrain.snapshot.frames.BUCKETS", 8)
        monkeypatch.setattr("stationkeeper.retrain.snapshot.frames.PIECE_CELLS", 1_000)
    log, frames = MemoryLog(), EventFrames(tmp_path / "near")
    for topic in (PREDICTIONS, LABELS):
        log.create(topic, 3)
    rows, sent = LabelledRows(TOPICS, EventColumns("bank"), 0, 10_000, frames=frames), 0
    for number, batch in enumerate(batches):
        for topic, values in zip((PREDICTIONS, LABELS), events(sent, sent + batch), strict=True):
            log.produce(topic, values, partition=number % 3)
        sent += batch
        rows.advance(MemoryReader(log))
    assert (len(frames.buckets) > 1) == (held is not None)
    pieces = list(rows.pieces(START + 2_000, 300))
    assert (len(pieces) > 1) == (held is not None)
    assert SnapshotStore(tmp_path).write(iter(pieces), {}).digest == READ
    rows.close()
