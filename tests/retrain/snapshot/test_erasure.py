import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from stationkeeper.cli import app
from stationkeeper.config import Config
from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.contracts.topics import Topics, dead_letter_topic
from stationkeeper.retrain.snapshot import Erasure, SnapshotStore, erase_snapshots
from stationkeeper.streams.dead_letters.letters import dead_letter
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from stationkeeper.streams.ports import Reader
from tests.retrain.bank import LABELS, PREDICTIONS
from tests.retrain.snapshot.test_rows import prediction, snapshot_frame

ANNA = Erasure("anna", frozenset({"e3"}))


def test_rows_go_under_a_new_digest_and_every_way_to_the_old_one_leads_there(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, retention_ms=1)
    customers: list[object] = ["bert", "anna", "annabel", *["carl"] * 7]
    old = store.write(snapshot_frame(0, 10, customer=customers), {"model": "bank", "base": None, "maturity": 7})
    younger = store.write(
        snapshot_frame(20, 5, prefix="y", customer=["dora"] * 5), {"model": "bank", "base": old.digest}
    )

    rehearsed = erase_snapshots(store, ANNA, 0, really=False)
    assert [(one.digest, one.rows, one.became) for one in rehearsed] == [(old.digest, 2, None)]
    assert old.path.exists()

    (done,) = erase_snapshots(store, ANNA, 0, really=True)
    assert (done.digest, done.rows) == (old.digest, 2)
    assert done.became is not None
    found = store.find(old.digest)
    assert found is not None
    assert (found.digest, found.rows, found.manifest["maturity"]) == (done.became, 8, 7)
    assert store.read(old.digest)["@event_id"].to_list() == ["e0", "e2", *(f"e{i}" for i in range(4, 10))]
    assert "annabel" in store.read(old.digest)["customer"].to_list(), "another customer's name begins alike"
    assert not old.path.exists()
    tombstone = store.manifest_path(old.digest).read_text()
    assert json.loads(tombstone)["rows_erased"] == 2
    assert "anna" not in tombstone + store.manifest_path(done.became).read_text()
    assert erase_snapshots(store, ANNA, 0, really=True) == []

    # Another person later: the old digest leads through both tombstones, and a version that names it keeps the last.
    erase_snapshots(store, Erasure("bert", frozenset()), 0, really=True)
    last = store.find(old.digest)
    assert last is not None
    assert (last.rows, len(last.manifest["erased"])) == (7, 2)
    assert store.prune(lambda: [younger.digest], last.path.stat().st_mtime + 10) == []
    assert store.prune(lambda: [old.digest], last.path.stat().st_mtime + 10) == [younger.digest]


def test_an_erasure_that_was_killed_before_the_old_bytes_went_is_finished_by_the_next(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    old = store.write(snapshot_frame(0, 10, customer=["anna", *["bert"] * 9]), {"model": "bank"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_a, **_k: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            erase_snapshots(store, ANNA, 0, really=True)
    erase_snapshots(store, ANNA, 0, really=True)
    assert not old.path.exists()
    found = store.find(old.digest)
    assert found is not None
    assert found.rows == 8


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryLog:
    """A log behind the verb, with a configuration whose snapshots lie in the test's directory."""
    made = MemoryLog()
    for topic in (PREDICTIONS, LABELS, dead_letter_topic(PREDICTIONS), dead_letter_topic(LABELS)):
        made.create(topic)
    inputs = {"predictions": PREDICTIONS, "labels": LABELS}
    config = Config.model_validate({"models": {"bank": inputs}, "snapshots": {"directory": tmp_path / "snapshots"}})

    @contextmanager
    def opened(_path: Path | None) -> Iterator[tuple[Config, Reader, Topics]]:
        yield config, MemoryReader(made), Topics()

    monkeypatch.setattr("stationkeeper.process.wiring.open_reader", opened)
    monkeypatch.chdir(tmp_path)
    return made


def test_the_verb_rehearses_erases_and_names_what_it_may_not_delete(log: MemoryLog, tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "snapshots")
    made = store.write(snapshot_frame(0, 6), {"model": "bank"})
    work = tmp_path / ".stationkeeper" / "work" / "one"
    work.mkdir(parents=True)
    snapshot_frame(0, 6).write_parquet(work / "scored.parquet")
    asked = [prediction(f"e{i}", 10, {"x": i}, entity_id="anna" if i % 2 else "bert") for i in range(6)]
    log.produce(PREDICTIONS, [*asked, b'{"entity_id": "anna", oops'])
    (batch,) = MemoryReader(log).read(MemoryReader(log).partitions(PREDICTIONS))
    letter = dead_letter(batch, 6, DeadLetterCode.NOT_JSON, "tally", detail="byte 22")
    log.produce(letter.topic, [letter.value], headers=[letter.headers])

    rehearsed = CliRunner().invoke(app, ["erase", "anna"], catch_exceptions=False).stdout.splitlines()
    assert rehearsed == [
        "3 events are the entity's",
        f"snapshot {made.digest}: 3 rows would be erased",
        ".stationkeeper/work/one/scored.parquet: 3 rows would be erased",
        f"rejected record {PREDICTIONS}/0/6 may name it: it goes with the retention of its topic",
        "nothing was changed; say --yes to erase",
    ]
    assert made.path.exists()
    done = json.loads(CliRunner().invoke(app, ["erase", "anna", "--yes", "--json"], catch_exceptions=False).stdout)
    assert done["snapshots"][0]["rows"] == 3
    assert store.read(done["snapshots"][0]["became"])["@event_id"].to_list() == ["e0", "e2", "e4"]
    assert pl.read_parquet(work / "scored.parquet")["@event_id"].to_list() == ["e0", "e2", "e4"]
    # Older events than the topics hold are named by whoever knows them.
    (tmp_path / "ids").write_text("e0\ne2\n")
    again = CliRunner().invoke(app, ["erase", "nobody", "--events", "ids", "--yes"], catch_exceptions=False).stdout
    assert "2 rows erased, now " in again
