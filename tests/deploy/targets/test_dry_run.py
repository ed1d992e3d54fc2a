from datetime import UTC, datetime

from structlog.testing import capture_logs

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets import Observation, abilities_of, check_target, target_for


def test_the_target_keeps_every_promise():
    check_target(lambda: target_for(TargetSettings(kind="dry-run")))


def test_what_would_be_done_is_logged_once_a_change_and_nothing_is_done():
    one = target_for(TargetSettings(kind="dry-run"))
    base = Rollout(
        model="fraud", epoch=1, time=datetime(2026, 1, 1, tzinfo=UTC), phase=RolloutPhase.STEADY, champion="1"
    )
    canary = base.model_copy(update={"canary": "2", "weight_bp": 500})
    with capture_logs() as logs:
        for record in (base, canary, canary, canary.model_copy(update={"weight_bp": 2_500})):
            one.apply(record)
        one.apply(base.model_copy(update={"champion": "2"}))
    assert [line["would"] for line in logs] == [
        "give all traffic to version 1",
        "give 5.00% of the traffic to version 2, the rest to 1",
        "give 25.00% of the traffic to version 2, the rest to 1",
        "promote version 2 over 1",
    ]
    assert {line["event"] for line in logs} == {LogEvent.TARGET_WOULD}
    assert one.observe("fraud") == Observation("1", None, 0)
    assert "no traffic moves there" in next(abilities_of(one).limits((100,)))[1]
