"""Where each finished step and each word of a person leads, without a thread, a file or a registry."""

from typing import Any, Literal

import pytest

from stationkeeper.contracts.messages import Approval, CureOutcome, GateOutcome, Rollout, RolloutPhase
from stationkeeper.contracts.times import to_datetime
from stationkeeper.registry import ArtifactError
from stationkeeper.retrain.core.gate import GateVerdict
from stationkeeper.retrain.core.plan import LabelStatistics, useless_retrains
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.approvals import after_approval, after_pending
from stationkeeper.retrain.service.progress import (
    after_cure,
    after_error,
    after_gate,
    after_rollout,
    after_survey,
    after_training,
    after_withdrawal,
    first_state,
)
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.service.steps import Survey
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot import BadData, SnapshotError
from stationkeeper.retrain.training.job import TrainingError
from stationkeeper.retrain.training.process import TimedOut
from stationkeeper.streams.errors import Fatal
from tests.retrain.bank import START, a_request

SETTINGS = RetrainSettings()


def state(stage: RequestStage, reason: RequestReason = RequestReason.ACCEPTED, **more: object) -> RetrainState:
    return RetrainState.model_validate({"request": a_request(), "stage": stage, "reason": reason, **more})


def word(decision: Literal["approve", "reject", "roll_back", "retry"]) -> Approval:
    return Approval(
        time=to_datetime(START), target="request", id="req-1", model="bank", decision=decision, by="ada", note="n"
    )


def test_a_request_is_taken_up_waits_for_a_word_or_has_no_taker():
    rules = SETTINGS.plan_rules()
    asked = SETTINGS.model_copy(update={"approval": True}).plan_rules()
    assert first_state(a_request(), rules, [], "1").stage is RequestStage.PLANNED
    assert first_state(a_request(), asked, [], "1").reason is RequestReason.APPROVAL_PENDING
    assert first_state(a_request(), None, [], "1").reason is RequestReason.NOT_CONFIGURED
    assert first_state(a_request(), rules, [], "2").reason is RequestReason.SUPERSEDED


@pytest.mark.parametrize(
    ("stage", "reason", "decision", "leads_to"),
    [
        (RequestStage.WAITING, RequestReason.APPROVAL_PENDING, "approve", RequestStage.PLANNED),
        (RequestStage.SUPPRESSED, RequestReason.BREAKER, "approve", RequestStage.PLANNED),
        (RequestStage.SUPPRESSED, RequestReason.COOLDOWN, "approve", RequestStage.PLANNED),
        (RequestStage.SUPPRESSED, RequestReason.SUPERSEDED, "approve", None),
        (RequestStage.TRAINING, RequestReason.ENOUGH_LABELS, "reject", RequestStage.REJECTED),
        (RequestStage.CANDIDATE, RequestReason.GATE_PASSED, "reject", None),
        (RequestStage.TRAINING, RequestReason.ENOUGH_LABELS, "roll_back", None),
        (RequestStage.FAILED, RequestReason.BAD_DATA, "approve", None),
        (RequestStage.FAILED, RequestReason.BAD_DATA, "retry", RequestStage.PLANNED),
        (RequestStage.NO_EVIDENCE, RequestReason.LABELS_LATE, "retry", RequestStage.PLANNED),
        (RequestStage.REJECTED, RequestReason.REJECTED_BY_PERSON, "retry", RequestStage.PLANNED),
        (RequestStage.CANDIDATE, RequestReason.GATE_PASSED, "retry", None),
        (RequestStage.TRAINING, RequestReason.ENOUGH_LABELS, "retry", None),
    ],
)
def test_a_word_of_a_person(stage, reason, decision, leads_to):
    moved = after_approval(state(stage, reason), word(decision), "1")
    assert (moved.stage if isinstance(moved, RetrainState) else None) is leads_to
    if isinstance(moved, RetrainState):
        again = moved.enter(stage, reason) if decision == "retry" else moved
        assert isinstance(after_approval(again, word(decision), "1"), str), "said once, it counts once"
    else:
        assert leads_to is None


