"""Snapshots: the labelled rows of a model, read from its topics, frozen under their digest, and as a training table.

In: the input topics, read by ``stationkeeper.events`` as the monitor reads them. Out: frames of rows, Parquet files
named by SHA-256 with a manifest beside each, and ``TrainingTable``. State: the rows read so far, and the files.
Invariants: the same offsets, time and maturity give the same bytes; a snapshot is whole or absent.

Read ``events`` (event columns to frames), ``frames`` (more of them than memory holds), ``label_counts`` (which labels
are ripe, and which rows want one), ``rows`` (predictions joined
with features and labels), ``files`` and ``object_store`` (where they lie), ``snapshot`` (the store), ``erasure`` (a
person's rows out of it), ``dvc`` (its snapshots as tracked versions), ``table`` (features with kinds and labels as
numbers).
"""

from stationkeeper.retrain.snapshot.erasure import Erased, Erasure, erase_files, erase_snapshots
from stationkeeper.retrain.snapshot.events import EVENT_ID, LABEL, LABEL_TIME, TIME, VERSION, EventColumns
from stationkeeper.retrain.snapshot.files import SnapshotError
from stationkeeper.retrain.snapshot.frames import EventFrames
from stationkeeper.retrain.snapshot.label_counts import LabelTimes
from stationkeeper.retrain.snapshot.rows import LabelledRows
from stationkeeper.retrain.snapshot.snapshot import (
    Snapshot,
    SnapshotStore,
    describe_ranges,
    digest_of,
    labels_words,
    newest_rows,
)
from stationkeeper.retrain.snapshot.table import BadData, TrainingTable

__all__ = [
    "EVENT_ID",
    "LABEL",
    "LABEL_TIME",
    "TIME",
    "VERSION",
    "BadData",
    "Erased",
    "Erasure",
    "EventColumns",
    "EventFrames",
    "LabelTimes",
    "LabelledRows",
    "Snapshot",
    "SnapshotError",
    "SnapshotStore",
    "TrainingTable",
    "describe_ranges",
    "digest_of",
    "erase_files",
    "erase_snapshots",
    "labels_words",
    "newest_rows",
]
