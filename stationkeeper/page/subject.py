"""A subject: a feature, the prediction, a quality check; its words, its two plots and its row in a table."""

from urllib.parse import quote

from stationkeeper.contracts.model_status import IncidentStatus, ModelStatus, SubjectStatus
from stationkeeper.page.frame import model_path, state_chip
from stationkeeper.page.markup import Html, table, tag
from stationkeeper.page.plots import course_plot, distance_plot, distribution_plot
from stationkeeper.page.words import DISTANCE_WORDS, integer, number, percent, subject_title

HEADS = ("Subject", "State", "Why", "Evidence / threshold", "Traffic moved", "Distance (noise)", "Rows")


def subject_path(subject: SubjectStatus, model: ModelStatus) -> str:
    """Return the address of a subject's page."""
    return f"{model_path(model['model'])}/subjects/{quote(subject['name'])}"


def title(subject: SubjectStatus, model: ModelStatus) -> str:
    """Return the subject's name with what sets it apart from others: its version too, if that is not the champion."""
    other = "" if subject["version"] == model["champion"] else f" of version {subject['version']}"
    return f"{subject_title(subject)}{other}"


def nearness(subject: SubjectStatus) -> float:
    """Return evidence over threshold: 1 is found, below 0 is further from it than no data."""
    statistic, threshold = subject.get("statistic"), subject.get("threshold")
    # Minus one: what gathers evidence below zero is still measured, what has none is not.
    return statistic / threshold if statistic is not None and threshold else -1.0


def subject_block(subject: SubjectStatus, model: ModelStatus, incident: IncidentStatus | None) -> Html:
    """Return a subject with everything that is known to plot."""
    plots, name = [], title(subject, model)
    if "series" in subject:
        plots += [course_plot(subject, incident, name), distance_plot(subject, incident, name)]
    if "cells" in subject and not subject.get("sensitive"):
        plots.append(distribution_plot(subject["cells"], subject["rows"], name))
    elif subject.get("sensitive"):
        plots.append(tag("p", "This feature is marked sensitive: its values are not shown.", class_="quiet"))
    return tag(
        "article",
        tag("h3", tag("a", name, href=subject_path(subject, model)), " ", state_chip(subject["state"])),
        tag("p", subject["reason"]),
        tag("div", plots, class_="plots")
        if plots
        else tag("p", "Its plots are not kept while it is steady.", class_="quiet"),
        class_="subject",
    )


def subject_table(subjects: list[SubjectStatus], model: ModelStatus) -> Html:
    """Return one row a subject."""
    return table(
        "Subjects, the most urgent first",
        HEADS,
        [_row(subject, model) for subject in subjects],
        class_="numbers subjects",
    )


def _row(subject: SubjectStatus, model: ModelStatus) -> tuple[Html | str, ...]:
    distances, noise = subject.get("distances", {}), subject.get("noise", {})
    # The first that the judge lists is the one that the kind of subject is measured by; the subject's page has all.
    name = next(iter(distances), None)
    distance = f"{DISTANCE_WORDS.get(name, name)} {number(distances[name], 2)}" if name else "–"
    if name in noise:
        distance += f" ({number(noise[name], 2)})"
    evidence: Html | str = "–"
    if "statistic" in subject and "threshold" in subject:
        # Evidence may be negative (against a change) or far over; a bar has neither.
        share = max(0.0, min(1.0, nearness(subject)))
        over = "over" if nearness(subject) >= 1 else None
        bar = tag("span", tag("i", style=f"width:{share * 100:.0f}%", class_=over), class_="meter", aria_hidden="true")
        evidence = tag(
            "span", bar, f"{number(subject['statistic'])} / {number(subject['threshold'])}", class_="metered"
        )
    return (
        tag("a", title(subject, model), href=subject_path(subject, model)),
        state_chip(subject["state"]),
        tag("span", subject["reason"], class_="reason"),
        evidence,
        percent(subject.get("effect")),
        distance,
        integer(subject["rows"]),
    )
