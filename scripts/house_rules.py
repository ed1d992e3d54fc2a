"""Fail when files, classes and rooms grow beyond what a reader can hold: ``python -m scripts.house_rules``.

Product code is what ships; the links ``stationkeeper/ROOM`` are the rooms again and left out. A rule that a file must
break is not bent here: what is allowed stands in the tables below, with its reason.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scripts.unexplained import product_files

# A file is one concept; at 350 lines the ceiling cut concepts in pieces (57 files under 100 lines had one importer).
FILE_LINES = 500
# "About 200": what fits a head with its fields and their rules; docstrings count.
CLASS_LINES = 200
# A file this small that one other imports is a part of that one.
LONELY_LINES = 60
# As many names as one can look through without searching.
ROOM_FILES = 15
# A stranger reads it whole before the next issues begin; 43 800 when the rule was made.
PRODUCT_LINES = 41_000
# What a room's docstring says at least: what comes in, what goes out, its state, its invariant, the order to read.
ROOM_DOCSTRING_LINES = 5

VAGUE = frozenset({"base", "common", "helper", "helpers", "manager", "misc", "shared", "stuff", "util", "utils"})

TWICE: Mapping[str, str] = {
    "Reason": "each role has its own closed list of reasons, and neither may import the other",
}
"""Class names that may stand in two files, with the reason."""

LONELY: Mapping[str, str] = {}
"""Small files with one importer that stay, with the reason."""


KNOWN: tuple[str, ...] = ("product code has",)
"""How the complaints begin that stood when the rules were made. It may only shrink: no line is added, and a line that
no complaint begins with any more is a complaint itself."""

ROOMS = frozenset({"contracts", "streams", "events", "registry", "monitor", "retrain", "deploy"})
"""The rooms that lie at the top level of the repository, and are imported as ``stationkeeper.ROOM`` alone."""


def unknown(found: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the complaints that are not ``known``, and one for each known beginning that nothing begins with."""
    mended = [f"KNOWN: strike {one!r}, which no longer offends" for one in known if not _begins(found, one)]
    return [*mended, *(one for one in found if not one.startswith(tuple(known)))]


def _begins(found: Sequence[str], beginning: str) -> bool:
    return any(one.startswith(beginning) for one in found)


def complaints(root: Path) -> list[str]:
    """Return one sentence for each rule that a file, class or room under ``root`` breaks; O(product code)."""
    sources = {path: path.read_text(encoding="utf-8") for path in product_files(root)}
    trees = {path: ast.parse(source) for path, source in sources.items()}
    names = {path: str(path.relative_to(root)) for path in sources}
    found = [
        *_long(sources, trees, names),
        *_rooms(trees, names),
        *_twice(trees, names),
        *_lonely(sources, trees, names),
        *_bare(trees, names),
    ]
    total = sum(source.count("\n") for source in sources.values())
    if total > PRODUCT_LINES:
        found.append(f"product code has {total} lines, the ceiling is {PRODUCT_LINES}; what can go?")
    return found


def _long(sources: Mapping[Path, str], trees: Mapping[Path, ast.Module], names: Mapping[Path, str]) -> Iterator[str]:
    for path, source in sources.items():
        lines = source.count("\n")
        if lines > FILE_LINES:
            yield f"{names[path]}: {lines} lines, the ceiling is {FILE_LINES}; split it by concept"
        if path.stem.strip("_") in VAGUE:
            yield f"{names[path]}: the name says nothing; call it by the concept it holds"
        for node in _classes(trees[path]):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > CLASS_LINES:
                yield f"{names[path]}: class {node.name} has {length} lines, the ceiling is {CLASS_LINES}; split it"


def _rooms(trees: Mapping[Path, ast.Module], names: Mapping[Path, str]) -> Iterator[str]:
    rooms: dict[Path, int] = defaultdict(int)
    for path in trees:
        rooms[path.parent] += path.name != "__init__.py"
    for room, files in sorted(rooms.items()):
        if files > ROOM_FILES:
            yield f"{room.name}/: {files} files, a room holds {ROOM_FILES}; which two rooms are in it?"
        face = room / "__init__.py"
        if face not in trees:
            yield f"{room.name}/: no __init__.py to say what the room is"
        elif len((ast.get_docstring(trees[face]) or "").splitlines()) < ROOM_DOCSTRING_LINES:
            yield (
                f"{names[face]}: say what comes in, what goes out, its state, its invariant and the order to read, "
                f"in {ROOM_DOCSTRING_LINES} lines or more"
            )
        else:
            said = re.findall(r"\w+", ast.get_docstring(trees[face]) or "")
            within = {path.stem for path in trees if path.parent == room and not path.stem.startswith("__")}
            for name in sorted(within - set(said)):
                yield f"{names[face]}: the order to read leaves out {name}.py"


def _twice(trees: Mapping[Path, ast.Module], names: Mapping[Path, str]) -> Iterator[str]:
    where: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees.items():
        for node in _classes(tree):
            if not node.name.startswith("_"):
                where[node.name].append(names[path])
    for name, files in sorted(where.items()):
        if len(files) > 1 and name not in TWICE:
            yield f"class {name} is in {' and '.join(files)}; one word, one meaning"


def _lonely(sources: Mapping[Path, str], trees: Mapping[Path, ast.Module], names: Mapping[Path, str]) -> Iterator[str]:
    modules = {_module(names[path]): path for path in sources}
    importers: dict[Path, set[Path]] = defaultdict(set)
    for path, tree in trees.items():
        for imported in _imports(tree):
            target = modules.get(imported)
            if target is not None and target != path and path.name != "__init__.py":
                importers[target].add(path)
    for path, source in sources.items():
        mine = importers[path]
        if len(mine) != 1 or source.count("\n") >= LONELY_LINES or path.name == "__init__.py":
            continue
        if names[path] not in LONELY:
            (one,) = mine
            yield f"{names[path]}: {source.count(chr(10))} lines and only {names[one]} imports it; it belongs there"


def _bare(trees: Mapping[Path, ast.Module], names: Mapping[Path, str]) -> Iterator[str]:
    # From a checkout both names work, and make two copies of each class; installed, only the long one exists.
    for path, tree in trees.items():
        for room in sorted(ROOMS & set(_imports(tree))):
            yield f"{names[path]}: imports {room} bare; import stationkeeper.{room}"


def _classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def _module(name: str) -> str:
    dotted = name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    return dotted if dotted.startswith("stationkeeper") else f"stationkeeper.{dotted}"


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield each module that is imported, its top level, and each name taken from one, which may be a module too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from (alias.name, alias.name.partition(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield node.module.partition(".")[0]
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def main() -> int:
    """Print the complaints that are not ``KNOWN`` and return the exit code."""
    found = unknown(complaints(Path(__file__).resolve().parent.parent), KNOWN)
    for complaint in found:
        print(complaint, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
