"""The options of reading a table: one declaration, the same in every verb that reads one."""

from dataclasses import fields
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stationkeeper import cli
from stationkeeper.commands.options import NOTHING_SAID, ReadingOptions, model_settings, reads_table
from stationkeeper.config import load
from stationkeeper.events import ValueRules

READERS = ("init", "profile", "backtest")
NAMES = tuple(one.name for one in fields(ReadingOptions))


def options_of(verb: str) -> dict[str, tuple[list[str], str | None]]:
    command = typer.main.get_command(cli.app).commands[verb]  # type: ignore[attr-defined] # a click group
    return {one.name: (one.opts, one.help) for one in command.params if one.name in NAMES}


def test_every_verb_that_reads_a_table_asks_for_the_same_and_says_it_in_the_same_words() -> None:
    first, *others = (options_of(verb) for verb in READERS)
    assert tuple(first) == NAMES
    assert all(other == first for other in others)


def test_what_is_given_arrives_together_in_the_place_of_the_others() -> None:
    came: list[tuple[str, ReadingOptions]] = []

    @reads_table
    def verb(file: str, reading: ReadingOptions = NOTHING_SAID) -> None:
        came.append((file, reading))

    app = typer.Typer()
    app.command()(verb)
    result = CliRunner().invoke(app, ["a.csv", "--decimal", ",", "--na", "-", "--na", "n/a", "--time-unit", "ms"])
    assert result.exit_code == 0, result.output
    assert came == [("a.csv", ReadingOptions(decimal=",", na=["-", "n/a"], time_unit="ms"))]


def test_an_option_lies_over_the_configuration_and_missing_texts_add_to_the_empty_one() -> None:
    configured = ValueRules(decimal=",", text=("zip",))
    assert ReadingOptions().over(configured) == configured
    found = ReadingOptions(decimal=".", na=["-,none"]).over(configured)
    assert (found.decimal, found.text, found.na) == (".", ("zip",), ("", "-", "none"))
    with pytest.raises(typer.BadParameter, match=r"--time-unit fortnight"):
        ReadingOptions(time_unit="fortnight").over(configured)


def test_a_model_that_is_not_configured_is_answered_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "stationkeeper.yaml"
    path.write_text("models: {fraud: {predictions: fraud.predictions}}\n")
    assert model_settings(load(path), "fraud").predictions.topic == "fraud.predictions"
    with pytest.raises(typer.BadParameter, match="'churn' is not configured; models: fraud"):
        model_settings(load(path), "churn")
