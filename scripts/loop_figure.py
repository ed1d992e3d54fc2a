"""Draw the loop as ``docs/figures/loop.svg``; with ``--check`` fail when the committed figure is not this drawing."""

import sys
from dataclasses import dataclass
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "docs" / "figures" / "loop.svg"
WIDTH, HEIGHT = 960, 470

# Colours are classes, so that one drawing reads on a light and on a dark page.
STYLE = """
text { font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1b2733; }
.page { fill: #ffffff; } .name { font-weight: 700; font-size: 17px; }
.small { font-size: 13px; fill: #51606e; }
.topic { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; fill: #0b5c8a; }
.room { fill: #eaf3f9; stroke: #0b5c8a; stroke-width: 2; }
.outside { fill: #f5f5f2; stroke: #9aa5ae; stroke-width: 1.5; }
.flow { fill: none; stroke: #0b5c8a; stroke-width: 2.5; } .side { fill: none; stroke: #9aa5ae; stroke-width: 2; }
.flow-head { fill: #0b5c8a; } .side-head { fill: #9aa5ae; }
@media (prefers-color-scheme: dark) {
text { fill: #e8eef3; } .page { fill: #0d1117; } .small { fill: #a3b1bd; } .topic { fill: #7cc4ee; }
.room { fill: #10293a; stroke: #7cc4ee; } .outside { fill: #1a1f26; stroke: #77838d; }
.flow { stroke: #7cc4ee; } .flow-head { fill: #7cc4ee; } .side { stroke: #77838d; } .side-head { fill: #77838d; }
}
"""


@dataclass(frozen=True, slots=True)
class Box:
    """A room of the loop or something outside it, with its name and what it does."""

    x: int
    y: int
    width: int
    name: str
    lines: tuple[str, ...]
    kind: str = "room"

    def svg(self) -> str:
        """Return the rectangle with its centred text."""
        middle = self.x + self.width // 2
        height = 34 + 20 * len(self.lines)
        rows = [f'<rect class="{self.kind}" x="{self.x}" y="{self.y}" width="{self.width}" height="{height}" rx="10"/>']
        rows.append(f'<text class="name" x="{middle}" y="{self.y + 24}" text-anchor="middle">{self.name}</text>')
        rows += [
            f'<text class="small" x="{middle}" y="{self.y + 44 + 20 * number}" text-anchor="middle">{line}</text>'
            for number, line in enumerate(self.lines)
        ]
        return "\n".join(rows)


@dataclass(frozen=True, slots=True)
class Arrow:
    """A path with a head, and the topic or protocol it stands for."""

    path: str
    label: tuple[str, ...]
    x: int
    y: int
    anchor: str = "middle"
    kind: str = "flow"

    def svg(self) -> str:
        """Return the path and its label."""
        style = "topic" if self.kind == "flow" else "small"
        rows = [f'<path class="{self.kind}" d="{self.path}" marker-end="url(#{self.kind})"/>']
        rows += [
            f'<text class="{style}" x="{self.x}" y="{self.y + 18 * number}" text-anchor="{self.anchor}">{line}</text>'
            for number, line in enumerate(self.label)
        ]
        return "\n".join(rows)


BOXES = (
    Box(80, 190, 206, "serve", ("routes each request to the", "champion or the canary")),
    Box(365, 30, 230, "monitor", ("counts, compares, decides", "at a stated false-alarm rate")),
    Box(680, 190, 190, "retrain", ("snapshots, trains,", "gates, registers")),
    Box(365, 350, 230, "deploy", ("moves traffic step by step,", "promotes or rolls back")),
    Box(726, 30, 218, "Prometheus", ("Alertmanager, Grafana",), "outside"),
    Box(726, 388, 218, "MLflow", ("runs, versions, aliases",), "outside"),
    Box(16, 30, 190, "the world", ("turns out true, late",), "outside"),
    Box(16, 388, 190, "your service", ("asks for predictions",), "outside"),
)

ARROWS = (
    Arrow("M 232 190 C 250 130, 300 100, 360 92", ("predictions", "features"), 262, 158, "start"),
    Arrow("M 206 54 C 270 48, 310 50, 360 58", ("labels",), 282, 40),
    Arrow("M 595 92 C 660 100, 710 130, 728 186", ("retrain-requests",), 570, 158, "start"),
    Arrow("M 728 264 C 710 330, 660 372, 600 384", ("candidates",), 604, 322, "start"),
    Arrow("M 365 384 C 300 372, 250 330, 232 268", ("rollouts",), 346, 322, "end"),
    Arrow("M 480 104 L 480 346", ("history: both arms,", "the same minutes"), 490, 222, "start"),
    Arrow("M 595 58 L 722 58", ("/metrics",), 658, 48, kind="side"),
    Arrow("M 835 264 L 835 384", ("model, lineage",), 843, 330, "start", "side"),
    Arrow("M 111 388 L 111 268", ("HTTP",), 103, 334, "end", "side"),
)


def head(name: str) -> str:
    """Return the arrow head for a kind of arrow."""
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path class="{name}-head" d="M 0 0 L 10 5 L 0 10 z"/></marker>'
    )


def draw() -> str:
    """Return the whole figure as SVG text."""
    title = (
        "The loop: serve writes predictions, monitor watches them and asks for retraining, retrain makes a candidate, "
        "deploy moves traffic to it, and monitor checks the cure."
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">',
        f"<style>{STYLE}</style>",
        f"<defs>{head('flow')}{head('side')}</defs>",
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="12"/>',
        *(arrow.svg() for arrow in ARROWS),
        *(box.svg() for box in BOXES),
        '<text class="small" x="470" y="222" text-anchor="end">blue arrows are topics</text>',
        '<text class="small" x="470" y="240" text-anchor="end">in Apache Kafka</text>',
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    """Write the figure, or compare it with the committed one."""
    if "--check" not in arguments:
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        TARGET.write_text(draw(), encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == draw():
        return 0
    print(f"{TARGET} is not what this script draws", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
