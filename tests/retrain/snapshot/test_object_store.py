"""Snapshots in an object store, each through two machines' directories.

``STATIONKEEPER_OBJECT_STORE=s3://BUCKET python -m pytest tests/retrain/snapshot/test_object_store.py`` asks that one as
well; its driver reads credentials and endpoint from the environment.
"""

import json
import os
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fsspec
import polars as pl
import pytest
from fsspec.implementations.local import LocalFileSystem

from stationkeeper.check.platform import _object_store
from stationkeeper.retrain.settings import SnapshotSettings
from stationkeeper.retrain.snapshot import Erased, Erasure, SnapshotError, SnapshotStore, erase_snapshots, object_store
from stationkeeper.retrain.snapshot.dvc import DvcRepository
from stationkeeper.retrain.snapshot.object_store import ObjectStore
from stationkeeper.streams.errors import Retryable
from tests.retrain.snapshot.test_rows import snapshot_frame

ANNA = Erasure("anna", frozenset({"e3"}))
CUSTOMERS: list[object] = ["bert", "anna", *["carl"] * 8]

Machine = Callable[[str], SnapshotStore]


def written(store: SnapshotStore) -> set[str]:
    assert store.objects is not None
    return set(store.objects.written())


@pytest.fixture(params=["memory", "file", *filter(None, [os.environ.get("STATIONKEEPER_OBJECT_STORE")])])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    own = uuid.uuid4().hex
    url = {"memory": f"memory://{own}/rows", "file": f"file://{tmp_path}/{own}/rows"}.get(
        request.param, f"{request.param}/{own}"
    )
    if request.param == "file":
        (tmp_path / own / "rows").mkdir(parents=True)
    return lambda name: SnapshotStore(tmp_path / name, retention_ms=1, objects=ObjectStore(url))


def test_what_one_machine_writes_another_finds_byte_for_byte(machine: Machine) -> None:
    here, there = machine("a"), machine("b")
    made = here.write(snapshot_frame(0, 10), {"model": "bank", "base": None})
    assert written(here) == {f"{made.digest}.parquet", f"{made.digest}.json"}
    assert there.local(made.digest) is None
    found = there.find(made.digest)
    assert found is not None
    assert found.path.read_bytes() == made.path.read_bytes()
    assert (found.path.parent, found.manifest) == (there.directory, made.manifest)
    # Wanted again elsewhere it is one still, and the first manifest stays.
    again = machine("c").write(snapshot_frame(0, 10), {"model": "other", "base": None})
    assert (again.digest, again.manifest["model"]) == (made.digest, "bank")
    assert not [path for path in there.directory.iterdir() if path.name.startswith(".part-")]
    assert there.find("0" * 64) is None
    assert there.find("../secret") is None


def test_bytes_that_changed_in_the_store_are_refused(machine: Machine) -> None:
    made = machine("a").write(snapshot_frame(0, 10), {"model": "bank"})
    objects = machine("a").objects
    assert objects is not None
    made.path.write_bytes(made.path.read_bytes() + b" ")
    objects.send(made.path)
    with pytest.raises(SnapshotError, match=f"snapshot {made.digest} is damaged"):
        machine("b").find(made.digest)


def test_what_nothing_names_goes_here_and_there_and_what_others_keep_there_stays(machine: Machine) -> None:
    here = machine("a")
    base, other = (here.write(snapshot_frame(at, 5, prefix=f"p{at}"), {"model": "m"}) for at in (0, 20))
    top = here.write(snapshot_frame(40, 5, prefix="q"), {"model": "m", "base": base.digest})
    assert here.objects is not None
    foreign = here.directory / "notes.txt"
    foreign.write_text("theirs")
    here.objects.send(foreign)
    # A machine that holds no copy deletes as well, and knows the bases.
    fresh = machine("b")
    assert fresh.prune(lambda: [top.digest], other.path.stat().st_mtime + 3_600) == [other.digest]
    assert written(here) == {f"{one.digest}.{kind}" for one in (base, top) for kind in ("parquet", "json")}
    assert here.objects.fetch("notes.txt", here.directory / "back")
    assert here.prune(tuple, 0.0) == []


