import importlib.util
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stationkeeper.contracts.settings import SettingError
from stationkeeper.streams.settings import KafkaSettings, SecuritySettings

SASL = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "reader"}


def test_the_slot_names_the_group_the_member_and_stays_over_restarts():
    settings = KafkaSettings(prefix="bank", instance="2")
    assert settings.group("tally") == "bank.tally"
    assert settings.member("tally") == "bank.tally.2"
    assert KafkaSettings(prefix="bank", group_prefix="eu.bank").group("tally") == "eu.bank.tally"


def test_servers_may_be_a_list_or_a_line():
    line = KafkaSettings.model_validate({"bootstrap": ["a:1", "b:2"]})
    assert line.bootstrap == "a:1,b:2"
    assert KafkaSettings(bootstrap="a:1, b:2").connection("c")["bootstrap_servers"] == ["a:1", "b:2"]


def test_durations_are_written_as_people_write_them():
    settings = KafkaSettings.model_validate({"session_timeout": "30s", "flush_interval": "500ms"})
    assert (settings.session_timeout, settings.flush_interval) == (30_000, 500)
    with pytest.raises(ValidationError, match="not a duration"):
        KafkaSettings.model_validate({"session_timeout": "soon"})


def test_a_misspelt_key_is_refused_by_name():
    with pytest.raises(ValidationError, match="bootsrap"):
        KafkaSettings.model_validate({"bootsrap": "a:1"})


def test_sasl_without_its_parts_says_what_is_missing():
    with pytest.raises(ValidationError, match=r"needs security\.mechanism"):
        SecuritySettings(protocol="SASL_SSL")


def test_a_password_comes_from_file_then_environment_then_value(tmp_path, monkeypatch):
    file = tmp_path / "password"
    file.write_text("from file\n")
    monkeypatch.setenv("BROKER_PASSWORD", "from environment")
    everywhere = SASL | {"password": "from value", "password_env": "BROKER_PASSWORD", "password_file": file}
    for source, expected in (
        ("password_file", "from file"),
        ("password_env", "from environment"),
        ("password", "from value"),
    ):
        security = SecuritySettings.model_validate(everywhere)
        assert security.options()["sasl_plain_password"] == expected
        del everywhere[source]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"password_file": "/nowhere/password"}, r"security\.password_file /nowhere/password cannot be read"),
        ({"password_env": "STATIONKEEPER_NOT_SET"}, r"security\.password_env names STATIONKEEPER_NOT_SET"),
        ({"ca_file": "/nowhere/ca.pem"}, r"security\.ca_file /nowhere/ca\.pem is not a file"),
    ],
)
def test_a_source_that_is_not_there_is_named(more, message):
    with pytest.raises(ValueError, match=message):
        SecuritySettings.model_validate(SASL | more).options()


@given(st.text(min_size=8, max_size=40).filter(lambda text: text.strip() == text))
def test_no_text_of_settings_or_of_their_errors_holds_a_secret(secret):
    marked = f"~{secret}~"
    good = KafkaSettings.model_validate({"security": SASL | {"password": marked, "key_password": marked}})
    texts = [repr(good), str(good), good.model_dump_json(), repr(good.model_dump())]
    for bad in ({"password": [marked]}, {"protocol": "SASL_SSL", "password": marked}, {"password": marked, "x": 1}):
        with pytest.raises(ValidationError) as caught:
            KafkaSettings.model_validate({"security": bad})
        texts.append(str(caught.value))
    assert not [text for text in texts if marked in text]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (
            {"security": {"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER", "username": "me"}},
            "needs security.token_url",
        ),
        ({"security": {"protocol": "SASL_PLAINTEXT", "mechanism": "AWS_MSK_IAM"}}, "needs security.protocol SASL_SSL"),
        (
            {"client": "librdkafka", "security": {"protocol": "SASL_SSL", "mechanism": "AWS_MSK_IAM"}},
            "write kafka.client: kafka-python",
        ),
    ],
)
def test_a_mechanism_that_cannot_work_is_refused_with_what_to_write(block: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        KafkaSettings.model_validate(block)


def test_msk_needs_a_package_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    msk = KafkaSettings.model_validate({"security": {"protocol": "SASL_SSL", "mechanism": "AWS_MSK_IAM"}})
    with pytest.raises(SettingError, match="needs the package botocore"):
        msk.connection("x")
