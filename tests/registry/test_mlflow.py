import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stationkeeper.registry import (
    CARD_FILE,
    MODEL_FILE,
    ArtifactError,
    GoldenRows,
    Registered,
    Registration,
    Registry,
    RegistrySettings,
    ServedModel,
    read_card,
    retrained_runs,
)
from stationkeeper.registry import mlflow as registering
from stationkeeper.registry.run_log import write_flavor
from stationkeeper.streams.errors import DiskUnwritable, Retryable, unwritable
from tests.small_disk import small_disk


@pytest.mark.parametrize("call", ["champion('m')", "ping()", "tags('m', '1')", "snapshots()"])
def test_mlflow_is_never_imported_with_its_telemetry_on(tmp_path: Path, call: str) -> None:
    (tmp_path / "mlflow").mkdir()
    off = "os.environ.get('MLFLOW_DISABLE_TELEMETRY') == 'true'"
    (tmp_path / "mlflow" / "__init__.py").write_text(f"import os; os._exit(0 if {off} else 9)")
    code = f"from stationkeeper.registry import Registry, RegistrySettings as S; Registry(S()).{call}"
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_DISABLE_TELEMETRY"}
    search = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | {"PYTHONPATH": search}, check=False, cwd=tmp_path
    )
    assert done.returncode == 0


@pytest.fixture
def artifact(models: Path) -> Path:
    return models / "fraud" / "1"


def register(registry: Registry, artifact: Path, request: str, model: str = "fraud", **more: Any) -> Registered:
    return registry.register(
        Registration(
            model,
            artifact,
            params={"p": "1"},
            metrics={"m": 1.5},
            tags={"incident": "inc-9", "empty": "", "long": "x" * 9_000},
            files=(artifact / CARD_FILE, artifact / "absent"),
            request=request,
            **more,
        )
    )


def versions(registry: Registry, model: str) -> set[str]:
    found = registry._connection.client("look").search_model_versions(f"name = '{model}'")
    return {str(version.version) for version in found}


def test_what_is_registered_comes_back_and_any_tool_can_load_it(registry: Registry, artifact: Path, tmp_path: Path):
    made = register(registry, artifact, "req-r")
    card = registry.download("fraud", made.version, tmp_path / "back")
    assert (tmp_path / "back" / MODEL_FILE).read_bytes() == (artifact / MODEL_FILE).read_bytes()
    assert card == read_card(artifact)
    assert registry.tags("fraud", made.version)["incident"] == "inc-9"
    assert registry.alias("fraud", "challenger") == made.version
    from mlflow.models import Model

    found = Model.load(made.artifact)
    assert "onnx" in found.flavors
    assert found.get_input_schema().input_names() == list(card.names)


def test_mlflows_own_server_answers_for_a_version_with_a_text_feature(artifact: Path, tmp_path: Path):
    """`mlflow models serve` is this application behind a socket; it answered 400 to each of these requests."""
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import load_model, scoring_server

    card = read_card(artifact)
    golden = GoldenRows(columns={"amount": (1.5, None), "method": ("card", None)}, scores=((0.1, 0.9), (0.5, 0.5)))
    write_flavor(artifact, card.model_copy(update={"golden": golden}), tmp_path / "model")
    server = TestClient(scoring_server.init(load_model(str(tmp_path / "model"))))
    rows = {"amount": [1.5, -2, 0.25], "method": ["card", "wallet", "nobody"]}
    answers = []
    for body in (
        {"dataframe_split": {"columns": list(rows), "data": list(zip(*rows.values(), strict=True))}},
        {"dataframe_records": [dict(zip(rows, one, strict=True)) for one in zip(*rows.values(), strict=True)]},
    ):
        got = server.post("/invocations", json=body)
        assert got.status_code == 200, got.text
        answers.append([one["probability"] for one in got.json()["predictions"]])
    assert answers[0] == answers[1]
    assert all(0 < one < 1 for one in answers[0])
    # Missing values are no fault of the request, and the example that travels with the model is one that it takes.
    assert server.post("/invocations", json={"dataframe_records": [{"amount": 1, "method": None}]}).status_code == 200
    example = (tmp_path / "model" / "serving_input_example.json").read_bytes()
    assert server.post("/invocations", content=example, headers={"Content-Type": "application/json"}).status_code == 200
    needed = (tmp_path / "model" / "requirements.txt").read_text()
    assert all(f"{name}==" in needed for name in ("mlflow", "onnxruntime", "pandas"))


@pytest.mark.parametrize("at", ["log_run", "_ensure_model"])
def test_what_another_process_removed_meanwhile_is_registered_again(
    registry: Registry, artifact: Path, monkeypatch: pytest.MonkeyPatch, at: str
):
    """A process that slept goes on with its cleaning: the one that took over must wait and not give up."""
    real = getattr(registering, at)

    def removed(*given: Any) -> Any:
        registry.remove_orphans("fraud", "req-asleep")
        return real(*given)

    monkeypatch.setattr(registering, at, removed)
    with pytest.raises(Retryable, match="another process removed the run"):
        register(registry, artifact, "req-asleep", alias=None)
    monkeypatch.undo()
    assert register(registry, artifact, "req-asleep", alias=None).version