def test_a_word_that_does_nothing_says_why_and_what_to_do():
    failed = state(RequestStage.FAILED, RequestReason.BAD_DATA, detail="two classes")
    said = after_approval(failed, word("approve"), "1")
    assert said == (
        "request req-1 is failed (bad_data: two classes): there is nothing to approve; "
        "stationkeeper requests retry req-1 asks again"
    )
    assert "no longer champion, version 2 is" in str(after_approval(failed, word("retry"), "2"))


def test_a_request_that_is_asked_again_begins_anew_and_keeps_its_history():
    failed = state(RequestStage.PLANNED).enter(
        RequestStage.FAILED, RequestReason.BAD_DATA, "labels", look=2, judged=50, rows_after=60, snapshot="s"
    )
    again = after_approval(failed, word("retry"), "1")
    assert isinstance(again, RetrainState)
    assert (again.look, again.judged, again.rows_after, again.snapshot) == (0, 0, 0, None)
    assert [entry.stage for entry in again.history] == [RequestStage.FAILED, RequestStage.PLANNED]


def test_labels_that_can_never_be_learnt_from_end_a_request_at_the_first_count():
    counted = LabelStatistics(START, 0, 0, 3, 0)
    rules = SETTINGS.plan_rules()
    waiting = after_survey(state(RequestStage.PLANNED), Survey(counted, START, {}), rules)
    assert waiting.reason is RequestReason.TOO_FEW_ROWS
    failed = after_survey(state(RequestStage.PLANNED), Survey(counted, START, {}, "the labels are 'a', 'b'"), rules)
    assert (failed.stage, failed.reason, failed.detail) == (
        RequestStage.FAILED,
        RequestReason.BAD_DATA,
        "the labels are 'a', 'b'",
    )


def test_a_failed_training_is_tried_again_unless_its_data_are_to_blame():
    now = state(RequestStage.TRAINING)
    for attempt in range(SETTINGS.training.retries):
        now = after_training(now, TrainingError(detail="killed", final=False), SETTINGS)
        assert (now.stage, now.attempts) == (RequestStage.TRAINING, attempt + 1)
    assert after_training(now, TimedOut(3.0), SETTINGS).reason is RequestReason.TRAINING_TIMEOUT
    final = after_training(state(RequestStage.TRAINING), TrainingError(detail="labels", final=True), SETTINGS)
    assert (final.stage, final.reason) == (RequestStage.FAILED, RequestReason.BAD_DATA)
    causes: dict[Literal["limit", "trainer"], RequestReason] = {
        "limit": RequestReason.TRAINING_LIMIT,
        "trainer": RequestReason.TRAINING_FAILED,
    }
    for cause, reason in causes.items():
        ended = TrainingError(detail="out of memory", final=True, cause=cause)
        final = after_training(state(RequestStage.TRAINING), ended, SETTINGS)
        assert (final.stage, final.reason) == (RequestStage.FAILED, reason)


def test_the_next_look_asks_for_twice_what_was_asked_for_and_not_for_twice_what_was_there():
    first = state(RequestStage.GATE, rows_after=80_000, asked_share=0.25, result=None)
    now = after_gate(first, GateVerdict(GateOutcome.NO_EVIDENCE, "too few"), SETTINGS)
    assert now.judged == 20_000
    statistics = LabelStatistics(START, 0, 10_000, 80_000, 9_000)
    planned = after_survey(now, Survey(statistics, START, {}), SETTINGS.plan_rules())
    # The rows are there already: nothing is waited for.
    assert (planned.stage, planned.asked_share) == (RequestStage.SNAPSHOT, 0.5)


def test_the_next_look_doubles_what_was_asked_for_of_the_rows_that_were_read():
    first = state(RequestStage.GATE, rows_after=10_000_000, asked_share=0.05, result=None)
    assert after_gate(first, GateVerdict(GateOutcome.NO_EVIDENCE, "too few"), SETTINGS).judged == 50_000


def test_a_gate_without_evidence_looks_again_until_its_looks_are_used():
    now = state(RequestStage.GATE, rows_after=100)
    unclear = GateVerdict(GateOutcome.NO_EVIDENCE, "few rows")
    for look in range(1, SETTINGS.gate.looks):
        now = after_gate(now, unclear, SETTINGS)
        assert (now.stage, now.look, now.judged) == (RequestStage.WAITING, look, 100)
    assert after_gate(now, unclear, SETTINGS).stage is RequestStage.NO_EVIDENCE
    assert after_gate(now, GateVerdict(GateOutcome.FAIL, "worse"), SETTINGS).stage is RequestStage.FAILED
    assert after_gate(now, GateVerdict(GateOutcome.PASS, "better"), SETTINGS).stage is RequestStage.REGISTERING


