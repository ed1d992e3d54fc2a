"""``config show`` and ``config schema``: what is in force and who said so, and what an editor knows of a file."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from stationkeeper.cli import app
from stationkeeper.config import Config, ConfigError
from stationkeeper.effective import EffectiveKey, effective, schema

TEXT = """\
kafka: {bootstrap: "one:9092"}
registry:
  tracking_uri: https://user:hunter22long@registry/x
models:
  a.b:
    predictions: scores
    pane: 5m
"""
PLANTED = "correct horse battery"


def keys(path: Path, env: dict[str, str]) -> dict[str, EffectiveKey]:
    return {one.key: one for one in effective(path, env)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(TEXT)
    return path


def test_each_key_says_what_set_it(file: Path) -> None:
    env = {"STATIONKEEPER__KAFKA__PREFIX": "team", "STATIONKEEPER_KAFKA": "two:9092", "OTHER": "x"}
    found = keys(file, env)
    said = {key: (found[key].value, found[key].origin, found[key].where) for key in found}
    assert said["kafka.bootstrap"] == ("two:9092", "environment", "STATIONKEEPER_KAFKA")
    assert said["kafka.prefix"] == ("team", "environment", "STATIONKEEPER__KAFKA__PREFIX")
    assert said['models."a.b".predictions.topic'] == ("scores", "file", f"{file}:6")
    assert said['models."a.b".pane'] == ("5m", "file", f"{file}:7")
    assert said['models."a.b".label_maturity'] == ("6h", "default", "")
    assert said['models."a.b".predictions.time_unit'] == ("ms", "default", "")
    assert keys(file, {})["kafka.bootstrap"].where == f"{file}:1"


def test_a_block_in_a_variable_is_its_word_for_what_it_sets_alone(file: Path) -> None:
    found = keys(file, {"STATIONKEEPER__HTTP": "{monitor: 9999}"})
    assert (found["http.monitor"].value, found["http.monitor"].origin) == (9999, "environment")
    assert found["http.retrain"].origin == "default"


def test_no_secret_is_shown(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("PASSWORD", "KEY_PASSWORD"):
        monkeypatch.setenv(f"STATIONKEEPER__KAFKA__SECURITY__{key}", PLANTED)
    options = "[{kind: router, options: {api_key: " + PLANTED + "}}]"
    monkeypatch.setenv("STATIONKEEPER__TARGETS", options)
    for more in ([], ["--json"]):
        told = CliRunner().invoke(app, ["config", "show", "--effective", "--config", str(file), *more])
        assert told.exit_code == 0, told.output
        assert PLANTED not in told.output
        assert "hunter22long" not in told.output
        assert "https://***@registry/x" in told.output


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.chat.example/services/T01/xoxSECRET", "https://hooks.chat.example/***"),
        ("http://[::1]:8080?key=xoxSECRET", "http://[::1]:8080/***"),
        ("https://ann:xoxSECRET@chat.example/", "***"),
        ("https://ann:xox/SECRET@chat.example/", "***"),
        ("xoxSECRET", "***"),
    ],
)
def test_of_a_receivers_address_the_host_alone_is_shown(file: Path, url: str, shown: str) -> None:
    """Whoever knows the address of a chat system's webhook may write there."""
    found = keys(file, {"STATIONKEEPER__NOTIFIERS": f"{{chat: {{url: '{url}', page: 'https://status/x'}}}}"})
    assert found["notifiers.chat.url"].value == shown
    assert found["notifiers.chat.page"].value == "https://status/x"


def test_what_is_at_its_default_is_shown_when_asked_for(file: Path) -> None:
    run = CliRunner()
    short = run.invoke(app, ["config", "show", "--config", str(file), "--json"])
    assert {one["key"] for one in json.loads(short.output)} == {
        "kafka.bootstrap",
        "registry.tracking_uri",
        'models."a.b".predictions.topic',
        'models."a.b".pane',
    }
    assert "is at its default" in run.invoke(app, ["config", "show"]).output
    whole = run.invoke(app, ["config", "show", "--effective", "--config", str(file)])
    assert "kafka.security.check_hostname = true" in whole.output


def test_a_wrong_file_is_refused_as_a_role_refuses_it(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("modles: {}")
    with pytest.raises(ConfigError, match="did you mean 'models'"):
        effective(path, {})


@pytest.mark.parametrize(
    ("more", "right"),
    [
        ({}, True),
        ({"predictions": {"topic": "t", "map": {"event_id": "id"}}, "positive": True, "label_horizon": "30d"}, True),
        ({"retrain": {"task": "binary"}, "rollout": {}, "values": {"decimal": ","}}, True),
        ({"pain": "1m"}, False),
        ({"pane": [1]}, False),
        ({"predictions": {"topc": "t"}}, False),
    ],
)
def test_the_schema_knows_right_from_wrong_keys(more: dict[str, Any], *, right: bool) -> None:
    data = yaml.safe_load(TEXT)
    data["models"]["a.b"] |= more
    if right:
        Config.parse(data)
    jsonschema.Draft202012Validator.check_schema(schema())
    assert (not [*jsonschema.Draft202012Validator(schema()).iter_errors(data)]) == right


def test_a_refused_model_is_one_line_with_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("models:\n  fraud: {predictions: scores}\n  churn: {predictions: rates, window: often}\n")
    found = {one.key: one for one in effective(path, {})}
    assert found["models.fraud.predictions.topic"].value == "scores"
    churn = found["models.churn"]
    assert str(churn.value).startswith("refused: ")
    assert "models.churn.window: 'often' is not a duration" in str(churn.value)
    assert (churn.origin, churn.where) == ("file", f"{path}:3")
    assert [key for key in found if key.startswith("models.churn")] == ["models.churn"]
