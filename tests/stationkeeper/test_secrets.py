import pytest

from stationkeeper.config import Config, ConfigError


@pytest.mark.parametrize(
    "security",
    [
        {"protocol": "SASL_SSL", "password": "hunter2"},
        {"protocol": "SASL_SSL", "mechanism": "NONE", "username": "me", "password": "hunter2"},
        {"password": ["hunter2"]},
        {"password": "hunter2", "pasword_file": "/x"},
    ],
)
def test_a_configuration_error_never_shows_a_password(security):
    with pytest.raises(ConfigError, match=r"kafka\.security") as caught:
        Config.parse({"kafka": {"security": security}})
    assert "hunter2" not in str(caught.value)
