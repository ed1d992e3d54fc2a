"""What a part of the benchmark printed, written into a page between the part's own markers."""

import platform
import re
from collections.abc import Sequence
from pathlib import Path


def write_part(page: Path, part: str, title: str, lines: Sequence[str]) -> None:
    """Replace the text between ``<!-- part NAME -->`` and ``<!-- end NAME -->``; a page without them is refused.

    A part that was not run keeps what an earlier run wrote.
    """
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- part {part} -->", f"<!-- end {part} -->"
    if begin not in text or end not in text:
        raise SystemExit(f"{page}: no place for part {part}; add the lines {begin} and {end}")
    body = "\n".join([f"{title}:", "", *lines])
    block = f"{begin}\n\n{_spaced(body)}\n\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    page.write_text(pattern.sub(lambda _: block, text), encoding="utf-8")


def machine() -> str:
    """Name the processor and the versions that the times were measured with."""
    import numpy as np

    model = platform.processor() or platform.machine()
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpu.read_text(encoding="utf-8"))
        model = found[1] if found else model
    return f"one core of {model}, Python {platform.python_version()}, numpy {np.__version__}"


def _spaced(body: str) -> str:
    """Markdown tables need an empty line before their head."""
    out: list[str] = []
    for line in body.splitlines():
        if line.startswith("|") and out and out[-1] and not out[-1].startswith("|"):
            out.append("")
        out.append(line)
    return "\n".join(out)
