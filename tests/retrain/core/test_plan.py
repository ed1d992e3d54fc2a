from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.labels.actions import ActionLabels
from stationkeeper.contracts.messages import Onset, RetrainRequest, VerdictKind
from stationkeeper.contracts.times import to_datetime
from stationkeeper.retrain.core.plan import (
    AbsentLabels,
    LabelStatistics,
    Past,
    Plan,
    PlanRules,
    Refuse,
    Wait,
    WindowKind,
    admit,
    candidate_windows,
    decide,
    rows_needed,
    useless_retrains,
)
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage

NOW = 1_767_571_200_000
DAY_MS = 86_400_000
RULES = PlanRules(1_000, 50, 3_600_000, 2, False, 5_000, 10.0, 1_000_000, 5)


def request(kind: VerdictKind = VerdictKind.DATA_DRIFT, **changes: object) -> RetrainRequest:
    onset = Onset(time=to_datetime(NOW - 600_000), low=to_datetime(NOW - 700_000), high=to_datetime(NOW))
    facts: dict[str, object] = {
        "id": "r", "time": to_datetime(NOW), "model": "m", "version": "1", "incident": "i", "verdict": "v",
        "kind": kind, "cause": "c", "onset": onset, "subjects": (),
    }  # fmt: skip
    return RetrainRequest.model_validate(facts | changes)


def test_a_first_request_is_taken_up():
    assert admit(request(), RULES, [], "1") is None
    assert admit(request(), RULES, [], None) is None


def test_what_retraining_does_not_cure_is_rejected():
    found = admit(request(VerdictKind.DATA_QUALITY), RULES, [], "1")
    assert found is not None
    assert (found.stage, found.reason) == (RequestStage.REJECTED, RequestReason.DATA_QUALITY)


def refusal(past: list[Past], *, manual: bool = False, champion: str = "1") -> RequestReason | None:
    found = admit(request(manual=manual), RULES, past, champion)
    return found.reason if found else None


def test_what_holds_a_request_back_by_hand():
    assert refusal([], champion="2") is RequestReason.SUPERSEDED
    assert refusal([Past("a", NOW - DAY_MS, RequestStage.TRAINING)]) is RequestReason.IN_FLIGHT
    # How often a model may ask is decided where requests are made: an early and frequent one is taken up here.
    assert refusal([Past(str(i), NOW - i, RequestStage.CANDIDATE) for i in range(9)]) is None
    useless = [Past("a", NOW - 3 * DAY_MS, RequestStage.FAILED), Past("b", NOW - 2 * DAY_MS, RequestStage.NO_EVIDENCE)]
    assert refusal(useless) is RequestReason.BREAKER
    assert refusal(useless, manual=True) is None
    assert refusal([*useless, Past("c", NOW - 2 * DAY_MS + 1, RequestStage.CANDIDATE)]) is None


def test_useless_retrainings_are_counted_back_to_the_last_candidate():
    stages = [RequestStage.FAILED, RequestStage.CANDIDATE, RequestStage.NO_EVIDENCE, RequestStage.SUPPRESSED]
    past = [Past(str(at), at, stage) for at, stage in enumerate(stages)]
    assert useless_retrains(past) == 1
    assert useless_retrains([*past, Past("5", 5, RequestStage.FAILED), Past("6", 6, RequestStage.TRAINING)]) == 2
    assert useless_retrains([]) == 0


def test_a_suppressed_request_costs_nothing():
    assert refusal([Past("a", NOW - 1, RequestStage.SUPPRESSED), Past("b", NOW - 1, RequestStage.REJECTED)]) is None


def labels(after: int, positives: int, *, as_of: int = NOW, before: int = 9_000) -> LabelStatistics:
    return LabelStatistics(as_of, 60_000, before, after, positives)


def test_a_plan_says_which_actions_get_no_label():
    told = decide(request(), RULES, replace(labels(7_900, 400), shut=(ActionLabels("block", 500, 0),)))
    assert isinstance(told, Plan)
    assert "labels come for some actions rather than others" in told.detail
    assert "0 of 500 rows of 'block'" in told.detail