def test_a_person_goes_from_the_store_and_from_the_copies_of_others(machine: Machine) -> None:
    here, there = machine("a"), machine("b")
    old = here.write(snapshot_frame(0, 10, customer=CUSTOMERS), {"model": "bank"})
    copy = there.find(old.digest)
    assert copy is not None
    idle = machine("d")
    assert idle.find(old.digest) is not None
    # A third machine, which holds no copy, erases and keeps none.
    third = machine("c")
    assert [(one.digest, one.rows) for one in erase_snapshots(third, ANNA, 0, really=False)] == [(old.digest, 2)]
    assert not list(third.directory.glob("*.parquet"))
    (done,) = erase_snapshots(third, ANNA, 0, really=True)
    assert done.became is not None
    assert f"{old.digest}.parquet" not in written(here)
    found = there.find(old.digest)
    assert found is not None
    assert (found.digest, found.rows) == (done.became, 8)
    assert not copy.path.exists()
    # A copy that nobody asks for goes with the next cleaning.
    assert idle.prune(lambda: [old.digest], 0.0) == []
    assert not list(idle.directory.glob("*.parquet"))
    # The same rows from the topics once more: the person does not come back.
    assert there.write(snapshot_frame(0, 10, customer=CUSTOMERS), {"model": "bank"}).digest == done.became
    assert f"{old.digest}.parquet" not in written(here)


def test_a_copy_of_what_another_machine_erased_is_not_exported_to_dvc(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = list[str]()
    monkeypatch.setattr(DvcRepository, "tags", lambda _self: frozenset())
    monkeypatch.setattr(DvcRepository, "add", lambda _self, snapshot: exported.append(snapshot.digest))
    here = machine("a")
    here.write(snapshot_frame(0, 10, customer=CUSTOMERS), {"model": "bank"})
    assert erase_snapshots(machine("b"), ANNA, 0, really=True)
    made = replace(here, dvc=DvcRepository(tmp_path)).write(snapshot_frame(50, 10), {"model": "bank"})
    assert exported == [made.digest]


def test_an_erasure_that_was_killed_is_finished_by_another_machine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine("a")
    old = here.write(snapshot_frame(0, 10, customer=CUSTOMERS), {"model": "bank"})

    def die(_store: SnapshotStore, _path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SnapshotStore, "remove", die)
        with pytest.raises(KeyboardInterrupt):
            erase_snapshots(here, ANNA, 0, really=True)
    assert f"{old.digest}.parquet" in written(here)
    (done,) = erase_snapshots(machine("b"), Erasure("nobody", frozenset()), 0, really=True)
    assert (done.digest, done.rows) == (old.digest, 2)
    assert f"{old.digest}.parquet" not in written(here)


def test_a_store_that_is_away_is_waited_for_and_its_password_is_not_told(tmp_path: Path, free_port: int) -> None:
    made = SnapshotStore(tmp_path).write(snapshot_frame(0, 10), {"model": "bank"})
    url = f"ftp://ann:open-sesame@127.0.0.1:{free_port}/rows"
    away = SnapshotStore(tmp_path, objects=ObjectStore(url))
    with pytest.raises(Retryable, match=r"could not .* at ftp://\*\*\*@127\.0\.0\.1") as told:
        away.find(made.digest)
    assert "sesame" not in str(told.value)
    with pytest.raises(Retryable):
        away.write(snapshot_frame(50, 10), {"model": "bank"})
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".part-")]
    # What asks in the loop's thread does not ask there.
    assert away.local(made.digest) is not None
    (kept,) = erase_snapshots(SnapshotStore(tmp_path / "none", objects=ObjectStore(url)), ANNA, 0, really=True)
    assert "could not" in str(kept.kept)


def test_a_scheme_without_a_driver_says_what_to_install(tmp_path: Path) -> None:
    store = SnapshotStore.of(SnapshotSettings(directory=tmp_path, object_store="nowhere://key:open-sesame@rows"))
    with pytest.raises(Retryable, match=r"nowhere://\*\*\*@rows: .*Protocol not known.*object-store") as told:
        store.find("0" * 64)
    assert "sesame" not in str(told.value)
    assert "nowhere" not in fsspec.available_protocols()


def in_store(store: SnapshotStore, scratch: Path) -> set[str]:
    """Who is in any file of rows there, whatever its name."""
    assert store.objects is not None
    found: set[str] = set()
    for name in store.objects.written():
        if not name.endswith((".json", ".erased")):
            store.objects.fetch(name, scratch)
            found |= set(pl.read_parquet(scratch)["customer"])
    return found


