"""The house rules of `make lint` see what they should see."""

from pathlib import Path

import pytest

from scripts import house_rules

ROOM = '"""A room.\n\nIn: nothing.\nOut: nothing.\nState: none.\nInvariant: it is empty.\nRead a, b, c, window.\n"""\n'


def house(root: Path, files: dict[str, str]) -> list[str]:
    for name, text in {"monitor/__init__.py": ROOM, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return house_rules.complaints(root)


def test_a_small_house_with_a_written_room_passes(tmp_path: Path):
    assert house(tmp_path, {"monitor/window.py": "x = 1\n" * house_rules.FILE_LINES}) == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"monitor/long.py": "x = 1\n" * (house_rules.FILE_LINES + 1)}, "monitor/long.py: 501 lines"),
        ({"monitor/utils.py": "x = 1\n"}, "monitor/utils.py: the name says nothing"),
        ({"monitor/a.py": "class A:\n" + "    x = 1\n" * house_rules.CLASS_LINES}, "class A has"),
        ({f"monitor/f{n}.py": "x = 1\n" for n in range(house_rules.ROOM_FILES + 1)}, "monitor/: 16 files"),
        ({"monitor/core/a.py": "x = 1\n"}, "core/: no __init__.py"),
        ({"monitor/__init__.py": '"""One line."""\n'}, "monitor/__init__.py: say what comes in"),
        ({"monitor/unlisted.py": "x = 1\n"}, "monitor/__init__.py: the order to read leaves out unlisted.py"),
        ({"monitor/a.py": "class A: ...\n", "monitor/b.py": "class A: ...\n"}, "class A is in"),
        (
            {"monitor/a.py": "x = 1\n", "monitor/b.py": "from stationkeeper.monitor.a import x\n"},
            "monitor/a.py: 1 lines and only monitor/b.py imports it",
        ),
        (
            {"monitor/a.py": "x = 1\n", "monitor/b.py": "from stationkeeper.monitor import a\n"},
            "monitor/a.py: 1 lines and only monitor/b.py imports it",
        ),
        ({"monitor/a.py": "import monitor\n"}, "monitor/a.py: imports monitor bare"),
        ({"monitor/a.py": "import monitor.tally\n"}, "monitor/a.py: imports monitor bare"),
        ({"monitor/a.py": "from streams.kafka import x\n"}, "monitor/a.py: imports streams bare"),
    ],
)
def test_what_a_reader_cannot_hold_is_named(tmp_path: Path, files: dict[str, str], said: str):
    assert any(said in complaint for complaint in house(tmp_path, files))


def test_what_is_linked_into_the_package_counts_once(tmp_path: Path):
    (tmp_path / "stationkeeper").mkdir()
    (tmp_path / "stationkeeper" / "__init__.py").write_text(ROOM, encoding="utf-8")
    (tmp_path / "stationkeeper" / "monitor").symlink_to("../monitor")
    assert house(tmp_path, {"monitor/a.py": "class A: ...\n"}) == []


def test_the_total_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(house_rules, "PRODUCT_LINES", 10)
    assert any("product code has" in one for one in house(tmp_path, {"monitor/a.py": "x = 1\n" * 20}))


def test_a_file_with_two_importers_may_be_small(tmp_path: Path):
    importer = "from stationkeeper.monitor.a import x\n"
    assert house(tmp_path, {"monitor/a.py": "x = 1\n", "monitor/b.py": importer, "monitor/c.py": importer}) == []


def test_an_import_by_the_long_name_is_not_bare(tmp_path: Path):
    assert house(tmp_path, {"monitor/a.py": "import stationkeeper.monitor\nfrom stationkeeper import streams\n"}) == []


def test_what_is_known_passes_and_must_be_struck_when_it_is_mended():
    assert house_rules.unknown(["a.py: 501 lines", "b.py: 502 lines"], ["a.py:"]) == ["b.py: 502 lines"]
    assert house_rules.unknown([], ["a.py:"]) == ["KNOWN: strike 'a.py:', which no longer offends"]