def test_a_plan_says_how_many_are_negative_for_want_of_a_label():
    told = decide(request(), RULES, replace(labels(400, 30), absent=AbsentLabels(370, 2 * DAY_MS)))
    assert told.detail.startswith(
        "400 matured labelled rows after the onset, 30 positive (370 of them negative for want of a label, 2d old and "
        "more); needed 1000 and 50: at this pace by "
    )
    unknown = decide(request(), RULES, replace(labels(0, 0), absent=AbsentLabels(0, None)))
    assert isinstance(unknown, Wait)
    assert "(how late labels come cannot be told yet, so that none is negative for want of one); needed 1000" in (
        unknown.detail
    )


def test_labels_that_are_kept_too_short_are_the_reason_of_waiting_and_of_its_end():
    short = AbsentLabels(0, None, NOW - 9 * DAY_MS, (9 * DAY_MS, 14 * DAY_MS))
    found = decide(request(), RULES, replace(labels(0, 0), absent=short))
    assert isinstance(found, Wait)
    assert found.reason is RequestReason.LABELS_KEPT_SHORT
    told = "labels have been watched for 9d and must be for 2w"
    assert told in found.detail
    assert "raise retention.ms of that topic" in found.detail
    late = replace(labels(0, 0, as_of=NOW + RULES.max_wait_ms + 1), absent=short)
    ended = decide(request(), RULES, late)
    assert isinstance(ended, Refuse)
    assert (ended.stage, ended.reason) == (RequestStage.NO_EVIDENCE, RequestReason.LABELS_KEPT_SHORT)
    assert told in ended.detail
    # A topic that has lost nothing is only young: time mends it.
    young = decide(request(), RULES, replace(late, absent=replace(short, since_ms=None)))
    assert isinstance(young, Refuse)
    assert young.reason is RequestReason.LABELS_LATE
    assert told in young.detail


def test_it_waits_for_what_is_missing_and_says_when():
    found = decide(request(), RULES, labels(400, 30))
    assert isinstance(found, Wait)
    assert found.reason is RequestReason.TOO_FEW_ROWS
    # 400 rows ripened in the 540 s from the onset to a minute ago, so 1000 need 1350 s and the minute.
    ready, end = to_datetime(NOW - 600_000 + 60_000 + 1_350_000), to_datetime(NOW + RULES.max_wait_ms)
    assert found.detail == (
        "400 matured labelled rows after the onset, 30 positive; needed 1000 and 50: at this pace by "
        f"{ready:%Y-%m-%d %H:%M} UTC, given up at {end:%Y-%m-%d %H:%M} UTC (max_wait)"
    )


def test_a_pace_of_one_row_in_weeks_tells_no_time_beyond_the_calendar():
    long_ago = to_datetime(NOW - 60 * DAY_MS)
    found = decide(
        request(onset=Onset(time=long_ago, low=long_ago, high=long_ago)),
        replace(RULES, min_rows=100_000),
        labels(1, 0),
    )
    assert isinstance(found, Wait)
    assert "needed 100000 and 50: given up at " in found.detail


def test_where_no_class_is_the_positive_one_none_is_told():
    found = decide(request(), replace(RULES, min_positives=0), labels(400, 0))
    assert isinstance(found, Wait)
    assert found.detail.startswith("400 matured labelled rows after the onset; needed 1000: ")


def test_where_nearly_all_is_positive_the_negatives_are_waited_for():
    found = decide(request(), RULES, labels(1_000, 975))
    assert isinstance(found, Wait)
    assert found.reason is RequestReason.TOO_FEW_POSITIVES
    # 25 negatives in 540 s: 50 in 1080 s.
    assert f"at this pace by {to_datetime(NOW - 600_000 + 60_000 + 1_080_000):%Y-%m-%d %H:%M} UTC" in found.detail
    assert "at this pace" not in decide(request(), RULES, labels(1_000, 1_000)).detail