def test_a_run_holds_plots_its_description_and_the_snapshot_as_its_dataset(
    registry: Registry, artifact: Path, tmp_path: Path
):
    (tmp_path / "a.png").write_bytes(b"png")
    digest = "ab" * 32
    made = registry.register(
        Registration(
            "fraud", artifact, tags={"snapshot": digest}, plots=(tmp_path / "a.png",), description="# Why", alias=None
        )
    )
    client = registry._connection.client("look")
    run = client.get_run(made.run_id)
    (found,) = run.inputs.dataset_inputs
    # MLflow keeps 36 characters; the whole digest is in the source.
    assert found.dataset.digest == digest[:36]
    assert digest in found.dataset.source
    assert [one.path for one in client.list_artifacts(made.run_id, "plots")] == ["plots/a.png"]
    assert run.data.tags["mlflow.note.content"] == "# Why"
    assert client.get_model_version("fraud", made.version).description == "# Why"


def test_a_version_is_fetched_once_and_serves_without_the_registry(registry: Registry, artifact: Path, tmp_path: Path):
    made = register(registry, artifact, "req-s")
    directory = registry.fetch("fraud", made.version)
    assert {one.name for one in directory.iterdir()} == {MODEL_FILE, CARD_FILE}
    served = ServedModel.load(directory, "fraud", made.version)
    assert served.answer({"amount": [2.0, -2.0], "method": ["card", "card"]}).actions == ["positive", "negative"]
    offline = Registry(RegistrySettings(tracking_uri="sqlite:////nowhere/at/all.db"), registry._cache)
    assert offline.fetch("fraud", made.version) == directory
    (directory / MODEL_FILE).write_bytes(b"damaged")
    assert read_card(registry.fetch("fraud", made.version)).model == "fraud"
    with pytest.raises(ValueError, match="without a cache"):
        Registry(registry.settings).fetch("fraud", made.version)


def test_a_cache_whose_disk_is_full_or_read_only_is_waited_for(registry: Registry, artifact: Path, tmp_path: Path):
    made = register(registry, artifact, "req-d")
    with small_disk(tmp_path / "disk", 1) as disk:
        cached = Registry(registry.settings, disk.path / "cache")
        disk.read_only(on=True)
        with pytest.raises(DiskUnwritable, match=r"could not fetch version .*Read-only file system"):
            cached.fetch("fraud", made.version)
        disk.read_only(on=False)
        disk.fill()
        # What is only copied tells by MLflow's own error.
        with pytest.raises(Retryable, match="No space left") as full:
            cached.fetch("fraud", made.version)
        assert unwritable(full.value)
        disk.free()
        assert read_card(cached.fetch("fraud", made.version)).model == "fraud"
        assert [path.name for path in (disk.path / "cache").iterdir()] == [cached.fetch("fraud", made.version).name]


