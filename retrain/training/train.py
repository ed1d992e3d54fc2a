"""The training subprocess: reads ``job.json``, writes ``result.json`` beside it; usage: ``train job.json PARENT``."""

import os
import resource
import sys
import traceback
from pathlib import Path
from typing import Literal

from stationkeeper.retrain.training.job import RESULT_FILE, TrainingError, TrainingJob
from stationkeeper.retrain.training.process_tree import MARKER, ProcessTree, take_in_orphans
from stationkeeper.streams.parent import end_with


def main(arguments: list[str]) -> int:
    """Run one job; exit code 0 with a result, 1 for an error worth another try, 3 for one in the data or trainer.

    ``PARENT`` is the process id of whoever started it; without it this program outlives its parent.
    """
    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: python -m stationkeeper.retrain.training.train job.json [PARENT]\n")
        # EX_USAGE of sysexits.h.
        return 64
    # What a trainer starts ends with this process, whether that is done, loses its parent or is killed from outside.
    take_in_orphans()
    tree = ProcessTree(os.getpid(), os.environ.get(MARKER, "none"))
    if len(arguments) == 2:
        end_with(int(arguments[1]), lambda: tree.end(spare=(os.getpid(),)))
    path = Path(arguments[0])
    job = TrainingJob.model_validate_json(path.read_text())
    # Of this process alone, and at once; what all of them hold together is measured from outside, each second.
    resource.setrlimit(resource.RLIMIT_DATA, (job.memory_bytes, job.memory_bytes))
    # Of one file; that of all of them is measured, too.
    resource.setrlimit(resource.RLIMIT_FSIZE, (job.disk_bytes, job.disk_bytes))
    from stationkeeper.registry import ArtifactError
    from stationkeeper.retrain.snapshot import BadData
    from stationkeeper.retrain.training.export import ExportError
    from stationkeeper.retrain.training.trainer import TrainerError
    from stationkeeper.retrain.training.training import Training

    try:
        written, code = Training(job, path.parent).run().model_dump_json(indent=1), 0
    except (BadData, ExportError, TrainerError, ArtifactError) as error:
        traceback.print_exc()
        cause: Literal["data", "trainer"] = "data" if isinstance(error, BadData) else "trainer"
        written, code = TrainingError(detail=str(error), final=True, cause=cause).model_dump_json(), 3
    except MemoryError:
        text = f"out of memory: training.memory_bytes is {job.memory_bytes}; raise it or lower training.max_rows"
        written, code = TrainingError(detail=text, final=True, cause="limit").model_dump_json(), 3
    except Exception as error:  # noqa: BLE001 - a trainer is foreign code; its error becomes the result
        traceback.print_exc()
        written, code = TrainingError(detail=f"{type(error).__name__}: {error}", final=False).model_dump_json(), 1
    part = path.parent / (RESULT_FILE + ".part")
    part.write_text(written)
    part.replace(path.parent / RESULT_FILE)
    tree.end(spare=(os.getpid(),))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
