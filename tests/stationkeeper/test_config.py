"""The configuration: nearest right names, the environment over the file, secrets never shown."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stationkeeper.config import Config, ConfigError, load
from stationkeeper.contracts.labels.delay import Absence
from stationkeeper.process.wiring import retrain_stage

MODEL = {"predictions": "fraud.predictions"}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "stationkeeper.yaml"
    path.write_text(text)
    return path


def test_a_misspelt_key_names_the_nearest_right_one() -> None:
    with pytest.raises(
        ConfigError, match=r"models\.fraud\.false_page: unknown key 'false_page'; did you mean 'false_pages'"
    ):
        Config.parse({"models": {"fraud": {**MODEL, "false_page": "1 per 30 days"}}})


def test_a_misspelt_nested_key_is_found_too() -> None:
    with pytest.raises(ConfigError, match=r"kafka\.bootstap: unknown key 'bootstap'; did you mean 'bootstrap'"):
        Config.parse({"kafka": {"bootstap": "b:9092"}})


def test_every_problem_is_listed_with_its_path_and_value() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.parse({"clock": "sun", "models": {"fraud": {**MODEL, "pane": "often"}}})
    text = str(caught.value)
    assert "2 problem(s)" in text
    assert "clock: Input should be 'wall' or 'stream' (found 'sun')" in text
    assert "models.fraud.pane" in text
    assert "'often' is not a duration" in text


def test_the_environment_overrides_one_key_and_leaves_its_neighbours(tmp_path: Path) -> None:
    path = written(tmp_path, "kafka: {bootstrap: a:1, prefix: mine}\n")
    config = load(path, {"STATIONKEEPER__KAFKA__BOOTSTRAP": "b:2"})
    assert (config.kafka.bootstrap, config.kafka.prefix) == ("b:2", "mine")
    assert load(path, {"STATIONKEEPER_KAFKA": "c:3"}).kafka.bootstrap == "c:3"


def test_a_misspelt_variable_is_an_error_and_not_a_silence() -> None:
    with pytest.raises(ConfigError, match="did you mean 'bootstrap'"):
        load(None, {"STATIONKEEPER__KAFKA__BOOTSTRP": "b:2"})


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2: the key 'clock' is written twice"):
        load(written(tmp_path, "clock: wall\nclock: stream\n"), {})


def test_a_template_that_was_not_filled_in_is_refused_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 2: a dict stands where a key belongs.*\{\{ name \}\}"):
        load(written(tmp_path, "kafka:\n  bootstrap: {{ host }}\n"), {})


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("# Größe\nclock: wall\n".encode("latin-1"))
    with pytest.raises(
        ConfigError, match=r"latin.yaml is not UTF-8 \(invalid start byte at byte 4\); save it as UTF-8"
    ):
        load(path, {})


def test_a_key_that_is_a_number_is_refused_by_its_path_beside_a_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"models\.1"):
        load(written(tmp_path, "models:\n  1: {predictions: a}\n"), {"STATIONKEEPER__MODELS__FRAUD__PANE": "1m"})


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"cannot read .*nowhere.yaml: No such file or directory; give --config FILE or run init"
    ):
        load(tmp_path / "nowhere.yaml", {})


def test_broken_yaml_and_a_list_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not YAML"):
        load(written(tmp_path, "a: [1"), {})
    with pytest.raises(ConfigError, match="holds a list"):
        load(written(tmp_path, "- a\n"), {})


def test_a_password_is_never_part_of_an_error() -> None:
    security = {"protocol": "SASL_SSL", "password": ["hunter2"], "mechanism": "PLAIN", "username": "u"}
    with pytest.raises(ConfigError) as caught:
        Config.parse({"kafka": {"security": security}})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["/mnt/nas/snaps", "S3://x/y", "s3:bank/x", "s3://"])
def test_a_folder_that_is_no_url_is_told_with_what_to_write(url: str) -> None:
    with pytest.raises(
        ConfigError, match=r"snapshots\.object_store: .*write one such as s3://BUCKET/FOLDER or file:///"
    ):
        Config.parse({"snapshots": {"object_store": url}})


def test_models_are_named_by_their_keys_and_have_defaults() -> None:
    config = Config.parse({"models": {"fraud": MODEL}})
    assert config.models["fraud"].name == "fraud"
    assert config.models["fraud"].false_pages == "1 per 30 days"


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("KAFKA__INSTANCE", "1", lambda c: c.kafka.instance),
        ("KAFKA__SECURITY__USERNAME", "12345", lambda c: c.kafka.security.username),
        ("KAFKA__SECURITY__PASSWORD", "a: b#c", lambda c: c.kafka.security.password.get_secret_value()),
        ("KAFKA__SECURITY__PASSWORD", "cut #here", lambda c: c.kafka.security.password.get_secret_value()),
        ("KAFKA__SECURITY__PASSWORD", "[unclosed", lambda c: c.kafka.security.password.get_secret_value()),
        ("REGISTRY__EXPERIMENT", "true", lambda c: c.registry.experiment),
    ],
)
def test_a_variable_of_a_text_is_taken_as_it_is(name: str, text: str, where: Callable[[Config], str]) -> None:
    security = {"KAFKA__SECURITY__USERNAME": "me", "KAFKA__SECURITY__PASSWORD": "x"}
    env = {f"STATIONKEEPER__{key}": value for key, value in {**security, name: text}.items()}
    env["STATIONKEEPER__KAFKA__SECURITY__PROTOCOL"] = "SASL_SSL"
    env["STATIONKEEPER__KAFKA__SECURITY__MECHANISM"] = "PLAIN"
    assert where(load(None, env)) == text


@pytest.mark.parametrize("text", ['"1"', "'1'"])
def test_quotes_around_a_variable_come_off(text: str) -> None:
    assert load(None, {"STATIONKEEPER__KAFKA__INSTANCE": text}).kafka.instance == "1"


def test_a_variable_of_anything_else_is_yaml(tmp_path: Path) -> None:
    found = load(
        None, {"STATIONKEEPER__HTTP__MONITOR": "9201", "STATIONKEEPER__TARGETS": "[{kind: http, url: 'http://a'}]"}
    )
    assert (found.http.monitor, found.targets[0].kind) == (9201, "http")
    with pytest.raises(ConfigError, match="STATIONKEEPER__TARGETS: not YAML"):
        load(None, {"STATIONKEEPER__TARGETS": "[{"})


def test_absence_is_a_negative_for_retraining_as_for_the_monitor() -> None:
    def parse(**more: object) -> Config:
        model = {"predictions": "scores", "labels": "truth", "label_horizon": "4h", **more}
        return Config.parse({"models": {"fraud": model}})

    assert parse().models["fraud"].absence() is None
    # No horizon below the least age, as in the monitor.
    assert parse(absent_is="negative").models["fraud"].absence() == Absence(60_000, 6 * 3_600_000, 6 * 3_600_000)
    longer = parse(absent_is="negative", label_maturity="1d", retrain={"labels": {"maturity": "2d"}})
    stage: Any = retrain_stage(longer)
    assert stage.models["fraud"].absence == longer.models["fraud"].absence()
    with pytest.raises(ConfigError, match=r"retrain\.labels\.maturity 1h is below label_maturity 6h"):
        parse(absent_is="negative", retrain={"labels": {"maturity": "1h"}})
    with pytest.raises(ConfigError, match=r"absent_is: negative is of two classes, and retrain\.task is 'multiclass'"):
        parse(absent_is="negative", retrain={"task": "multiclass"})


@pytest.mark.parametrize(("written", "read"), [("true", "true"), ("1", "1"), ("1.0", "1"), ("'yes'", "yes")])
def test_a_positive_class_is_written_as_people_write_it_and_retraining_takes_it_over(
    written: str, read: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"models: {{fraud: {{predictions: scores, positive: {written}, retrain: {{}}}}}}")
    model = load(path, {}).models["fraud"]
    assert (model.positive, model.retraining().labels.positive_class) == (read, read)


def test_the_gate_values_decisions_as_the_model_does() -> None:
    worth = {"false_negative": -120, "false_positive": -5}
    model = Config.parse({"models": {"fraud": MODEL | {"value": worth}}}).models["fraud"]
    assert model.retraining().gate.value == (0.0, -5.0, -120.0, 0.0)


def test_two_different_positive_classes_are_refused_and_two_spellings_of_one_are_not() -> None:
    def parse(positive: str, trained: str) -> Config:
        labels = {"labels": {"positive": trained}}
        return Config.parse({"models": {"fraud": {"predictions": "scores", "positive": positive, "retrain": labels}}})

    with pytest.raises(ConfigError, match=r"positive is 'yes' and retrain\.labels\.positive is 'no'"):
        parse("yes", "no")
    assert parse("1", "true").models["fraud"].retraining().labels.positive_class == "true"


@pytest.mark.parametrize(
    ("models", "kept", "refused"),
    [
        ({"a": MODEL, "b": {**MODEL, "window": "often"}}, ["a"], {"b": "models.b.window"}),
        ({"b": {**MODEL, "retrain": {"labls": 1}}, "a": MODEL}, ["a"], {"b": "unknown key 'labls'"}),
        # Without a name it is called by its place.
        ({"a": MODEL, "b c": MODEL, 7: MODEL}, ["a"], {"#2": "models.b c", "#3": "models.7"}),
        ({"a": MODEL, None: MODEL, "z": [1]}, ["a"], {"#2": "models.None", "z": "models.z"}),
        ({"a": MODEL, "b": {**MODEL, "inputs": "feature"}}, ["a"], {"b": "features: TOPIC"}),
    ],
)
def test_a_wrong_entry_is_refused_for_its_model_alone(
    models: dict[object, object], kept: list[str], refused: dict[str, str]
) -> None:
    config = Config.parse({"models": models}, refuse=True)
    assert list(config.models) == kept
    assert {one.name for one in config.refused} == set(refused)
    assert all(refused[one.name] in one.why for one in config.refused)
    # Whoever asks for the whole gets all problems at once.
    with pytest.raises(ConfigError) as caught:
        Config.parse({"models": models})
    assert all(text in str(caught.value) for text in refused.values())


@pytest.mark.parametrize(
    "data",
    [
        {"models": {"a": {**MODEL, "window": "often"}}},
        {"models": [MODEL]},
        {"clock": "sun", "models": {"a": MODEL, "b": {}}},
        {"http": {"host": "0.0.0.0"}, "models": {"a": MODEL, "b": {}}},
    ],
    ids=["none is left", "no map", "a key of all", "a rule of all"],
)
def test_what_is_not_about_one_model_alone_or_leaves_none_ends_the_role(data: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Config.parse(data, refuse=True)


ENTRY = """
  b:
    predictions: {topic: q, map: {score: s}}
    labels: l
