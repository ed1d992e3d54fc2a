"""An Evidently report of a reference against rows: what goes over, in which form, and what comes back."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from stationkeeper.evidently.mapping import definition_of
from stationkeeper.evidently.rows import rows_of
from stationkeeper.monitor.core.reference import InvalidReference, Kind, Reference, load
from stationkeeper.retrain.snapshot import SnapshotError, SnapshotStore
from stationkeeper.streams.errors import Fatal
from stationkeeper.tables import read_table


class ReportRefused(ValueError):
    """A report that cannot be made of what was given; the message says what to give."""


@dataclass(frozen=True, slots=True)
class Job:
    """Two frames with the same columns, and Evidently's definition of these."""

    reference: pl.DataFrame
    current: pl.DataFrame
    definition: Mapping[str, list[str]]

    @property
    def columns(self) -> list[str]:
        """The columns compared."""
        return self.reference.columns


def read_reference(path: Path) -> Reference:
    """Read a reference that ``profile`` wrote; raises ``ReportRefused``."""
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise ReportRefused(f"cannot read {path}: {error.strerror}; write it with stationkeeper profile") from None
    except InvalidReference as error:
        raise ReportRefused(f"{path}: {error}") from None


def read_current(name: str, snapshots: SnapshotStore) -> pl.DataFrame:
    """Read rows: a table by its path, or a snapshot by its SHA-256; raises ``ReportRefused``."""
    path = Path(name)
    # A digest has no suffix: a mistyped file name must be told as a missing file, not as an unknown snapshot.
    if not path.exists() and not path.suffix:
        try:
            return snapshots.read(name)
        except SnapshotError as error:
            raise ReportRefused(str(error)) from None
    return read_table(path).frame()


def job_of(reference: Reference, current: pl.DataFrame, prediction: str | None = None) -> Job:
    """Return what is compared: the columns that both sides have; raises ``ReportRefused`` where there are none.

    ``prediction`` names the column of ``current`` that holds what a reference calls ``prediction``.
    """
    subject = reference.prediction
    if prediction is not None:
        if prediction not in current.columns:
            raise ReportRefused(f"--prediction {prediction}: no such column; columns are {', '.join(current.columns)}")
        if subject is None:
            raise ReportRefused(f"--prediction {prediction}: the reference profiled no prediction; leave it out")
        current = current.rename({prediction: subject.name}) if prediction != subject.name else current
    definition = definition_of(reference, current.columns)
    names = [*definition["numerical_columns"], *definition["categorical_columns"]]
    if not names:
        raise ReportRefused(
            f"no column in common: the reference has {', '.join(reference.by_name)}, "
            f"the rows {', '.join(current.columns)}"
        )
    numeric = [subject.name for subject in reference.subjects if subject.kind is Kind.NUMERIC]
    # Both sides in the reference's types: Evidently chooses its test by the type, and compares 1 with "1" as two
    # values.
    types = {name: pl.Float64 if name in numeric else pl.String for name in names}
    drawn = rows_of(reference)
    before = pl.DataFrame({name: pl.Series(name, drawn[name], types[name], strict=False) for name in names})
    now = current.select(pl.col(name).cast(types[name], strict=False) for name in names)
    return Job(before, now, definition)


def run(job: Job, output: Path) -> list[dict[str, Any]]:
    """Run Evidently on a job in its own environment, write the HTML and return its drift metrics (name, value)."""
    from stationkeeper.evidently.environment import prepare

    interpreter = prepare()
    runner = Path(__file__).with_name("runner.py")
    with tempfile.TemporaryDirectory() as folder:
        task: dict[str, Any] = {"definition": dict(job.definition), "output": str(output.resolve())}
        for side, frame in (("reference", job.reference), ("current", job.current)):
            task[side] = str(Path(folder) / f"{side}.parquet")
            frame.write_parquet(task[side])
        done = subprocess.run(
            # -I: neither the working directory nor PYTHONPATH may bring our packages into that environment.
            [str(interpreter), "-I", str(runner), json.dumps(task)],
            check=False,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Fatal(f"Evidently failed: {last}")
    # The last line: libraries print on the way.
    metrics: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])["metrics"]
    return metrics
