"""From any id of the loop the whole chain is found, forwards and backwards (invariant 8)."""

from datetime import UTC, datetime, timedelta

import pytest

from stationkeeper.contracts.messages import (
    Deployment,
    DeploymentAction,
    Level,
    Message,
    Onset,
    Subject,
    SubjectState,
    SubjectType,
    Verdict,
    VerdictKind,
)
from stationkeeper.contracts.times import to_ms
from stationkeeper.contracts.topics import Topics
from stationkeeper.explain.explain import chain_text
from stationkeeper.explain.lineage import Lineage
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from tests.messages import candidate, request

START = datetime(2026, 1, 5, 6, tzinfo=UTC)
ONSET = Onset(time=START, low=START, high=START + timedelta(minutes=4))
TOPICS = Topics("t")


def verdict(name: str, incident: str | None, level: Level = Level.PAGE) -> Verdict:
    return Verdict(
        id=name,
        time=START + timedelta(minutes=9),
        model="fraud",
        version="1",
        subject=Subject(type=SubjectType.FEATURE, name="method"),
        kind=VerdictKind.DATA_DRIFT,
        level=level,
        state=SubjectState.DRIFTING,
        cause="new_category",
        reason="values never seen before at 9.8 %",
        statistic=17.25,
        threshold=14.5,
        effect=0.098,
        rows=540,
        onset=ONSET,
        incident=incident,
    )


REQUEST = request(to_ms(START), onset=ONSET)
CANDIDATE = candidate(
    to_ms(START),
    id="cand-1",
    request="req-1",
    run_id="run-1",
    snapshot="5eaf00d",
    reference="ref-2",
    artifact="models:/fraud/2",
    gate_reason="F1 +0.54",
)
PROMOTED = Deployment(
    id="dep-2",
    time=START,
    model="fraud",
    action=DeploymentAction.PROMOTED,
    champion="2",
    candidate="cand-1",
    reason="every step passed",
)
STRANGER = PROMOTED.model_copy(update={"id": "dep-9", "candidate": "cand-9", "action": DeploymentAction.REFUSED})


@pytest.fixture
def lineage() -> Lineage:
    log = MemoryLog()
    for topic in TOPICS.all():
        log.create(topic)

    def put(topic: str, *messages: Message) -> None:
        log.produce(topic, [message.encode() for message in messages])

    put(TOPICS.verdicts.name, verdict("ver-1", "inc-1"), verdict("ver-2", "inc-1"), verdict("ver-3", None))
    put(TOPICS.requests.name, REQUEST)
    put(TOPICS.candidates.name, CANDIDATE)
    put(TOPICS.deployments.name, PROMOTED, STRANGER)
    return Lineage(MemoryReader(log), TOPICS)


@pytest.mark.parametrize(
    "name", ["ver-1", "ver-2", "inc-1", "req-1", "cand-1", "run-1", "5eaf00d", "ref-2", "fraud/2", "dep-2"]
)
def test_every_name_leads_to_the_same_chain(lineage: Lineage, name: str) -> None:
    chain = lineage.chain(name)
    assert chain is not None
    assert [v.id for v in chain.verdicts] == ["ver-1", "ver-2"]
    assert chain.request == REQUEST
    assert chain.candidate == CANDIDATE
    assert [d.id for d in chain.deployments] == ["dep-2"]


def test_the_explanation_of_a_request_tells_what_became_of_it_and_why() -> None:
    log = MemoryLog()
    for topic in TOPICS.all():
        log.create(topic)
    log.produce(TOPICS.requests.name, [REQUEST.encode()])
    state = RetrainState(request=REQUEST, stage=RequestStage.PLANNED, reason=RequestReason.ACCEPTED)
    waiting = state.enter(RequestStage.WAITING, RequestReason.TOO_FEW_ROWS, "12 of 6000", clock_ms=60_000)
    failed = waiting.enter(RequestStage.FAILED, RequestReason.BAD_DATA, "the labels are 'a', 'b'", clock_ms=120_000)
    log.produce(TOPICS.retrain_state.name, [waiting.encode(), failed.encode(), b"from another build"])
    chain = Lineage(MemoryReader(log), TOPICS).chain("req-1")
    assert chain is not None
    text = chain_text(chain)
    assert "OUTCOME failed (bad_data: the labels are 'a', 'b')" in text
    assert "1970-01-01T00:01:00+00:00  waiting: 12 of 6000" in text
    assert chain.to_json()["outcome"]["outcome"] == "failed"


def test_a_verdict_without_incident_stands_alone(lineage: Lineage) -> None:
    chain = lineage.chain("ver-3")
    assert chain is not None
    assert [v.id for v in chain.verdicts] == ["ver-3"]
    assert chain.request is None
    assert chain.candidate is None
    assert chain.deployments == ()


def test_a_model_is_explained_by_what_called_somebody_last_and_not_by_what_came_for_information() -> None:
    log = MemoryLog()
    for topic in TOPICS.all():
        log.create(topic)
    told = [verdict("ver-1", "inc-1"), verdict("ver-2", "inc-2", Level.INFORM), verdict("ver-3", None)]
    log.produce(TOPICS.verdicts.name, [one.encode() for one in told])
    assert Lineage(MemoryReader(log), TOPICS).latest_incident("fraud") == "inc-1"
    assert Lineage(MemoryReader(log), TOPICS).latest_incident("churn") is None


def test_an_unknown_name_is_none(lineage: Lineage) -> None:
    assert lineage.chain("inc-7") is None


def test_the_explanation_quotes_both_numbers(lineage: Lineage) -> None:
    chain = lineage.chain("ver-1")
    assert chain is not None
    text = chain_text(chain)
    assert "evidence (log e-value) 17.250 ≥ threshold 14.500" in text
    assert "effect: 9.80% of 540 rows moved" in text
    assert text.index("VERDICT ver-1") < text.index("REQUEST req-1") < text.index("CANDIDATE cand-1")
    assert text.index("CANDIDATE cand-1") < text.index("DEPLOYMENT dep-2")


def test_records_of_another_version_are_passed_over() -> None:
    log = MemoryLog()
    for topic in TOPICS.all():
        log.create(topic)
    log.produce(TOPICS.verdicts.name, [b'{"schema_version": 9}', verdict("ver-1", None).encode(), None])
    assert [v.id for v in Lineage(MemoryReader(log), TOPICS).verdicts] == ["ver-1"]
