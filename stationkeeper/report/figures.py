"""The plots of a replay: our pages beside fixed rules on one axis, and each subject's course with its marks."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stationkeeper.backtesting.course import Comparison, RuleCourse
from stationkeeper.contracts.model_status import SubjectStatus
from stationkeeper.page.axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axes,
    caption,
    figure,
    legend,
    picture,
    ticks,
)
from stationkeeper.page.markup import Child, Html, table, tag
from stationkeeper.page.words import DISTANCE_WORDS, duration, integer, number, plural, when
from stationkeeper.report.gather import Case, Report

OURS = "Stationkeeper"
# Pixels of the viewBox: the width of the page's text, of the names of rules on the left and of their counts on the
# right; a lane is a line of small text, and the head holds the names of known changes at two heights. Within a lane
# text stands on its base at 13 and marks keep 2 to 4 from its edges; under the last lane are 26 for the axis.
_WIDE, _NAMES, _COUNTS = 780.0, 208.0, 62.0
_LANE, _HEAD = 19.0, 34.0
_PSI = "psi"
Place = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class CourseAxes(Axes):
    """Axes whose x is a row or a time."""

    by_row: bool = False

    def times(self, count: int = 3) -> list[Html]:
        """Return ``count`` labels under the box: rows, or times as the status page writes them."""
        if not self.by_row:
            return Axes.times(self, count)
        parts = []
        for i in range(count):
            value = self.x0 + (self.x1 - self.x0) * i / (count - 1)
            place = "start" if i == 0 else "end" if i == count - 1 else "middle"
            label = f"row {integer(value)}" if i == 0 else integer(value)
            parts.append(tag("text", label, x=self.x(value), y=self.height - 8, class_=f"tick {place}"))
        return parts


def pages_of(report: Report) -> list[int]:
    """Return where our pages are, on the axis of the comparison."""
    return sorted(f.time for f in report.findings if f.level == "page" and f.time is not None)


def timeline(report: Report) -> Html | None:
    """Return one lane a rule, ours first: a mark for each alarm, the onsets we date, the changes that are known."""
    found = report.comparison
    if found is None:
        return None
    # The loudest first: it is the one that a person compares ours with.
    rules = sorted(found.rules, key=lambda rule: (-len(rule.marks), rule.name))
    shown = [rule for rule in rules if rule.marks]
    silent = [rule.name for rule in rules if not rule.marks]
    pages = pages_of(report)
    # Ours on top, whatever its number of alarms: every other lane is read against it.
    lanes = [RuleCourse(OURS, tuple(pages)), *shown]
    head = _HEAD if found.changes else _LANE / 2
    floor = head + _LANE * len(lanes)
    height = floor + 26
    # A file of one moment has no extent; its marks stand at the left edge.
    scale = (_WIDE - _NAMES - _COUNTS) / ((found.end - found.start) or 1)

    def x(at: float) -> float:
        # An onset may be dated before the first row shown: it is held at the edge instead of in the names.
        return _NAMES + (min(max(at, found.start), found.end) - found.start) * scale

    parts: list[Child] = [_changes(found, x, floor)]
    for lane, rule in enumerate(lanes):
        y = head + lane * _LANE
        ours = lane == 0
        parts.append(tag("line", x1=_NAMES, x2=_WIDE - _COUNTS, y1=y + _LANE / 2, y2=y + _LANE / 2, class_="grid"))
        parts.append(tag("text", rule.name, x=_NAMES - 10, y=y + 13, class_=f"tick end{' strong' if ours else ''}"))
        parts.append(
            tag("text", integer(len(rule.marks)), x=_WIDE - 6, y=y + 13, class_=f"tick end{' strong' if ours else ''}")
        )
        if ours:
            parts += _ours(report, x, y)
        else:
            # One stroke a pixel: a rule that alarms ten thousand times would make the file megabytes.
            columns = sorted({round(x(mark)) for mark in rule.marks})
            path = "".join(f"M{column} {y + 4:.0f}v{_LANE - 8:.0f}" for column in columns)
            parts.append(tag("path", d=path, class_="alarm"))
    parts += [
        tag("text", _place(found, at), x=x(at), y=height - 8, class_=f"tick {side}")
        for at, side in ((found.start, "start"), ((found.start + found.end) / 2, "middle"), (found.end, "end"))
    ]
    description = f"{plural(len(pages), 'page')} of ours; {_loudest(shown)}"
    keys = [("page", "our page"), ("incident", "onset, as we date it"), ("alarm", "alarm of a fixed rule")]
    if found.changes:
        keys.append(("change", "known change"))
    title = "Alarms over the file"
    svg = picture(title, description, parts, width=_WIDE, height=height)
    box = tag("div", svg, class_="roomy", tabindex=0, role="region", aria_label=title)
    never = tag("p", f"Never alarmed: {', '.join(silent)}.", class_="quiet") if silent else None
    return tag("div", tag("figure", caption(title, description, legend(*keys)), box, class_="broad"), never)


def _loudest(rules: Sequence[RuleCourse]) -> str:
    if not rules:
        return "no fixed rule was run, or none alarmed."
    return f"{rules[0].name} alarmed {plural(len(rules[0].marks), 'time')}, the most of {plural(len(rules), 'rule')}."


def _changes(found: Comparison, x: Place, floor: float) -> list[Html]:
    """Known changes as dashed lines with their names; names that would overlap alternate in height."""
    parts = []
    for i, change in enumerate(found.changes):
        at = x(change.at)
        # Right of the middle the name would leave the box.
        side = "end" if at > _WIDE * 0.6 else "start"
        y = 23.0 if i % 2 else 12.0
        parts.append(tag("line", x1=at, x2=at, y1=y - 8, y2=floor, class_="change"))
        parts.append(tag("text", change.name, x=at + (-5 if side == "end" else 5), y=y, class_=f"named {side}"))
    return parts


def _ours(report: Report, x: Place, y: float) -> list[Html]:
    """Our lane: the interval of each onset, and a diamond for each page."""
    parts = []
    for case in report.cases:
        low = case.first.onset_low if case.first.onset_low is not None else case.first.onset
        high = case.first.onset_high if case.first.onset_high is not None else case.first.onset
        if low is not None and high is not None:
            # An onset known to the row is narrower than a pixel and would not be seen.
            wide = max(2.5, x(high) - x(low))
            parts.append(tag("rect", x=x(low), y=y + 2, width=wide, height=_LANE - 4, class_="onset-band bold"))
    middle = y + _LANE / 2
    for page in pages_of(report):
        at = x(page)
        path = f"M{at:.1f} {middle - 6:.1f}l5 6l-5 6l-5-6z"
        parts.append(tag("path", d=path, class_="page"))
    return parts


def rules_table(report: Report) -> Html | None:
    """Return what the timeline shows, in numbers: alarms, those before the first known change, the first after it."""
    found = report.comparison
    if found is None or not found.rules:
        return None
    # The first known change: an alarm before it is surely false, one after a second change may be of either.
    change = min(found.changes, key=lambda one: one.at, default=None)
    lanes = [RuleCourse(OURS, tuple(pages_of(report))), *sorted(found.rules, key=lambda rule: rule.name)]
    heads: list[Child] = ["Rule", "Alarms from", "Alarms", "First"]
    if change is not None:
        heads += [f"Before “{change.name}”", "First after it"]
    rows: list[list[Child]] = []
    for rule in lanes:
        bound = "the budget" if rule.name == OURS else "learned" if rule.threshold is None else number(rule.threshold)
        side = "" if rule.name == OURS or rule.threshold is None else "below " if rule.below else "at "
        row: list[Child] = [
            rule.name,
            side + bound,
            integer(len(rule.marks)),
            _place(found, min(rule.marks, default=None)),
        ]
        if change is not None:
            marks = sorted(rule.marks)
            before = bisect_left(marks, change.at)
            row += [integer(before), f"after {_apart(found, marks[before] - change.at)}" if marks[before:] else "never"]
        rows.append(row)
    return table(
        "Every rule on every subject it can watch; ours counts pages of incidents", heads, rows, class_="numbers"
    )


def _place(found: Comparison, at: float | None) -> str:
    if at is None:
        return "–"
    return f"row {integer(at)}" if found.by_row else when(round(at))


def _apart(found: Comparison, span: int) -> str:
    return plural(span, "row") if found.by_row else duration(span)


def distance_figure(subject: SubjectStatus, case: Case | None, report: Report, title: str) -> Html | None:
    """Return the distance from the reference over time, with sampling noise, tools' thresholds, onset and pages."""
    series = subject.get("series")
    known = [value for value in series["distance"] if value is not None] if series is not None else []
    if series is None or not known:
        return None
    noise = series.get("noise", [])
    levels = _psi_levels(report) if series["distance_name"] == _PSI else {}
    # A tool's threshold far above everything would press the course flat; three times leaves it a third of the height.
    above = [level for level in levels.values() if level <= 3 * max(known)]
    top = ticks(0.0, max(*known, *(value for value in noise if value is not None), *above, 1e-6))
    axes = _axes(series["time"], top[-1], report)
    limits = []
    for name, level in levels.items():
        if level <= top[-1]:
            y = axes.y(level)
            limits.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="reference"))
            limits.append(tag("text", f"{name} {level:g}", x=LEFT + 4, y=y - 4, class_="tick start"))
    drawing = [
        axes.grid(top),
        axes.band(series["time"], [0.0] * len(series["time"]), noise, "noise") if noise else None,
        _marks(axes, case, report),
        limits,
        axes.path(series["time"], series["distance"], "line now"),
        axes.times(),
    ]
    name = DISTANCE_WORDS.get(series["distance_name"], series["distance_name"])
    highest = max(range(len(series["distance"])), key=lambda i: series["distance"][i] or 0.0)
    at = series["time"][highest]
    where = f"row {integer(at)}" if axes.by_row else when(at)
    keys = [("now", "this stretch"), ("noise", "sampling alone")]
    if case is not None:
        keys.append(("page", "page"))
    if limits:
        keys.append(("reference", "where a fixed rule alarms"))
    keys += _known(axes, report)
    description = f"Highest {number(max(known))}, at {where}; before, at most {number(_before(series, case))}."
    return figure(f"Distance from the reference ({name}): {title}", description, drawing, legend=legend(*keys))


