"""How ``verify`` exits: equal, different, and when it could not compare everything, which is no success."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stationkeeper import cli
from stationkeeper.config import Config
from stationkeeper.contracts.topics import Topics
from stationkeeper.monitor import verify as verifying
from stationkeeper.monitor.verify import Verification
from stationkeeper.process import wiring
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader

FOUND = {
    0: Verification(records=2, panes=1, counts=3),
    1: Verification(records=2, panes=1, counts=3, differences=["pane 7: 1, counted again 2"]),
    3: Verification(records=2, panes=1, counts=3, unverifiable=["scores/0: its first records are gone"]),
}
NOTHING = Verification()


@pytest.mark.parametrize(("code", "found"), [*FOUND.items(), (3, NOTHING)])
def test_the_exit_code_tells_what_was_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, found: Verification
) -> None:
    @contextmanager
    def opened(_path: Path | None, *, whole: bool) -> Iterator[tuple[Config, MemoryReader, Topics]]:
        yield Config.parse({"models": {"fraud": {"predictions": "p"}}}), MemoryReader(MemoryLog()), Topics("x")

    monkeypatch.setattr(wiring, "open_reader", opened)
    monkeypatch.setattr(verifying, "verify", lambda *_args, **_options: found)
    result = CliRunner().invoke(cli.app, ["verify"], standalone_mode=False)
    assert result.return_value == code
    assert result.stdout.strip() == found.summary()
