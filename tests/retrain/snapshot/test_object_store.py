"""Snapshots in an object store, each through two machines' directories.

``STATIONKEEPER_OBJECT_STORE=s3://BUCKET python -m pytest tests/retrain/snapshot/test_object_store.py`` asks that one as
well; its driver reads credentials and endpoint from the environment.
"""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from stationkeeper.retrain.settings import SnapshotSettings
from stationkeeper.retrain.snapshot import Erasure, SnapshotError, SnapshotStore, erase_snapshots
from stationkeeper.retrain.snapshot.object_store import ObjectStore, ObjectStoreError
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
    with pytest.raises(ObjectStoreError, match=r"nowhere://\*\*\*@rows: Protocol not known.*object-store") as told:
        store.find("0" * 64)
    assert "sesame" not in str(told.value)
    assert "nowhere" not in fsspec.available_protocols()
