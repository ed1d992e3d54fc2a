"""One plot of lines as SVG: colours are classes, so that it reads on a light and on a dark page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 44, 56

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1b2733; }
.page { fill: #ffffff; } .title { font-weight: 700; font-size: 15px; } .small { fill: #51606e; }
.axis { stroke: #9aa5ae; stroke-width: 1; } .grid { stroke: #e4e8eb; stroke-width: 1; }
.mark { stroke: #51606e; stroke-width: 1.5; stroke-dasharray: 5 4; fill: none; }
.line { fill: none; stroke-width: 2; }
.c0 { stroke: #0b5c8a; stroke-width: 3.5; } .c1 { stroke: #b5541c; } .c2 { stroke: #5b7f22; }
.c3 { stroke: #8a3f86; } .c4 { stroke: #6b7680; }
@media (prefers-color-scheme: dark) {
text { fill: #e8eef3; } .page { fill: #0d1117; } .small { fill: #a3b1bd; } .axis { stroke: #77838d; }
.grid { stroke: #232b33; } .mark { stroke: #a3b1bd; } .c0 { stroke: #7cc4ee; } .c1 { stroke: #f0a06a; }
.c2 { stroke: #a9d06a; } .c3 { stroke: #d99ad5; } .c4 { stroke: #a3b1bd; }
}
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A named line through points (x, y); ``colour`` is 0 (ours, thick) to 4."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from low to high with labelled ticks, linear or logarithmic."""

    name: str
    low: float
    high: float
    ticks: Sequence[float]
    log: bool = False

    def at(self, value: float) -> float:
        """Return where a value lies, 0 to 1, held inside."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def draw(title: str, x: Axis, y: Axis, lines: Sequence[Line], marks: Sequence[tuple[str, str, float]] = ()) -> str:
    """Return the SVG; a mark (axis "x" or "y", name, value) is a dashed line across."""
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def px(value: float) -> float:
        return LEFT + across * x.at(value)

    def py(value: float) -> float:
        return TOP + down * (1 - y.at(value))

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{title}</title>\n<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="24">{title}</text>',
    ]
    for tick in x.ticks:
        out.append(f'<line class="grid" x1="{px(tick):.1f}" x2="{px(tick):.1f}" y1="{TOP}" y2="{TOP + down}"/>')
        out.append(
            f'<text class="small" x="{px(tick):.1f}" y="{TOP + down + 20}" text-anchor="middle">{tick:,g}</text>'
        )
    for tick in y.ticks:
        out.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + across}" y1="{py(tick):.1f}" y2="{py(tick):.1f}"/>')
        out.append(f'<text class="small" x="{LEFT - 8}" y="{py(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>')
    out.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{TOP + down}H{LEFT + across}"/>')
    out.append(f'<text class="small" x="{LEFT + across / 2}" y="{HEIGHT - 14}" text-anchor="middle">{x.name}</text>')
    out.append(f'<text class="small" x="{LEFT}" y="{TOP - 6}">{y.name}</text>')
    for axis, name, value in marks:
        if axis == "x":
            out.append(f'<path class="mark" d="M{px(value):.1f} {TOP}V{TOP + down}"/>')
            out.append(f'<text class="small" x="{px(value) + 5:.1f}" y="{TOP + down - 6}">{name}</text>')
        else:
            out.append(f'<path class="mark" d="M{LEFT} {py(value):.1f}H{LEFT + across}"/>')
            out.append(f'<text class="small" x="{LEFT + 6}" y="{py(value) - 6:.1f}">{name}</text>')
    # Names beside the ends of their lines, pushed apart where they meet.
    free = TOP - 14.0
    for line in sorted((one for one in lines if one.points), key=lambda one: py(one.points[-1][1])):
        path = "L".join(f"{px(a):.1f} {py(b):.1f}" for a, b in line.points)
        out.append(f'<path class="line c{line.colour}" d="M{path}"/>')
        end_x, end_y = px(line.points[-1][0]), py(line.points[-1][1])
        free = max(end_y + 4, free + 16)
        out.append(f'<text x="{min(end_x + 8, LEFT + across + 8):.1f}" y="{free:.1f}">{line.name}</text>')
    return "\n".join([*out, "</svg>\n"])
