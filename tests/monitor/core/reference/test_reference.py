import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stationkeeper.monitor.core.reference import InvalidReference, Reference, dump, load
from tests.monitor.core.streams import bank, reference_of


def made() -> Reference:
    rng = np.random.default_rng(0)
    data: dict[str, Any] = bank(3_000)
    data["score"] = rng.random(3_000)
    data["fraud"] = (rng.random(3_000) < data["score"]).astype(int)
    data["active"] = rng.random(3_000) < 0.5
    data["at"] = np.sort(rng.integers(0, 40 * 86_400_000, 3_000))
    return reference_of(data, prediction="score", label="fraud", time="at", pane="12h", sensitive=["method"])


REFERENCE = made()


def test_a_reference_read_back_counts_and_decides_alike():
    again = load(dump(REFERENCE))
    assert again.digest == REFERENCE.digest
    assert dump(again) == dump(REFERENCE)
    assert again.layout.width == REFERENCE.layout.width
    assert again.adopted
    assert again.labels is not None
    assert REFERENCE.labels is not None
    assert again.labels.scored.tolist() == REFERENCE.labels.scored.tolist()
    assert len(dump(REFERENCE)) < 30_000


def test_the_digest_names_the_counts_and_not_the_version():
    assert replace(REFERENCE, version="2").digest == REFERENCE.digest
    other = replace(REFERENCE.subjects[0], counts=REFERENCE.subjects[0].counts + 1)
    assert replace(REFERENCE, subjects=(other, *REFERENCE.subjects[1:])).digest != REFERENCE.digest


def test_no_value_of_a_sensitive_feature_is_stored():
    text = dump(REFERENCE)
    assert '"card"' not in text
    assert '"wire"' not in text


def broken(path: list[str | int], value: object) -> str:
    document = json.loads(dump(REFERENCE))
    del document["digest"]
    at = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (["schema_version"], 99, "schema_version: 99"),
        (["rows"], -1, "rows: -1"),
        (["threshold"], "high", "threshold: 'high'"),
        (["subjects"], {}, "subjects: {}"),
        (["subjects", 0, "kind"], "complex", "kind: 'complex', must be one of numeric, categorical, boolean"),
        (["subjects", 0, "counts"], [1, 2], "counts: 2 items"),
        (["subjects", 0, "cuts"], [3.0, 2.0], "cuts: not strictly increasing"),
        (["subjects", 0, "name"], "", "name: ''"),
        (["subjects", 1, "name"], "amount", "'amount' appears twice"),
        (["subjects", 2, "known"], "%%%", "known: not base64"),
        (["subjects", 2, "buckets"], 10**9, "buckets: 1000000000"),
        (["traffic", "rows_per_hour"], [1, 2, 3], "rows_per_hour"),
        (["labels", "confusion"], [1, 2, 3, -4], "confusion"),
    ],
)
def test_a_bad_field_is_named_with_its_value(path: list[str | int], value: object, named: str):
    with pytest.raises(InvalidReference, match=named.replace("(", r"\(").replace("{", r"\{").replace("%", "%")):
        load(broken(path, value))


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", "[" * 100_000, '{"schema_version": NaN}'])
def test_what_is_no_reference_is_refused_with_a_reason(text: str):
    with pytest.raises(InvalidReference, match="reference"):
        load(text)


def test_an_edited_reference_does_not_pass_for_the_original():
    document = json.loads(dump(REFERENCE))
    document["subjects"][0]["counts"][0] += 1
    with pytest.raises(InvalidReference, match="digest"):
        load(json.dumps(document))


def test_a_decompression_bomb_is_cut_off():
    import base64
    import zlib

    document = json.loads(dump(REFERENCE))
    del document["digest"]
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000), 9)).decode()
    document["subjects"][0]["strata"] = {"hours": 24, "counts": bomb}
    with pytest.raises(InvalidReference, match=r"strata\.counts"):
        load(json.dumps(document))


# A reference as the first release wrote it: one number, one category, no dependence learned.
FIRST_RELEASE = """{"schema_version":1,"model":"bank","version":"1","source":"training","rows":4,
"salt":"s","threshold":0.5,"positive":"1","notes":[],"subjects":[{"name":"age","type":"feature","kind":"numeric","cuts":[30.0],"atoms":[],"low":20.0,
"high":50.0,"counts":[2,2,0],"quality":[0,0,0,0,0,0,0],"json_type":"number","importance":1.0,"sensitive":false,
"high_cardinality":false,"distinct":4,"phi":[],"repeats":0},{"name":"method","type":"feature","kind":"categorical",
"values":["card"],"buckets":2,"known":"AQAAAA==","counts":[3,1,0,0],"quality":[0,0,0,0,0,0,0],"json_type":"string",
"importance":1.0,"sensitive":false,"high_cardinality":false,"distinct":2,"phi":[],"repeats":0}]}"""


def test_a_file_of_the_first_release_is_read_and_written_alike():
    old = load(FIRST_RELEASE)
    written = json.loads(dump(old))
    assert written.pop("digest") == old.digest
    assert written == json.loads(FIRST_RELEASE)
    assert list(written) == list(json.loads(FIRST_RELEASE))
    assert not old.adopted
