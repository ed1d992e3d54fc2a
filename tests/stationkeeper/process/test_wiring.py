"""What the roles are made of: a part that cannot be made is named as the setting that asks for it."""

import time
import uuid
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from stationkeeper.config import Config, ConfigError
from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.process.wiring import prepare_topics, role_config, telling_for, told_config, topic_kept_since
from stationkeeper.streams.errors import Denied, Fatal
from stationkeeper.streams.kafka.topics import admin_client, create, input_topic
from stationkeeper.streams.settings import KafkaSettings

MAPPED = "{topic: shared, map: {event_id: id, time: ts, prediction: p}}"


def configuration(tmp_path: Path, second: str, first: str = f"predictions: {MAPPED}") -> Path:
    path = tmp_path / "stationkeeper.yaml"
    path.write_text(f"models:\n  a: {{{first}}}\n  b: {{{second}}}\n")
    return path


def test_a_model_without_its_extension_keeps_its_share_of_a_topic(tmp_path: Path):
    path = configuration(tmp_path, f"predictions: {MAPPED}, labels: answers, detectors: ['not_here:D']")
    (refused,) = role_config(path, "monitor").refused
    assert (refused.kinds("shared"), refused.kinds("answers")) == (["prediction"], ["label"])
    # Never read in two ways by any role: until the second one came, all of it was the first one's.
    (refused,) = role_config(
        configuration(tmp_path, f"predictions: {MAPPED.replace('id: id', 'id: i')}"), "monitor"
    ).refused
    assert refused.kinds("shared") == []


def test_a_decoder_that_is_not_there_is_missed_by_roles_that_read_by_it_alone(tmp_path: Path):
    path = configuration(tmp_path, "predictions: {topic: t, decoder: acme-avro, map: {prediction: p}}")
    found = {
        role: [one.name for one in role_config(path, role).refused] for role in ("serve", "deploy", "retrain", "up")
    }
    assert found == {"serve": [], "deploy": [], "retrain": [], "up": []}
    assert [one.name for one in role_config(path, "monitor").refused] == ["b"]
    path.write_text(path.read_text().replace("b: {", "b: {retrain: {}, "))
    assert [one.name for one in role_config(path, "retrain").refused] == ["b"]


@pytest.mark.parametrize(
    "code", ["class D:\n    def __init__(self): raise RuntimeError('no')\n", "def D(:\n", "{}['no']\n"]
)
def test_an_extension_that_fails_in_any_way_is_missed_by_its_model_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
):
    name = f"failing_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    path = configuration(tmp_path, f"predictions: {{topic: t, decoder: '{name}:D', map: {{prediction: p}}}}")
    (refused,) = role_config(path, "monitor").refused
    assert (refused.name, f"{name}:D" in refused.why) == ("b", True)


def test_what_a_wrong_entry_holds_moves_no_cursor_and_fills_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    told_config(configuration(tmp_path, r'predictions: t, "x\u001b[2Jz": 1'))
    told = capsys.readouterr().err
    assert (r"x\x1b[2Jz" in told, "\x1b" in told, told.count("\n")) == (True, False, 2)
    told_config(configuration(tmp_path, f"predictions: t, window: {'x' * 100_000}"))
    assert len(capsys.readouterr().err) < 1_000


def test_a_notifier_that_cannot_be_made_is_an_error_of_the_configuration_and_shows_no_address():
    config = Config.parse(
        {
            "models": {"m": {"predictions": "p"}},
            "notifiers": {"chat": {"kind": "webhook", "url": "http://chat.example/hooks/T0p s3cret"}},
        }
    )
    with pytest.raises(ConfigError, match=r"notifiers\.chat: notifiers: url is no address") as found:
        telling_for(config)
    assert "s3cret" not in str(found.value)


@pytest.mark.broker
def test_inputs_that_are_not_there_are_told_with_what_to_do(kafka):
    """The monitor waits for them for ever and is ready all the while: nothing else says that it reads nothing."""
    name = f"t{uuid.uuid4().hex[:8]}"
    read = {"bootstrap": kafka.bootstrap, "prefix": name}
    config = Config.model_validate({"kafka": read, "models": {"fraud": {"predictions": f"{name}.scores"}}})
    with capture_logs() as logs:
        assert prepare_topics(config, create_inputs=False) == [f"{name}.scores"]
    (told,) = [line for line in logs if line["event"] == "topic_missing"]
    assert told["topics"] == [f"{name}.scores"]
    assert "check --create" in told["do"]
    with capture_logs() as logs:
        prepare_topics(config, create_inputs=True)
        prepare_topics(config, create_inputs=False)
    assert not [line for line in logs if line["event"] == "topic_missing"]


@pytest.mark.broker
def test_since_when_a_topic_has_lost_nothing_is_asked_of_the_broker(kafka, monkeypatch: pytest.MonkeyPatch):
    settings, name = KafkaSettings(bootstrap=kafka.bootstrap), f"t{uuid.uuid4().hex[:8]}"
    with admin_client(settings) as admin:
        create(admin, [input_topic(name, retention_ms=3_600_000), input_topic(f"{name}.all")], settings)
    found = topic_kept_since(settings, name)
    assert found is not None
    since, segment = found
    # An hour ago, give or take what the test takes; nobody waits for it.
    assert 3_600_000 <= time.time() * 1_000 - since < 3_600_000 + 600_000
    assert segment > 0
    assert topic_kept_since(settings, f"{name}.all") is None

    # Not allowed to ask, and a broker that does not know the question.
    for error in (Denied(LogEvent.BROKER_RIGHTS, "not authorized"), Fatal("UnsupportedVersionError")):

        def refused(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("stationkeeper.streams.kafka.topic_config.topic_config", refused)
        assert topic_kept_since(settings, name) is None
