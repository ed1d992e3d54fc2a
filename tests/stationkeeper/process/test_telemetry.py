"""The exposition: closed list, cap, exemplars, withdrawn series, and what the official linter says."""

import math
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from stationkeeper.contracts.masking import printable
from stationkeeper.contracts.metrics import BY_NAME, METRICS, Sample
from stationkeeper.process.telemetry import BadSampleError, Telemetry, capped

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def one_of_each() -> list[Sample]:
    samples = []
    for metric in METRICS:
        labels = tuple(f"{label} {i}" for i, label in enumerate(metric.labels))
        if metric.kind == "histogram":
            samples.append(Sample(metric.name, labels, 3.0, buckets=((0.1, 1), (1.0, 2), (math.inf, 3)), sum=2.5))
        else:
            samples.append(Sample(metric.name, labels, 2.0))
    return [s for s in samples if s.metric != "stationkeeper_series_refused_total"]


def subject(name: str, ratio: float, *, state: int = 1, model: str = "m") -> list[Sample]:
    key = (model, "1", "", name)
    return [
        Sample("stationkeeper_drift_evidence", key, ratio * 10),
        Sample("stationkeeper_drift_evidence_threshold", key, 10.0),
        Sample("stationkeeper_subject_state", key, state),
        Sample("stationkeeper_window_rows", key, 100),
    ]


def names(body: bytes, label: str) -> set[str]:
    return {s.labels[label] for f in parse_text(body.decode()) for s in f.samples if label in s.labels}


def test_the_official_linter_accepts_every_metric_of_the_list() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    body, _ = Telemetry([one_of_each], strict=True).render()
    found = {family.name for family in parse_text(body.decode())}
    assert {name for name in found if not name.startswith("process_")} == {
        name.removesuffix("_total") for name in BY_NAME
    }
    lint = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, b"")


def test_a_process_tells_of_itself_what_the_page_of_metrics_says() -> None:
    body, _ = Telemetry([]).render()
    found = {family.name: family.samples[0].value for family in parse_text(body.decode())}
    told = {name.removesuffix("_total") for name in found if name.startswith("process_")}
    page = (Path(__file__).resolve().parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert told == {name.removesuffix("_total") for name in re.findall(r"`(process_\w+)`", page)}
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert found["process_start_time_seconds"] <= time.time()


@pytest.mark.parametrize("buckets", [((0.1, 1), (math.inf, 3)), ((0.1, 1),)], ids=["with infinity", "without"])
def test_a_histogram_ends_in_its_count(buckets: tuple[tuple[float, int], ...]) -> None:
    value = 0.0 if math.inf in dict(buckets) else 3.0
    sample = Sample("stationkeeper_flush_seconds", ("tally",), value, buckets=buckets, sum=2.5)
    body, _ = Telemetry([lambda: [sample]], strict=True).render()
    assert b'stationkeeper_flush_seconds_bucket{le="0.1",role="tally"} 1.0' in body
    assert b'stationkeeper_flush_seconds_bucket{le="+Inf",role="tally"} 3.0' in body
    assert b'stationkeeper_flush_seconds_count{role="tally"} 3.0' in body


def test_openmetrics_carries_verdict_ids_as_exemplars_and_no_created_series() -> None:
    verdicts = Sample("stationkeeper_verdicts_total", ("fraud", "data_drift", "page"), 1.0, exemplar="ver-12")
    telemetry = Telemetry([lambda: [verdicts, *one_of_each()]], strict=True)
    body, content_type = telemetry.render(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    assert b"_created" not in body
    samples = [s for f in parse_openmetrics(body.decode()) for s in f.samples if s.name == verdicts.metric]
    assert [s.exemplar.labels for s in samples if s.exemplar] == [{"verdict_id": "ver-12"}]
    assert b"ver-12" not in telemetry.render("text/plain")[0]


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (Sample("stationkeeper_drift_score", (), 1.0), "not in contracts.metrics"),
        (Sample("stationkeeper_model_state", ("a", "b"), 1.0), "has the labels"),
        (Sample("stationkeeper_role_ready", ("tally",), 1.0), "handed over twice"),
    ],
)
def test_a_sample_outside_the_list_is_an_error_in_tests_and_counted_in_production(sample: Sample, said: str) -> None:
    fine = Sample("stationkeeper_role_ready", ("tally",), 1.0)
    with pytest.raises(BadSampleError, match=said):
        Telemetry([lambda: [fine, sample]], strict=True).render()
    body, _ = Telemetry([lambda: [fine, sample]]).render()
    assert b'stationkeeper_limits_refused_total{limit="bad_sample"} 1.0' in body
    assert b'stationkeeper_role_ready{role="tally"} 1.0' in body


