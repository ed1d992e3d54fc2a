"""A reference written and read back decides alike; a bad file is refused with the field, its value and the cure."""

import base64
import json
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.identity import content_id
from stationkeeper.monitor.core.reference import (
    CategoricalCells,
    InvalidReference,
    Labels,
    OutcomeSums,
    Reference,
    TrafficProfile,
    dump,
    load,
    profile,
)
from stationkeeper.monitor.core.reference.cells import MAX_NAME
from stationkeeper.monitor.core.reference.json_fields import Fields, read_together
from stationkeeper.monitor.core.reference.outcome_sums import CLASSES
from stationkeeper.monitor.core.reference.reference import HOURS_VERSION
from stationkeeper.monitor.core.reference.reference_json import MAX_BYTES
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


@given(st.integers(-9, 20) | st.integers(-320, 290), st.text('aé\u2028"\\\x01😀', max_size=3))
def test_the_digest_is_the_hash_of_the_content_as_python_writes_it(power: int, value: str) -> None:
    scaled = np.arange(-20.0, 20.0) * 10.0**power
    document = json.loads(dump(profile({"x": scaled, "s": np.array([value, "b"] * 20)}, model="m", version="1")))
    stated = document.pop("digest")
    identity = {"model", "version", "notes", "source", "traffic", "labels", "threshold", "positive", "task"}
    learned = {"phi", "phi_within_days", "day_floor", "strata", "importance", "repeats"}
    content = {key: of for key, of in document.items() if key not in identity}
    for part in ("subjects", "pairs"):
        if part in content:
            content[part] = [{key: of for key, of in one.items() if key not in learned} for one in content[part]]
    assert content_id("ref", content) == stated


@pytest.mark.parametrize("item", [True, "1", None, 1.5, -1, 2**53 + 1, 2**70])
def test_a_count_that_is_no_whole_number_in_range_is_refused(item: object) -> None:
    document = json.loads(dump(REFERENCE))
    document["subjects"][0]["counts"][1] = item
    with pytest.raises(InvalidReference, match=r"subjects\[0\].counts: .* whole numbers, none negative"):
        load(json.dumps(document))


@pytest.mark.parametrize("item", [True, "1", None, 10**400])
def test_an_edge_that_is_no_number_is_refused(item: object) -> None:
    document = json.loads(dump(REFERENCE))
    document["subjects"][0]["cuts"][0] = item
    with pytest.raises(InvalidReference, match=r"subjects\[0\].cuts: every item must be a number"):
        load(json.dumps(document))


# What stands in a list of numbers, right or wrong, and what stands in its place.
ITEMS = st.integers(-2, 2**53 + 1) | st.floats() | st.sampled_from([True, None, "1", 2**70, 10**400])
LISTS = st.lists(st.integers(0, 9)) | st.lists(ITEMS, max_size=4) | st.none()


@given(st.lists(st.dictionaries(st.sampled_from(["f", "c"]), LISTS), max_size=4))
def test_what_is_read_together_is_what_each_object_says_alone_and_so_is_what_is_refused(objects: list[Any]) -> None:
    def said(one: Fields, key: str, size: int) -> object:
        try:
            return (one.floats(key, 9) if key == "f" else one.counts(key, size)).tolist()
        except InvalidReference as error:
            return str(error)

    for i, arrays in enumerate(read_together(objects, ("f",), ("c",))):
        together, alone = Fields(objects[i], f"o[{i}]", arrays), Fields(objects[i], f"o[{i}]")
        for key in ("f", "c"):
            for size in {0, len(objects[i].get(key) or ())}:
                assert said(together, key, size) == said(alone, key, size)


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


@pytest.mark.parametrize(
    "learned",
    [
        {"traffic": TrafficProfile(np.array([60.0]), 20.0, 60_000)},
        {"threshold": 0.9},
        {"positive": "fraud"},
        {"notes": ("read again",)},
        {"source": "history"},
    ],
)
def test_what_is_learned_later_leaves_the_digest_so_that_panes_still_add(learned: dict[str, Any]) -> None:
    assert replace(REFERENCE, **learned).digest == REFERENCE.digest