def test_it_gives_up_after_max_wait():
    found = decide(request(), RULES, labels(400, 30, as_of=NOW + RULES.max_wait_ms + 1))
    assert isinstance(found, Refuse)
    assert found.reason is RequestReason.LABELS_LATE


def test_a_look_without_evidence_doubles_the_rows():
    assert rows_needed(RULES, 0) == (1_000, 50)
    assert rows_needed(RULES, 3) == (8_000, 400)
    assert isinstance(decide(request(), RULES, labels(1_000, 60), look=0), Plan)
    assert isinstance(decide(request(), RULES, labels(1_000, 60), look=1), Wait)
    again = decide(request(), RULES, labels(5_000, 500), look=1, judged=3_000)
    assert isinstance(again, Wait), "rows that the last look has seen bring nothing new"
    assert "needed 6000 and 100" in again.detail


def test_what_is_held_out_is_a_share_of_what_the_look_asks_for():
    # 8 000 rows where 1 000 and 50 positives are asked for: an eighth, or the gate would hold out the newest fortnight.
    plenty = decide(request(), RULES, labels(8_000, 4_000))
    assert isinstance(plenty, Plan)
    assert plenty.asked == 1_000 / 8_000
    # Positives were waited for: all of the rows are asked for.
    rare = decide(request(), RULES, labels(8_000, 50))
    assert isinstance(rare, Plan)
    assert rare.asked == 1.0
    again = decide(request(), RULES, labels(8_000, 4_000), look=1, judged=1_000)
    assert isinstance(again, Plan)
    assert again.asked == 2_000 / 8_000


def test_what_is_held_out_is_a_share_of_the_rows_that_a_training_reads():
    # Of ten million rows the newest million are read: of those 3 000 are asked for, not three hundred.
    many = decide(request(), replace(RULES, min_rows=3_000), labels(10_000_000, 5_000_000))
    assert isinstance(many, Plan)
    assert many.asked == pytest.approx(3_000 / 1_000_000)
    # One in 500 is positive: 50 of the 2 000 that are read, each with 499 others.
    rare = decide(request(), RULES, labels(10_000_000, 20_000))
    assert isinstance(rare, Plan)
    assert rare.asked == pytest.approx(50 / 2_000)
    # More than is read cannot be held out of it.
    all_of_it = decide(request(), RULES, labels(10_000_000, 200))
    assert isinstance(all_of_it, Plan)
    assert all_of_it.asked == 1.0


def test_a_request_of_one_look_is_judged_on_what_it_waited_for():
    # A follow-up waits for four times the rows: with a quarter of them its one look would see no more than the first.
    once = decide(request(looks=1), RULES, labels(4_000, 2_000))
    assert isinstance(once, Plan)
    assert once.asked == 1.0
    # More than the gate's last look asks for, 16 000, would only make the model older.
    late = decide(request(looks=1), RULES, labels(160_000, 80_000))
    assert isinstance(late, Plan)
    assert late.asked == pytest.approx(0.1)
    twice = decide(request(looks=2), RULES, labels(4_000, 2_000))
    assert isinstance(twice, Plan)
    assert twice.asked == 0.25


def test_windows_differ_only_where_rows_do():
    kinds = [window.kind for window in candidate_windows(RULES, labels(1_000, 60))]
    assert kinds == [WindowKind.ALL, WindowKind.REWEIGHTED, WindowKind.SINCE_CHANGE, WindowKind.LAST]
    assert [w.kind for w in candidate_windows(RULES, labels(1_000, 60, before=0))] == [WindowKind.ALL]


@given(after=st.integers(0, 5_000), share=st.floats(0, 1), more=st.integers(0, 5_000), as_of=st.integers(0, 10**7))
def test_more_labels_never_turn_a_plan_into_a_wait(after: int, share: float, more: int, as_of: int):
    positives = round(after * share)
    found = decide(request(), RULES, labels(after, positives, as_of=NOW + as_of))
    if isinstance(found, Plan):
        richer = labels(after + 2 * more, positives + more, as_of=NOW + as_of)
        assert isinstance(decide(request(), RULES, richer), Plan)