# The first ends after the second has looked for a tombstone, or after it has written what is left.
@pytest.mark.parametrize("at", ["count", "bury"])
@pytest.mark.parametrize("second", [ANNA, Erasure("bert", frozenset())])
def test_of_two_erasures_at_once_each_leaves_nobody_it_was_asked_for(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: Erasure, at: str
) -> None:
    here, there = machine("a"), machine("b")
    old = here.write(snapshot_frame(0, 10, customer=CUSTOMERS), {"model": "bank"})
    count, bury, first = Erasure.count, SnapshotStore.bury, list[Erased]()

    def counting(self: Erasure, file: Path) -> int:
        found = count(self, file)
        if at == "count" and not first and file.parent == there.directory:
            first.extend(erase_snapshots(here, ANNA, 0, really=True))
        return found

    def burying(self: SnapshotStore, digest: str, tombstone: str) -> bool:
        if at == "bury" and not first and self is there:
            first.extend(erase_snapshots(here, ANNA, 0, really=True))
        return bury(self, digest, tombstone)

    monkeypatch.setattr(Erasure, "count", counting)
    monkeypatch.setattr(SnapshotStore, "bury", burying)
    done = erase_snapshots(there, second, 0, really=True)
    assert first
    assert {one.kept for one in (*first, *done)} == {None}
    assert in_store(here, tmp_path / "look") == {"bert", "carl"} - {second.entity}
    found = here.find(old.digest)
    assert found is not None
    assert (found.digest, found.rows) == (done[-1].became, 8 if second is ANNA else 7)
    assert here.tombstone(found.digest) is None
    assert not list(there.directory.glob("*.parquet")), "it held no rows before, and holds none now"


def test_a_machine_that_sends_while_another_erases_does_not_bring_the_person_back(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machine("a"), machine("b")
    old = here.write(snapshot_frame(0, 10, customer=CUSTOMERS), {"model": "bank"})
    send, done = SnapshotStore.send, list[Erased]()

    def late(store: SnapshotStore, digest: str) -> bool:
        if store is there and not done:
            done.extend(erase_snapshots(here, ANNA, 0, really=True))
        return send(store, digest)

    monkeypatch.setattr(SnapshotStore, "send", late)
    made = there.write(snapshot_frame(0, 10, customer=CUSTOMERS), {"model": "bank"})
    assert [made.digest] == [one.became for one in done]
    assert in_store(here, tmp_path / "look") == {"bert", "carl"}
    assert not there.rows_path(old.digest).exists()
    found = machine("c").find(old.digest)
    assert found is not None
    assert found.digest == made.digest


def test_tombstones_in_a_circle_end_the_walk(machine: Machine) -> None:
    here = machine("a")
    made = here.write(snapshot_frame(0, 10), {"model": "bank"})
    assert here.bury(made.digest, json.dumps({"became": made.digest}))
    assert not here.bury(made.digest, json.dumps({"became": "0" * 64})), "the first stays"
    for ask in (here.local, here.find, machine("b").find):
        with pytest.raises(SnapshotError, match="leads back to itself"):
            ask(made.digest)


def test_what_a_killed_machine_left_half_sent_is_erased_after_a_day_and_told_before(tmp_path: Path) -> None:
    folder = tmp_path / "nas"
    folder.mkdir()
    store = SnapshotStore(tmp_path / "a", objects=ObjectStore(f"file://{folder}"))

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalFileSystem, "mv", die)
        patch.setattr(LocalFileSystem, "rm_file", die)
        with pytest.raises(Killed):
            store.write(snapshot_frame(0, 10, customer=CUSTOMERS), {"model": "bank"})
    (left,) = folder.iterdir()
    assert "anna" in pl.read_parquet(left)["customer"]
    other = SnapshotStore(tmp_path / "b", objects=store.objects)
    (told,) = erase_snapshots(other, ANNA, 0, really=True)
    assert (told.file.name, "not written to its end" in str(told.kept)) == (left.name, True)
    os.utime(left, (0, 0))
    assert erase_snapshots(other, ANNA, 0, really=True) == []
    assert not left.exists()


def test_files_in_a_shared_folder_are_read_by_the_group_alone(tmp_path: Path) -> None:
    (tmp_path / "nas").mkdir()
    store = SnapshotStore(tmp_path / "a", objects=ObjectStore(f"file://{tmp_path}/nas"))
    store.write(snapshot_frame(0, 10), {"model": "bank"})
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "nas").iterdir()} == {0o640}


