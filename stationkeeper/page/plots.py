"""The plots of a subject and of a measure: course over time, distribution against reference, performance."""

import math
from collections.abc import Sequence

from stationkeeper.contracts.model_status import Cells, IncidentStatus, PerformanceStatus, SubjectStatus
from stationkeeper.page.axes import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axes, figure, legend, ticks
from stationkeeper.page.markup import Html, tag
from stationkeeper.page.words import DISTANCE_WORDS, measure_words, measured, number, percent, plural, when

# Categories drawn, the most changed first. Chosen: half hides some that moved, double is taller than the other plots.
MAX_BARS = 12
# Height of a category's row in pixels: two bars and a line of 12 px text.
_ROW = 22.0
# Width for a category's name in pixels: the 18 characters that `_bars` keeps, at 12 px.
_LABEL = 128.0
# Of a column's width what stands free on either side of the bar of now, so that the reference's shows behind it.
_INSET = 0.22
# Pixels behind the longest bar: a share of three digits at 12 px, and its gap.
_SHARE = 58


def _present(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _onset(axes: Axes, incident: IncidentStatus | None) -> list[Html]:
    if incident is None:
        return []
    return axes.onset(incident["onset"], incident.get("onset_low"), incident.get("onset_high"))


def course_plot(subject: SubjectStatus, incident: IncidentStatus | None, name: str) -> Html:
    """Return the detector's evidence over its threshold, and where the change began; ``name`` is the subject's."""
    series = subject["series"]
    times, ratios = series["time"], series["ratio"]
    known = _present(ratios)
    if not known:
        return tag("p", "No closed window had enough rows to plot.", class_="quiet")
    # Some room above the threshold, so that its line and word show where the evidence is far below.
    top = ticks(0.0, max(1.25, *known))
    axes = Axes(times[0], times[-1], 0.0, top[-1])
    limit = axes.y(1.0)
    drawing = [
        axes.grid(top),
        _onset(axes, incident),
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=limit, y2=limit, class_="limit"),
        tag("text", "found", x=LEFT + 4, y=limit - 4, class_="note start"),
        axes.path(times, ratios, "line now"),
        axes.times(),
    ]
    # What an earlier incident crossed is told on its own page.
    since = times[0] if incident is None else incident["onset"]
    crossed = next((t for t, r in zip(times, ratios, strict=True) if t >= since and r is not None and r >= 1.0), None)
    description = (
        f"Reached its threshold at {when(crossed)}." if crossed is not None else f"Highest {number(max(known))} of 1."
    )
    return figure(f"Evidence of change, as a share of the threshold: {name}", description, drawing)


def distance_plot(subject: SubjectStatus, incident: IncidentStatus | None, name: str) -> Html:
    """Return the distance from the reference over time, with what sampling alone produces."""
    series = subject["series"]
    times, distances = series["time"], series["distance"]
    known = _present(distances)
    if not known:
        return Html()
    distance = DISTANCE_WORDS.get(series["distance_name"], series["distance_name"])
    noise = series.get("noise", [])
    # A subject that has not moved at all is flat at zero, and an axis needs an extent.
    top = ticks(0.0, max(*known, *_present(noise), 1e-6))
    axes = Axes(times[0], times[-1], 0.0, top[-1])
    drawing = [
        axes.grid(top),
        axes.band(times, [0.0] * len(times), noise, "noise") if noise else None,
        _onset(axes, incident),
        axes.path(times, distances, "line now"),
        axes.times(),
    ]
    keys = legend(("now", "this window"), ("noise", "sampling alone")) if noise else None
    last = "Last" if incident is not None and "closed" in incident else "Now"
    # A closed incident's plot ends with it: "now" would be read as today.
    description = f"{last} {number(known[-1])}, highest {number(max(known))}."
    return figure(f"Distance from the reference ({distance}): {name}", description, drawing, legend=keys)


def distribution_plot(cells: Cells, rows: int, name: str) -> Html:
    """Return reference and current distribution over each other: columns for numbers, rows for categories."""
    reference, window = _shares(cells["reference"]), _shares(cells["window"])
    gaps = [w - r for r, w in zip(reference, window, strict=True)]
    most = max(range(len(gaps)), key=lambda i: abs(gaps[i]))
    description = (
        f"{_cell(cells, most)}: {percent(reference[most])} in the reference, {percent(window[most])} now "
        f"({plural(rows, 'row')})."
    )
    keys = legend(("ref", "reference"), ("now", "now"))
    if "edges" in cells:
        return figure(f"Distribution: {name}", description, _columns(cells, reference, window), legend=keys)
    # Hash buckets that nothing falls into are most of a category's cells.
    used = [i for i in range(len(gaps)) if reference[i] or window[i]] or [most]
    order = sorted(used, key=lambda i: -abs(gaps[i]))[:MAX_BARS]
    height = TOP + _ROW * len(order) + 6
    drawing = _bars([cells["labels"][i] for i in order], [reference[i] for i in order], [window[i] for i in order])
    return figure(f"Distribution, most changed first: {name}", description, drawing, height=height, legend=keys)


