"""How a request's state moves: admission, what the monitor says of it, and what each finished step leads to."""

from collections.abc import Iterable
from typing import assert_never

from stationkeeper.contracts.messages import GateOutcome, RetrainRequest, Rollout, RolloutPhase
from stationkeeper.contracts.times import format_duration, to_ms
from stationkeeper.registry import ArtifactError
from stationkeeper.retrain.core.gate import GateVerdict
from stationkeeper.retrain.core.plan import Plan, PlanRules, Refuse, Wait, admit, decide
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.state import OffsetEnd, RetrainState
from stationkeeper.retrain.service.steps import RegisteredCandidate, Survey
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot import BadData, Snapshot, SnapshotError, labels_words
from stationkeeper.retrain.training.job import TrainingError, TrainingResult
from stationkeeper.retrain.training.process import Finished


def first_state(
    request: RetrainRequest,
    rules: PlanRules | None,
    others: Iterable[RetrainState],
    champion: str | None,
    *,
    refused: bool = False,
) -> RetrainState:
    """Return the first state of a request: taken up, waiting for approval, suppressed or rejected.

    One of a model whose entry is ``refused`` waits until a role begins with a right one, and is then decided anew.
    """
    now = to_ms(request.time)
    start = RetrainState(
        request=request,
        stage=RequestStage.PLANNED,
        reason=RequestReason.ACCEPTED,
        champion=champion or request.version,
        clock_ms=now,
    )
    if refused:
        return start.enter(RequestStage.WAITING, RequestReason.ENTRY_REFUSED, f"models.{request.model}")
    if rules is None:
        return start.enter(RequestStage.REJECTED, RequestReason.NOT_CONFIGURED, f"model {request.model}")
    # What came later in event time is left out, unless it is in work: requests of several partitions or a replay arrive
    # in another order, and must be decided alike.
    past = [other.past() for other in others if to_ms(other.request.time) <= now or not other.stage.final]
    refusal = admit(request, rules, past, champion)
    if refusal is not None:
        return start.enter(refusal.stage, refusal.reason, refusal.detail)
    if rules.approval:
        return start.enter(RequestStage.WAITING, RequestReason.APPROVAL_PENDING)
    return start.enter(RequestStage.PLANNED, RequestReason.ACCEPTED)


def after_withdrawal(state: RetrainState, why: str) -> RetrainState | None:
    """Return the state of a request that the monitor takes back, None where its rows are fixed and it goes on.

    Also one that a person approved: what recovered needs no retraining, and broken data must not be learnt from.
    `requests retry` asks for it all the same.
    """
    if state.stage not in (RequestStage.PLANNED, RequestStage.WAITING):
        return None
    return state.enter(RequestStage.SUPPRESSED, RequestReason.WITHDRAWN, why)


def after_cure(state: RetrainState, request: RetrainRequest) -> RetrainState | None:
    """Return the state of a request whose version was tested after its probation; None where nothing is new."""
    if state.stage is not RequestStage.CANDIDATE or request.cure in {None, state.cure}:
        return None
    return state.model_copy(update={"cure": request.cure, "cure_reason": request.cure_reason})


# A topic that this role may not see looks like one that is empty.
_ENDED = {
    "data": RequestReason.BAD_DATA,
    "limit": RequestReason.TRAINING_LIMIT,
    "trainer": RequestReason.TRAINING_FAILED,
}
_NOTHING_READ = "no prediction has been read: are there any, and may this role read their topic (docs/kafka-rights.md)?"


def after_survey(state: RetrainState, survey: Survey, rules: PlanRules) -> RetrainState:
    """Return the state after labels were counted: planned, waiting with what is missing, or given up."""
    if survey.statistics is None:
        return state.enter(RequestStage.WAITING, RequestReason.TOO_FEW_ROWS, _NOTHING_READ)
    if survey.unfit is not None:
        return state.enter(RequestStage.FAILED, RequestReason.BAD_DATA, survey.unfit, clock_ms=survey.clock_ms)
    found = decide(state.request, rules, survey.statistics, state.look, state.judged)
    if isinstance(found, Refuse):
        return state.enter(found.stage, found.reason, found.detail, clock_ms=survey.clock_ms)
    if isinstance(found, Wait):
        if state.stage is RequestStage.WAITING and state.reason is found.reason:
            # Counting goes on in memory; the log gets a record when something changes.
            return state.model_copy(update={"detail": found.detail, "clock_ms": survey.clock_ms or state.clock_ms})
        return state.enter(RequestStage.WAITING, found.reason, found.detail, clock_ms=survey.clock_ms)
    if isinstance(found, Plan):
        statistics = survey.statistics
        return state.enter(
            RequestStage.SNAPSHOT,
            RequestReason.ENOUGH_LABELS,
            found.detail,
            clock_ms=survey.clock_ms,
            as_of_ms=statistics.as_of_ms,
            rows_after=statistics.rows_after,
            maturity_ms=statistics.maturity_ms,
            negatives=statistics.rule,
            ends=tuple(
                OffsetEnd(topic=partition.topic, partition=partition.index, end=end)
                for partition, end in sorted(survey.ends.items())
            ),
            windows=found.windows,
            asked_share=found.asked,
        )
    assert_never(found)


