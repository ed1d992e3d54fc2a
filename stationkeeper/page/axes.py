"""The frame of a plot: scales, ticks, paths with gaps; every plot draws in the same box and the same classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from stationkeeper.page.markup import Child, Html, tag

# Pixels of the viewBox; the page scales it. Two plots stand side by side in the width of a text, and on a phone one
# below the other; the margins hold six digits on the left and a line of 12 px under the box.
WIDTH, HEIGHT = 420.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 14.0, 26.0
# The few pixels inside expressions are gaps of a label from what it names (4 to 6, half a letter; 8 under the box, a
# line of 12 px on its base) and the middle of a plot, from .6 of whose width on a word is written to the left. Grid
# lines of a plot: 150 pixels hold four labels with room between; with two a curve cannot be read off.
_TICKS = 4


@dataclass(frozen=True, slots=True)
class Axes:
    """Maps values to pixels: x grows to the right, y upwards; a range without extent is widened."""

    x0: float
    x1: float
    y0: float
    y1: float
    height: float = HEIGHT

    def x(self, value: float) -> float:
        """Return the pixel of an x value, held inside the box."""
        # A single moment has no extent: everything is drawn at the left edge, where a division would fail.
        span = (self.x1 - self.x0) or 1.0
        share = min(1.0, max(0.0, (value - self.x0) / span))
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the pixel of a y value, held inside the box."""
        span = (self.y1 - self.y0) or 1.0
        share = min(1.0, max(0.0, (value - self.y0) / span))
        return self.height - BOTTOM - share * (self.height - TOP - BOTTOM)

    def grid(self, y_ticks: Sequence[float], *, unit: str = "") -> list[Html]:
        """Return horizontal grid lines with their labels."""
        parts = []
        for value in y_ticks:
            at = self.y(value)
            parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
            parts.append(tag("text", f"{value:g}{unit}", x=LEFT - 6, y=at + 4, class_="tick end"))
        return parts

    def times(self, count: int = 3) -> list[Html]:
        """Return ``count`` time labels under the box; days where the range is long, minutes where it is short."""
        # A day and a half: up to there the same clock time cannot be meant twice by three labels.
        day = self.x1 - self.x0 > 36 * 3_600_000
        parts = []
        for i in range(count):
            value = self.x0 + (self.x1 - self.x0) * i / (count - 1)
            time = datetime.fromtimestamp(value / 1_000, tz=UTC)
            label = f"{time.day} {time:%b}" if day else f"{time:%H:%M}"
            place = "start" if i == 0 else "end" if i == count - 1 else "middle"
            parts.append(tag("text", label, x=self.x(value), y=self.height - 8, class_=f"tick {place}"))
        return parts

    def path(self, xs: Sequence[float], ys: Sequence[float | None], class_: str) -> Html:
        """Return a line; None interrupts it, and a point alone becomes a dot."""
        commands, dots, pen_down = list[str](), list[Html](), False
        last = len(ys) - 1
        for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
            if y is None:
                pen_down = False
                continue
            alone = not pen_down and (i == last or ys[i + 1] is None)
            if alone:
                dots.append(tag("circle", cx=self.x(x), cy=self.y(y), r=2, class_=f"{class_} dot"))
            else:
                commands.append(f"{'L' if pen_down else 'M'}{self.x(x):.1f} {self.y(y):.1f}")
            pen_down = True
        line = tag("path", d="".join(commands), class_=class_) if commands else Html()
        return Html(line + "".join(dots))

    def onset(self, at: float | None, low: float | None, high: float | None) -> list[Html]:
        """Return where a change began: a band for the interval, a line for the estimate; nothing outside the box."""
        if at is None or not self.x0 <= at <= self.x1:
            return []
        left = self.x(low if low is not None else at)
        right = self.x(high if high is not None else at)
        place, floor = self.x(at), self.height - BOTTOM
        # Right of the middle the word would leave the box.
        side = "end" if place > WIDTH * 0.6 else "start"
        return [
            tag("rect", x=left, y=TOP, width=max(1.0, right - left), height=floor - TOP, class_="onset-band"),
            tag("line", x1=place, x2=place, y1=TOP, y2=floor, class_="onset"),
            tag("text", "began", x=place + (-4 if side == "end" else 4), y=TOP + 10, class_=f"note {side}"),
        ]

    def band(
        self, xs: Sequence[float], lows: Sequence[float | None], highs: Sequence[float | None], class_: str
    ) -> Html:
        """Return the area between two lines, in as many pieces as gaps leave."""
        pieces, run = list[list[tuple[float, float, float]]](), list[tuple[float, float, float]]()
        for x, low, high in zip(xs, lows, highs, strict=True):
            if low is None or high is None:
                pieces.append(run)
                run = []
            else:
                run.append((x, low, high))
        pieces.append(run)
        paths = []
        for piece in pieces:
            if len(piece) > 1:
                upper = [f"{self.x(x):.1f} {self.y(high):.1f}" for x, _, high in piece]
                lower = [f"{self.x(x):.1f} {self.y(low):.1f}" for x, low, _ in reversed(piece)]
                paths.append(tag("path", d=f"M{'L'.join([*upper, *lower])}Z", class_=class_))
        return Html("".join(paths))


def ticks(low: float, high: float) -> list[float]:
    """Return about ``_TICKS`` round values from at or below ``low`` to at or above ``high``."""
    span = (high - low) or 1.0
    raw = span / (_TICKS - 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    # The first round step that is large enough; .999 and 1e-9 forgive rounding, which would else add an empty line.
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def picture(title: str, description: str, drawing: Child, *, width: float = WIDTH, height: float = HEIGHT) -> Html:
    """Return a plot without its caption; who does not see it is read title and description."""
    return tag(
        "svg",
        tag("title", f"{title}. {description}"),
        drawing,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        class_="plot",
        xmlns="http://www.w3.org/2000/svg",
        preserveAspectRatio="xMidYMid meet",
    )


def caption(title: str, description: str, legend: Child = None) -> Html:
    """Return the words above a plot: what it is, what the eye would see, what its colours mean."""
    return tag("figcaption", tag("strong", title), tag("span", description, class_="said"), legend)


def figure(title: str, description: str, drawing: Child, *, height: float = HEIGHT, legend: Child = None) -> Html:
    """Return a captioned plot."""
    svg = picture(title, description, drawing, height=height)
    return tag("figure", caption(title, description, legend), svg)


def legend(*entries: tuple[str, str]) -> Html:
    """Return a legend: (class of the swatch, words)."""
    return tag("span", [tag("span", tag("i", class_=f"key {key}"), words) for key, words in entries], class_="legend")