def _cell(cells: Cells, index: int) -> str:
    """Return a cell's name; a numeric cell of one value only (an atom of the reference) is named by that value."""
    edges = cells.get("edges", [])
    # An atom of the reference (a value that many rows share) is a cell from the number below it to itself.
    if index + 1 < len(edges) and edges[index] == math.nextafter(edges[index + 1], -math.inf):
        return f"exactly {number(edges[index + 1])}"
    return cells["labels"][index]


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [count / total for count in counts]


def _columns(cells: Cells, reference: Sequence[float], window: Sequence[float]) -> list[Html]:
    top = ticks(0.0, max(*reference, *window) * 100)
    axes = Axes(0.0, len(reference), 0.0, top[-1])
    parts = list(axes.grid(top, unit="\u2009%"))
    floor = axes.height - BOTTOM
    for i, (r, w) in enumerate(zip(reference, window, strict=True)):
        left, right = axes.x(i), axes.x(i + 1)
        y_ref, y_now = axes.y(r * 100), axes.y(w * 100)
        wide = right - left
        parts.append(tag("rect", x=left + 0.5, y=y_ref, width=wide - 1, height=floor - y_ref, class_="bar ref"))
        parts.append(
            tag(
                "rect",
                x=left + wide * _INSET,
                y=y_now,
                width=wide * (1 - 2 * _INSET),
                height=floor - y_now,
                class_="bar now",
            )
        )
    edges, last = cells["edges"], len(cells["edges"]) - 1
    # A missing cell follows the numeric ones: its name takes the place of the last edge.
    extra = len(reference) > last
    for i in sorted({0, last // 3, last * 2 // 3} if extra else {0, last // 2, last}):
        place = "start" if i == 0 else "end" if i == last else "middle"
        parts.append(tag("text", number(edges[i]), x=axes.x(i), y=axes.height - 8, class_=f"tick {place}"))
    if extra:
        parts.append(tag("text", cells["labels"][-1], x=WIDTH - RIGHT, y=axes.height - 8, class_="tick end"))
    return parts


def _bars(labels: Sequence[str], reference: Sequence[float], window: Sequence[float]) -> list[Html]:
    # Never zero: with no row at all every bar has no length instead of no number.
    widest = max(*reference, *window, 1e-9)
    room = WIDTH - _LABEL - _SHARE
    parts = []
    for i, (label, r, w) in enumerate(zip(labels, reference, window, strict=True)):
        y = TOP + i * _ROW
        # What fits in `_LABEL`; the table beside it has the whole name.
        short = label if len(label) <= 18 else f"{label[:17]}…"
        parts.append(tag("text", short, x=_LABEL - 8, y=y + 12, class_="tick end"))
        # Five pixels apart from the next row; the bar of now lies four inside the reference's, above and below.
        parts.append(tag("rect", x=_LABEL, y=y, width=room * r / widest, height=_ROW - 5, class_="bar ref"))
        parts.append(tag("rect", x=_LABEL, y=y + 4, width=room * w / widest, height=_ROW - 13, class_="bar now"))
        parts.append(tag("text", percent(w), x=_LABEL + room * max(r, w) / widest + 6, y=y + 12, class_="tick start"))
    return parts


def performance_plot(measure: PerformanceStatus, incident: IncidentStatus | None) -> Html:
    """Return a measure over time: known from labels with its interval, and estimated before they come."""
    series = measure["series"]
    times, gaps = series["time"], [None] * len(series["time"])
    real, estimated = series["real"], series.get("estimated", gaps)
    known = _present([*real, *estimated, *series.get("low", ()), *series.get("high", ()), measure.get("reference")])
    if not known:
        return tag("p", "No label has matured yet, so there is nothing to plot.", class_="quiet")
    scale = ticks(min(known), max(known))
    # A share ends at 1: a round axis up to 1.2 would promise what cannot be.
    axes = Axes(times[0], times[-1], scale[0], min(scale[-1], max(1.0, *known)))
    reference = measure.get("reference")
    drawing = [
        axes.grid([tick for tick in scale if tick <= axes.y1]),
        axes.band(times, series.get("estimated_low", gaps), series.get("estimated_high", gaps), "estimate-band"),
        axes.band(times, series.get("low", gaps), series.get("high", gaps), "real-band"),
        _onset(axes, incident),
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=axes.y(reference), y2=axes.y(reference), class_="reference")
        if reference is not None
        else None,
        axes.path(times, estimated, "line estimate"),
        axes.path(times, real, "line now"),
        axes.times(),
    ]
    entries = [("now", "from labels")]
    if _present(estimated):
        entries.append(("estimate", "estimated without labels"))
    if reference is not None:
        entries.append(("reference", "on the reference"))
    value, share = measure.get("value"), measure.get("share", True)
    between = (
        f" ({measured(measure['low'], share=share)} to {measured(measure['high'], share=share)})"
        if "low" in measure and "high" in measure
        else ""
    )
    description = f"Now {measured(value, share=share)}{between}." if value is not None else measure["reason"]
    segment = f" in {measure['segment']}" if measure["segment"] else ""
    name = measure_words(measure["measure"])
    titled = f"{name[:1].upper()}{name[1:]} of version {measure['version']}{segment}"
    return figure(titled, description, drawing, legend=legend(*entries))
