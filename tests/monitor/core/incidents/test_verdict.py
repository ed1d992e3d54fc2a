"""Verdicts: what is published of a finding and of a closed incident, and what must not start a retraining."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.messages import Level, SubjectState, SubjectType, Verdict, VerdictKind
from stationkeeper.monitor.core.finding import INFORM, PAGE, WARN, Dated, Finding
from stationkeeper.monitor.core.incidents.incident import Incident, Member
from stationkeeper.monitor.core.incidents.verdict import (
    WatchIdentity,
    onset_of,
    recovered_verdict,
    refusal_of,
    verdict_of,
)
from stationkeeper.monitor.core.reasons import BLOCKS_RETRAINING, Cause, Check

MINUTE = 60_000
WATCH = WatchIdentity("fraud", "3", "country=CH", "ref-1")
ONSET = Dated(2 * MINUTE, MINUTE, 3 * MINUTE, 40)
DRIFT = Finding(
    subject="amount",
    type=SubjectType.FEATURE,
    kind=VerdictKind.DATA_DRIFT,
    level=PAGE,
    score=17.0,
    threshold=16.4,
    onset=2 * MINUTE,
    rows=900,
    cause=Cause.SHIFT,
    reason="amount moved up",
    evidence={"psi": 0.3},
)
FAULT = replace(DRIFT, kind=VerdictKind.DATA_QUALITY, check=Check.NULL, cause=Cause.QUALITY, reason="null in 9%")


def said(finding: Finding = DRIFT, **changes: Any) -> Verdict:
    asked: dict[str, Any] = {
        "now": 10 * MINUTE,
        "level": PAGE,
        "effect": 0.4,
        "rows": 1_000,
        "onset": ONSET,
        "incident": None,
        "last_row": 999,
        "evidence": {},
    }
    return verdict_of(WATCH, finding, **asked | changes)


def incident() -> Incident:
    members = [
        Member(f"feature:{name}", name, SubjectType.FEATURE, VerdictKind.DATA_DRIFT, None, at, at)
        for at, name in enumerate(["b", "amount", "c", "d", "e", "f"])
    ]
    opened = Incident(
        "inc-1",
        "fraud",
        "3",
        "country=CH",
        MINUTE,
        ONSET,
        "feature:amount",
        VerdictKind.DATA_DRIFT,
        Cause.SHIFT,
        "moved",
    )
    return Incident(**{**{name: getattr(opened, name) for name in opened.__struct_fields__}, "members": tuple(members)})


def test_a_verdict_carries_what_the_finding_and_the_chart_say() -> None:
    verdict = said(incident=incident(), evidence={"value": "CH"})
    assert (verdict.model, verdict.version, verdict.segment, verdict.reference) == ("fraud", "3", "country=CH", "ref-1")
    assert (verdict.subject.name, verdict.kind, verdict.cause) == ("amount", VerdictKind.DATA_DRIFT, Cause.SHIFT)
    # The numbers are the chart's, not those of the finding's own rows.
    assert (verdict.statistic, verdict.threshold, verdict.effect, verdict.rows, verdict.row) == (
        17.0,
        16.4,
        0.4,
        1_000,
        999,
    )
    assert verdict.time == datetime(1970, 1, 1, 0, 10, tzinfo=UTC)
    assert verdict.onset is not None
    assert verdict.onset.time == datetime(1970, 1, 1, 0, 2, tzinfo=UTC)
    assert verdict.incident == "inc-1"
    # What is known at the pane is told beside what the finding knew.
    assert verdict.evidence == {"psi": 0.3, "value": "CH"}


@pytest.mark.parametrize(("level", "name"), [(PAGE, Level.PAGE), (WARN, Level.WARN), (INFORM, Level.INFORM)])
def test_the_level_is_the_one_decided_and_not_the_one_found(level: int, name: Level) -> None:
    assert said(level=level).level is name


def test_broken_data_make_the_subject_broken_and_drift_makes_it_drifting() -> None:
    assert said(FAULT).state is SubjectState.BROKEN
    assert said(FAULT).subject.check == Check.NULL
    assert said().state is SubjectState.DRIFTING


def test_a_replay_gives_the_same_id_and_another_minute_another_one() -> None:
    assert said().id == said(effect=0.9, level=WARN).id
    assert len({said().id, said(now=11 * MINUTE).id, said(FAULT).id}) == 3


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_number_that_is_not_finite_is_published_as_unknown(value: float) -> None:
    verdict = said(replace(DRIFT, score=value, threshold=value), effect=value)
    for number in (verdict.statistic, verdict.threshold, verdict.effect):
        assert number == (value if math.isfinite(value) else None)
    # JSON knows neither NaN nor infinity.
    assert "NaN" not in verdict.model_dump_json()


def test_recovery_is_said_of_the_leader_and_names_five_subjects_at_most() -> None:
    verdict = recovered_verdict(WATCH, incident(), now=20 * MINUTE, rows=50, last_row=None)
    assert (verdict.subject.name, verdict.kind, verdict.state) == (
        "amount",
        VerdictKind.RECOVERED,
        SubjectState.STEADY,
    )
    assert verdict.level is Level.INFORM
    assert verdict.reason == "amount, b, c, d, e: back at the reference"
    assert verdict.evidence == {"subjects": ["amount", "b", "c", "d", "e", "f"]}


def test_an_onset_is_published_with_its_interval_and_row() -> None:
    onset = onset_of(ONSET)
    assert [moment.minute for moment in (onset.low, onset.time, onset.high)] == [1, 2, 3]
    assert onset.row == 40


@pytest.mark.parametrize("check", Check)
def test_only_checks_that_mean_broken_data_refuse_a_retraining(check: Check) -> None:
    refusal = refusal_of(replace(FAULT, check=check))
    assert bool(refusal) is (check in BLOCKS_RETRAINING)
    if refusal:
        assert f"broken data ({check})" in refusal


def test_a_fault_without_a_check_and_a_rise_of_missing_values_refuse_and_plain_drift_does_not() -> None:
    assert refusal_of(replace(FAULT, check=None))
    assert "missing values rose" in refusal_of(replace(DRIFT, cause=Cause.MISSING))
    assert refusal_of(DRIFT) == ""
