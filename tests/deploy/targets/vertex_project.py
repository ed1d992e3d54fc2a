"""A Google Cloud project with Vertex AI endpoints, spoken to over HTTP.

Requests and answers are checked with Google's own description of the service: ``vertex_discovery.json`` is the part of
its discovery document that describes endpoints.
"""

import copy
import json
import re
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.json_server import JsonServer

SCHEMAS = json.loads(Path(__file__).with_name("vertex_discovery.json").read_text(encoding="utf-8"))["schemas"]
GOOGLE = "GoogleCloudAiplatformV1"
PARENT = "projects/bank/locations/europe-west4"
KINDS: dict[str, Any] = {
    "string": str,
    "integer": int,
    "boolean": bool,
    "number": (int, float),
    "object": dict,
    "array": list,
}


def wrong(schema: dict[str, Any], value: Any, where: str, *, sent: bool) -> list[str]:
    """Return what a value breaks of its schema; what is ``sent`` may not hold what is for reading alone."""
    if "$ref" in schema:
        schema = SCHEMAS[schema["$ref"]]
    if not isinstance(value, KINDS[schema["type"]]):
        return [f"{where}: {value!r} is no {schema['type']}"]
    found = []
    for name, part in value.items() if isinstance(value, dict) else ():
        known = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
        if known is None or (sent and known.get("readOnly")):
            found.append(f"{where}.{name}: unknown, or for reading alone")
        elif known.get("type") != "any":
            found += wrong(known, part, f"{where}.{name}", sent=sent)
    for part in value if isinstance(value, list) else ():
        found += wrong(schema["items"], part, where, sent=sent)
    return found


class Refused(Exception):
    """An error answer: HTTP status, Google's word for it, the message."""


class Project(JsonServer):
    """Endpoints and the operations on them; an operation is done at the next ``settle``."""

    def __init__(self) -> None:
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.running: dict[str, tuple[str, Any]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.models: set[str] = set()
        self.calls: list[tuple[str, str, Any]] = []
        self.fails: dict[str, Any] | None = None
        self.tokens: set[str] = set()
        self.between: Any = None
        super().__init__()

    def respond(self, method: str, path: str, headers: Message, body: Any) -> tuple[int, Any]:
        self.tokens.add(headers["authorization"] or "")
        try:
            return 200, self.answer(method, path, body)
        except Refused as error:
            code, word, why = error.args
            return code, {"error": {"code": code, "status": word, "message": why}}

    def put(self, model: str, *versions: str) -> None:
        """Make an endpoint as a person does, with its first version deployed."""
        self.models |= {f"{PARENT}/models/{model}@{version}" for version in versions}
        first = {
            "id": "77",
            "model": f"projects/1234/locations/europe-west4/models/{model}",
            "modelVersionId": versions[0],
            "dedicatedResources": {"machineSpec": {"machineType": "n1-standard-2"}, "minReplicaCount": 1},
            "createTime": "2026-01-01T00:00:00Z",
        }
        path = f"{PARENT}/endpoints/{model}"
        self.endpoints[path] = {"name": path, "etag": "e1", "trafficSplit": {"77": 100}, "deployedModels": [first]}

    def answer(self, method: str, path: str, given: Any) -> Any:
        parts = urlsplit(path)
        name, _, verb = unquote(parts.path.removeprefix("/v1/")).partition(":")
        kind = {"deployModel": "DeployModelRequest", "undeployModel": "UndeployModelRequest"}.get(verb, "Endpoint")
        if given is not None and (broken := wrong(SCHEMAS[GOOGLE + kind], given, kind, sent=True)):
            raise Refused(400, "INVALID_ARGUMENT", str(broken))
        self.calls.append((method, verb, given))
        if name in self.operations:
            told, shape = self.operations[name], "GoogleLongrunningOperation"
        elif name not in self.endpoints:
            raise Refused(404, "NOT_FOUND", f"The Endpoint {name} does not exist.")
        elif method == "PATCH":
            told, shape = self._patch(self.endpoints[name], given, parse_qs(parts.query)["updateMask"][0]), "Endpoint"
        elif verb:
            told, shape = self._begin(name, verb, given), "GoogleLongrunningOperation"
        else:
            told, shape = copy.deepcopy(self.endpoints[name]), "Endpoint"
            if self.between is not None:
                self.between(self.endpoints[name])
        full = shape if shape.startswith("Google") else GOOGLE + shape
        assert wrong(SCHEMAS[full], told, shape, sent=False) == []
        return told

    def settle(self, _: Any = None) -> None:
        """Let every operation end."""
        for operation, (path, act) in list(self.running.items()):
            if self.fails is None:
                act(self.endpoints[path])
                self._written(self.endpoints[path])
            self.operations[operation] |= {"done": True, **({"error": self.fails} if self.fails else {"response": {}})}
            del self.running[operation]

    def _written(self, one: dict[str, Any]) -> None:
        one["etag"] = f"e{int(one['etag'][1:]) + 1}"

    def _patch(self, one: dict[str, Any], given: dict[str, Any], mask: str) -> dict[str, Any]:
        if given.get("etag", one["etag"]) != one["etag"]:
            raise Refused(409, "ABORTED", f"The etag {given['etag']} is not {one['etag']}.")
        split = given.get("trafficSplit", {})
        ids = {deployed["id"] for deployed in one["deployedModels"]}
        if sum(split.values()) != 100 or not set(split) <= ids:
            raise Refused(400, "INVALID_ARGUMENT", f"Traffic split {split} does not sum to 100 over {sorted(ids)}.")
        if any(re.fullmatch(r"[a-z0-9_-]{1,63}", text) is None for pair in given["labels"].items() for text in pair):
            raise Refused(400, "INVALID_ARGUMENT", f"Labels {given['labels']} are not allowed.")
        one.update({name: given[name] for name in mask.split(",")})
        self._written(one)
        return one

    def _begin(self, path: str, verb: str, given: dict[str, Any]) -> dict[str, Any]:
        one = self.endpoints[path]
        operation = f"{path}/operations/{len(self.operations) + 1}"
        if verb == "deployModel":
            new = dict(given["deployedModel"])
            if new["model"] not in self.models:
                raise Refused(404, "NOT_FOUND", f"Model {new['model']} is not found.")
            if any(of == path for of, _ in self.running.values()) or re.fullmatch("[0-9]{1,10}", new["id"]) is None:
                raise Refused(409, "ALREADY_EXISTS", f"DeployedModel {new['id']} is being deployed.")
            new["model"], _, new["modelVersionId"] = new["model"].partition("@")
            self.running[operation] = (path, lambda endpoint: endpoint["deployedModels"].append(new))
        else:
            gone = given["deployedModelId"]
            if one["trafficSplit"].get(gone):
                raise Refused(400, "FAILED_PRECONDITION", f"DeployedModel {gone} has traffic.")
            left = [deployed for deployed in one["deployedModels"] if deployed["id"] != gone]
            self.running[operation] = (path, lambda endpoint: endpoint.update(deployedModels=left))
        self.operations[operation] = {"name": operation}
        return self.operations[operation]
