"""A bar chart as SVG text: rates on a logarithmic axis, ours in colour; readable on light and dark pages."""

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
    """Return the chart of (name, rate, class) from the top; the axis runs over whole powers of ten."""
    low = math.floor(math.log10(min(rate for _, rate, _ in rows)))
    high = math.log10(max(rate for _, rate, _ in rows)) + 0.05
    height = TOP + len(rows) * (BAR + GAP) + 30
    scale = (WIDTH - LEFT - 90) / (high - low)
    label = escape(title)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="8" y="22">{label}</text>',
    ]
    for power in range(low, math.floor(high) + 1):
        x = LEFT + (power - low) * scale
        out.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 24}"/>')
        mark = f"{10.0**power:,.{max(-power, 0)}f}"
        out.append(f'<text class="small" text-anchor="middle" x="{x:.1f}" y="{height - 8}">{mark}</text>')
    for at, (name, rate, kind) in enumerate(rows):
        y = TOP + at * (BAR + GAP)
        length = max((math.log10(rate) - low) * scale, 1.0)
        out.append(f'<text text-anchor="end" x="{LEFT - 8}" y="{y + 15}">{escape(name)}</text>')
        out.append(f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>')
        out.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 15}">{rate:,.{digits}f}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
