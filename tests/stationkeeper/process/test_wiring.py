"""What the roles are made of: a part that cannot be made is named as the setting that asks for it."""

from pathlib import Path

import pytest

from stationkeeper.config import Config, ConfigError
from stationkeeper.process.wiring import role_config, telling_for

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
