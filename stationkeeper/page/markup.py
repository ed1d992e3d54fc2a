"""HTML and SVG as values: text is escaped, and its control characters spelt out, unless it already is markup."""

from collections.abc import Iterable
from html import escape
from typing import Union

from stationkeeper.contracts.masking import printable

Child = Union[str, int, float, None, Iterable["Child"]]  # noqa: UP007 - a string cannot be joined with a bar
Attribute = str | int | float | bool | None

# The elements of HTML that have no end; an end tag after `br` is read as a second one.
_VOID = frozenset({"meta", "link", "br", "hr", "input", "img", "wbr", "col"})


class Html(str):
    """Markup that is escaped already and goes into a page as it is."""

    __slots__ = ()


def text(child: Child) -> Html:
    """Return children as markup: ``Html`` as it is, None as nothing, everything else escaped, iterables in order."""
    if isinstance(child, Html):
        return child
    if child is None:
        return Html()
    if isinstance(child, str | int | float):
        # A name from an event may hold a NUL or an escape, which no HTML parser takes as text.
        return Html(escape(printable(str(child))))
    return Html("".join(text(inner) for inner in child))


def tag(element: str, /, *children: Child, **attributes: Attribute) -> Html:
    """Return one element.

    ``class_`` and ``id_`` lose the underscore, other underscores turn into hyphens; None and False vanish.
    """
    parts = [element]
    for key, value in attributes.items():
        # So that callers write `hidden=flag` and `class_=word or None` without a branch of their own.
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
        parts.append(attribute if value is True else f'{attribute}="{escape(printable(_plain(value)))}"')
    opening = f"<{' '.join(parts)}>"
    return Html(opening if element in _VOID else f"{opening}{text(children)}</{element}>")


def _plain(value: str | float) -> str:
    """Write coordinates with one decimal: a tenth of a pixel is enough and keeps a page small."""
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return str(value)


def table(caption: str, heads: Iterable[Child], rows: Iterable[Iterable[Child]], *, class_: str = "") -> Html:
    """Return a table that scrolls on a narrow screen; the first cell of a row is its header.

    The scrolling box can be focused, so that the keyboard scrolls it too.
    """
    body = []
    for row in rows:
        first, *rest = row
        body.append(tag("tr", tag("th", first, scope="row"), [tag("td", cell) for cell in rest]))
    head = tag("thead", tag("tr", [tag("th", name, scope="col") for name in heads]))
    inner = tag("table", tag("caption", caption), head, tag("tbody", body), class_=class_ or None)
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)