def test_a_request_may_ask_for_fewer_looks_than_the_settings_allow():
    now = state(RequestStage.GATE, rows_after=100)
    now = now.model_copy(update={"request": now.request.model_copy(update={"looks": 1})})
    unclear = GateVerdict(GateOutcome.NO_EVIDENCE, "few rows")
    assert after_gate(now, unclear, SETTINGS).stage is RequestStage.NO_EVIDENCE


def test_an_error_that_no_second_try_mends_names_its_kind():
    assert after_error(state(RequestStage.SNAPSHOT), ArtifactError("gone")).reason is RequestReason.NO_CHAMPION
    for error, reason in (
        (BadData("the labels are 'a', 'b'"), RequestReason.BAD_DATA),
        (SnapshotError("edited"), RequestReason.BAD_DATA),
        # Not the rows' fault: whoever reads it must not look for a column.
        (Fatal("not authorized"), RequestReason.STEP_FAILED),
        (KeyError("x"), RequestReason.STEP_FAILED),
    ):
        failed = after_error(state(RequestStage.SNAPSHOT), error)
        assert (failed.stage, failed.reason) == (RequestStage.FAILED, reason)
        assert failed.detail == f"{type(error).__name__}: {error}"


def test_what_the_monitor_takes_back_stops_while_it_waits_and_no_later():
    waiting = state(RequestStage.WAITING)
    taken = after_withdrawal(waiting, "healed: x came back")
    assert taken is not None
    assert (taken.stage, taken.reason, taken.detail) == (
        RequestStage.SUPPRESSED,
        RequestReason.WITHDRAWN,
        "healed: x came back",
    )
    # It cost no retrain, so it does not count for the breaker.
    assert not taken.past().taken_up
    for stage in (RequestStage.SNAPSHOT, RequestStage.TRAINING, RequestStage.GATE, RequestStage.CANDIDATE):
        assert after_withdrawal(state(stage), "healed") is None


def test_a_candidate_that_was_rolled_back_counts_as_no_better_model():
    done = state(RequestStage.CANDIDATE, version="2")
    at: dict[str, Any] = {
        "model": done.model,
        "epoch": 3,
        "time": done.request.time,
        "request": done.id,
        "champion": "1",
    }
    running = Rollout(**at, phase=RolloutPhase.CANARY, canary="2")
    assert after_rollout(done, running) is None
    back = after_rollout(done, Rollout(**at, phase=RolloutPhase.STEADY))
    assert back is not None
    assert (useless_retrains([done.past()]), useless_retrains([back.past()])) == (0, 1)
    # Told once, through the record that a restart reads.
    assert after_rollout(RetrainState.decode(back.encode()), Rollout(**at, phase=RolloutPhase.STEADY)) is None
    promoted = Rollout(**{**at, "champion": "2"}, phase=RolloutPhase.STEADY)
    assert after_rollout(done, promoted) is None
    assert after_rollout(done, Rollout(**{**at, "request": "another"}, phase=RolloutPhase.STEADY)) is None


def test_a_candidate_that_did_not_cure_counts_as_no_better_model_and_its_words_say_so():
    done = state(RequestStage.CANDIDATE, version="2")
    followed = done.request.model_copy(update={"cure": CureOutcome.NOT_CURED, "cure_reason": "wrong answers 13 %"})
    known = after_cure(done, followed)
    assert known is not None
    assert useless_retrains([known.past()]) == 1
    assert known.words().endswith("; not cured: wrong answers 13 %")
    assert known.status()["cure"] == "not cured: wrong answers 13 %"
    assert RetrainState.decode(known.encode()) == known
    # The same word again is nothing new, and what failed has no cure.
    assert after_cure(known, followed) is None
    assert after_cure(done, done.request) is None
    assert after_cure(state(RequestStage.FAILED), followed) is None
    for helped in (CureOutcome.CURED, CureOutcome.UNKNOWN):
        better = after_cure(done, followed.model_copy(update={"cure": helped}))
        assert better is not None
        assert useless_retrains([better.past()]) == 0


