"""What `stationkeeper plan` forecasts, held to a hundredth of the million of docs/capacity.md."""

import pytest

from benchmarks.capacity.__main__ import BAR, compared


def test_bytes_and_memory_are_as_forecast():
    found = compared(100)
    # Processor time is the machine's: `python -m benchmarks capacity --check` compares it on the one that it was
    # measured on.
    for name in ("input, MB/s", "panes, MB a day", "history, MB a day", "judge state, MB", "judge memory, MB"):
        forecast, real = found[name]
        assert forecast == pytest.approx(real, rel=BAR), name
