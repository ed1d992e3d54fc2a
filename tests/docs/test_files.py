"""The lines of docs/files.md are those that the reader prints of the files of its tests."""

import re
from pathlib import Path

import pytest
import yaml

from stationkeeper.config import Config
from stationkeeper.tables import Parts, TableRefused, read_table

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
INPUTS = ROOT / "tests" / "stationkeeper" / "tables" / "inputs"
SHOWN, REFUSED = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_lines_of_columns_are_those_of_the_reader() -> None:
    table = read_table(INPUTS / "types.parquet", parts=Parts(time="time", label="label"))
    assert set(SHOWN.splitlines()) <= set(table.lines())


def test_the_refusal_is_the_readers() -> None:
    with pytest.raises(TableRefused, match=re.escape(REFUSED.strip())):
        read_table(INPUTS / "decimal_comma.csv", parts=Parts(prediction="score"))


def test_the_block_of_values_is_a_configuration() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert Config.parse(yaml.safe_load(block)).models["loans"].values.decimal == ","