def _before(series: object, case: Case | None) -> float:
    """The largest distance before the onset, 0 without any."""
    since = None if case is None else case.since
    pairs = zip(series["time"], series["distance"], strict=True)  # type: ignore[index]
    return max((value for at, value in pairs if value is not None and (since is None or at < since)), default=0.0)


def evidence_figure(subject: SubjectStatus, case: Case | None, report: Report, title: str) -> Html | None:
    """Return the evidence as a share of its threshold: 1 is where it pages."""
    series = subject.get("series")
    known = [value for value in series["ratio"] if value is not None] if series is not None else []
    if series is None or not known:
        return None
    # A quarter above the threshold, so that its line is seen where the evidence never reaches it.
    top = ticks(0.0, max(1.25, *known))
    axes = _axes(series["time"], top[-1], report)
    limit = axes.y(1.0)
    drawing = [
        axes.grid(top),
        _marks(axes, case, report),
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=limit, y2=limit, class_="limit"),
        tag("text", "pages", x=LEFT + 4, y=limit - 4, class_="note start"),
        axes.path(series["time"], series["ratio"], "line now"),
        axes.times(),
    ]
    first = next((t for t, r in zip(series["time"], series["ratio"], strict=True) if r is not None and r >= 1.0), None)
    where = None if first is None else f"row {integer(first)}" if axes.by_row else when(first)
    description = f"Highest {number(max(known))} of 1." if where is None else f"Reached its threshold about {where}."
    keys = _known(axes, report)
    named = legend(*keys) if keys else None
    return figure(f"Evidence of change, as a share of the threshold: {title}", description, drawing, legend=named)


