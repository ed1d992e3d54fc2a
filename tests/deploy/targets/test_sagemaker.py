"""SageMaker, through real botocore over HTTP to an account that checks requests with botocore's own model."""

from collections.abc import Iterator
from typing import Any

import pytest

from stationkeeper.contracts.messages import RolloutPhase
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets import ChangedByOthers, Observation, Target, check_target, target_for
from stationkeeper.streams.errors import Retryable
from tests.deploy.targets.cloud_records import follow, record
from tests.deploy.targets.sagemaker_account import Account


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    made = Account()
    made.put("fraud", "1", "2", "3")
    yield made
    made.close()


def target(account: Account, **options: Any) -> Target:
    given = {"region": "eu-west-1", **options}
    return target_for(TargetSettings(kind="sagemaker", url=account.url, options=given))


def test_the_target_keeps_every_promise(account: Account):
    account.put("conformance", "1", "2")
    made = target(account)
    check_target(lambda: made, account.settle)
    # And through a new object each time, as after a restart: once, for a client takes a while to make.
    assert target(account).observe("conformance") == Observation("1", None, 0)


def test_a_rollout_adds_a_variant_without_traffic_moves_weights_alone_and_tidies_up(account: Account):
    one = target(account)
    follow(account.settle, one, record(500))
    assert one.observe("fraud") == Observation("1", "2", 500)
    (made,) = [given for operation, given in account.calls if operation == "CreateEndpointConfig"]
    assert made["KmsKeyId"] == "key-1"
    assert made["ProductionVariants"][1] == {
        "VariantName": "stationkeeper-2",
        "ModelName": "fraud-2",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 2,
        "InitialVariantWeight": 0.0,
    }
    account.calls.clear()
    follow(account.settle, one, record(2_500))
    moved = [operation for operation, _ in account.calls if not operation.startswith(("Describe", "List", "AddTags"))]
    assert moved == ["UpdateEndpointWeightsAndCapacities"]
    follow(account.settle, one, record(0, canary=None, champion="2", phase=RolloutPhase.PROBATION))
    # The old champion stays loaded on probation: to go back to it is to move weights.
    assert account.endpoints["fraud"]["weights"] == {"AllTraffic": 0.0, "stationkeeper-2": 10_000.0}
    follow(account.settle, one, record(0, canary=None, champion="2"))
    # What a person made stays for that person to take away; what we added goes when nobody needs it.
    assert set(account.endpoints["fraud"]["weights"]) == {"AllTraffic", "stationkeeper-2"}
    follow(account.settle, one, record(100, canary="3", champion="2", epoch=2))
    follow(account.settle, one, record(0, canary=None, champion="3", epoch=2))
    assert set(account.endpoints["fraud"]["weights"]) == {"AllTraffic", "stationkeeper-3"}
    assert one.observe("fraud") == Observation("3", None, 0)


def test_an_update_that_is_undone_silently_is_seen_not_asked_for_again_and_makes_the_version_unfit(account: Account):
    one = target(account)
    account.undoes = True
    with pytest.raises(Retryable, match="SageMaker undid"):
        follow(account.settle, one, record(100))
    found = one.observe("fraud")
    assert found is not None
    assert (found.champion, found.weight_bp) == ("1", 0)
    assert "which added it" in found.unfit["2"]
    updates = [given for operation, given in account.calls if operation == "UpdateEndpoint"]
    assert len(updates) == 1
    # The controller gives the version up; a later rollout may try again, and SageMaker take it.
    follow(account.settle, one, record(0, canary=None))
    account.undoes = False
    follow(account.settle, one, record(100, epoch=2))
    assert one.observe("fraud") == Observation("1", "2", 100)


def test_a_change_of_somebody_else_is_told_and_kept_until_it_is_handed_over(account: Account):
    one = target(account)
    follow(account.settle, one, record(500))
    # A person's emergency brake: the weights as they were before our step.
    account.endpoints["fraud"]["weights"] = {"AllTraffic": 1.0, "stationkeeper-2": 0.0}
    with pytest.raises(ChangedByOthers, match=r"nothing was overwritten: set it back, or remove the tag"):
        one.apply(record(2_500))
    assert account.endpoints["fraud"]["weights"] == {"AllTraffic": 1.0, "stationkeeper-2": 0.0}
    for tags in account.tags.values():
        tags.pop("stationkeeper:epoch")
    follow(account.settle, one, record(2_500))
    assert one.observe("fraud") == Observation("1", "2", 2_500)


@pytest.mark.parametrize("call", ["UpdateEndpoint", "UpdateEndpointWeightsAndCapacities"])
def test_a_controller_that_dies_between_its_word_and_its_deed_goes_on(account: Account, call: str):
    one = target(account)
    account.dies_before = call
    with pytest.raises(AssertionError, match="never there"):
        follow(account.settle, one, record(500))
    account.dies_before = ""
    follow(account.settle, one, record(500))
    assert one.observe("fraud") == Observation("1", "2", 500)


def test_guardrails_go_with_an_update_and_only_with_one(account: Account):
    one = target(account, shift="canary", shift_percent=20, shift_wait="2m", alarms="errors-5xx, latency")
    follow(account.settle, one, record(500))
    (update,) = [given for operation, given in account.calls if operation == "UpdateEndpoint"]
    assert update["DeploymentConfig"] == {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "CANARY",
                "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 20},
                "WaitIntervalInSeconds": 120,
            }
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors-5xx"}, {"AlarmName": "latency"}]},
    }


def test_what_is_not_there_or_not_ours_is_said_in_a_sentence(account: Account):
    one = target(account)
    account.models.discard("fraud-2")
    with pytest.raises(Retryable, match=r"could not find \['fraud-2'\]"):
        one.apply(record(100))
    with pytest.raises(Retryable, match="create it with version 1 of churn"):
        one.apply(record(100).model_copy(update={"model": "churn"}))
    with pytest.raises(Retryable, match="no name that SageMaker allows"):
        one.apply(record(100).model_copy(update={"model": "fraud_eu"}))
    account.configs["fraud-by-hand"]["ProductionVariants"][0]["ModelName"] = "something-else"
    with pytest.raises(Retryable, match="serve no version of fraud"):
        target(account).apply(record(100))
    account.endpoints["fraud"]["status"] = "Failed"
    with pytest.raises(Retryable, match=r"is Failed \(SageMaker gives no reason\)"):
        one.apply(record(100))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shift": "linear"}, "without alarms undoes nothing"),
        ({"model_name": "fraud"}, "model_name"),
        ({"endpont": "x"}, "endpont"),
    ],
)
def test_options_that_do_not_fit_are_named(account: Account, options: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        target(account, **options)
