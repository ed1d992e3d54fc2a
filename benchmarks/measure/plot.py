"""A bar chart as SVG text, ours in colour; readable on light and dark pages."""

import math
from collections.abc import Sequence
from html import escape

BAR, GAP, LEFT, WIDTH, TOP = 20, 8, 290, 860, 46
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 15px }
.axis { stroke: #8c959f; stroke-width: 1; opacity: .45 }
.small { font-size: 11px; opacity: .75 }
.ours { fill: #0969da } .limit { fill: #54a3ff } .peer { fill: #8c959f }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .ours { fill: #4493f8 } .limit { fill: #1f5fae } }
"""


def bars(title: str, rows: Sequence[tuple[str, float, str]], digits: int = 0) -> str:
    """Return the chart of (name, rate, class) from the top; the axis runs over whole powers of ten.

    For rates that lie decades apart: the length of a bar says how many tens it has, and not how much it is.
    """
    low = math.floor(math.log10(min(rate for _, rate, _ in rows)))
    high = math.log10(max(rate for _, rate, _ in rows)) + 0.05
    powers = range(low, math.floor(high) + 1)
    marks = [((power - low) / (high - low), f"{10.0**power:,.{max(-power, 0)}f}") for power in powers]
    shares = [(math.log10(rate) - low) / (high - low) for _, rate, _ in rows]
    return _chart(title, rows, digits, shares, marks)


def amounts(title: str, rows: Sequence[tuple[str, float, str]], step: float, digits: int = 0) -> str:
    """Return the chart of (name, amount, class) from the top; the axis begins at 0 and has a mark each ``step``."""
    high = 1.05 * max(amount for _, amount, _ in rows)
    marks = [(at * step / high, f"{at * step:g}") for at in range(int(high / step) + 1)]
    return _chart(title, rows, digits, [max(amount, 0.0) / high for _, amount, _ in rows], marks)


def _chart(
    title: str,
    rows: Sequence[tuple[str, float, str]],
    digits: int,
    shares: Sequence[float],
    marks: Sequence[tuple[float, str]],
) -> str:
    """Draw bars of these ``shares`` of the axis, on which ``marks`` stand at theirs."""
    height = TOP + len(rows) * (BAR + GAP) + 30
    scale = WIDTH - LEFT - 90
    label = escape(title)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="8" y="22">{label}</text>',
    ]
    for share, mark in marks:
        x = LEFT + share * scale
        out.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 24}"/>')
        out.append(f'<text class="small" text-anchor="middle" x="{x:.1f}" y="{height - 8}">{mark}</text>')
    for at, ((name, value, kind), share) in enumerate(zip(rows, shares, strict=True)):
        y = TOP + at * (BAR + GAP)
        length = max(share * scale, 1.0)
        out.append(f'<text text-anchor="end" x="{LEFT - 8}" y="{y + 15}">{escape(name)}</text>')
        out.append(f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>')
        out.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 15}">{value:,.{digits}f}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