def test_a_path_as_version_or_model_touches_no_file(registry: Registry, tmp_path: Path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    for model, version in [("fraud", str(precious)), (str(tmp_path), "precious"), ("fraud", "../../precious")]:
        with pytest.raises(ArtifactError):
            registry.fetch(model, version)
    away = Registry(RegistrySettings(tracking_uri="http://127.0.0.1:9", timeout=1_000, retries=0), tmp_path / "cache")
    with pytest.raises(Retryable):
        away.fetch("fraud", str(precious))
    assert (precious / "file").read_text() == "kept"


def test_orphans_of_a_request_are_removed_and_others_stay(registry: Registry, artifact: Path):
    first = register(registry, artifact, "req-a", "orphans")
    second = register(registry, artifact, "req-a", "orphans")
    other = register(registry, artifact, "req-b", "orphans")
    assert registry.remove_orphans("orphans", "req-a", keep=[second.version]) == [first.version]
    assert registry.remove_orphans("orphans", "req-a", keep=[second.version]) == []
    assert versions(registry, "orphans") == {second.version, other.version}
    client = registry._connection.client("look")
    assert client.get_run(first.run_id).info.lifecycle_stage == "deleted"
    assert client.get_run(second.run_id).info.lifecycle_stage == "active"


def test_two_processes_that_remove_the_same_orphans_at_once_both_go_on(
    registry: Registry, artifact: Path, monkeypatch: pytest.MonkeyPatch
):
    stray = register(registry, artifact, "req-both", "both", alias=None)
    real, other = registering._aliased, list[str]()

    def meanwhile(client: Any, model: str) -> Any:
        monkeypatch.undo()
        other.extend(registry.remove_orphans("both", "req-both"))
        return real(client, model)

    monkeypatch.setattr(registering, "_aliased", meanwhile)
    assert registry.remove_orphans("both", "req-both") == other == [stray.version]
    assert versions(registry, "both") == set()


def test_the_runs_of_retrained_versions_are_found_when_their_versions_are_gone(
    registry: Registry, artifact: Path, monkeypatch: pytest.MonkeyPatch
):
    first, second = (register(registry, artifact, f"req-runs-{one}", "runs") for one in "ab")
    client = registry._connection.client("delete")
    somebodys = client.create_run("0").info.run_id
    client.delete_model_version("runs", first.version)
    client.delete_run(second.run_id)
    # A run a page: all are read.
    monkeypatch.setattr(registering, "PAGE", 1)
    found = retrained_runs(registry._connection)
    assert {first.run_id, second.run_id} <= set(found)
    assert somebodys not in found


def test_a_version_under_an_alias_is_never_an_orphan(registry: Registry, artifact: Path):
    champion = register(registry, artifact, "req-x", "named", alias="champion")
    pinned = register(registry, artifact, "req-x", "named", alias="somebodys-own")
    assert registry.remove_orphans("named", "req-x") == []
    assert versions(registry, "named") == {champion.version, pinned.version}
    assert registry.remove_orphans("named", "req' or '1' = '1") == []


def test_the_candidate_gets_its_alias_back_from_what_a_sleeper_registered_later(registry: Registry, artifact: Path):
    candidate = register(registry, artifact, "req-s", "slept", alias="challenger")
    stray = register(registry, artifact, "req-s", "slept", alias="challenger")
    assert registry.remove_orphans("slept", "req-s", [candidate.version], candidate.version) == [stray.version]
    assert registry.alias("slept", "challenger") == candidate.version
    # The challenger of another request is nobody's stray.
    other = register(registry, artifact, "req-t", "slept", alias="challenger")
    assert registry.remove_orphans("slept", "req-s", [candidate.version], candidate.version) == []
    assert registry.alias("slept", "challenger") == other.version


def test_a_version_that_lost_its_bytes_is_refused(registry: Registry, artifact: Path, tmp_path: Path):
    made = register(registry, artifact, "req-c")
    Path(made.artifact, MODEL_FILE).write_bytes(b"other")
    with pytest.raises(ArtifactError, match="is damaged"):
        registry.download("fraud", made.version, tmp_path / "damaged")
    Path(made.artifact, MODEL_FILE).unlink()
    with pytest.raises(ArtifactError, match=r"has no model\.onnx"):
        registry.download("fraud", made.version, tmp_path / "without")
    shutil.rmtree(made.artifact)
    with pytest.raises((ArtifactError, Retryable), match=r"could not fetch|has no"):
        registry.download("fraud", made.version, tmp_path / "gone")
    assert not [one for one in tmp_path.iterdir() if not one.name.startswith(".")]


def test_a_graph_and_card_that_were_changed_together_are_refused(registry: Registry, artifact: Path, tmp_path: Path):
    made = register(registry, artifact, "req-swap")
    stored = Path(made.artifact.removeprefix("file://"))
    from onnx import load_from_string

    graph = load_from_string((artifact / MODEL_FILE).read_bytes())
    graph.doc_string = "somebody else's"
    content = graph.SerializeToString()
    card = read_card(artifact).model_copy(update={"onnx_sha256": hashlib.sha256(content).hexdigest()})
    (stored / MODEL_FILE).write_bytes(content)
    (stored / CARD_FILE).write_bytes(card.encode())
    ServedModel.load(stored, "fraud", made.version)
    with pytest.raises(ArtifactError, match="was registered with SHA-256"):
        registry.download("fraud", made.version, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_what_does_not_exist_is_named(registry: Registry, tmp_path: Path):
    assert registry.champion("nobody") is None
    with pytest.raises(ArtifactError, match=r"version 9 of nobody.*register it or name another version"):
        registry.download("nobody", "9", tmp_path / "x")
    with pytest.raises(ArtifactError, match="could not read version 99"):
        registry.tags("fraud", "99")


def test_an_unreachable_server_is_retryable_and_named_without_its_password(free_port: int):
    away = Registry(RegistrySettings(tracking_uri=f"http://ada:secret@127.0.0.1:{free_port}", timeout=1_000, retries=0))
    with pytest.raises(
        Retryable, match=rf"could not reach the registry at http://\*\*\*@127\.0\.0\.1:{free_port}"
    ) as caught:
        away.ping()
    assert "secret" not in str(caught.value)


def test_the_champion_alias_moves(registry: Registry, artifact: Path):
    made = register(registry, artifact, "req-d", "alias-test")
    assert registry.champion("alias-test") is None
    registry.set_champion("alias-test", made.version)
    assert registry.champion("alias-test") == made.version
