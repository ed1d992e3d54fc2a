"""A Kubeflow pipeline for `trainer: command`: the rows are looked at, then `train.py` trains, each in a pod of its own.

usage: python pipeline.py                   run here, in processes (kfp's local runner)
       python pipeline.py --endpoint URL    run on a cluster, and wait for its end
       python pipeline.py --compile FILE    write the pipeline as YAML

The folder is the one that $STATIONKEEPER_EXCHANGE names. On a cluster the pods must see it: the volume claim $CLAIM is
mounted at $MOUNT, and the role `retrain` works below the same path. The pods' image $IMAGE holds what
requirements-kubeflow.txt names and, on PYTHONPATH, train.py.
"""

import argparse
import os
import sys
from pathlib import Path

from kfp import Client, compiler, dsl, kubernetes, local

IMAGE = os.environ.get("IMAGE", "train:latest")
CLAIM = os.environ.get("CLAIM")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def count_rows(folder: str) -> int:
    """Refuse rows of one label before a pod with more memory is asked for."""
    import polars as pl

    rows = pl.read_parquet(f"{folder}/data.parquet", columns=["@label"])
    if rows["@label"].n_unique() < 2:
        raise ValueError("the rows hold one label only")
    return len(rows)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(folder: str, rows: int) -> str:
    """Train on the rows that were counted."""
    from pathlib import Path

    import train

    code = train.main(Path(folder))
    if code:
        raise RuntimeError(f"train.py ended with {code} on {rows} rows")
    return f"{folder}/model.onnx"


@dsl.pipeline(name="train")
def pipeline(folder: str) -> str:
    """Count, then train."""
    counted = count_rows(folder=folder)
    trained = train(folder=folder, rows=counted.output)
    for task in (counted, trained):
        # The same rows are asked for with another seed or other parameters: an answer of before would be wrong.
        task.set_caching_options(enable_caching=False)
        if CLAIM:
            kubernetes.mount_pvc(task, pvc_name=CLAIM, mount_path=os.environ["MOUNT"])
    return trained.output


def main() -> int:
    """Compile, run here or run on a cluster; the exit code says whether it ended well."""
    options = argparse.ArgumentParser()
    options.add_argument("--endpoint")
    options.add_argument("--compile")
    given = options.parse_args()
    if given.compile:
        compiler.Compiler().compile(pipeline, given.compile)
        return 0
    folder = os.environ["STATIONKEEPER_EXCHANGE"]
    if given.endpoint:
        run = Client(host=given.endpoint).create_run_from_pipeline_func(pipeline, arguments={"folder": folder})
        return 0 if run.wait_for_run_completion().state == "SUCCEEDED" else 1
    # The packages are those of this interpreter: an environment for each step would be made anew each time.
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=f"{folder}/pipeline")
    pipeline(folder=folder)
    return 0


if __name__ == "__main__":
    # The steps run here find train.py as they do in the image.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    sys.exit(main())