def test_local_hours_are_kept_and_no_older_release_takes_them_for_those_of_utc() -> None:
    text = dump(replace(REFERENCE, timezone="America/New_York"))
    assert json.loads(text)["schema_version"] == 3
    assert load(text).timezone == "America/New_York"
    assert dump(load(text)) == text
    assert "timezone" not in json.loads(dump(REFERENCE))
    assert load(dump(REFERENCE)).timezone == "UTC"
    with pytest.raises(InvalidReference, match=r"reference\.timezone: 'Mars/Olympus' is no time zone"):
        load(text.replace("America/New_York", "Mars/Olympus"))


def test_the_clock_of_strata_is_part_of_the_digest_and_that_of_none_is_not() -> None:
    first, *others = REFERENCE.subjects
    tokyo = replace(REFERENCE, timezone="Asia/Tokyo")
    plain = [replace(subject, strata=np.empty((0, 0), np.int64)) for subject in REFERENCE.subjects]
    assert replace(tokyo, subjects=tuple(plain)).digest == REFERENCE.digest
    hours = replace(first, strata=np.tile(first.counts, (24, 1)))
    seasonal = replace(tokyo, subjects=(hours, *others))
    assert replace(seasonal, timezone="UTC").digest == REFERENCE.digest
    assert len({REFERENCE.digest, seasonal.digest, replace(seasonal, timezone="Europe/Berlin").digest}) == 3
    assert load(dump(seasonal)).digest == seasonal.digest


def test_dependence_learned_of_a_subject_leaves_the_digest_and_its_cells_do_not() -> None:
    first, *others = REFERENCE.subjects
    within = np.full(3, 1.5)
    learned = replace(first, phi=np.full(3, 2.0), phi_within_days=within, day_floor=0.1, repeats=9, importance=0.2)
    assert replace(REFERENCE, subjects=(learned, *others)).digest == REFERENCE.digest
    again = load(dump(replace(REFERENCE, subjects=(learned, *others)))).subjects[0]
    np.testing.assert_array_equal(again.phi_within_days, within)
    assert replace(REFERENCE, subjects=(*others, first)).digest != REFERENCE.digest
    assert replace(REFERENCE, salt="other").digest != REFERENCE.digest


@given(st.dictionaries(st.integers(0, 5_000), st.integers(-(2**60), 2**60).filter(bool), max_size=30))
def test_sums_of_labels_come_back_exactly(by_position: dict[int, int]) -> None:
    sums = OutcomeSums.of(np.array(list(by_position), np.int64), np.array(list(by_position.values()), np.int64))
    labels = Labels(np.zeros((32, 2), np.int64), np.array([1, 2, 3, 4]), 1.25, sums)
    again = load(dump(replace(REFERENCE, labels=labels))).labels
    assert again is not None
    assert again.phi == 1.25
    assert dict(zip(again.sums.at.tolist(), again.sums.sum.tolist(), strict=True)) == by_position


def test_sums_out_of_order_or_beyond_their_bound_are_refused() -> None:
    entry = np.dtype([("at", "<u4"), ("sum", "<i8")])
    many = np.ones(CLASSES.stop + 1, entry)
    many["at"] = np.arange(len(many))
    for raw in (np.array([(5, 1), (5, 2)], entry).tobytes(), many.tobytes(), b"12345"):
        sums = base64.b64encode(zlib.compress(raw)).decode()
        with pytest.raises(InvalidReference, match=r"reference\.labels\.sums: "):
            load(broken(["labels", "sums"], sums))


@given(st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3) | st.none() | st.booleans())
def test_a_count_of_rows_is_a_whole_number_that_every_reader_keeps(rows: Any) -> None:
    text = broken(["rows"], rows)
    if isinstance(rows, int) and not isinstance(rows, bool) and 0 <= rows <= 2**53:
        assert load(text).rows == rows
    else:
        with pytest.raises(InvalidReference, match=r"rows|not JSON"):
            load(text)


