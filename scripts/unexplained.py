"""Fail when a number that decides something stands without its why: a constant needs a comment above or a text below.

``python -m scripts.unexplained`` lists every module or class constant (upper case) of product code that holds a number,
and every field of a class of settings, limits or rules whose default is one, that has neither a comment line right
above it (one comment may stand above a block of them) nor a text right below. What a reader asks of each: why this
value, and what breaks at half or double.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOMS = ("contracts", "streams", "events", "registry", "monitor", "retrain", "deploy", "stationkeeper")
_NAME = re.compile(r"_?[A-Z][A-Z0-9_]*")
_FIELD = re.compile(r"[a-z][a-z0-9_]*")
# The fields of such a class decide by their default, as a constant does; those of records hold what was found.
_SETTINGS = re.compile(r"_?\w*(Settings|Limits|Rules|Policy|Config|Block)")


def product_files(root: Path) -> Iterator[Path]:
    """Yield the Python files of product code; the links stationkeeper/ROOM are the rooms again and left out."""
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            if not any(parent.is_symlink() for parent in path.parents):
                yield path


def unexplained(source: str) -> list[tuple[int, str]]:
    """Return the line and name of each constant with a number and no why; O(size of the source)."""
    lines = source.splitlines()
    found = []
    tree = ast.parse(source)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    named = [(node.body, _FIELD if _SETTINGS.fullmatch(node.name) else None) for node in classes]
    for body, field in ((tree.body, None), *named):
        explained_to = -1
        block: list[tuple[int, str]] = []
        for node, after in zip(body, [*body[1:], None], strict=True):
            name = _constant(node, field)
            if name is None:
                continue
            above = lines[node.lineno - 2].strip() if node.lineno > 1 else ""
            joined = node.lineno - 1 == explained_to
            if not joined:
                found += block
                block = []
            explained_to = node.end_lineno or node.lineno
            if above.startswith("#") or (joined and not block):
                continue
            block.append((node.lineno, name))
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                # Constants without an empty line between them share the comment above or the text below.
                block = []
        found += block
    return sorted(found)


def _constant(node: ast.stmt, field: re.Pattern[str] | None) -> str | None:
    """Return the name of a constant or field that holds a number, also within a tuple, a set, a table or a sum."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target, value = node.targets[0], node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        target, value = node.target, node.value
    else:
        return None
    if not isinstance(target, ast.Name):
        return None
    if not _NAME.fullmatch(target.id) and not (field and field.fullmatch(target.id)):
        return None
    numbers = (n.value for n in ast.walk(value) if isinstance(n, ast.Constant) and isinstance(n.value, int | float))
    return target.id if any(not isinstance(n, bool) for n in numbers) else None


def main() -> int:
    """Print each constant without a why and return the exit code."""
    root = Path(__file__).resolve().parent.parent
    count = 0
    for path in product_files(root):
        for line, name in unexplained(path.read_text(encoding="utf-8")):
            count += 1
            print(f"{path.relative_to(root)}:{line}: {name} has no why; say it in a comment above", file=sys.stderr)
    print(f"{count} constants and defaults without a why")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