"""


@pytest.mark.parametrize(
    ("entry", "name", "said"),
    [
        (ENTRY + "    window: 5m\n    window: 6m\n", "b", "line 7: the key 'window' is written twice"),
        (ENTRY + "    retrain: {data: {max_rows: 1, max_rows: 2}}\n", "b", "line 6: the key 'max_rows' is"),
        (ENTRY + "    pane: {{ pane }}\n", "b", "line 6: a dict stands where a key belongs"),
        (ENTRY + "    pane: ${PANE}\n", "b", "models.b.pane"),
        (ENTRY + "    pane: !env PANE\n", "b", "the tag '!env'"),
        (ENTRY + "    pane: 2026-13-45\n", "b", "line 3 or below: not YAML"),
        (ENTRY + "    <<: 5\n", "b", "line 6: << takes the keys of another block"),
        (ENTRY + "    <<: &own\n      <<: *own\n", "b", "RecursionError"),
        (ENTRY + "  b: {predictions: q}\n", "b", "line 6: the key 'b' is written twice"),
        (ENTRY.replace("b:", "{{ name }}:", 1), "#2", "line 3: a dict stands where a key belongs"),
    ],
)
def test_an_entry_that_cannot_be_read_hurts_its_model_alone(entry: str, name: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"models:\n  a: {{predictions: p}}{entry}  z: {{predictions: r}}\n")
    config = load(path, {}, refuse=True)
    assert list(config.models) == ["a", "z"]
    (refused,) = config.refused
    assert refused.name == name
    assert said in refused.why
    assert (refused.kinds("q"), refused.kinds("l"), refused.kinds("p")) == (["prediction"], ["label"], [])
    # Whoever asks for the whole gets it beside all other problems.
    path.write_text(path.read_text() + "clock: sun\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert said in str(caught.value)
    assert "clock: Input should be" in str(caught.value)


def test_both_topics_of_an_input_that_is_written_twice_are_the_models(tmp_path: Path) -> None:
    text = "models:\n  a: {predictions: p}\n  b:\n    predictions: q\n    predictions: {topic: r}\n"
    (refused,) = load(written(tmp_path, text), {}, refuse=True).refused
    assert (refused.kinds("q"), refused.kinds("r")) == (["prediction"], ["prediction"])


@pytest.mark.parametrize(
    "entry",
    [
        "{<<: *a, OWN window: 5m, window: 6m}",
        "{<<: *a, OWN budget: {a: 1, a: 2}}",
        "{<<: [*a], OWN pane: !env X}",
        "{<<: *a, OWN <<: *a}",
    ],
    ids=["in itself", "within", "of a list", "twice"],
)
def test_a_wrong_entry_reads_the_topics_that_it_merges_and_not_those_that_it_replaces(
    entry: str, tmp_path: Path
) -> None:
    text = "models:\n  a: &a {predictions: {topic: p}, labels: l}\n  b: "
    for own, read in (("", ["p", "l"]), ("predictions: q,", ["q", "l"]), ("labels: k,", ["p", "k"])):
        (refused,) = load(written(tmp_path, text + entry.replace("OWN", own) + "\n"), {}, refuse=True).refused
        assert refused.name == "b"
        assert [one for one in ("p", "q", "l", "k") if refused.kinds(one)] == read


def test_an_input_that_merges_its_topic_has_it(tmp_path: Path) -> None:
    text = "models:\n  a: {predictions: &a {topic: p}}\n  b: {predictions: {<<: *a, x: 1, x: 2}}\n"
    (refused,) = load(written(tmp_path, text), {}, refuse=True).refused
    assert refused.kinds("p") == ["prediction"]


def test_entries_that_are_merged_into_models_are_refused_each_by_itself(tmp_path: Path) -> None:
    text = "models:\n  <<: {a: {predictions: p}, c: {pane: 1m, pane: 2m}, z: {pane: 1m, pane: 2m}}\n"
    text += "  z: {predictions: r}\n  b: {predictions: q, predictions: q}\n"
    config = load(written(tmp_path, text), {}, refuse=True)
    assert sorted(config.models) == ["a", "z"]
    assert sorted(one.name for one in config.refused) == ["b", "c"]
    config = load(written(tmp_path, text + "  <<: 5\n"), {}, refuse=True)
    assert "<< takes the keys of another block" in next(one.why for one in config.refused if one.name[0] == "#")


@pytest.mark.parametrize(
    "text",
    [
        "models:\n  a: {predictions: p, pane: 1m, pane: 2m}\n",
        "models:\n  a: {predictions: p}\nmodels:\n  b: {predictions: q}\n",
        "models:\n  a: {predictions: p}\nkafka: {prefix: a, prefix: b}\n",
        "models:\n  a: {predictions: p}\nclock: 2026-13-45\n",
        "models:\n  a: {predictions: p}\n  b: [\n",
    ],
    ids=["none is left", "models twice", "another block", "a value of all", "no YAML"],
)
def test_what_cannot_be_read_outside_of_an_entry_ends_the_role(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load(written(tmp_path, text), {}, refuse=True)


@pytest.mark.parametrize("text", ["{{ x }}", "{a: 1, a: 2}", "[", "2026-13-45"])
def test_a_variable_that_is_no_yaml_hurts_its_model_alone(text: str, tmp_path: Path) -> None:
    path = written(tmp_path, "models:\n  a: {predictions: p}\n  B: {predictions: q}\n")
    config = load(path, {"STATIONKEEPER__MODELS__B__SEGMENTS": text}, refuse=True)
    assert list(config.models) == ["a"]
    (refused,) = config.refused
    assert (refused.name, refused.kinds("q")) == ("B", ["prediction"])
    assert "STATIONKEEPER__MODELS__B__SEGMENTS: " in refused.why
    for name in ("STATIONKEEPER__MODELS", "STATIONKEEPER__TARGETS"):
        with pytest.raises(ConfigError, match=name):
            load(path, {name: text}, refuse=True)


def test_a_block_is_merged_and_its_keys_are_the_weaker_ones(tmp_path: Path) -> None:
    text = "models:\n  a: &a {predictions: p, pane: 1m, window: 5m}\n  b:\n    <<: *a\n    predictions: q\n  c: *a\n"
    models = load(written(tmp_path, text), {"STATIONKEEPER__MODELS__C__PANE": "2m"}).models
    assert [(m.predictions.topic, m.pane) for m in models.values()] == [("p", 60_000), ("q", 60_000), ("p", 120_000)]
    # What is merged out of a block that cannot be read is no more sure than that one.
    text = "models:\n  z: {predictions: r}\n  a: &a {predictions: p, pane: 1m, pane: 5m}\n  b:\n    <<: *a\n"
    assert list(load(written(tmp_path, text), {}, refuse=True).models) == ["z"]


def test_the_topics_of_a_wrong_entry_are_read_out_of_whatever_it_holds() -> None:
    entry = {"predictions": {"topic": "p", "map": {"nope": "x"}}, "labels": "l", "window": "often"}
    (refused,) = Config.parse({"models": {"a": MODEL, "b": entry}}, refuse=True).refused
    assert (refused.kinds("p"), refused.kinds("l"), refused.kinds("q")) == (["prediction"], ["label"], [])


def test_no_secret_of_a_wrong_entry_is_told() -> None:
    entry = {**MODEL, "snapshot": "postgres://me:hunter2@db/x", "pane": "https://u:hunter2@h/"}
    (refused,) = Config.parse({"models": {"a": MODEL, "b": entry}}, refuse=True).refused
    assert "hunter2" not in refused.why
