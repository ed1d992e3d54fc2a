"""Write docs/api.md from what users import, its signatures and docstrings: ``python -m scripts.docs.api [--check]``."""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import stationkeeper

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
# Where a class is defined: a reader wants its name. Names in lower case (numpy.ndarray) keep their module.
_MODULES = re.compile(r"(?<![\w.])(?!sk\.)(?:[a-z_]\w*\.)+(?=[A-Z])")
HEAD = """# The Python interface

Everything that users import is below, as `import stationkeeper as sk`.
This page is written by `make docs` from the code.
"""


def page() -> str:
    """Return the text of docs/api.md."""
    parts = [HEAD]
    for name in sorted(stationkeeper.__all__):
        found = getattr(stationkeeper, name)
        if isinstance(found, ModuleType):
            parts += [f"## `sk.{name}`\n", f"{inspect.getdoc(found)}\n"]
            public = [key for key, value in vars(found).items() if _own(found, key, value)]
            for key in sorted(public):
                parts += _entry(f"sk.{name}.{key}", getattr(found, key), "###")
        else:
            parts += _entry(f"sk.{name}", found, "##")
    return "\n".join(parts)


def _own(module: ModuleType, key: str, value: Any) -> bool:
    callable_here = inspect.isclass(value) or inspect.isfunction(value)
    return callable_here and not key.startswith("_") and value.__module__ == module.__name__


def _entry(title: str, found: Any, level: str) -> Iterator[str]:
    yield f"{level} `{title}`\n"
    protocol = getattr(found, "_is_protocol", False)
    if inspect.isfunction(found) or (inspect.isclass(found) and "__init__" in vars(found) and not protocol):
        yield f"```python\n{_signature(title, found)}\n```\n"
    yield f"{inspect.getdoc(found) or ''}\n"
    if not inspect.isclass(found):
        return
    for key, member in vars(found).items():
        inner = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if key.startswith("_") or not (inspect.isfunction(inner) or isinstance(inner, property)):
            continue
        head = f".{key}" if isinstance(inner, property) else _signature(f".{key}", inner)
        text = " ".join((inspect.getdoc(inner) or "").split("\n\n")[0].split())
        yield f"- `{head}`: {text}"
    yield ""


def _signature(title: str, found: Any) -> str:
    """One parameter a line where the line grows long; ``self`` and ``cls`` are left out."""
    signature = inspect.signature(found)
    parameters = [p for p in signature.parameters.values() if p.name not in {"self", "cls"}]
    whole = _MODULES.sub("", f"{title}{signature.replace(parameters=parameters)}")
    if len(whole) <= 110 or title.startswith("."):
        return whole
    parts, star = list[str](), False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        parts.append(str(parameter))
    end = "" if signature.return_annotation is signature.empty else f" -> {_name(signature.return_annotation)}"
    return _MODULES.sub("", f"{title}(\n    " + ",\n    ".join(parts) + f",\n){end}")


def _name(annotation: Any) -> str:
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation)


def main(arguments: list[str]) -> int:
    """Write the page, or with ``--check`` return 1 where it is stale."""
    if "--check" not in arguments:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    sys.stderr.write("docs/api.md is stale; run `python -m scripts.docs.api`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
