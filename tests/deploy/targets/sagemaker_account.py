"""An AWS account with endpoints, spoken to over HTTP: requests and answers are checked with botocore's own model.

botocore itself checks neither patterns nor upper bounds of what it sends; the account does, as SageMaker would.
"""

import re
from datetime import UTC, datetime
from email.message import Message
from typing import Any

from botocore import xform_name
from botocore.session import Session
from botocore.validate import ParamValidator

from tests.json_server import JsonServer

MODEL = Session().get_service_model("sagemaker")
ARN = "arn:aws:sagemaker:eu-west-1:123456789012:"
VARIANT = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 2, "InitialVariantWeight": 1.0}


def wrong(shape: Any, value: Any, where: str = "request") -> list[str]:
    """Return what a value breaks of the patterns and bounds of its shape."""
    if shape.type_name == "structure":
        return [one for name, part in value.items() for one in wrong(shape.members[name], part, f"{where}.{name}")]
    if shape.type_name == "list":
        return [one for part in value for one in wrong(shape.member, part, where)]
    most, pattern = shape.metadata.get("max"), shape.metadata.get("pattern")
    found = []
    if most is not None and (len(value) if isinstance(value, str) else value) > most:
        found.append(f"{where}: {value!r} is over {most}")
    plain = (pattern or "").replace(r"\p{L}\p{Z}\p{N}", r"\w ")
    if pattern is not None and re.fullmatch(plain, str(value)) is None:
        found.append(f"{where}: {value!r} does not match {pattern}")
    return found


class Refused(Exception):
    """A ``ValidationException``."""


class Account(JsonServer):
    """Endpoints that go through their states, one state a call of ``settle``."""

    def __init__(self) -> None:
        self.configs: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.models: set[str] = set()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.undoes, self.dies_before = False, ""
        super().__init__()

    def respond(self, method: str, path: str, headers: Message, body: Any) -> tuple[int, Any]:
        operation = headers["x-amz-target"].removeprefix(f"{MODEL.metadata['targetPrefix']}.")
        try:
            return 200, self.answer(operation, body)
        except Refused as error:
            return 400, {"__type": "ValidationException", "message": str(error)}

    def put(self, model: str, *versions: str) -> None:
        """Make an endpoint as a person does, with its first version under a name of theirs."""
        self.models |= {f"{model}-{version}" for version in versions}
        first = {**VARIANT, "VariantName": "AllTraffic", "ModelName": f"{model}-{versions[0]}"}
        self.configs[f"{model}-by-hand"] = {"ProductionVariants": [first], "KmsKeyId": "key-1"}
        self.endpoints[model] = {"status": "InService", "config": f"{model}-by-hand", "weights": {"AllTraffic": 1.0}}

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        shape = MODEL.operation_model(operation)
        report = ParamValidator().validate(given, shape.input_shape)
        if report.has_errors() or wrong(shape.input_shape, given):
            raise Refused(f"{report.generate_report()} {wrong(shape.input_shape, given)}")
        if operation == self.dies_before:
            raise Refused("the controller died here")
        self.calls.append((operation, given))
        body: dict[str, Any] = getattr(self, f"_{xform_name(operation)}")(given)
        if shape.output_shape is not None:
            told = ParamValidator().validate(body, shape.output_shape)
            assert not told.has_errors(), told.generate_report()
        return body

    def settle(self, _: Any = None) -> None:
        """Let every endpoint go on by one state."""
        for one in self.endpoints.values():
            if one["status"] == "Updating" and self.undoes:
                one["status"] = "RollingBack"
            elif one["status"] in {"Updating", "RollingBack"}:
                one.update(one["next"] if one["status"] == "Updating" else {}, status="InService")

    def _here(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["EndpointName"] not in self.endpoints:
            raise Refused(f'Could not find endpoint "{ARN}endpoint/{given["EndpointName"]}".')
        return self.endpoints[given["EndpointName"]]

    def _idle(self, given: dict[str, Any]) -> dict[str, Any]:
        found = self._here(given)
        if found["status"] != "InService":
            raise Refused(f"Cannot update in-progress endpoint {given['EndpointName']}")
        return found

    def _describe_endpoint(self, given: dict[str, Any]) -> dict[str, Any]:
        found, now = self._here(given), datetime(2026, 1, 1, tzinfo=UTC)
        coming = found["next"]["weights"] if found["status"] == "Updating" else found["weights"]
        return {
            "EndpointName": given["EndpointName"],
            "EndpointArn": f"{ARN}endpoint/{given['EndpointName']}",
            "EndpointConfigName": found["config"],
            "EndpointStatus": found["status"],
            "CreationTime": now,
            "LastModifiedTime": now,
            "ProductionVariants": [
                {"VariantName": name, "CurrentWeight": weight, "DesiredWeight": coming.get(name, weight)}
                for name, weight in found["weights"].items()
            ],
        }

    def _describe_endpoint_config(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["EndpointConfigName"]
        if name not in self.configs:
            raise Refused(f'Could not find endpoint configuration "{name}".')
        told = {"EndpointConfigArn": f"{ARN}endpoint-config/{name}", "CreationTime": datetime(2026, 1, 1, tzinfo=UTC)}
        return {"EndpointConfigName": name, **told, **self.configs[name]}

    def _create_endpoint_config(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["EndpointConfigName"]
        lost = {one["ModelName"] for one in given["ProductionVariants"]} - self.models
        if name in self.configs or lost:
            raise Refused(f"Cannot create endpoint configuration {name}: it exists, or could not find {sorted(lost)}")
        self.configs[name] = {key: value for key, value in given.items() if key != "EndpointConfigName"}
        return {"EndpointConfigArn": f"{ARN}endpoint-config/{name}"}

    def _update_endpoint(self, given: dict[str, Any]) -> dict[str, Any]:
        config = given["EndpointConfigName"]
        variants = self._describe_endpoint_config({"EndpointConfigName": config})["ProductionVariants"]
        weights = {one["VariantName"]: one["InitialVariantWeight"] for one in variants}
        self._idle(given).update(status="Updating", next={"config": config, "weights": weights})
        return {"EndpointArn": f"{ARN}endpoint/{given['EndpointName']}"}

    def _update_endpoint_weights_and_capacities(self, given: dict[str, Any]) -> dict[str, Any]:
        found = self._idle(given)
        wanted = {one["VariantName"]: one["DesiredWeight"] for one in given["DesiredWeightsAndCapacities"]}
        if not set(wanted) <= set(found["weights"]) or not sum(wanted.values()):
            raise Refused(f"no such variant, or no weight at all: {wanted}")
        found.update(status="Updating", next={"weights": {**found["weights"], **wanted}})
        return {"EndpointArn": f"{ARN}endpoint/{given['EndpointName']}"}

    def _add_tags(self, given: dict[str, Any]) -> dict[str, Any]:
        mine = self.tags.setdefault(given["ResourceArn"], {})
        mine.update({one["Key"]: one["Value"] for one in given["Tags"]})
        return {"Tags": [{"Key": key, "Value": value} for key, value in mine.items()]}

    def _list_tags(self, given: dict[str, Any]) -> dict[str, Any]:
        mine = self.tags.get(given["ResourceArn"], {})
        return {"Tags": [{"Key": key, "Value": value} for key, value in mine.items()]}
