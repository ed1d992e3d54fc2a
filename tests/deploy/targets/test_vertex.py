"""Vertex AI, over HTTP to a project that checks requests with Google's own description of the service."""

from collections.abc import Iterator
from typing import Any

import pytest

from stationkeeper.contracts.messages import RolloutPhase
from stationkeeper.contracts.settings import Credential
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets import ChangedByOthers, Observation, Target, abilities_of, check_target, target_for
from stationkeeper.streams.errors import Retryable
from tests.deploy.targets.cloud_records import follow, record
from tests.deploy.targets.vertex_project import PARENT, Project


@pytest.fixture
def project() -> Iterator[Project]:
    made = Project()
    made.put("fraud", "1", "2", "3")
    yield made
    made.close()


def target(project: Project, **options: Any) -> Target:
    given = {"project": "bank", "location": "europe-west4", **options}
    token = Credential.model_validate({"secret": "token-of-google"})
    return target_for(TargetSettings(kind="vertex", url=project.url, token=token, options=given))


def deployed(project: Project) -> dict[str, int]:
    one = project.endpoints[f"{PARENT}/endpoints/fraud"]
    return {model["modelVersionId"]: one["trafficSplit"].get(model["id"], 0) for model in one["deployedModels"]}


def test_the_target_keeps_every_promise(project: Project):
    project.put("conformance", "1", "2")
    check_target(lambda: target(project), project.settle)
    assert project.tokens == {"Bearer token-of-google"}


def test_a_rollout_deploys_without_traffic_moves_the_split_alone_and_tidies_up(project: Project):
    one = target(project)
    follow(project.settle, one, record(1_250))
    assert one.observe("fraud") == Observation("1", "2", 1_200)
    (made,) = [given["deployedModel"] for _, verb, given in project.calls if verb == "deployModel"]
    assert made["model"] == f"{PARENT}/models/fraud@2"
    assert made["dedicatedResources"]["machineSpec"] == {"machineType": "n1-standard-2"}
    project.calls.clear()
    follow(project.settle, one, record(2_500))
    assert {(method, verb) for method, verb, _ in project.calls} == {("GET", ""), ("PATCH", "")}
    follow(project.settle, one, record(0, canary=None, champion="2", phase=RolloutPhase.PROBATION))
    assert deployed(project) == {"1": 0, "2": 100}
    follow(project.settle, one, record(100, canary="3", champion="2", epoch=2))
    follow(project.settle, one, record(0, canary=None, champion="2", epoch=2))
    # What a person deployed stays for that person to take away; what we added goes when nobody needs it.
    assert deployed(project) == {"1": 0, "2": 100}


def test_a_step_below_one_per_cent_is_refused_before_anything_is_deployed_or_is_one_where_that_is_asked_for(
    project: Project,
):
    one = target(project)
    follow(project.settle, one, record(50))
    found = one.observe("fraud")
    assert found is not None
    assert (found.weight_bp, deployed(project)) == (0, {"1": 100})
    assert "below 1 %" in found.unfit["2"]
    assert next(abilities_of(one).limits((50,)))[0]
    rounding = target(project, round_up=True)
    follow(project.settle, rounding, record(50))
    assert rounding.observe("fraud") == Observation("1", "2", 100)


def test_a_change_of_somebody_else_is_told_and_kept_until_it_is_handed_over(project: Project):
    one = target(project)
    follow(project.settle, one, record(500))
    endpoint = project.endpoints[f"{PARENT}/endpoints/fraud"]
    endpoint["trafficSplit"] = {"77": 100}
    with pytest.raises(ChangedByOthers, match=r"set it back, or remove the label"):
        one.apply(record(2_500))
    assert deployed(project) == {"1": 100, "2": 0}
    del endpoint["labels"]["stationkeeper-epoch"]
    follow(project.settle, one, record(2_500))
    assert deployed(project) == {"1": 75, "2": 25}


def test_who_writes_between_our_look_and_our_change_wins(project: Project):
    one = target(project)
    follow(project.settle, one, record(500))

    def elsewhere(endpoint: dict[str, Any]) -> None:
        endpoint["etag"], endpoint["labels"] = "e99", {**endpoint["labels"], "team": "risk"}

    project.between = elsewhere
    with pytest.raises(ChangedByOthers, match="was changed while we looked"):
        one.apply(record(2_500))
    assert deployed(project) == {"1": 95, "2": 5}
    # It was a label of theirs, not the split: at the next look it is kept and the split moves on.
    project.between = None
    follow(project.settle, one, record(2_500))
    assert deployed(project) == {"1": 75, "2": 25}
    assert project.endpoints[f"{PARENT}/endpoints/fraud"]["labels"]["team"] == "risk"


def test_a_deployment_that_fails_for_good_makes_the_version_unfit_and_one_that_lacked_a_machine_is_tried_again(
    project: Project,
):
    one = target(project)
    project.fails = {"code": 8, "message": "no machine is free"}
    for said in ("was asked for", "no machine is free", "was asked for"):
        with pytest.raises(Retryable, match=said):
            one.apply(record(500))
        project.settle()
    project.fails = None
    follow(project.settle, one, record(500))
    assert one.observe("fraud") == Observation("1", "2", 500)
    project.fails = {"code": 9, "message": "the container does not start"}
    # The champion alone is served, and the reason is there for the controller to end the rollout with.
    follow(project.settle, one, record(500, canary="3", epoch=2))
    found = one.observe("fraud")
    assert found is not None
    assert "the container does not start" in found.unfit["3"]
    assert deployed(project) == {"1": 100, "2": 0}


def test_a_controller_that_dies_while_a_model_is_deployed_deploys_it_once(project: Project):
    with pytest.raises(Retryable, match="was asked for"):
        target(project).apply(record(500))
    again = target(project)
    with pytest.raises(Retryable, match="is being deployed"):
        again.apply(record(500))
    follow(project.settle, again, record(500))
    assert deployed(project) == {"1": 95, "2": 5}


def test_what_is_not_there_or_not_ours_is_said_in_a_sentence(project: Project):
    one = target(project)
    project.models.discard(f"{PARENT}/models/fraud@2")
    with pytest.raises(Retryable, match=r"404 NOT_FOUND: Model .*fraud@2 is not found"):
        one.apply(record(100))
    with pytest.raises(Retryable, match="is not there: create it with version 1"):
        one.apply(record(100).model_copy(update={"model": "churn"}))
    project.endpoints[f"{PARENT}/endpoints/fraud"]["deployedModels"][0]["model"] = "projects/1/models/other"
    with pytest.raises(Retryable, match=r"deployed models \['77'\] have traffic and are no version of fraud"):
        one.apply(record(100))
    with pytest.raises(ValueError, match="project: Field required"):
        target_for(TargetSettings(kind="vertex", options={"location": "europe-west4"}))
