"""A training on a Ray cluster for `trainer: command`: `train.py` runs there as a task, rows and model travel with it.

usage: python on_ray.py ADDRESS    ray://HOST:10001 from outside the cluster, HOST:6379 on one of its machines

The folder is the one that $STATIONKEEPER_EXCHANGE names; the cluster need not see it. Its machines hold the packages of
requirements-ray.txt, with the same Python and Ray; train.py is sent along. Asked of them are job.json's `threads` and
`memory_bytes`. Whoever ends this program ends the task.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import ray
import train
from ray import cloudpickle

# A cluster starts a process for each client, and a busy head gives up on one: the next attempt finds it less busy.
CONNECTIONS = 3


def trained(files: dict[str, bytes]) -> tuple[int, dict[str, bytes]]:
    """Train in a folder of the worker's own; returns the exit code of train.py, and the files that it wrote."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        code = train.main(folder)
        return code, {one.name: one.read_bytes() for one in folder.iterdir() if one.name not in files}


def main(address: str) -> int:
    """Send the exchange folder, wait, and write down what came back; the exit code is that of train.py."""
    folder = Path(os.environ["STATIONKEEPER_EXCHANGE"])
    files = {name: (folder / name).read_bytes() for name in ("job.json", "data.parquet")}
    job = json.loads(files["job.json"])
    # The code itself and not its name: the workers have no train.py.
    cloudpickle.register_pickle_by_value(train)
    for left in range(CONNECTIONS - 1, -1, -1):
        try:
            ray.init(address)
            break
        except ConnectionError:
            if not left:
                raise
    task = ray.remote(num_cpus=job["threads"], memory=job["memory_bytes"])(trained)
    code, written = ray.get(task.remote(files))
    for name, content in written.items():
        (folder / name).write_bytes(content)
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