def after_snapshot(state: RetrainState, snapshot: Snapshot) -> RetrainState:
    """Return the state after the snapshot was written."""
    return state.enter(
        RequestStage.TRAINING,
        state.reason,
        f"snapshot {snapshot.digest[:12]} of {snapshot.rows} rows, {labels_words(snapshot.manifest)}",
        snapshot=snapshot.digest,
        snapshot_rows=snapshot.rows,
    )


def after_training(state: RetrainState, finished: Finished, settings: RetrainSettings) -> RetrainState:
    """Return the state after a training ended: on to the gate, tried again, or failed."""
    if isinstance(finished, TrainingResult):
        detail = f"window {finished.window.value} of {finished.rows} rows, {finished.seconds.get('fit', 0.0):.1f} s"
        return state.enter(RequestStage.GATE, state.reason, detail, result=finished)
    if isinstance(finished, TrainingError):
        reason, detail = _ENDED[finished.cause if finished.final else "trainer"], finished.detail
    else:
        reason = RequestReason.TRAINING_TIMEOUT
        detail = f"no result within {format_duration(round(finished.seconds * 1_000))} (training.timeout)"
        detail += f"; it was at {finished.progress}" if finished.progress else ""
    # Bad rows stay bad, and a limit is passed again: only what another try may mend, as a kill by a system without
    # memory, is tried again.
    final = isinstance(finished, TrainingError) and finished.final
    if final or state.attempts >= settings.training.retries:
        return state.enter(RequestStage.FAILED, reason, detail)
    return state.enter(RequestStage.TRAINING, reason, detail, attempts=state.attempts + 1)


def after_gate(state: RetrainState, verdict: GateVerdict, settings: RetrainSettings) -> RetrainState:
    """Return the state after the gate: on to registration, waiting for more labels, or ended."""
    if verdict.outcome is GateOutcome.PASS:
        return state.enter(RequestStage.REGISTERING, RequestReason.GATE_PASSED, verdict.reason, gate=verdict)
    if verdict.outcome is GateOutcome.FAIL:
        return state.enter(RequestStage.FAILED, RequestReason.GATE_FAILED, verdict.reason, gate=verdict)
    # As many looks as the gate's level is divided by: one more would raise its chance of passing an equal model.
    if state.look + 1 < settings.gate_rules(looks=state.request.looks).looks:
        return state.enter(
            RequestStage.WAITING,
            RequestReason.GATE_NO_EVIDENCE,
            verdict.reason,
            gate=verdict,
            look=state.look + 1,
            # What was held out of is what the look asked for; the next may find twice as many there already.
            judged=round(min(state.rows_after, settings.data.max_rows) * state.asked_share),
            result=None,
        )
    return state.enter(RequestStage.NO_EVIDENCE, RequestReason.GATE_NO_EVIDENCE, verdict.reason, gate=verdict)


def after_registration(state: RetrainState, found: RegisteredCandidate) -> RetrainState:
    """Return the final state of a request with a candidate."""
    return state.enter(
        RequestStage.CANDIDATE,
        RequestReason.GATE_PASSED,
        f"version {found.candidate.version}",
        run_id=found.run_id,
        version=found.candidate.version,
        candidate=found.candidate.id,
        clock_ms=to_ms(found.candidate.time),
    )


def after_rollout(state: RetrainState, rollout: Rollout) -> RetrainState | None:
    """Return the state once the rollout of its candidate ended otherwise than it is known; None where nothing is new.

    A rollout that rests and names the request while another version is champion has taken its candidate back.
    """
    if state.stage is not RequestStage.CANDIDATE or rollout.request != state.id:
        return None
    back = rollout.phase is RolloutPhase.STEADY and rollout.champion != state.version
    if back == state.rolled_back:
        return None
    return state.model_copy(update={"rolled_back": back})


def after_error(state: RetrainState, error: BaseException) -> RetrainState:
    """Return the state after a step raised what no second try mends."""
    if isinstance(error, ArtifactError):
        return state.enter(RequestStage.FAILED, RequestReason.NO_CHAMPION, str(error))
    # Not the rows' fault unless an error says so: whoever is told that looks for a column for hours.
    reason = RequestReason.BAD_DATA if isinstance(error, BadData | SnapshotError) else RequestReason.STEP_FAILED
    return state.enter(RequestStage.FAILED, reason, f"{type(error).__name__}: {error}")
