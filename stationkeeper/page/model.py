"""The page of one model, and the page of one of its subjects."""

from collections.abc import Sequence

from stationkeeper.contracts.model_status import (
    FairnessStatus,
    IncidentStatus,
    LabelStatus,
    ModelStatus,
    PerformanceStatus,
    SubjectStatus,
)
from stationkeeper.contracts.status import FleetStatus
from stationkeeper.page.canary import rollout_block
from stationkeeper.page.frame import model_path, page, section, state_chip, time_tag
from stationkeeper.page.incident import OF_EARLIER, incident_cards, incident_path
from stationkeeper.page.loop import by_serving, loop_picture, open_incidents, position, rollout_of
from stationkeeper.page.markup import Child, Html, table, tag
from stationkeeper.page.plots import performance_plot
from stationkeeper.page.subject import nearness, subject_block, subject_table, title
from stationkeeper.page.words import (
    DISTANCE_WORDS,
    OUTCOME_WORDS,
    URGENCY,
    incident_headline,
    integer,
    measure_words,
    measured,
    number,
    percent,
    plural,
    sentence,
    when,
)

# Subjects with plots, the most urgent first; the table below has all. Chosen: fewer than an incident's eight, because
# here nothing need be wrong. Half may hide the second of two causes, double makes the page slow to read.
SHOWN_SUBJECTS = 6


def model_page(model: ModelStatus, fleet: FleetStatus) -> str:
    """Return the page of one model."""
    incidents, left = by_serving(model)
    rollout = rollout_of(model["model"], fleet)
    order = sorted(model["subjects"], key=lambda s: (URGENCY[s["state"]], -nearness(s), s["name"], s["segment"]))
    # A subject that is steady keeps no series; the table has it.
    plotted = [s for s in order if "series" in s or "cells" in s][:SHOWN_SUBJECTS]
    body = [
        tag("p", state_chip(model["state"]), class_="over-title"),
        tag("h1", model["model"], id="headline"),
        tag("p", sentence(model["reason"]), class_="lead"),
        _facts(model),
        incident_cards("Needs attention", [(i, model) for i in incidents], fleet),
        section("The loop", loop_picture(position(model, fleet))),
        section("Rollout", rollout_block(rollout) if rollout else None),
        section("Performance", *_performance(model)),
        section("Fairness", fairness_table(model["fairness"]) if model.get("fairness") else None),
        section("Nearest to their threshold", [subject_block(s, model, _incident_of(s, model)) for s in plotted]),
        section(
            "Everything that is watched",
            subject_table(order, model) if order else None,
        ),
        section("Retrain requests", _requests(model, fleet)),
        incident_cards(OF_EARLIER, [(i, model) for i in left], fleet),
        section("Closed incidents", _closed(model)),
        section("Versions in the traffic", _versions(model)),
        section("What can be seen", _power(model)),
    ]
    return page(model["model"], [("/", "All models")], body, fleet)


def _incident_of(subject: SubjectStatus, model: ModelStatus) -> IncidentStatus | None:
    return next((i for i in model["incidents"] if i["id"] == subject.get("incident")), None)


def _facts(model: ModelStatus) -> Html:
    facts: list[tuple[str, Child]] = [
        ("Champion", model["champion"] or "not known yet"),
        ("Closed up to", time_tag(model["watermark"])),
    ]
    if "canary" in model:
        facts.insert(1, ("Canary", model["canary"]))
    if "adoption" in model:
        facts.append(("Reference", model["adoption"]["reason"].partition(";")[0]))
    if "traffic" in model:
        told = model["traffic"]
        span = (
            [", since ", time_tag(told["since"]), " until ", time_tag(told["until"])]
            if "since" in told and "until" in told
            else []
        )
        facts.append(("Volume and silence", [told["reason"], *span]))
    if "timezone" in model:
        facts.append(("Hours and days", model["timezone"]))
    if "false_pages" in model:
        facts.append(("False pages allowed", model["false_pages"]))
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts], class_="facts")