def test_a_text_beyond_the_bounds_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(InvalidReference, match=f"{MAX_BYTES + 1} bytes, at most {MAX_BYTES}"):
        load(b" " * (MAX_BYTES + 1))
    with pytest.raises(InvalidReference, match=f"text of at most {MAX_NAME} characters"):
        load(broken(["model"], "m" * (MAX_NAME + 1)))


def test_a_subject_without_a_single_row_is_refused() -> None:
    counts = [0] * len(json.loads(dump(REFERENCE))["subjects"][0]["counts"])
    with pytest.raises(InvalidReference, match="all zero; profile rows in which"):
        load(broken(["subjects", 0, "counts"], counts))


def test_hours_of_the_week_must_fill_their_cells() -> None:
    strata = {"hours": 24, "counts": base64.b64encode(zlib.compress(bytes(8))).decode()}
    with pytest.raises(InvalidReference, match="holds 8 bytes, 24 hours"):
        load(broken(["subjects", 0, "strata"], strata))


@pytest.mark.parametrize(("largest", "size"), [(1, 1), (255, 1), (256, 2), (65_535, 2), (65_536, 4)])
def test_hours_take_as_few_bytes_as_hold_their_counts_and_four_are_read_by_older_builds(
    largest: int, size: int
) -> None:
    first, *others = REFERENCE.subjects
    strata = np.arange(24 * first.cells.count).reshape(24, -1) % 2 * largest
    text = dump(replace(REFERENCE, subjects=(replace(first, strata=strata), *others)))
    read, document = load(text), json.loads(text)
    assert read.subjects[0].strata.tolist() == strata.tolist()
    assert (read.digest, dump(read)) == (REFERENCE.digest, text)
    assert (document["schema_version"] == HOURS_VERSION) == (size < 4)
    stored = document["subjects"][0]["strata"]
    assert stored.get("bytes", 4) == size
    raw = zlib.decompress(base64.b64decode(stored["counts"]))
    assert raw == strata.astype(f"<u{size}").tobytes()
    with pytest.raises(InvalidReference, match=r"strata\.bytes: 3, must be one of 1, 2, 4"):
        load(broken(["subjects", 0, "strata"], {**stored, "bytes": 3}))


def test_a_number_that_no_float_holds_is_refused() -> None:
    document = {**json.loads(dump(REFERENCE)), "threshold": "HERE"}
    for text in ("1e999", "-1e999", "1" + 400 * "0"):
        with pytest.raises(InvalidReference, match=r"reference\.threshold: .*must be a number"):
            load(json.dumps(document).replace('"HERE"', text))
    with pytest.raises(InvalidReference, match="every item must be a number"):
        load(broken(["subjects", 0, "phi"], [10**400]))


def test_what_a_profile_of_thousands_of_classes_writes_is_read() -> None:
    rng = np.random.default_rng(3)
    data = {"x": rng.normal(size=20_000), "label": rng.integers(0, 6_000, 20_000).astype(str)}
    data["answer"] = np.where(rng.random(20_000) < 0.8, data["label"], "0")
    reference = profile(data, prediction="answer", label="label")
    assert load(dump(reference)).digest == reference.digest


def test_values_too_long_for_a_name_are_counted_without_one() -> None:
    values = np.array(["a" * (MAX_NAME + 1), "b"])[np.arange(200) % 2]
    for sensitive in ((), ("text",)):
        reference = load(dump(profile({"text": values}, sensitive=sensitive)))
        cells = reference.subjects[0].cells
        assert isinstance(cells, CategoricalCells)
        assert [len(value) <= MAX_NAME for value in cells.values] == [True] * (1 + len(sensitive))
        assert reference.subjects[0].rows == 200
    with pytest.raises(ValueError, match=f"name of {MAX_NAME + 1} characters, at most {MAX_NAME}"):
        profile({"x" * (MAX_NAME + 1): values})
