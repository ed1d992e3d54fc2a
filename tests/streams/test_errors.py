import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stationkeeper.retrain.service.worker import RequestRunner
from stationkeeper.retrain.training.job import TrainingError
from stationkeeper.streams.errors import unwritable

# A number alone is not the disk's: the upstream's, a database's, or of a program that may not be started.
FOREIGN = [
    "ValueError: bad column; see [Errno 5] of the upstream feed",
    "read of device: os error 5",
    "psycopg2.OperationalError: errno 30",
]


@pytest.mark.parametrize("text", FOREIGN)
def test_a_number_in_a_text_is_no_disk(text: str):
    assert not unwritable(ValueError(text))


def test_a_program_that_may_not_be_started_is_no_disk_and_a_directory_of_ours_is(tmp_path: Path):
    refused = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "train.sh"))
    assert not unwritable(refused)
    assert not unwritable(refused, [tmp_path / "work"])
    assert unwritable(refused, [tmp_path])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_full_or_broken_disk_is_known_from_python_and_from_rust(number: int):
    words = os.strerror(number)
    assert unwritable(OSError(number, words))
    # Polars raises an OSError without a number, MLflow an error of its own that quotes Python's.
    assert unwritable(OSError(f"{words} (os error {number})"))
    assert unwritable(RuntimeError(f"download failed: [Errno {number}] {words}: '/var/x'"))


@pytest.mark.parametrize("said", [*FOREIGN, "OSError: [Errno 28] No space left on device: '/elsewhere'"])
def test_a_training_that_quotes_a_disk_fails_as_itself_where_ours_takes_files(said: str, tmp_path: Path):
    error = TrainingError(detail=said, final=False)
    training: Any = SimpleNamespace(poll=lambda: error, directory=tmp_path)
    steps: Any = None
    runner = RequestRunner(steps, monotonic=lambda: 0.0, named=lambda _: (), in_work=tuple)
    runner._training = ("req-1", training)
    [done] = runner.collect()
    assert (done.result, done.error) == (error, None)