def _performance(model: ModelStatus) -> list[Child]:
    # With none open the last one still explains a step in the curve.
    incidents = open_incidents(model) or model["incidents"]
    incident = incidents[0] if incidents else None
    measures = model.get("performance", [])
    plots = [performance_plot(measure, incident) for measure in measures if "series" in measure]
    content = [
        label_line(model["labels"]) if "labels" in model else None,
        tag("div", plots, class_="plots") if plots else None,
        measures_table(measures) if measures else None,
    ]
    return [part for part in content if part]


def measures_table(measures: Sequence[PerformanceStatus]) -> Html:
    """Return every measure with its interval, what the reference had, and why it is known or not."""
    # While two versions have labels a name alone does not say whose number it is.
    several = len({measure["version"] for measure in measures}) > 1
    rows = []
    for measure in measures:
        share = measure.get("share", True)
        bounds = [measured(end, share=share) for end in (measure.get("low"), measure.get("high"))]
        version = f" of version {measure['version']}" if several else ""
        segment = f" in {measure['segment']}" if measure["segment"] else ""
        rows.append(
            (
                f"{measure_words(measure['measure'])}{version}{segment}",
                state_chip(measure["state"]),
                _now(measure, share=share),
                " to ".join(bounds) if "low" in measure and "high" in measure else "–",
                measured(measure.get("reference"), share=share),
                _estimated(measure),
                integer(measure["rows"]),
                tag("span", measure["reason"], class_="reason"),
            )
        )
    heads = ("Measure", "State", "Now", "Interval", "Reference", "Estimated", "Rows", "Why")
    return table("Measures", heads, rows, class_="numbers")


def fairness_table(gaps: Sequence[FairnessStatus]) -> Html:
    """Return how far each segment's rates lie from the others', with whether that was told."""
    rows = [
        (
            gap["segment"],
            gap["rate"],
            "told, not closed" if gap["open"] else "nothing told",
            percent(gap["value"]),
            percent(gap["others"]),
            f"{100 * gap['low']:+.1f} to {100 * gap['high']:+.1f} points",
            integer(gap["rows"]),
        )
        for gap in gaps
    ]
    heads = ("Segment", "Rate", "State", "Now", "The others", "Difference", "Rows")
    return table("Segments against the others of their dimension", heads, rows, class_="numbers")


def _now(measure: PerformanceStatus, *, share: bool) -> str:
    value = measured(measure.get("value"), share=share)
    # Beside what was corrected for labels that an action keeps away.
    return f"{value} (labelled alone {measured(measure['labelled'], share=share)})" if "labelled" in measure else value


def _estimated(measure: PerformanceStatus) -> str:
    if "estimated_low" in measure and "estimated_high" in measure:
        bounds = f" ({percent(measure['estimated_low'])} to {percent(measure['estimated_high'])})"
        return f"{percent(measure.get('estimated'))}{bounds}"
    return measure.get("estimate_reason", percent(measure.get("estimated")))


def label_line(labels: LabelStatus) -> Html:
    """Return how complete the labels are, or why that is not known."""
    if "completeness" in labels:
        share = percent(labels["completeness"])
        known = f"{share} of the {plural(labels['due'], 'prediction')} whose label is due have it. "
    else:
        known = "Whether labels arrive is unknown. "
    return tag("p", known, sentence(labels["reason"]))


def _requests(model: ModelStatus, fleet: FleetStatus) -> Html | None:
    requests = [request for request in fleet["requests"] if request["model"] == model["model"]]
    if not requests:
        return None
    rows = [
        (
            tag("code", request["id"]),
            time_tag(request["created"]),
            request["stage"] if request["stage"] != "done" else OUTCOME_WORDS.get(request.get("outcome", ""), "ended"),
            request.get("gate", "–").replace("_", " "),
            request.get("version", "–"),
            tag("span", request.get("gate_reason", request["reason"]), class_="reason"),
        )
        for request in requests
    ]
    return table("Requests, newest first", ("Request", "Asked", "Stage", "Gate", "Version", "Why"), rows)


