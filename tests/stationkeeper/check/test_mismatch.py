"""``check`` sets sampled events beside the reference: one line a difference, which fails where no world explains it."""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from stationkeeper.check.mismatch import (
    Mismatch,
    _surprising,
    event_mismatches,
    of_model,
    reference_mismatches,
    trainer_mismatch,
    version_mismatch,
)
from stationkeeper.config import Config, ModelConfig
from stationkeeper.events import EventReader, Events, forms
from stationkeeper.monitor.core.reference import Reference, profile

NOW = 1_777_636_800_000
COUNTRIES = ("DE", "FR", "NL", "ES")


def row(dice: random.Random) -> dict[str, Any]:
    return {
        "amount": dice.lognormvariate(3, 1),
        "country": dice.choice(COUNTRIES),
        "zip": dice.choice(ZIPS),
        "vip": True,
    }


ZIPS = ("01067", "10115", "80331")


def past(**changes: Any) -> Reference:
    dice = random.Random(1)
    rows = [row(dice) | {"vip": dice.random() < 0.5, "score": dice.random()} | changes for _ in range(2_000)]
    columns = {name: [one[name] for one in rows] for name in rows[0]}
    return profile(columns, model="fraud", version="1", prediction="score")


def read(values: Sequence[Mapping[str, Any]], settings: ModelConfig) -> list[Events]:
    """The events of a topic as ``check`` samples them; ``values`` hold what differs from an ordinary record."""
    dice, found = random.Random(2), []
    for number, changes in enumerate(values):
        features = row(dice) | {"vip": number % 2 == 0} | changes.get("features", {})
        event = {"kind": "prediction", "event_id": f"e{number}", "time": NOW - 1_000, "model": "fraud", "version": "1"}
        event |= {"prediction": dice.random()} | changes | {"features": features}
        found.append(json.dumps({key: value for key, value in event.items() if value is not ...}).encode())
    (form,) = forms([settings]).values()
    return of_model(EventReader(form).discover(found).events, "fraud")


def settings(**more: Any) -> ModelConfig:
    return Config.parse({"models": {"fraud": {"predictions": "t", "labels": "t", **more}}}).models["fraud"]


def beside(changes: Mapping[str, Any], reference: Reference | None = None, every: int = 1) -> list[Mismatch]:
    """The mismatches of 200 events of which every n-th has the changes."""
    events = read([changes if number % every == 0 else {} for number in range(200)], settings())
    return [*reference_mismatches(events, reference or past(), settings(), NOW)]


def test_events_like_the_reference_differ_in_nothing() -> None:
    assert beside({}) == []
    assert [*event_mismatches(read([{}] * 200, settings()), settings(), NOW, "1")] == []
    assert [*version_mismatch(read([{}] * 200, settings()), ["1"])] == []


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        (
            {"amount": "12,50"},
            "'amount' is string in events (200 of 200 cannot be used as they are), number in the",
        ),
        ({"zip": 1067}, "'zip' is number in events (200 of 200 cannot be used as they are), string in the reference"),
        ({"amount": None}, "'amount' is null in 200 of 200 events, 0 % of the reference: map its path"),
        (
            {"country": " de"},
            "'country' is spelled differently: ' de' in events, 'DE' in the reference; make",
        ),
        ({"zip": "1067"}, "'zip' is spelled differently: '1067' in events, '01067' in the reference"),
        ({"country": "NA"}, "'country' holds 'NA' as a value in 200 of 200 events, which the reference does not know"),
        ({"country": "Germany"}, "'country' has values that the reference never saw ('Germany') in 200 of 200 events"),
        ({"amount": 1e9}, "'amount' lies outside the reference's"),
    ],
)
def test_what_no_world_does_by_itself_fails_with_what_to_do(feature: dict[str, Any], words: str) -> None:
    found = beside({"features": feature})
    assert any(one.words.startswith(words) and one.fails for one in found), found


def test_numbers_written_as_text_are_numbers_where_the_configuration_says_how() -> None:
    """As the monitor reads them; ``init`` writes ``decimal`` where a file has them so, and its own check refused."""
    dice = random.Random(3)
    values = [{"features": {"amount": f"${dice.lognormvariate(3, 1):,.2f}"}} for _ in range(100)]
    told, silent = settings(values={"decimal": "."}), settings()
    assert [*reference_mismatches(read(values, told), past(), told, NOW)] == []
    (found,) = reference_mismatches(read(values, silent), past(), silent, NOW)
    assert "'amount' is string in events (100 of 100 cannot be used as they are)" in found.words


def test_the_tail_of_few_rows_is_no_change_of_unit() -> None:
    """None of 400 rows and ten of 300 events beyond a bound: once in 5 000 looks, and a check takes hundreds."""
    assert not _surprising(10, 300, 0, 400)
    assert _surprising(20, 300, 0, 400)
    assert not _surprising(10, 300, 9, 400)
    assert not _surprising(3, 300, 0, 100_000)


