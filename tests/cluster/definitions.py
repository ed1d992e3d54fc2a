"""Definitions of foreign Kubernetes objects (CRDs), and whether a document is one of them as an API server judges it.

``python -m tests.cluster.definitions tests/cluster/crds FILE.yaml...`` writes them again from the files of a release,
without their descriptions, which are most of the text; ``crds/README.md`` says which release and file each is. No
package of a registry holds them, so they lie there.
"""

import gzip
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

FOLDER = Path(__file__).parent / "crds"


@cache
def definition(name: str) -> dict[str, Any]:
    """Return a definition by its plural name and group, e.g. ``httproutes.gateway.networking.k8s.io``."""
    found: dict[str, Any] = json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
    return found


@cache
def schema_of(name: str, version: str) -> dict[str, Any]:
    """Return the OpenAPI schema of a version, unknown fields refused as ``fieldValidation=Strict`` does."""
    versions = definition(name)["spec"]["versions"]
    schema = next(one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == version)
    strict: dict[str, Any] = _strict(schema)
    # An API server knows these of every object.
    strict["properties"] |= {"metadata": {"type": "object"}, "apiVersion": {}, "kind": {}}
    return strict


def violations(document: dict[str, Any], plural: str) -> list[str]:
    """Return what an API server would refuse about a document; empty if it takes it."""
    group, _, version = document["apiVersion"].rpartition("/")
    checked = jsonschema.Draft7Validator(schema_of(f"{plural}.{group}", version))
    return [f"{'.'.join(map(str, one.absolute_path))}: {one.message}" for one in checked.iter_errors(document)]


def defaulted(value: Any, schema: dict[str, Any]) -> Any:
    """Return a value with the schema's defaults put in, as an API server stores it."""
    if isinstance(value, dict):
        known = schema.get("properties", {})
        value = {**{key: one["default"] for key, one in known.items() if "default" in one}, **value}
        return {key: defaulted(one, known[key]) if key in known else one for key, one in value.items()}
    if isinstance(value, list):
        return [defaulted(one, schema.get("items", {})) for one in value]
    return value


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes") and key != "format"}
    if "properties" in kept:
        kept["properties"] = {key: _strict(one) for key, one in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            kept.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties", "allOf", "anyOf", "oneOf", "not"):
        if key in kept:
            kept[key] = _strict(kept[key])
    if schema.get("x-kubernetes-int-or-string"):
        kept.pop("type", None)
    return kept


def _plain(value: Any, *, names: bool = False) -> Any:
    """Return a definition without its descriptions; ``names`` says that the keys are names of fields."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if names or key != "description" or not isinstance(one, str)}
        return {key: _plain(one, names=key == "properties" and not names) for key, one in kept.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _write(out: Path, files: list[str]) -> None:
    for file in files:
        for document in yaml.safe_load_all(Path(file).read_text(encoding="utf-8")):
            if document:
                text = json.dumps(_plain(document), separators=(",", ":"), sort_keys=True)
                path = out / f"{document['metadata']['name']}.json.gz"
                path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    _write(Path(sys.argv[1]), sys.argv[2:])
