"""The cores import numpy, contracts, themselves and the part of the standard library that computes."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORES = ("monitor", "retrain", "deploy")
PURE_STANDARD_LIBRARY = frozenset(
    {
        "abc",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "hashlib",
        "heapq",
        "hmac",
        "itertools",
        "json",
        "math",
        "numbers",
        "operator",
        "re",
        "statistics",
        "string",
        "struct",
        "types",
        "typing",
        "unicodedata",
        "zlib",
    }
)


def imported(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


def impure(room: str, source: str) -> set[str]:
    return {
        name
        for name in imported(source)
        if name.split(".")[0] not in PURE_STANDARD_LIBRARY | {"numpy"}
        and not name.startswith((f"stationkeeper.{room}.core", "stationkeeper.contracts."))
    }


@pytest.mark.parametrize("room", CORES)
def test_a_core_imports_only_what_computes(room: str):
    files = sorted((ROOT / room / "core").rglob("*.py"))
    assert files
    found = {str(path.relative_to(ROOT)): impure(room, path.read_text(encoding="utf-8")) for path in files}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import time", {"time"}),
        ("import scipy.stats", {"scipy.stats"}),
        ("def f():\n    from stationkeeper.monitor.judge import Judge", {"stationkeeper.monitor.judge"}),
        ("from stationkeeper.retrain.core.plan import Plan", {"stationkeeper.retrain.core.plan"}),
        (
            "import math\nfrom stationkeeper.monitor.core import Pane\nfrom stationkeeper.contracts.codes import X",
            set(),
        ),
    ],
)
def test_the_check_sees_an_impure_import(source: str, names: set[str]):
    assert impure("monitor", source) == names
