import ast
import json
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebook.ipynb"


def test_the_notebook_runs_from_top_to_bottom_and_finds_the_change_it_tells_of(capsys):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    for source in sources:
        exec(compile(source, str(NOTEBOOK), "exec"), names)
    assert "power card at 500 rows" in capsys.readouterr().out
    first = names["result"].pages[0]
    assert first["subject"] == "weight"
    assert 2_000 <= first["row"] < 2_400
    assert names["reference"]._repr_html_().startswith("<p>")
    assert "weight" in names["result"]._repr_html_()


def test_the_notebook_imports_nothing_of_ours_but_the_public_face():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if isinstance(node, ast.ImportFrom):
                assert not str(node.module).startswith("stationkeeper.")
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("stationkeeper.") for alias in node.names)