def test_a_new_value_and_some_more_nulls_are_said_and_do_not_fail() -> None:
    for feature, words in (
        ({"country": "SE"}, "never saw ('SE') in 20 of 200"),
        ({"amount": None}, "null in 20 of 200"),
    ):
        (found,) = beside({"features": feature}, every=10)
        assert words in found.words
        assert not found.fails


def test_one_record_in_ten_that_is_spelled_otherwise_fails_for_it_will_page() -> None:
    (found,) = beside({"features": {"country": "N/A"}}, every=10)
    assert found.fails
    assert "holds 'N/A' as a value in 20 of 200" in found.words


def test_a_feature_that_the_reference_does_not_have_is_named_as_unwatched_and_one_that_is_gone_fails() -> None:
    found = beside({"features": {"colour": "red"}})
    assert [(one.words, one.fails) for one in found] == [
        ("not watched, for the reference does not have them: 'colour'", False)
    ]
    (gone,) = beside({}, past(income=1.5))
    assert gone.words.startswith("'income' is absent in 200 of 200 events")
    assert gone.fails


def test_a_version_without_a_reference_fails_where_most_events_are_of_it() -> None:
    (most,) = version_mismatch(read([{"version": "2"}] * 200, settings()), ["1"])
    assert "200 of 200 predictions are of version '2', references are of 1: profile with --version" in most.words
    assert most.fails
    (few,) = version_mismatch(read([{"version": "2"}, *[{}] * 9], settings()), ["1"])
    assert not few.fails


def test_a_prediction_that_is_null_in_every_record_is_named_with_the_field_that_was_read() -> None:
    for absent in (None, ...):
        (found,) = event_mismatches(read([{"prediction": absent}] * 30, settings()), settings(), NOW, "1")
        assert "null in every one of 30 records: the field 'prediction'" in found.words
        assert found.fails
    assert [*event_mismatches(read([{"prediction": None}, *[{}] * 9], settings()), settings(), NOW, "1")] == []


def test_seconds_read_as_milliseconds_lie_in_1970_in_events_and_in_a_reference() -> None:
    (found,) = event_mismatches(read([{"time": NOW // 1_000}] * 30, settings()), settings(), NOW, "1")
    assert (
        "the time of 30 of 30 predictions lies in 1970: say what numbers count (time_unit of t, now ms)" in found.words
    )
    reference = past()
    object.__setattr__(reference, "last", NOW // 1_000)
    (old,) = beside({}, reference)
    assert "the reference's own rows end in 1970" in old.words


@pytest.mark.parametrize(
    ("labels", "positive", "fails"),
    [
        (["fraud", "legit"], "1", True),
        (["fraud", "legit"], "fraud", False),
        ([0, 1], "fraud", True),
        ([True, False], "1", False),
        ([0, 0], "1", False),
        ([12.5, 80.0], "1", False),
    ],
)
def test_labels_that_cannot_match_the_positive_class_fail(labels: list[Any], positive: str, fails: bool) -> None:
    events = read([{"kind": "label", "label": labels[number % 2]} for number in range(40)], settings())
    found = [*event_mismatches(events, settings(), NOW, positive)]
    assert bool(found) == fails
    assert all("set positive: to the label's own word" in one.words for one in found)


def test_labels_of_one_class_alone_are_said_unless_the_configuration_knows() -> None:
    events = read([{"kind": "label", "label": True}] * 40, settings())
    (found,) = event_mismatches(events, settings(), NOW, "1")
    assert "every one of 40 labels is positive ('true'): if the others never get one, set absent_is" in found.words
    assert not found.fails
    assert [*event_mismatches(events, settings(absent_is="negative"), NOW, "1")] == []


def test_a_value_of_a_sensitive_feature_is_never_shown() -> None:
    dice = random.Random(1)
    rows = [row(dice) for _ in range(2_000)]
    reference = profile({"country": [one["country"] for one in rows]}, sensitive=("country",))
    for value in ("Germany", "de"):
        found = beside({"features": {"country": value}}, reference)
        assert found
        assert not any(value in one.words for one in found)


@pytest.mark.parametrize(
    ("labels", "positive", "words"),
    [
        (["0", "1", "false"], True, None),
        ([0, 1], 1, None),
        (["legit", "fraud"], "fraud", None),
        (["legit", "fraud"], True, "the labels are 'fraud', 'legit'"),
        (["legit", "fraud", "unclear"], "fraud", "two classes, 'fraud' and one other"),
    ],
)
def test_labels_that_no_trainer_could_learn_from_are_said_at_once(
    labels: list[Any], positive: Any, words: str | None
) -> None:
    model = settings(positive=positive, retrain={})
    values = [{"kind": "label", "label": one, "prediction": ..., "version": ...} for one in labels * 20]
    found = [*trainer_mismatch(read(values, model), model.retraining())]
    assert [words in one.words for one in found if words] == [True] * bool(words)
    assert bool(found) is bool(words)
