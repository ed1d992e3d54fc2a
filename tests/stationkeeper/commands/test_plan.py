import json
from pathlib import Path

import pytest

from stationkeeper import cli
from stationkeeper.commands.plan import rate


def say(*arguments: str) -> int:
    return cli.guarded(lambda **options: cli.app(list(arguments), **options))


@pytest.mark.parametrize(
    ("text", "found"),
    [("1M/s", 1e6), ("250k", 250e3), ("30k/min", 500.0), ("2.5M/d", 2.5e6 / 86_400), ("7/h", 7 / 3_600)],
)
def test_rates_are_written_as_people_say_them(text, found):
    assert rate(text) == pytest.approx(found)


@pytest.mark.parametrize("text", ["", "fast", "-1/s", "0/s", "1m/s", "1M/year", "1 000"])
def test_another_rate_is_refused_with_how_it_is_written(text, capsys):
    assert say("plan", f"--events={text}") == 2
    assert "1M/s" in capsys.readouterr().err


def test_the_plan_names_everything_that_must_be_bought(capsys):
    assert say("plan", "--events", "1M/s", "--models", "200", "--features", "300", "--labels", "0.1") == 0
    printed = capsys.readouterr().out
    for word in (
        "monitors of one core",
        "partitions",
        "memory of a monitor",
        "MB/s",
        "disk: input",
        "disk: joins",
        "TB",
    ):
        assert word in printed
    assert "python -m benchmarks capacity" in printed


def test_the_plan_is_json_for_programs(capsys):
    assert say("plan", "--events", "100/s", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["load"]["events"] == 100
    assert told["plan"]["replicas"] >= 2


def test_the_page_shows_what_it_prints(capsys):
    page = (Path(__file__).resolve().parents[3] / "docs" / "capacity.md").read_text()
    assert say("plan", "--events", "1M/s", "--models", "200", "--features", "300", "--labels", "0.05") == 0
    assert " ".join(capsys.readouterr().out.split()) in " ".join(page.split())
