"""How the router ends, without a server."""

from unittest.mock import Mock, call

from stationkeeper.deploy.router.router import Router
from stationkeeper.deploy.settings import ServeSettings


def test_what_was_answered_is_written_before_anything_that_may_take_its_time() -> None:
    """Follower and loader may each wait five seconds, and a supervisor that loses patience kills the process."""
    parts = Mock()
    router = Router(ServeSettings(), {"fraud": "scores"}, "rollouts", parts.reader, parts.log, parts.traffic)
    router.close()
    assert parts.mock_calls == [call.log.close(), call.traffic.close(), call.reader.close()]