def test_a_series_that_is_no_longer_handed_over_is_gone_and_nan_is_never_shown() -> None:
    now = [Sample("stationkeeper_model_state", ("fraud",), 1.0)]
    telemetry = Telemetry([lambda: now], strict=True)
    assert b"stationkeeper_model_state{" in telemetry.render()[0]
    now[:] = [Sample("stationkeeper_label_completeness_ratio", ("fraud",), math.nan)]
    body, _ = telemetry.render()
    assert b"stationkeeper_model_state{" not in body
    assert b"completeness" not in body


def test_above_the_cap_the_worst_subjects_stay_whole_and_the_rest_is_counted() -> None:
    samples = [Sample("stationkeeper_model_state", ("m",), 2.0)]
    for i in range(10):
        samples += subject(f"f{i}", ratio=i / 10)
    samples += subject("alarmed", ratio=0.0, state=2)
    telemetry = Telemetry([lambda: samples], max_series=13, strict=True)
    body, _ = telemetry.render()
    assert names(body, "subject") == {"alarmed", "f9", "f8"}
    assert b"stationkeeper_series_refused_total 32.0" in body
    body, _ = telemetry.render()
    assert b"stationkeeper_series_refused_total 64.0" in body


def test_what_stages_left_out_themselves_is_added_to_the_count() -> None:
    samples = [Sample("stationkeeper_series_refused_total", (), 5), Sample("stationkeeper_series_refused_total", (), 2)]
    telemetry = Telemetry([lambda: samples], strict=True)
    assert b"stationkeeper_series_refused_total 7.0" in telemetry.render()[0]
    assert b"stationkeeper_series_refused_total 14.0" in telemetry.render()[0]


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(-2, 2)), unique_by=lambda t: t[0]), st.integers(1, 60))
def test_the_cap_holds_and_nothing_vanishes_uncounted(subjects: list[tuple[int, float]], limit: int) -> None:
    samples = [s for i, ratio in subjects for s in subject(f"f{i}", ratio)]
    kept, refused = capped(samples, limit)
    assert len(kept) <= limit
    assert len(kept) + refused == len(samples)
    assert len(kept) % 4 == 0
    assert [s for s in samples if s in kept] == kept


def test_ten_thousand_series_cost_little() -> None:
    samples = [s for m in range(10) for f in range(250) for s in subject(f"f{f}", 0.1, model=f"m{m}")]
    telemetry = Telemetry([lambda: samples], strict=True)
    cpu = time.thread_time()
    body, _ = telemetry.render()
    assert body.count(b"\n") > 10_000
    # Processor time of this thread: others, left by tests before, count in that of the process. The bar is 0.3 s, the
    # measured value 0.06 s.
    assert time.thread_time() - cpu < 1.5


# A name may be anything that JSON can hold; these break a line, a quote, a terminal, a text direction, a UTF-8 encoder.
HOSTILE = [
    "a\x00b",
    'size 15"',
    "back\\slash",
    "income\n(EUR)",
    "\x1b[31m",
    "abc\u202edef",
    "half\ud83d",
    '{x="1"} 1',
    "é\u2028",
]


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_hostile_names_are_read_back_by_prometheus_parsers_without_control_characters(accept: str) -> None:
    samples = [Sample("stationkeeper_subject_state", ("m", "1", "", name), 1.0) for name in HOSTILE]
    body, _ = Telemetry([lambda: samples], strict=True).render(accept)
    text = body.decode()
    assert text.replace("\n", "").isprintable()
    parse = parse_openmetrics if accept == OPENMETRICS else parse_text
    found = [s.labels["subject"] for f in parse(text) for s in f.samples if s.name == "stationkeeper_subject_state"]
    assert found == [printable(name) for name in HOSTILE]


def test_the_official_linter_accepts_hostile_names() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    samples = [Sample("stationkeeper_subject_state", ("m", "1", "", name), 1.0) for name in HOSTILE]
    body, _ = Telemetry([lambda: samples], strict=True).render()
    lint = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, b"")


def test_two_names_that_are_shown_alike_cost_one_series_and_not_the_scrape() -> None:
    samples = [Sample("stationkeeper_model_state", (name,), 1.0) for name in ("a\x00", "a\\x00")]
    body, _ = Telemetry([lambda: samples]).render()
    assert body.count(b"stationkeeper_model_state{") == 1
    assert b'stationkeeper_limits_refused_total{limit="bad_sample"} 1.0' in body
