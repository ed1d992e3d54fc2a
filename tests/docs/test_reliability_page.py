"""The reliability page is written from what the runs kept, and by no hand."""

from pathlib import Path

from tests.reliability.page import PAGE, kept, page

SUITE = Path(__file__).parent.parent / "reliability"


def test_the_page_is_what_its_rows_give() -> None:
    assert PAGE.read_text() == page(kept())


def test_every_row_is_of_a_test_that_there_is() -> None:
    code = "".join(path.read_text() for path in SUITE.glob("test_*.py"))
    assert [one.row.test for one in kept() if f"def {one.row.test}(" not in code] == []
