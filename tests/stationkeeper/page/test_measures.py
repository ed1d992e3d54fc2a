"""The table of measures: names as people write them, and the version where there is more than one."""

from stationkeeper.contracts.model_status import PerformanceStatus
from stationkeeper.page.model import measures_table
from stationkeeper.page.words import measure_words


def measure(version: str) -> PerformanceStatus:
    return PerformanceStatus(
        measure="mae", version=version, segment="", state="steady", rows=9, reason="9 rows", value=52.0, share=False
    )


def test_a_measure_is_written_as_papers_write_it():
    assert [measure_words(name) for name in ("mae", "log_loss", "recall of big_cat", "macro_f1")] == [
        "MAE",
        "log loss",
        "recall of big_cat",
        "macro F1",
    ]


def test_two_versions_are_told_apart_and_one_is_not_named():
    assert "version" not in measures_table([measure("2")])
    both = measures_table([measure("1"), measure("2")])
    assert "MAE of version 1" in both
    assert "MAE of version 2" in both
