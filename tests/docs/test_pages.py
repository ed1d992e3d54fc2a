"""What the pages name exists: metrics, files, other pages and their headings. Commands: test_commands.py."""

import re
from pathlib import Path

import pytest

from stationkeeper.contracts.metrics import BY_NAME

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading)).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES)
def test_a_metric_that_is_named_is_exported(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w:])stationkeeper_[a-z_]+[a-z]", text))
    known = set(BY_NAME) | {f"{name}{end}" for name in BY_NAME for end in ("_bucket", "_count", "_sum")}
    # The rest are a recording rule's prefix and the external labels that alerts take addresses from.
    assert named <= known | {"stationkeeper_records", "stationkeeper_page", "stationkeeper_runbooks"}


@pytest.mark.parametrize("page", PAGES)
def test_paths_and_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:ops|tests|scripts|docs|contracts|benchmarks)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for link in LINK.findall(text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_reached_from_the_readme() -> None:
    found, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in found:
            continue
        found.add(page)
        links = [link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
        waiting += [(page.parent / link).resolve() for link in links if link.endswith(".md")]
    assert {ROOT / page for page in PAGES if page.startswith("docs")} <= found
