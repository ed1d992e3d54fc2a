"""When a retraining pays: accounts of wrong answers against a price."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.contracts.messages import (
    AGEING,
    SCHEDULE,
    Level,
    RetrainRequest,
    Rollout,
    RolloutPhase,
    Spared,
    VerdictKind,
)
from stationkeeper.contracts.state import replaced, state_of
from stationkeeper.contracts.times import to_datetime
from stationkeeper.monitor.core.ageing import AgeRecord, AgeState, ServedVersion, Week, timing
from stationkeeper.monitor.core.ageing.timing import WEEK_MS
from stationkeeper.monitor.core.incidents import Harm, RequestPolicy, RequestRules, WatchIdentity
from stationkeeper.monitor.core.performance import OutcomePane
from stationkeeper.monitor.core.reasons import Cause

CHAMPION = WatchIdentity("fraud", "1", "", "digest")


def labels(at: int, wrong: int, rows: int = 1_000) -> OutcomePane:
    return OutcomePane(at, at + 1, np.zeros((32, 2), np.int64), np.array([0, wrong, 0, rows - wrong]))


def flat(weeks: int, asked: int | None = None) -> AgeState:
    version = ServedVersion(version="1", weeks=tuple(Week(week, 1_000, 100) for week in range(weeks)))
    return AgeState(versions=(version,), asked=asked)


def test_the_account_by_hand():
    # .02 x .10 x (1/2, 3/2, 5/2, ...) of 1 000 rows: 1, 3, 5, ... wrong answers, in n weeks n^2.
    due = timing(flat(8), 50.0, 8)
    assert due is not None
    assert due.spent == pytest.approx(64)
    assert due.pays
    early = timing(flat(7), 50.0, 7)
    assert early is not None
    assert not early.pays
    assert early.spent == pytest.approx(49)
    assert "age has cost 49 of 50 wrong answers (" in early.reason
    assert "in 7 weeks of version 1 (7000 labelled rows), a new one is forecast to spare" in early.reason


def test_a_week_that_is_not_over_is_not_weighed():
    assert timing(flat(1), 0.5, 0) is None
    assert timing(AgeState(), 0.5, 3) is None
    running = timing(flat(9), 50.0, 8)
    assert running is not None
    assert running.spent == pytest.approx(64)


def test_after_a_request_the_account_begins_anew_and_age_goes_on():
    due = timing(flat(10, asked=8), 50.0, 10)
    assert due is not None
    # The ninth and tenth week of one version: 17 and 19.
    assert due.spent == pytest.approx(36)


def ask(record: AgeRecord, policy: RequestPolicy, weeks: int, wrong: int = 100) -> list[int]:
    asked = []
    for week in range(weeks):
        verdicts, requests = record.judge(labels(week * WEEK_MS, wrong), CHAMPION, policy, week * WEEK_MS, None)
        if requests:
            asked.append(week)
            assert verdicts[0].level is Level.INFORM
            assert (requests[0].kind, requests[0].cause) == (VerdictKind.PERFORMANCE, Cause.AGEING)
            assert requests[0].verdict == verdicts[0].id
            assert requests[0].evidence["reason"] == verdicts[0].reason
            # What it promises, which is tested again once a new version serves: .02 x .10 x weeks of age.
            assert requests[0].evidence["late"] == wrong / 1_000
            assert requests[0].evidence["forecast"] == pytest.approx(0.002 * (week - 0.5), abs=1e-3)
    return asked


def test_it_asks_without_an_incident_and_not_again_at_once():
    record = AgeRecord(50.0)
    assert ask(record, RequestPolicy(RequestRules()), 12) == [8, 11]
    assert record.last is not None


def test_a_retraining_that_gave_no_version_makes_the_next_one_later():
    record, policy = AgeRecord(50.0), RequestPolicy(RequestRules())
    found: dict[int, RetrainRequest] = {}
    for week in range(20):
        _, requests = record.judge(labels(week * WEEK_MS, 100), CHAMPION, policy, week * WEEK_MS, None)
        record.asked(requests, week * WEEK_MS)
        if requests:
            found[week] = requests[0]
    # Growth .02 x .48 / (.48 + .75^2) = .0092 after the first, so six weeks and not three; fewer still afterwards.
    assert list(found) == [8, 14]
    assert record.last is not None
    assert record.last.curve.growth < 0.0092
    assert record.last.reason.endswith("a retraining does not pay yet; 2 asked for before gave no version so far")
    # One that was withdrawn was not tried.
    record.asked([found[14].model_copy(update={"withdrawn": "broken data"})], 15 * WEEK_MS)
    assert record.state.versions[-1].asked == (8,)


def test_what_led_to_a_version_is_not_held_against_the_next():
    old = ServedVersion(version="1", weeks=flat(9).versions[0].weeks, asked=(6, 9))
    new = ServedVersion(version="2", weeks=tuple(Week(at, 1_000, 100) for at in range(9, 12)))
    due = timing(AgeState(versions=(old, new)), 50.0, 12)
    assert due is not None
    assert due.barren == 1


def test_without_a_price_nothing_is_kept_or_asked():
    record = AgeRecord(None)
    assert ask(record, RequestPolicy(RequestRules()), 30) == []
    assert record.state == AgeState()


def test_what_is_held_back_asks_again_a_week_later():
    held = RequestPolicy(RequestRules(enabled=False))
    record = AgeRecord(50.0)
    assert ask(record, held, 10) == []
    assert record.state.asked is None
    assert ask(record, RequestPolicy(RequestRules()), 0) == []
    _, requests = record.judge(labels(10 * WEEK_MS, 100), CHAMPION, RequestPolicy(RequestRules()), 10 * WEEK_MS, None)
    assert len(requests) == 1


def test_a_record_read_back_goes_on_alike():
    first, second = AgeRecord(50.0), AgeRecord(50.0)
    assert ask(first, RequestPolicy(RequestRules()), 6) == []
    second.state = state_of({"versions": [{"version": "1", "weeks": [[w, 1_000, 100] for w in range(6)]}]}, AgeState)
    assert second.state == first.state


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_any_batching_of_labels_gives_the_same_account(wrong: list[int], pieces: int):
    one, many = AgeRecord(40.0), AgeRecord(40.0)
    policy_one, policy_many = RequestPolicy(RequestRules()), RequestPolicy(RequestRules())
    for week, count in enumerate(wrong):
        at = week * WEEK_MS
        one.judge(labels(at, count), CHAMPION, policy_one, at, None)
        for piece in range(pieces):
            part = count // pieces + (piece < count % pieces)
            rows = 1_000 // pieces + (piece < 1_000 % pieces)
            many.judge(labels(at + piece, part, rows), CHAMPION, policy_many, at, None)
    assert one.state == many.state


def test_after_a_sudden_change_a_model_that_knows_it_is_not_waited_for():
    change = ServedVersion(version="1", weeks=tuple(Week(at, 1_000, 100 if at < 8 else 400) for at in range(9)))
    due = timing(AgeState(versions=(change,)), 30.0, 9)
    assert due is not None
    # .3 x (1 - 14 / 15) of 1 000 rows in each of two weeks.
    assert due.spared == pytest.approx(40)
    assert due.pays
    assert "30.0 more answers in a hundred are wrong" in due.reason
    assert "spares 40 in 2 weeks, a retraining costs 30" in due.reason
    # The next version learned from one week of it: its own age has cost little, what two more weeks teach pays.
    young = ServedVersion(version="2", weeks=tuple(Week(at, 1_000, 350) for at in range(9, 11)))
    again = timing(AgeState(versions=(change, young)), 50.0, 11)
    assert again is not None
    assert again.spared == pytest.approx(0.3 * (14 / 15 - 14 / 17) * 2_000)
    assert again.spent < 50.0
    assert again.pays
    # Once asked for it is not asked for each week.
    asked = timing(AgeState(versions=(change,), asked=9), 30.0, 9)
    assert asked is not None
    assert (asked.spared, asked.pays) == (0.0, False)


def test_labels_of_broken_data_are_no_age_and_nothing_asks_meanwhile():
    record, policy = AgeRecord(30.0), RequestPolicy(RequestRules(when="pays"))
    for week in range(12):
        broken = "null" if 8 <= week < 11 else ""
        wrong = 900 if broken else 100
        asked = record.judge(labels(week * WEEK_MS, wrong), CHAMPION, policy, week * WEEK_MS, None, broken)
        assert not (broken and (asked[0] or asked[1]))
    assert [one.wrong for one in record.state.versions[0].weeks] == [100] * 9


def test_an_incident_asks_where_its_harm_pays_in_two_weeks():
    record, policy = AgeRecord(50.0), RequestPolicy(RequestRules(when="pays"))
    small = Harm("measured", "", "accuracy", 0.02, 0.01, 0.03, 0.9, 500)
    # Before a week is over nobody knows the traffic: harm decides.
    assert record.of_incident(small) == ""
    ask(record, policy, 3)
    assert record.of_incident(small) == (
        "not shown to pay so far: 20 wrong answers (1 to 58) in 2 weeks of 1000 labelled rows, as a new version takes "
        "away 50% of the loss; a retraining costs 50"
    )
    # It will not where the whole interval says so.
    refused = record.of_incident(replaced(small, high=0.024))
    assert refused.startswith("will not pay: 20 wrong answers (1 to 47) in 2 weeks")
    # Three points are 60 wrong answers, but half of a rise is the season's: a new version would have it too.
    assert record.of_incident(replaced(small, lost=0.03, high=0.06)).startswith("not shown to pay so far: 30 wrong")
    assert record.of_incident(replaced(small, lost=0.05)) == ""
    assert record.of_incident(Harm("unknown", "no labels")) == ""
    assert AgeRecord(None).of_incident(small) == ""


def test_a_version_without_a_whole_week_does_not_ask_regardless_of_the_price():
    record, policy = AgeRecord(50.0), RequestPolicy(RequestRules(when="pays"))
    small = Harm("measured", "", "accuracy", 0.02, 0.01, 0.03, 0.9, 500)
    ask(record, policy, 3)
    # The new version answers from the middle of the last week on: that week is one of 1 000 rows, not two of 500.
    record.judge(labels(3 * WEEK_MS, 50, 500), CHAMPION, policy, 4 * WEEK_MS, None)
    new = WatchIdentity("fraud", "2", "", "digest")
    for at, rows in ((3, 500), (4, 10)):
        record.judge(labels(at * WEEK_MS + 1, rows // 10, rows), new, policy, 5 * WEEK_MS, None)
        assert record.of_incident(small).startswith(
            "not shown to pay so far: 20 wrong answers (1 to 58) in 2 weeks of 1000"
        )


def test_retrainings_that_did_not_help_are_expected_to_spare_less():
    record, policy = AgeRecord(50.0), RequestPolicy(RequestRules(when="pays"))
    worse = Harm("measured", "", "accuracy", 0.08, 0.07, 0.09, 0.9, 500)
    ask(record, policy, 3)
    assert record.of_incident(worse) == ""
    record.cures = 0, 2
    assert record.of_incident(worse) == (
        "not shown to pay so far: 48 wrong answers (2 to 105) in 2 weeks of 1000 labelled rows, as a new version takes "
        "away 50% of the loss, times 0.60 as 2 of 2 did not help; a retraining costs 50"
    )
    record.cures = 2, 2
    assert record.of_incident(worse) == ""
    # What a sudden change would spare, too.
    weeks = tuple(Week(at, 1_000, 100 if at < 8 else 400) for at in range(9))
    change = ServedVersion(version="1", weeks=weeks)
    whole, part = (timing(AgeState(versions=(change,)), 30.0, 9, helps) for helps in (1.0, 0.5))
    assert whole is not None
    assert part is not None
    assert part.spared == pytest.approx(whole.spared / 2)
    assert (whole.pays, part.pays) == (True, part.spent >= 30.0)


def test_a_loss_beyond_what_seasons_showed_is_not_damped_by_what_they_taught():
    # A season three points worse, in which 22 retrainings gave no version: a rise of its size stays.
    weeks = tuple(Week(at, 1_000, 100 if at < 3 else 130) for at in range(32))
    record = AgeRecord(200.0)
    record.state = AgeState(versions=(ServedVersion(version="1", weeks=weeks, asked=tuple(range(8, 30))),))
    season = Harm("measured", "", "accuracy", 0.03, 0.02, 0.04, 0.9, 500)
    assert record.of_incident(season).startswith("will not pay")
    # 28 points: half of the 25 that no season showed are 250 wrong answers in two weeks.
    assert record.of_incident(replaced(season, lost=0.28, low=0.25, high=0.31)) == ""
    assert record.of_incident(replaced(season, lost=0.2, low=0.05, high=0.35)).startswith("not shown to pay so far")
    # One retraining that gave no version (for want of a disk, say) has not shown that nothing helps; three have.
    weeks = tuple(Week(at, 1_000, 100 if at < 10 else 380) for at in range(16))
    harm = Harm("measured", "", "accuracy", 0.28, 0.25, 0.31, 0.9, 500)
    for barren, says in (((15,), ""), ((13, 14, 15), "will not pay: 0 wrong answers")):
        record.state = AgeState(versions=(ServedVersion(version="1", weeks=weeks, asked=barren),))
        assert record.of_incident(harm).startswith(says), barren
        assert (record.of_incident(harm) == "") == (says == "")


def test_what_the_gate_saw_of_a_version_is_kept_with_it_alone():
    def rollout(champion: str, version: str) -> Rollout:
        spared = Spared(version=version, share=0.02)
        return Rollout(
            model="fraud", epoch=1, time=to_datetime(0), phase=RolloutPhase.STEADY, champion=champion, spared=spared
        )

    record, policy = AgeRecord(50.0), RequestPolicy(RequestRules(when="pays"))
    # The first labels of 2 come when 3 is in its canary already.
    for week, (champion, said) in enumerate([("1", None), ("1", "2"), ("2", "3"), ("1", "3"), ("2", "3")]):
        told = None if said is None else rollout(champion, said)
        record.judge(labels(week * WEEK_MS, 100), WatchIdentity("fraud", champion, "", "d"), policy, week, told)
    # A version that came back is not the one that the gate saw.
    assert [one.spared for one in record.state.versions] == [None, 0.02, None, None]
    assert state_of(msgspec.to_builtins(record.state), AgeState) == record.state


def test_the_words_of_the_contract_are_causes():
    assert (AGEING, SCHEDULE) == (Cause.AGEING, Cause.SCHEDULE)
