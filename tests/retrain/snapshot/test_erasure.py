import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from stationkeeper.cli import app
from stationkeeper.config import Config
from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.contracts.topics import Topics, dead_letter_topic
from stationkeeper.retrain.snapshot import Erasure, Snapshot, SnapshotError, SnapshotStore, erase_snapshots
from stationkeeper.retrain.snapshot.dvc import DvcRepository
from stationkeeper.streams.dead_letters.letters import dead_letter
from stationkeeper.streams.errors import Retryable
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
    tombstone = store.tombstone_path(old.digest).read_text()
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


@pytest.fixture
def killed(tmp_path: Path) -> tuple[SnapshotStore, Snapshot]:
    """A store in which an erasure of Anna was killed between the tombstone and the removal, and what was buried."""
    store = SnapshotStore(tmp_path / "snapshots")
    old = store.write(snapshot_frame(0, 10, customer=["anna", *["bert"] * 9]), {"model": "bank"})
    unlink = Path.unlink

    def die(path: Path, *, missing_ok: bool = False) -> None:
        if path == old.path:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            erase_snapshots(store, ANNA, 0, really=True)
    assert old.path.exists()
    assert store.tombstone(old.digest) is not None
    return store, old


# Also by an erasure of somebody who is in no row: Anna's events may be gone from the topics by the second run.
@pytest.mark.parametrize("again", [ANNA, Erasure("nobody", frozenset())])
def test_an_erasure_that_was_killed_before_the_old_bytes_went_is_finished_by_the_next(
    killed: tuple[SnapshotStore, Snapshot], again: Erasure
) -> None:
    store, old = killed
    assert [(one.rows, one.became) for one in erase_snapshots(store, again, 0, really=False)] == [(2, None)]
    assert old.path.exists()
    (done,) = erase_snapshots(store, again, 0, really=True)
    assert not old.path.exists()
    found = store.find(old.digest)
    assert found is not None
    assert (done.digest, done.became, done.rows, found.rows) == (old.digest, found.digest, 2, 8)
    assert [path.stem for path in store.directory.glob("*.parquet")] == [found.digest]
    assert erase_snapshots(store, again, 0, really=True) == [], "a third run has nothing left to do"


def test_another_erasure_after_the_killed_one_removes_the_buried_bytes_and_rewrites_only_what_they_became(
    killed: tuple[SnapshotStore, Snapshot],
) -> None:
    store, old = killed
    erase_snapshots(store, Erasure("bert", frozenset({"e5"})), 0, really=True)
    assert not old.path.exists()
    found = store.find(old.digest)
    assert found is not None
    assert (found.rows, len(list(store.directory.glob("*.parquet")))) == (0, 1)


def test_buried_bytes_whose_clean_snapshot_is_lost_or_damaged_are_kept_and_told(
    killed: tuple[SnapshotStore, Snapshot],
) -> None:
    store, old = killed
    clean = store.find(old.digest)
    assert clean is not None
    clean.path.write_bytes(clean.path.read_bytes() + b" ")
    damaged = {one.digest: one.kept for one in erase_snapshots(store, ANNA, 0, really=True)}
    assert "is damaged" in str(damaged[old.digest])
    clean.path.unlink()
    (lost,) = erase_snapshots(store, ANNA, 0, really=True)
    assert str(lost.kept).startswith("it is to go, but what it became is not there")
    assert old.path.exists()


