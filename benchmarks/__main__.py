"""Run one benchmark by name, ``python -m benchmarks NAME ...``, or list them (no name, or ``list``)."""

import ast
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def programs() -> dict[str, str]:
    """Return the module of each benchmark and the first line of its docstring."""
    files = [*HERE.glob("*.py"), *HERE.glob("*/__main__.py")]
    names = {path.parent.name: path for path in files if path.parent != HERE}
    names |= {path.stem: path for path in files if path.parent == HERE and not path.stem.startswith("_")}
    return {
        name: (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        for name, path in sorted(names.items())
    }


def main(arguments: list[str]) -> int:
    """Run the benchmark that the first argument names; without one, list what there is."""
    found = programs()
    if not arguments or arguments == ["list"]:
        for name, sentence in found.items():
            print(f"{name:20} {sentence}")
        print('Run one with: make bench ARGS="NAME ..."; without a name it is speed')
        return 0
    name = arguments[0]
    if name not in found:
        print(f"no benchmark {name!r}; there are: {', '.join(found) or 'none'}", file=sys.stderr)
        return 2
    sys.argv = [f"benchmarks.{name}", *arguments[1:]]
    runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
