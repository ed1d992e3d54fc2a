import copy
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import jsonschema
import pytest

from scripts.docs.asyncapi import ROLES, document
from stationkeeper.contracts.messages import MESSAGES
from stationkeeper.contracts.topics import Topics

SPECS = "@asyncapi/specs@6.11.1"


@pytest.fixture(scope="module")
def asyncapi():
    return document("1.0.0")


@pytest.fixture(scope="module")
def official():
    """The official JSON Schema of AsyncAPI 3.0, from npm, kept between runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stationkeeper" / "asyncapi-6.11.1"
    schema = cache / "package/schemas/3.0.0.json"
    if not schema.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed, and it has the official AsyncAPI schema")
        cache.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            [npm, "pack", "--silent", SPECS], cwd=cache, capture_output=True, text=True, timeout=120, check=False
        )
        if packed.returncode != 0:
            pytest.skip(f"npm cannot fetch {SPECS}: {packed.stderr.strip()[-200:]}")
        with tarfile.open(cache / packed.stdout.split()[-1]) as archive:
            archive.extractall(cache, filter="data")
    return jsonschema.Draft7Validator(json.loads(schema.read_text()))


def resolve(tree, ref):
    for part in ref.removeprefix("#/").split("/"):
        tree = tree[part.replace("~1", "/")]
    return tree


def refs(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from refs(value)


def test_the_official_schema_accepts_the_document(asyncapi, official):
    assert [f"{error.json_path}: {error.message}" for error in official.iter_errors(asyncapi)] == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d["operations"]["tally-send-panes"].update(action="write"),
        lambda d: d["channels"]["panes"]["bindings"]["kafka"].update(partitions="six"),
        lambda d: d["channels"]["panes"]["bindings"]["kafka"]["topicConfiguration"].update(
            {"cleanup.policy": "delete"}
        ),
        lambda d: d.pop("info"),
    ],
)
def test_the_official_schema_would_have_refused_a_mistake(asyncapi, official, damage):
    wrong = copy.deepcopy(asyncapi)
    damage(wrong)
    assert not official.is_valid(wrong)


def test_every_reference_leads_somewhere(asyncapi):
    found = list(refs(asyncapi))
    assert len(found) > 100
    for ref in found:
        assert resolve(asyncapi, ref)


def test_every_topic_is_a_channel_that_a_role_uses(asyncapi):
    suffixes = {topic.name.partition(".")[2] for topic in Topics("x").all()}
    assert suffixes <= set(asyncapi["channels"])
    used = {op["channel"]["$ref"].rpartition("/")[2] for op in asyncapi["operations"].values()}
    assert used >= suffixes
    panes = asyncapi["channels"]["panes"]["bindings"]["kafka"]
    assert panes["partitions"] == 6
    assert panes["topicConfiguration"] == {
        "cleanup.policy": ["delete"],
        "retention.ms": 3 * 86_400_000,
        "max.message.bytes": 1_048_576,
    }


def test_examples_fit_the_schemas_they_stand_beside(asyncapi):
    for name, message in asyncapi["components"]["messages"].items():
        for example in message.get("examples", ()):
            root = {**resolve(asyncapi, message["payload"]["$ref"]), "components": asyncapi["components"]}
            jsonschema.Draft7Validator(root).validate(example["payload"])
            assert name in {known.schema_name for known in MESSAGES}


def test_who_writes_a_compacted_state_reads_it_back():
    for role in ROLES:
        states = [name for name in role.writes if name.endswith("-state")]
        assert set(states) <= set(role.reads), role.name
