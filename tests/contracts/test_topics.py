import re

from stationkeeper.contracts.codes import DEAD_LETTER_HELP, DeadLetterCode
from stationkeeper.contracts.log_events import LOG_EVENT_HELP, LogEvent
from stationkeeper.contracts.messages import SubjectState
from stationkeeper.contracts.metrics import BY_NAME, METRICS, STATE_NUMBER
from stationkeeper.contracts.topics import Topics, dead_letter_topic


def test_every_topic_has_its_own_legal_name_under_the_prefix():
    names = [topic.name for topic in Topics("bank").all()]
    assert len(set(names)) == len(names) == 16
    assert all(re.fullmatch(r"bank\.[a-z-]+(\.dlq)?", name) for name in names)
    assert dead_letter_topic("fraud.predictions") == "fraud.predictions.dlq"


def test_compacted_topics_are_tuned_to_be_restored_quickly():
    for topic in Topics().all():
        config = topic.config()
        if topic.cleanup == "compact":
            assert (config["segment.bytes"], config["min.cleanable.dirty.ratio"]) == ("8388608", "0.1")
            assert config["retention.ms"] == "-1"
        else:
            assert int(config["retention.ms"]) > 0
            assert "segment.bytes" not in config


def test_joins_are_kept_as_long_as_a_label_may_come():
    assert Topics(label_horizon_ms=5).joins.retention_ms == 5


def test_closed_lists_are_explained_whole():
    assert set(DEAD_LETTER_HELP) == set(DeadLetterCode)
    assert set(LOG_EVENT_HELP) == set(LogEvent)
    assert set(STATE_NUMBER) == set(SubjectState)
    assert len(BY_NAME) == len(METRICS)
