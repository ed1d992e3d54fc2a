"""A backtest's report: ours and other tools' alarms on one axis, courses with thresholds, and single plots as files."""

import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from typer.testing import CliRunner

from stationkeeper.backtesting.course import Change, change_of
from stationkeeper.backtesting.replay import ReplaySettings
from stationkeeper.backtesting.run import run
from stationkeeper.backtesting.table import Table
from stationkeeper.cli import app
from stationkeeper.monitor.core.budget import Budget
from stationkeeper.report.figures import rules_table, timeline
from stationkeeper.report.gather import from_backtest, from_course, write
from stationkeeper.report.plot_file import png_of, svg_file

ROWS, CHANGE = 9_000, 5_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the report and the lines of one compared backtest."""
    rng = np.random.default_rng(0)
    age = rng.normal(40, 10, ROWS) + np.where(np.arange(ROWS) >= CHANGE, 10, 0)
    table = Table({"age": age, "height": rng.normal(0, 1, ROWS)}, np.arange(ROWS))
    settings = ReplaySettings(Budget(1.0, 100_000.0, "rows"), pane=50, window=1_000, reference_rows=2_000)
    where = tmp_path_factory.mktemp("backtest")
    out, err = io.StringIO(), io.StringIO()
    found = run(table, settings, out=out, err=err, compare=True, course=True)
    assert found.course is not None
    changes = (Change(CHANGE, "ten years <older>"),)
    report = from_course(found.course, found.lines, "9,000 rows", "stationkeeper backtest rows.csv", changes)
    write(report, where / "report.html")
    (where / "lines.jsonl").write_text(out.getvalue())
    return where


def test_the_report_of_a_run_shows_courses_rules_and_the_known_change(made: Path):
    html = (made / "report.html").read_text()
    assert "<script" not in html
    assert re.search(r'(src|href)="(?!data:)', html) is None
    assert "ten years &lt;older&gt;" in html
    assert "evidently.psi" in html
    assert "Evidence of change, as a share of the threshold" in html
    assert "Reached its threshold about row 4" in html or "Reached its threshold about row 5" in html
    assert "1970" not in html
    # What scrolls can be reached by the keyboard.
    assert re.search(r'<pre tabindex="0"[^>]*><code>stationkeeper backtest rows.csv', html)
    # PSI before the change is noise and after it ten years of ten: two panels and a distribution for what moved.
    assert html.count("<svg") == 4
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        ET.fromstring(svg)
        assert "<title>" in svg


def test_the_lines_alone_give_the_timeline_and_its_table(made: Path):
    report = from_backtest(made / "lines.jsonl", changes=[Change(CHANGE, "older")])
    lines = [json.loads(line) for line in (made / "lines.jsonl").read_text().splitlines()]
    assert report.comparison is not None
    assert report.comparison.by_row
    psi = next(rule for rule in report.comparison.rules if rule.name == "psi")
    assert (
        list(psi.marks) == [line["row"] for line in lines if line.get("rule") == "psi"] == [5_999, 6_999, 7_999, 8_999]
    )
    shown = timeline(report)
    assert shown is not None
    # One mark a window: four ticks in the lane of psi, which is named beside it.
    assert ">psi<" in shown
    assert [len(re.findall(r"M\d", path)) for path in re.findall(r'd="([^"]*)" class="alarm"', shown)].count(4) >= 1
    table = rules_table(report)
    assert table is not None
    assert "after 999 rows" in table
    ours = next(line for line in lines if "rule" not in line)
    assert f"after {ours['row'] - CHANGE} rows" in table


def test_a_plot_is_a_file_of_its_own_as_svg_and_as_png(made: Path, tmp_path: Path):
    arguments = ["report", "--backtest", str(made / "lines.jsonl"), "--plot", "timeline"]
    for name in ("plot.svg", "plot.png"):
        result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / name), "--change", "5000=older"])
        assert result.exit_code == 0, result.output
    svg = (tmp_path / "plot.svg").read_text()
    root = ET.fromstring(svg)
    assert "var(" not in svg
    assert "prefers-color-scheme: dark" in svg
    png = (tmp_path / "plot.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    wide, high = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    assert (wide, high) == (2 * int(root.attrib["width"]), 2 * int(root.attrib["height"]))
    wrong = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "plot.gif")])
    assert wrong.exit_code == 2


def test_light_and_dark_are_drawn_in_their_colours():
    drawing = (
        '<figure><svg viewBox="0 0 40 20" class="plot"><rect x="0" y="0" width="9" height="9" class="bar now"/></svg>'
    )
    light, dark = svg_file(drawing), svg_file(drawing, dark=True)
    assert "#1f6fbf" in light
    assert "#1f6fbf" not in dark
    assert "#6fb3f5" in dark
    assert png_of(light) != png_of(dark)


@pytest.mark.parametrize(
    ("text", "at", "name"), [("5000", 5_000, "change"), ("2026-01-01T00:00:00Z=a = b", 1_767_225_600_000, "a = b")]
)
def test_a_change_is_a_row_or_a_time_with_words(text: str, at: int, name: str):
    assert change_of(text) == Change(at, name)
    with pytest.raises(ValueError, match="write ROW=WORDS"):
        change_of("soon")


def test_a_feature_whose_name_has_a_space_is_plotted_where_it_alone_is_named():
    rng = np.random.default_rng(0)
    values = rng.normal(40, 10, 3_000) + np.where(np.arange(3_000) >= 1_500, 30, 0)
    table = Table({"loan amount": values}, np.arange(3_000))
    settings = ReplaySettings(Budget(1.0, 100_000.0, "rows"), pane=50, window=1_000, reference_rows=1_000)
    found = run(table, settings, course=True)
    assert found.course is not None
    # A verdict on broken data lists no subjects that moved with it: its own is all there is.
    lines = [line | {"subjects": []} for line in found.lines]
    assert [one["name"] for one in from_course(found.course, lines, "", "").subjects] == ["loan amount"]
