"""Every law that the statistics page states names a test that exists."""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent


def test_each_of_the_ten_laws_names_tests_that_exist():
    page = (HERE.parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+)\. .*?\| (`test_.*) \|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 11))
    written = "\n".join(path.read_text(encoding="utf-8") for path in HERE.rglob("test_*.py"))
    for _, names in rows:
        for name in re.findall(r"`(test_\w+)`", names):
            assert f"def {name}(" in written, name
