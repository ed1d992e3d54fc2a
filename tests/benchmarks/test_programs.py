"""Every benchmark that `python -m benchmarks list` names can still be loaded: what it measures has not moved away."""

import ast
import importlib
import logging
from pathlib import Path

import pytest

from benchmarks.__main__ import programs

HERE = Path(__file__).resolve().parents[2] / "benchmarks"
# These run in an environment of their own, with a peer that is not installed here.
ELSEWHERE = {
    *(f"benchmarks.detection.external_{peer}" for peer in ("alibi", "frouros")),
    *(f"benchmarks.serving.peer_{peer}" for peer in ("bentoml", "mlflow", "mlserver")),
    "benchmarks.client.peer_scouter",
    "benchmarks.endtoend.quix",
}
MODULES = sorted(
    ".".join(path.relative_to(HERE.parent).with_suffix("").parts)
    for path in HERE.rglob("*.py")
    if path.name not in {"__init__.py", "__main__.py"}
)


@pytest.mark.parametrize("module", [name for name in MODULES if name not in ELSEWHERE])
def test_a_part_of_a_benchmark_loads(module: str):
    before = logging.root.manager.disable
    importlib.import_module(module)
    # What a benchmark silences, it silences when it runs: otherwise the tests that follow miss what is said.
    assert logging.root.manager.disable == before


def test_every_benchmark_says_what_it_measures_and_every_room_what_it_holds():
    found = programs()
    assert {"endtoend", "detection", "speed", "fraud_seeds", "canary", "power", "restore", "scrape"} <= found.keys()
    assert all(sentence for _, sentence in found.values())
    # Only the package and the program that runs the others lie beside the rooms.
    assert {path.name for path in HERE.glob("*.py")} == {"__init__.py", "__main__.py"}
    for room in (path for path in HERE.iterdir() if any(path.glob("*.py"))):
        assert ast.get_docstring(ast.parse((room / "__init__.py").read_text())), room.name


@pytest.mark.parametrize("name", programs())
def test_a_benchmark_loads(name: str):
    module, _ = programs()[name]
    folder = HERE.parent / module.replace(".", "/")
    importlib.import_module(f"{module}.__main__" if folder.is_dir() else module)
