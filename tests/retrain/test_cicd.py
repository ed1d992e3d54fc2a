"""The workflow of docs/cicd.md, its steps taken from the page and run one by one in a shell."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import polars as pl
import pytest
import yaml

from stationkeeper.registry import CHAMPION_ALIAS
from stationkeeper.retrain.bootstrap import training_rows
from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.kafka.topics import ensure_inputs
from stationkeeper.streams.settings import KafkaSettings
from tests.retrain.bank import HOUR, ONSET, START, Bank, transactions

pytestmark = [pytest.mark.broker, pytest.mark.slow]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cicd.md").read_text(encoding="utf-8")


def steps() -> dict[str, str]:
    workflow = yaml.safe_load(PAGE.split("```yaml\n")[1].split("```")[0])
    return {step["name"]: step["run"] for step in workflow["jobs"]["release"]["steps"] if "run" in step}


def test_the_steps_of_the_workflow_do_what_the_page_says(bank: Bank, kafka: FoundBroker, tmp_path: Path) -> None:
    new = transactions(6_000, ONSET, ONSET + 10 * HOUR, seed=31, shifted=True).drop("event_id")
    challenger = bank.challenger(training_rows(new[:3_000]), tmp_path / "work", alias=None)
    later = bank.snapshots.write(training_rows(new), {"model": "bank"})
    assert bank.registry.alias("bank", CHAMPION_ALIAS) == bank.champion.version
    _write_tables(tmp_path, new)
    prefix = f"c{uuid.uuid4().hex[:8]}"
    topics = {"predictions": f"{prefix}.predictions", "labels": f"{prefix}.labels"}
    ensure_inputs(
        KafkaSettings(bootstrap=kafka.bootstrap, prefix=prefix), list(topics.values()), create_inputs=True, partitions=1
    )
    config = {
        "kafka": {"bootstrap": kafka.bootstrap, "prefix": prefix},
        "registry": bank.registry.settings.model_dump(mode="json", exclude_none=True),
        "snapshots": {"directory": str(bank.snapshots.directory)},
        "models": {"bank": topics | {"retrain": bank.settings.model_dump(mode="json", exclude_none=True)}},
    }
    (tmp_path / "stationkeeper.yaml").write_text(yaml.safe_dump(config))
    environment = os.environ | {
        "STATIONKEEPER_CONFIG": "stationkeeper.yaml",
        "VERSION": challenger.version,
        "SNAPSHOT": later.digest,
        "GITHUB_ACTOR": "ada",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }

    def run(name: str, **changed: str) -> subprocess.CompletedProcess[str]:
        command = steps()[name].replace(" fraud ", " bank ")
        return subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=tmp_path,
            env=environment | changed,
            capture_output=True,
            text=True,
            check=False,
        )

    assert list(steps()) == ["install", "profile", "backtest", "gate", "adopt"]
    for name in ("profile", "backtest", "gate", "adopt"):
        done = run(name)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert kinds, "the change of the recent rows shows"
    assert json.loads((tmp_path / "gate.json").read_text())["outcome"] == "pass"
    # What the table says of the codes: a worse version fails, and a model that has a champion is not adopted over.
    assert run("gate", VERSION=bank.champion.version).returncode == 3, "the champion against itself"
    again = run("adopt", VERSION=bank.champion.version)
    assert again.returncode == 2
    assert f"has champion {challenger.version} already" in again.stderr


def _write_tables(directory: Path, new: pl.DataFrame) -> None:
    known = transactions(4_000, START - 40 * HOUR, START, seed=32, shifted=False).drop("event_id")
    for name, table in (("training", known), ("recent", new)):
        table.with_columns(pl.from_epoch("time", "ms")).write_csv(directory / f"{name}.csv")