def _known(axes: CourseAxes, report: Report) -> list[tuple[str, str]]:
    """The known changes that a plot marks, for its legend."""
    changes = report.comparison.changes if report.comparison is not None else ()
    return [("change", change.name) for change in changes if axes.x0 <= change.at <= axes.x1]


def _axes(times: Sequence[int], top: float, report: Report) -> CourseAxes:
    by_row = report.comparison.by_row if report.comparison is not None else any(f.by_row for f in report.findings)
    return CourseAxes(times[0], times[-1], 0.0, top, HEIGHT, by_row)


def _psi_levels(report: Report) -> dict[str, float]:
    """Where fixed rules on PSI alarm, if such rules were run."""
    rules = report.comparison.rules if report.comparison is not None else ()
    return {rule.name: rule.threshold for rule in rules if rule.name.endswith(_PSI) and rule.threshold is not None}


def _marks(axes: CourseAxes, case: Case | None, report: Report) -> list[Html]:
    """The onset as a band and a line, the page as a diamond on the floor, and known changes."""
    floor, parts = axes.height - BOTTOM, []
    for change in report.comparison.changes if report.comparison is not None else ():
        if axes.x0 <= change.at <= axes.x1:
            at = axes.x(change.at)
            parts.append(tag("line", x1=at, x2=at, y1=TOP, y2=floor, class_="change"))
    if case is None:
        return parts
    first = case.first
    parts += axes.onset(first.onset, first.onset_low, first.onset_high)
    pages = [f.time for f in case.findings if f.level == "page" and f.time is not None and axes.x0 <= f.time <= axes.x1]
    parts += [tag("path", d=f"M{axes.x(page):.1f} {floor - 6:.1f}l5 6l-5 6l-5-6z", class_="page") for page in pages]
    return parts