def test_a_folder_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/nas/rows"
    store = SnapshotStore(tmp_path / "a", objects=ObjectStore(url))
    (told,) = erase_snapshots(store, ANNA, 0, really=True)
    assert f"there is nothing at {url}: is it the right place, and mounted?" in str(told.kept)
    with pytest.raises(Retryable, match="could not write"):
        store.write(snapshot_frame(0, 10), {"model": "bank"})
    assert not (tmp_path / "nas").exists(), "on a disk of this machine it would hide below the mounted one"
    assert _object_store(url).outcome == "failed"
    (tmp_path / "nas" / "rows").mkdir(parents=True)
    assert _object_store(url).outcome == "ok"
    assert not list((tmp_path / "nas" / "rows").iterdir())


def test_a_store_that_says_nothing_is_given_up_within_a_limit_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    monkeypatch.setattr(object_store, "_ANSWER_S", 0.1)
    monkeypatch.setattr(LocalFileSystem, "info", lambda *_, **__: free.wait(20))
    store = SnapshotStore(tmp_path / "a", objects=ObjectStore(f"file://{tmp_path}"))
    try:
        with pytest.raises(Retryable, match="no answer within"):
            store.find("0" * 64)
    finally:
        free.set()


def test_a_damaged_copy_is_brought_again_and_damage_in_the_store_is_told_of_there(machine: Machine) -> None:
    here = machine("a")
    made = here.write(snapshot_frame(0, 10), {"model": "bank"})
    whole = made.path.read_bytes()
    made.path.write_bytes(b"x" + whole[1:])
    assert here.find(made.digest) == made
    assert made.path.read_bytes() == whole
    assert here.objects is not None
    made.path.write_bytes(whole[:50])
    here.objects.send(made.path)
    other = machine("b")
    with pytest.raises(SnapshotError, match="is damaged") as told:
        other.find(made.digest)
    assert here.place in str(told.value)
    # A cut upload: who has the rows whole sends them again.
    made.path.write_bytes(whole)
    here.write(snapshot_frame(0, 10), {"model": "bank"})
    assert other.find(made.digest) is not None


def test_a_manifest_that_cannot_be_read_keeps_no_other_back(machine: Machine, tmp_path: Path) -> None:
    here = machine("a")
    old = here.write(snapshot_frame(0, 10, customer=CUSTOMERS), {"model": "bank"})
    other = here.write(snapshot_frame(50, 10, prefix="f", customer=CUSTOMERS), {"model": "bank"})
    assert here.objects is not None
    other.path.with_suffix(".json").write_text("{")
    here.objects.send(other.path.with_suffix(".json"))
    kept = {one.digest: one.kept for one in erase_snapshots(machine("b"), ANNA, 0, really=True)}
    assert kept[old.digest] is None
    assert "cannot be read" in str(kept[other.digest])
    assert here.prune(lambda: [other.digest], 0.0) == []
    assert machine("c").prune(lambda: [other.digest], 4e9) != []
    assert f"{other.digest}.parquet" in written(here)


def test_a_driver_that_knows_no_times_erases_and_deletes_nothing_for_its_age(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine("a")
    assert here.objects is not None
    driver = fsspec.get_filesystem_class(here.objects.url.partition("://")[0])
    monkeypatch.setattr(driver, "modified", fsspec.AbstractFileSystem.modified)
    old = here.write(snapshot_frame(0, 10, customer=CUSTOMERS), {"model": "bank"})
    assert here.prune(tuple, 4e9) == []
    assert [one.digest for one in erase_snapshots(machine("b"), ANNA, 0, really=True)] == [old.digest]
    assert in_store(here, tmp_path / "look") == {"bert", "carl"}
    assert _object_store(here.objects.url).outcome == "warning"


def test_a_driver_that_fails_to_begin_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("no credentials")

    monkeypatch.setattr(LocalFileSystem, "__init__", refuse)
    store = SnapshotStore(tmp_path / "a", objects=ObjectStore(f"file://{tmp_path}/{uuid.uuid4().hex}"))
    LocalFileSystem.clear_instance_cache()
    with pytest.raises(Retryable, match="ValueError: no credentials") as told:
        store.find("0" * 64)
    assert "pip install" not in str(told.value)


def test_whoever_may_only_read_a_copy_finds_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine("a").write(snapshot_frame(0, 10), {"model": "bank"})

    def refuse(_: Path) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("stationkeeper.retrain.snapshot.files.unfinished", refuse)
    assert machine("a").find(made.digest) == made
