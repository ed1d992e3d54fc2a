"""What Argo Rollouts and Flagger ask of the deploy role's port, by the manifests that ship."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from stationkeeper.deploy.analysis import Analyses
from stationkeeper.process.web import WebServer, create_app
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from tests.cluster.definitions import violations
from tests.deploy.core.ramp import POLICY
from tests.deploy.world import TOPICS, arms

OPS = Path(__file__).parents[3] / "ops"
MANIFESTS = {
    "argo-rollouts/analysis-template.yaml": "analysistemplates",
    "argo-rollouts/rollout.yaml": "rollouts",
    "flagger/canary.yaml": "canaries",
}


def manifest(name: str) -> Any:
    return yaml.safe_load((OPS / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def history() -> MemoryLog:
    made = MemoryLog()
    made.create(TOPICS.history)
    return made


@pytest.fixture(scope="module")
def url(history: MemoryLog) -> Iterator[str]:
    analyses = Analyses(lambda: MemoryReader(history), TOPICS.history.name, {"fraud": POLICY})
    server = WebServer(create_app([], strict=True, analyses=analyses))
    server.start()
    yield server.url
    server.stop()


def put(history: MemoryLog, minutes: range, errors: int) -> None:
    values = [arms(index, {"1": (600, 12), "2": (400, errors)}) for index in minutes]
    history.produce(TOPICS.history.name, values, keys=[b"fraud"] * len(values))


@pytest.mark.parametrize(("name", "plural"), MANIFESTS.items())
def test_a_manifest_is_what_its_definition_says(name: str, plural: str):
    assert violations(manifest(name), plural) == []


def asked_by_argo(url: str, **given: str) -> tuple[str, str]:
    """Measure as Argo's web metric does: the template's address with its arguments, then both conditions."""
    template = manifest("argo-rollouts/analysis-template.yaml")["spec"]
    metric = template["metrics"][0]
    web, address = metric["provider"]["web"], metric["provider"]["web"]["url"]
    for one in template["args"]:
        address = address.replace("{{args." + one["name"] + "}}", given.get(one["name"], one.get("value", "")))
    answer = httpx.get(address.replace("http://stationkeeper-deploy:9103", url))
    if not answer.is_success:
        return "Error", answer.text
    assert web["jsonPath"] == "{$.verdict}"
    result = answer.json()["verdict"]
    for said in ("successCondition", "failureCondition"):
        if metric[said] == f'result == "{result}"':
            return {"successCondition": "Successful", "failureCondition": "Failed"}[said], answer.text
    return "Inconclusive", answer.text


def test_what_runs_beside_a_rollout_is_not_over_at_its_first_success():
    spec = manifest("argo-rollouts/analysis-template.yaml")["spec"]
    assert [metric["consecutiveSuccessLimit"] for metric in spec["metrics"]] == ["{{args.enough}}"]
    usual = {one["name"]: one.get("value") for one in spec["args"]}
    canary = manifest("argo-rollouts/rollout.yaml")["spec"]["strategy"]["canary"]
    beside = {one["name"]: one.get("value") for one in canary["analysis"]["args"]}
    (step,) = [one["analysis"] for one in canary["steps"] if "analysis" in one]
    within = {one["name"]: one.get("value") for one in step["args"]}
    # For Argo 0 is no limit.
    assert (beside["enough"], (usual | within)["enough"]) == ("0", "1")


def asked_by_flagger(url: str) -> dict[str, int]:
    hooks = manifest("flagger/canary.yaml")["spec"]["analysis"]["webhooks"]
    payload = {"name": "fraud", "namespace": "scoring", "phase": "Progressing", "checksum": "1"}
    return {
        hook["type"]: httpx.post(hook["url"].replace("http://stationkeeper-deploy:9103", url), json=payload).status_code
        for hook in hooks
    }


def test_both_controllers_are_answered_along_a_ramp(url: str, history: MemoryLog):
    assert asked_by_argo(url, model="fraud")[0] == "Inconclusive"
    put(history, range(5), 8)
    assert asked_by_argo(url, model="fraud", labels="false")[0] == "Inconclusive"
    assert asked_by_flagger(url) == {"rollback": 403, "confirm-traffic-increase": 200, "confirm-promotion": 403}
    put(history, range(5, 120), 8)
    assert asked_by_argo(url, model="fraud", labels="false", champion="1", canary="2")[0] == "Successful"
    put(history, range(120, 150), 48)
    phase, said = asked_by_argo(url, model="fraud")
    assert (phase, '"code":"harm"' in said) == ("Failed", True)
    assert asked_by_flagger(url) == {"rollback": 200, "confirm-traffic-increase": 403, "confirm-promotion": 403}


def test_what_cannot_be_asked_is_said(url: str, history: MemoryLog):
    unknown = httpx.get(f"{url}/api/v1/analysis/loans")
    assert (unknown.status_code, unknown.json()["known"]) == (404, ["fraud"])
    wrong = httpx.get(f"{url}/api/v1/analysis/fraud?labels=maybe")
    assert (wrong.status_code, "labels=true or false" in wrong.json()["error"]) == (400, True)
    assert httpx.get(f"{url}/api/v1/analysis/fraud?canery=2").status_code == 400
    assert httpx.post(f"{url}/api/v1/analysis/fraud/promote").status_code == 404
    history.available = False
    try:
        # An error of the measurement for Argo; no 5xx, which Flagger would repeat at once.
        assert httpx.get(f"{url}/api/v1/analysis/fraud").status_code == 424
        assert httpx.post(f"{url}/api/v1/analysis/fraud/rollback").status_code == 424
    finally:
        history.available = True