def test_a_file_without_a_manifest_or_half_written_is_told_and_keeps_no_other_back(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    made = [store.write(snapshot_frame(0, 10 + i, customer=["anna"] * (10 + i)), {"model": "m"}) for i in range(3)]
    bare, half, whole = sorted(made, key=lambda one: one.digest)
    store.manifest_path(bare.digest).unlink()
    half.path.write_bytes(half.path.read_bytes()[:100])
    for really in (False, True):
        told = erase_snapshots(store, ANNA, 0, really=really)
        words = {one.digest: one.kept for one in told}
        assert str(words[bare.digest]).startswith("it has no manifest")
        assert str(words[half.digest]).startswith("nobody knows who is in it")
        assert words[whole.digest] is None
        assert (bare.path.exists(), whole.path.exists()) == (True, not really)


def test_rows_that_were_erased_do_not_come_back_when_the_topics_are_read_again(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    rows = snapshot_frame(0, 10, customer=["anna", *["bert"] * 9])
    old = store.write(rows, {"model": "bank"})
    (done,) = erase_snapshots(store, ANNA, 0, really=True)
    again = store.write(rows, {"model": "bank"})
    assert (again.digest, again.rows, again.path.exists()) == (done.became, 8, True)
    assert not old.path.exists()
    assert not list(tmp_path.glob(".part-*"))
    # The clean one may be past its retention; then there is nothing to give, and the person stays away all the same.
    again.path.unlink()
    with pytest.raises(SnapshotError, match=f"{again.digest}, which it became then, is not in"):
        store.write(rows, {"model": "bank"})
    assert not old.path.exists()


def test_what_an_erasure_was_killed_over_is_not_copied_to_dvc(
    killed: tuple[SnapshotStore, Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, old = killed
    added: list[str] = []
    monkeypatch.setattr(DvcRepository, "tags", lambda _: frozenset())
    monkeypatch.setattr(DvcRepository, "add", lambda _, snapshot: added.append(snapshot.digest))
    tracked = SnapshotStore(store.directory, dvc=DvcRepository(store.directory))
    made = tracked.write(snapshot_frame(50, 5, prefix="n", customer=["bert"] * 5), {"model": "bank"})
    clean = store.find(old.digest)
    assert clean is not None
    assert sorted(added) == sorted([clean.digest, made.digest])


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryLog:
    """A log behind the verb, with a configuration whose snapshots lie in the test's directory."""
    made = MemoryLog()
    for topic in (PREDICTIONS, LABELS, dead_letter_topic(PREDICTIONS), dead_letter_topic(LABELS)):
        made.create(topic)
    inputs = {"predictions": PREDICTIONS, "labels": LABELS}
    config = Config.model_validate({"models": {"bank": inputs}, "snapshots": {"directory": tmp_path / "snapshots"}})

    @contextmanager
    def opened(_path: Path | None, *, whole: bool) -> Iterator[tuple[Config, Reader, Topics]]:
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


def test_a_line_of_events_is_one_id_whatever_blanks_it_has(log: MemoryLog, tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "snapshots")
    ids = ["order 12", "12", "order", "13"]
    store.write(snapshot_frame(0, 4).with_columns(pl.Series("@event_id", ids)), {"model": "bank"})
    (tmp_path / "work").mkdir()
    (tmp_path / "ids").write_bytes(b"\xef\xbb\xbforder 12\r\n\r\n13\r\n")
    asked = ["erase", "nobody", "--events", "ids", "--work", "work", "--yes", "--json"]
    (done,) = json.loads(CliRunner().invoke(app, asked, catch_exceptions=False).stdout)["snapshots"]
    assert sorted(store.read(done["became"])["@event_id"].to_list()) == ["12", "order"]


@pytest.mark.parametrize("there", [(), ("snapshots",), ("work",)])
def test_a_directory_that_does_not_exist_is_told_and_is_no_success(
    log: MemoryLog, tmp_path: Path, there: tuple[str, ...]
) -> None:
    for name in there:
        (tmp_path / name).mkdir()
    done = CliRunner().invoke(app, ["erase", "anna", "--work", "work", "--yes"], catch_exceptions=False)
    assert done.exit_code == 1
    for name in ("snapshots", "work"):
        assert (f"there is no directory {tmp_path / name}, so nothing" in done.stderr) == (name not in there)


def test_a_file_that_cannot_be_erased_is_told_and_is_no_success(log: MemoryLog, tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "snapshots")
    made = store.write(snapshot_frame(0, 6, customer=["anna"] * 6), {"model": "bank"})
    store.manifest_path(made.digest).unlink()
    (tmp_path / "work").mkdir()
    half = tmp_path / "work" / "scored.parquet"
    half.write_bytes(b"PAR1")
    done = CliRunner().invoke(app, ["erase", "anna", "--work", "work", "--yes"], catch_exceptions=False)
    assert done.exit_code == 1
    assert f"{made.path} is not erased: it has no manifest" in done.stderr
    assert "scored.parquet is not erased: nobody knows who is in it" in done.stderr
    assert made.path.exists()


def test_an_empty_name_erases_nobody(log: MemoryLog, tmp_path: Path) -> None:
    made = SnapshotStore(tmp_path / "snapshots").write(snapshot_frame(0, 6, customer=[""] * 6), {"model": "bank"})
    done = CliRunner().invoke(app, ["erase", "", "--yes"], catch_exceptions=False)
    assert done.exit_code == 2
    assert made.path.exists()


def test_the_lists_of_disagreements_are_found_through_the_registry_alone(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("snapshots", "work"):
        (tmp_path / name).mkdir()
    # The registry of the settings' default; no topic of candidates says which runs there were.
    (tmp_path / "mlflow.db").touch()
    report = {"summary": {"places": []}, "text": "", "rows": [{"@event_id": "e1", "segment:customer": "anna"}]}
    held = {"run-1": json.dumps(report)}
    monkeypatch.setattr("stationkeeper.registry.retrained_runs", lambda _: ["run-1"])
    monkeypatch.setattr("stationkeeper.registry.read_run_file", lambda _, __, run, ___: held[run])
    monkeypatch.setattr("stationkeeper.registry.write_run_file", lambda _, run, __, text: held.update({run: text}))
    asked = ["erase", "anna", "--work", "work", "--yes"]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert (done.exit_code, json.loads(held["run-1"])["rows"]) == (0, [])
    assert "run-run-1/shadow.json: 1 rows erased" in done.stdout

    def away(_: object) -> list[str]:
        raise Retryable("the registry is away")

    monkeypatch.setattr("stationkeeper.registry.retrained_runs", away)
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert done.exit_code == 1
    assert "shadow.json is not erased: the registry is away; run erase again" in done.stderr


def test_a_registry_that_is_not_there_is_told_where_retraining_is_configured_and_none_is_made(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("snapshots", "work"):
        (tmp_path / name).mkdir()
    asked = ["erase", "anna", "--work", "work", "--yes"]
    assert CliRunner().invoke(app, asked, catch_exceptions=False).exit_code == 0
    model = {"predictions": PREDICTIONS, "labels": LABELS, "retrain": {}}
    config = Config.model_validate({"models": {"bank": model}, "snapshots": {"directory": tmp_path / "snapshots"}})
    opened = nullcontext((config, MemoryReader(log), Topics()))
    monkeypatch.setattr("stationkeeper.process.wiring.open_reader", lambda _, **_options: opened)
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert done.exit_code == 1
    assert f"there is no file {tmp_path / 'mlflow.db'}, so nothing was looked at there" in done.stderr
    assert not (tmp_path / "mlflow.db").exists()