def said(decision: Literal["approve", "reject", "retry"], by: str, at: int = START, principal: str = "") -> Approval:
    return word(decision).model_copy(update={"by": by, "time": to_datetime(at), "principal": principal})


def test_high_risk_needs_two_different_people_and_whoever_asks_is_one_of_them():
    rules = SETTINGS.model_copy(update={"risk": "high"})
    assert rules.plan_rules().approval
    waiting = first_state(a_request(), rules.plan_rules(), [], "1")
    assert waiting.reason is RequestReason.APPROVAL_PENDING
    assert "say who you are" in str(after_approval(waiting, said("approve", "unknown"), "1", 2))
    once = after_approval(waiting, said("approve", "ada"), "1", 2)
    assert isinstance(once, RetrainState)
    assert (once.reason, once.detail) == (RequestReason.APPROVAL_PENDING, "ada said yes; it needs 2 people")
    assert "needs another person" in str(after_approval(once, said("approve", "ada"), "1", 2))
    # Two names behind one login are one person.
    logged = after_approval(waiting, said("approve", "ada", principal="ops"), "1", 2)
    assert isinstance(logged, RetrainState)
    assert "needs another person" in str(after_approval(logged, said("approve", "bob", principal="ops"), "1", 2))
    both = after_approval(once, said("approve", "bob"), "1", 2)
    assert isinstance(both, RetrainState)
    assert (both.stage, both.approved, both.approvers) == (RequestStage.PLANNED, True, ("ada", "bob"))
    assert RetrainState.decode(both.encode()) == both
    # Asked again by ada: bob must say so too, and what was said before was about the other try.
    failed = both.enter(RequestStage.FAILED, RequestReason.BAD_DATA)
    again = after_approval(failed, said("retry", "ada", START + 10), "1", 2)
    assert isinstance(again, RetrainState)
    assert (again.stage, again.approved) == (RequestStage.WAITING, False)
    assert "asked again since" in str(after_approval(again, said("approve", "bob"), "1", 2))
    assert "asked again since" in str(after_approval(again, said("reject", "bob"), "1", 2))
    assert "needs another person" in str(after_approval(again, said("approve", "ada", START + 20), "1", 2))
    last = after_approval(again, said("approve", "bob", START + 20), "1", 2)
    assert isinstance(last, RetrainState)
    assert last.stage is RequestStage.PLANNED


def test_nobody_without_a_name_asks_again_where_two_people_must_say_so():
    failed = state(RequestStage.FAILED, RequestReason.BAD_DATA)
    for nobody in ("unknown", " ", "Unknown ", "\u200b", "un\u00adknown"):
        assert "say who you are" in str(after_approval(failed, said("retry", nobody, START + 10), "1", 2))
    assert isinstance(after_approval(failed, said("retry", "unknown", START + 10), "1", 1), RetrainState)
    # An older build took it: what it left counts nobody.
    old = state(RequestStage.WAITING, RequestReason.APPROVAL_PENDING, approvers=("unknown",))
    once = after_approval(old, said("approve", "ada"), "1", 2)
    assert isinstance(once, RetrainState)
    assert (once.approved, once.approvers) == (False, ("ada",))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (("Anna", ""), ("anna ", ""), True),
        (("Anna (Kafka user anna)", "anna"), ("Anna", ""), True),
        (("Anna (Kafka user a.smith)", "a.smith"), ("anna", ""), True),
        (("Anna", ""), ("anna (Kafka user a.smith)", "a.smith"), True),
        # One name written in two ways: an accent composed or not, spaces, signs that nobody sees, wide letters.
        (("Jos\u00e9", ""), ("Jose\u0301", ""), True),
        (("Ann Lee", ""), ("Ann  Lee", ""), True),
        (("Ann Lee", ""), ("Ann\u00a0\u200bLee\u2066", ""), True),
        (("ann", ""), ("an\u200dn\u034f\ufe0f\u3164", ""), True),
        (("ann", ""), ("\uff21nn", ""), True),
        (("\u0390\u03b4\u03b1", ""), ("\u1fd3\u0394\u0391", ""), True),
        (("ann", ""), ("ann\u2800", ""), True),
        (("Ann Lee", ""), ("Ann\u2800Lee", ""), True),
        (("ann", ""), ("a\u180bn\u17b4n\u180f\u180e", ""), True),
        (("Ann Lee", ""), ("AnnLee", ""), False),
        # Two logins of one name on their machines are two.
        (("root (Kafka user anna)", "anna"), ("root (Kafka user bob)", "bob"), False),
        (("unknown (Kafka user anna)", "anna"), ("unknown (Kafka user bob)", "bob"), False),
    ],
)
@pytest.mark.parametrize("decision", ["approve", "retry"])
def test_one_person_under_two_spellings_is_one(
    first: tuple[str, str], second: tuple[str, str], same: bool, decision: Literal["approve", "retry"]
):
    begun = {"approve": RequestStage.WAITING, "retry": RequestStage.FAILED}[decision]
    pending = state(begun, RequestReason.APPROVAL_PENDING)
    once = after_approval(pending, said(decision, first[0], START + 10, first[1]), "1", 2)
    assert isinstance(once, RetrainState)
    once = RetrainState.decode(once.encode())
    found = after_approval(once, said("approve", second[0], START + 20, second[1]), "1", 2)
    assert ("needs another person" in str(found)) == same
    if not same:
        assert isinstance(found, RetrainState)
        assert found.approved


