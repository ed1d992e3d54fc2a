"""A chain's digests are checked against real files and a real registry: what differs is named, what is gone is said."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from stationkeeper.contracts.identity import candidate_id, request_id
from stationkeeper.explain.lineage import Chain
from stationkeeper.explain.verify import verified_text, verify_chain
from stationkeeper.registry import Registration, Registry, RegistrySettings, read_card
from stationkeeper.retrain.snapshot import SnapshotStore
from tests.deploy.conftest import write_model
from tests.messages import candidate, request

AT = 1_767_225_600_000
CODE = "c0de" * 16


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A registered version of a snapshot, its request, and the chain that names both."""
    root = tmp_path_factory.mktemp("verify")
    store = SnapshotStore(root / "snapshots")
    store.directory.mkdir()
    rows = pl.DataFrame(
        {
            "@event_id": ["a", "b"],
            "@time": [1, 2],
            "@label": [None, "1"],
            "@version": ["1", "1"],
            "@label_time": [None, 3],
            "amount": [1.0, 2.0],
        }
    )
    snapshot = store.write(rows, {"model": "fraud"})
    asked = request(AT, id=request_id("fraud", "1", "inc-1"), model="fraud", version="1", incident="inc-1")
    artifact = write_model(root / "artifact")
    card = read_card(artifact).model_copy(update={"trainer": "gradient-boosting"})
    (artifact / "card.json").write_bytes(card.encode())
    registry = Registry(RegistrySettings(tracking_uri=f"sqlite:///{root}/mlflow.db"))
    made = registry.register(
        Registration("fraud", artifact, tags={"snapshot": snapshot.digest, "code": CODE}, request=asked.id)
    )
    named = candidate(
        AT,
        id=candidate_id(asked.id),
        request=asked.id,
        model="fraud",
        version=made.version,
        snapshot=snapshot.digest,
        reference="ref-2",
        evidence={"onnx_sha256": card.onnx_sha256},
    )
    return SimpleNamespace(chain=Chain((), asked, named, ()), store=store, registry=registry, path=snapshot.path)


def states(world: Any, chain: Chain | None = None, store: SnapshotStore | None = None, **more: Any) -> dict[str, str]:
    known = {"ref-2": SimpleNamespace(version=world.chain.candidate.version)}
    checks = verify_chain(
        chain or world.chain,
        store or world.store,
        more.get("registry", world.registry),
        more.get("references", known),
        more.get("code_of", lambda _: CODE),
    )
    assert verified_text(checks).startswith("VERIFIED\n")
    return {one.what.split(" of ")[0]: one.state for one in checks}


def changed(world: Any, **fields: Any) -> Chain:
    return Chain((), world.chain.request, world.chain.candidate.model_copy(update=fields), ())


def test_a_sound_chain_is_checked_whole(world: Any) -> None:
    found = states(world)
    assert set(found.values()) == {"ok"}
    assert set(found) == {
        "request id",
        "candidate id",
        "snapshot",
        "artifact",
        "tag snapshot",
        "tag request",
        "recipe",
        "reference",
    }


def test_what_is_another_content_is_wrong(world: Any) -> None:
    other = changed(world, evidence={"onnx_sha256": "0" * 64})
    assert states(world, other)["artifact"] == "wrong"
    assert states(world, changed(world, version="99"))["artifact"] == "wrong"
    assert states(world, changed(world, id="cand-9"))["candidate id"] == "wrong"
    assert states(world, references={"ref-2": SimpleNamespace(version="77")})["reference"] == "wrong"
    content = world.path.read_bytes()
    try:
        world.path.write_bytes(content + b"x")
        assert states(world)["snapshot"] == "wrong"
    finally:
        world.path.write_bytes(content)


def test_what_cannot_be_checked_says_why_and_is_neither(world: Any, tmp_path: Path) -> None:
    assert states(world, store=SnapshotStore(tmp_path))["snapshot"] == "not checked"
    assert states(world, references={})["reference"] == "not checked"
    assert states(world, code_of=lambda _: None)["recipe"] == "not checked"
    assert states(world, code_of=lambda _: "other")["recipe"] == "not checked"
    away = Registry(RegistrySettings(tracking_uri="http://127.0.0.1:9", timeout=1_000, retries=0))
    assert states(world, registry=away)["artifact, recipe"] == "not checked"
    alone = states(world, Chain((), world.chain.request, None, ()))
    assert alone == {"request id": "ok", "snapshot, artifact, reference, recipe": "not checked"}