def _closed(model: ModelStatus) -> Html | None:
    closed = [incident for incident in model["incidents"] if "closed" in incident]
    if not closed:
        return None
    items = [
        tag("li", tag("a", incident_headline(i), href=incident_path(i)), f", {when(i['onset'])} to {when(i['closed'])}")
        for i in sorted(closed, key=lambda i: -i["closed"])
    ]
    return tag("ul", items)


def _versions(model: ModelStatus) -> Html | None:
    if not model["versions"]:
        return None
    rows = [
        (
            v["version"],
            v["role"],
            integer(v["rows"]),
            tag("code", v["reference"]) if "reference" in v else "no reference",
        )
        for v in model["versions"]
    ]
    return table("Versions", ("Version", "Role", "Rows", "Reference"), rows)


def _power(model: ModelStatus) -> Html | None:
    lines = model.get("power", [])
    if not lines:
        return None
    rows = [(line["subject"], line["within"], f"{number(line['shift'])} {line['unit']}") for line in lines]
    return table("Smallest shift that is found at the present traffic", ("Subject", "Within", "Shift"), rows)


def subject_page(model: ModelStatus, subjects: list[SubjectStatus], fleet: FleetStatus) -> str:
    """Return the page of one subject, in every segment and version in which it is watched."""
    name = subjects[0]["name"]
    blocks = []
    for subject in subjects:
        blocks.append(subject_block(subject, model, _incident_of(subject, model)))
        blocks.append(_numbers(subject, model))
    body = [
        tag("h1", f"{name} of {model['model']}", id="headline"),
        blocks,
    ]
    return page(
        f"{name} · {model['model']}", [("/", "All models"), (model_path(model["model"]), model["model"])], body, fleet
    )


def _numbers(subject: SubjectStatus, model: ModelStatus) -> Html:
    """Return every number of a subject, so that nothing is only in a plot."""
    noise = subject.get("noise", {})
    rows: list[tuple[Child, ...]] = [("Version", subject["version"]), ("Rows in the window", integer(subject["rows"]))]
    if "window_start" in subject and "window_end" in subject:
        rows.append(("Window", f"{when(subject['window_start'])} to {when(subject['window_end'])}"))
    if "statistic" in subject:
        rows.append(("Evidence (log e-value)", number(subject["statistic"], 4)))
    if "threshold" in subject:
        rows.append(("Threshold", number(subject["threshold"], 4)))
    if "effect" in subject:
        rows.append(("Share of the traffic that moved", percent(subject["effect"])))
    if "floor" in subject:
        rows.append(("Share below which it is not called drift", percent(subject["floor"])))
    if "followed" in subject:
        rows.append(("Share by which its reference has followed a slow season", percent(subject["followed"])))
    for distance, value in subject.get("distances", {}).items():
        beside = f" (sampling alone: {number(noise[distance])})" if distance in noise else ""
        rows.append((DISTANCE_WORDS.get(distance, distance), f"{number(value, 4)}{beside}"))
    for check, share in subject.get("quality", {}).items():
        rows.append((f"Quality: {check.replace('_', ' ')}", percent(share)))
    tables = [table(f"Numbers of {title(subject, model)}", ("What", "Value"), rows, class_="numbers")]
    cells = subject.get("cells")
    if cells is not None and not subject.get("sensitive"):
        counted = zip(cells["labels"], cells["reference"], cells["window"], strict=True)
        counts = [(label, integer(reference), integer(window)) for label, reference, window in counted]
        tables.append(
            tag(
                "details",
                tag("summary", "Counts in each cell"),
                table(f"Cells of {title(subject, model)}", ("Cell", "Reference", "Window"), counts, class_="numbers"),
            )
        )
    return tag("div", tables)
