"""What the roles are made of: a part that cannot be made is named as the setting that asks for it."""

import pytest

from stationkeeper.config import Config, ConfigError
from stationkeeper.process.wiring import telling_for


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
