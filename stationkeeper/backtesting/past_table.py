"""A file of past predictions as a person has it: CSV with any usual separator and gap, or Parquet."""

from pathlib import Path

import polars as pl

from stationkeeper.backtesting.table import NULLS, BadInput, separator_of

TABLES = frozenset({".csv", ".tsv", ".txt", ".parquet", ".pq"})


def read_past(path: Path, rows: int | None = None) -> pl.DataFrame:
    """Return the table, or its first ``rows``; raises ``BadInput`` that names the file and what is wrong with it."""
    if not path.exists():
        raise BadInput(f"there is no file {path}")
    try:
        parquet = path.suffix.lower() in {".parquet", ".pq"}
        frame = pl.read_parquet(path, n_rows=rows) if parquet else _csv(path, rows)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error
    if not frame.height:
        raise BadInput(f"{path}: no rows")
    return frame


def _csv(path: Path, rows: int | None) -> pl.DataFrame:
    """Read a CSV; where a column's type changes late in the file, once more with types from all rows."""

    def read(inferred: int | None) -> pl.DataFrame:
        return pl.read_csv(
            path,
            n_rows=rows,
            try_parse_dates=True,
            infer_schema_length=inferred,
            null_values=NULLS,
            separator=separator_of(path),
        )

    try:
        return read(10_000)
    except pl.exceptions.ComputeError:
        return read(None)
