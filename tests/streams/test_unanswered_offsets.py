from types import SimpleNamespace
from typing import Any

import pytest
from kafka import errors

from streams.errors import Retryable
from streams.ports import Partition
from streams.settings import KafkaSettings
from streams.source import KafkaSource


def test_an_unanswered_question_for_offsets_is_asked_anew() -> None:
    asked: dict[frozenset[str], object] = {frozenset(["scores/0"]): object()}

    def committed(*_: Any, **__: Any) -> int:
        if asked:
            raise errors.KafkaTimeoutError
        return 7

    source = KafkaSource(KafkaSettings(), "tally")
    coordinator = SimpleNamespace(_offset_fetch_futures=asked)
    source._client = SimpleNamespace(committed=committed, _coordinator=coordinator)
    with pytest.raises(Retryable):
        source.committed([Partition("scores", 0)])
    assert source.committed([Partition("scores", 0)]) == {Partition("scores", 0): 7}
