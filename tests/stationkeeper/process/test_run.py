"""What a role's process does beside its loops."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from stationkeeper.contracts.metrics import Sample
from stationkeeper.notify.stage import Telling
from stationkeeper.process import run
from stationkeeper.process.listener import Access
from tests.stationkeeper import story


class Ending(story.Role):
    """A role that ends at once."""

    def run(self, stop: threading.Event) -> None:
        stop.set()


class Collector:
    """What would send to a collector: asks once, at the end."""

    seen: Sequence[Sample] = ()

    def start(self, samples: Callable[[], Sequence[Sample]]) -> None:
        self._samples = samples

    def stop(self) -> None:
        self.seen = self._samples()


def test_a_collector_is_sent_what_became_of_notices_too(monkeypatch: pytest.MonkeyPatch) -> None:
    telling = Telling({})
    told = Sample("stationkeeper_notices_total", ("ops", "told"), 3.0)
    monkeypatch.setattr(telling, "samples", lambda: [told])
    role: Any = Ending("tally", {})
    collector: Any = Collector()
    code = run.run_loops(
        [role], ("127.0.0.1", 0), ended=threading.Event(), access=Access(), telling=telling, otlp=collector
    )
    assert code == 0
    assert told in collector.seen