def test_a_name_in_two_alphabets_that_read_alike_counts_only_behind_a_login():
    pending = state(RequestStage.WAITING, RequestReason.APPROVAL_PENDING)
    once = after_approval(pending, said("approve", "anna", START + 10), "1", 2)
    assert isinstance(once, RetrainState)
    for name in ("\u0430nna", "ann\u0430", "\u0391nna", "Ann \u041e'Neil"):
        refused = str(after_approval(once, said("approve", name, START + 20), "1", 2))
        assert "Latin letters, which read alike; write it in one alphabet" in refused
        assert refused.isascii(), "the letter that is another one is told apart"
    failed = state(RequestStage.FAILED, RequestReason.BAD_DATA)
    assert "one alphabet" in str(after_approval(failed, said("retry", "\u0430nna", START + 10), "1", 2))
    # One alphabet, or two of which nothing reads alike, is a name; whom the broker checked is somebody.
    for name, login in (
        ("\u0418\u0432\u0430\u043d", ""),
        ("\u7530\u4e2d Taro", ""),
        ("\u0430nna (Kafka user bob)", "bob"),
    ):
        approved = after_approval(once, said("approve", name, START + 20, login), "1", 2)
        assert isinstance(approved, RetrainState)
        assert approved.approved
    # One person is enough: nobody is to be told apart.
    assert isinstance(after_approval(pending, said("approve", "\u0430nna"), "1", 1), RetrainState)


def test_when_the_risk_is_lowered_whoever_said_yes_may_say_it_again_alone():
    waiting = state(RequestStage.WAITING, RequestReason.APPROVAL_PENDING)
    once = after_approval(waiting, said("approve", "ada"), "1", 2)
    assert isinstance(once, RetrainState)
    alone = after_approval(once, said("approve", "ada", START + 10), "1", 1)
    assert isinstance(alone, RetrainState)
    assert (alone.approved, alone.approvers) == (True, ("ada",))


def test_what_nobody_approves_in_time_lapses_and_the_champion_stays():
    pending = state(RequestStage.WAITING, RequestReason.APPROVAL_PENDING)
    noted = after_pending(pending, 1_000, 50)
    assert noted is not None
    assert noted.pending_since == 50
    assert after_pending(noted, 1_000, 1_049) is None
    lapsed = after_pending(noted, 1_000, 1_050)
    assert lapsed is not None
    assert (lapsed.stage, lapsed.reason) == (RequestStage.REJECTED, RequestReason.APPROVAL_LAPSED)
    assert lapsed.detail == "nobody approved within 1s (approval_expires); the champion stays"
    assert not after_pending(lapsed, 1_000, 9_999)
    assert "nothing to approve" in str(after_approval(lapsed, said("approve", "ada"), "1"))
    # A request that waits for labels waits for nobody.
    assert after_pending(state(RequestStage.WAITING, RequestReason.TOO_FEW_ROWS), 1_000, 50) is None
