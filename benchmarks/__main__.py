"""Run one benchmark by name, ``python -m benchmarks NAME ...``, or list them (no name, or ``list``)."""

import ast
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def programs() -> dict[str, tuple[str, str]]:
    """Return by name the module of each benchmark and the first line of its docstring.

    A room with a ``__main__`` is one benchmark under the room's name; in a room without, each file is one.
    """
    files = sorted(HERE.glob("*/__main__.py"))
    mains = {path.parent for path in files}
    files += sorted(path for path in HERE.glob("*/*.py") if path.parent not in mains and path.stem != "__init__")
    found = {}
    for path in files:
        source = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' not in source:
            continue
        room = f"benchmarks.{path.parent.name}"
        name, module = (path.parent.name, room) if path.stem == "__main__" else (path.stem, f"{room}.{path.stem}")
        found[name] = (module, (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0])
    return dict(sorted(found.items()))


def main(arguments: list[str]) -> int:
    """Run the benchmark that the first argument names; without one, list what there is."""
    found = programs()
    if not arguments or arguments == ["list"]:
        for name, (_, sentence) in found.items():
            print(f"{name:20} {sentence}")
        print('Run one with: make bench ARGS="NAME ..."; without a name it is speed')
        return 0
    name = arguments[0]
    if name not in found:
        print(f"no benchmark {name!r}; there are: {', '.join(found) or 'none'}", file=sys.stderr)
        return 2
    module, _ = found[name]
    sys.argv = [module, *arguments[1:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
