"""An incident: what is wrong, since when, why, what was done about it, in words; then the plots of what moved."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from stationkeeper.contracts.model_status import IncidentStatus, ModelStatus, PerformanceSeries, Series, SubjectStatus
from stationkeeper.contracts.status import FleetStatus, RequestStatus, RolloutStatus
from stationkeeper.page.frame import model_path, page, section, state_chip, time_tag
from stationkeeper.page.loop import incident_position, loop_picture
from stationkeeper.page.markup import Child, Html, table, tag
from stationkeeper.page.plots import course_plot, distance_plot, performance_plot
from stationkeeper.page.subject import subject_block, title
from stationkeeper.page.words import (
    KIND_WORDS,
    OUTCOME_WORDS,
    incident_cause,
    incident_harm,
    incident_headline,
    incident_numbers,
    incident_since,
    iso,
    listing,
    percent,
    plural,
    sentence,
    span,
    why,
)

# Subjects with plots; the rest is counted and linked. Chosen: half hides what moved too, double is a page of plots.
SHOWN_SUBJECTS = 8
# After a promotion the incident that led to it waits for the new version's proof; nobody has to act meanwhile. Whether
# that version still answers the rollout tells: during probation it keeps a share of the traffic (rollout.holdback).
OF_EARLIER = "Still open, of an earlier version"
Entry = tuple[int | None, str, Child]
_Series = TypeVar("_Series", Series, PerformanceSeries)


def find_incident(fleet: FleetStatus, name: str) -> tuple[IncidentStatus, ModelStatus] | None:
    """Return an incident and its model by the incident's id."""
    for model in fleet["models"]:
        for incident in model["incidents"]:
            if incident["id"] == name:
                return incident, model
    return None


def incident_path(incident: IncidentStatus) -> str:
    """Return the address of an incident's page."""
    return f"/incidents/{incident['id']}"


def _state_of(incident: IncidentStatus, model: ModelStatus) -> Html:
    if "closed" in incident:
        return state_chip("steady", "closed")
    # Data that are broken are mended at their source; a chip that says drift would send people to retrain.
    if incident["kind"] == "data_quality":
        return state_chip("broken")
    # Of the model's state only this says more than the incident's own level.
    if model["state"] == "recovering":
        return state_chip("recovering")
    return state_chip(
        "drifting", {"page": "drifting", "warn": "warning", "inform": "for information"}[incident["level"]]
    )


def incident_card(incident: IncidentStatus, model: ModelStatus, fleet: FleetStatus) -> Html:
    """Return the short form: headline, since when, why, what was done last."""
    done = history(incident, fleet)
    last = done[-1]
    return tag(
        "article",
        tag(
            "p",
            tag("a", model["model"], href=model_path(model["model"])),
            " ",
            _state_of(incident, model),
            class_="over-title",
        ),
        tag("h3", tag("a", incident_headline(incident), href=incident_path(incident))),
        tag("p", sentence(incident["reason"])),
        tag("p", incident_since(incident), " ", incident_numbers(incident), class_="quiet"),
        _harm(incident),
        tag("p", tag("strong", "Done: "), last[1], ". ", last[2]),
        class_=f"card {'broken' if incident['kind'] == 'data_quality' else 'drifting'}",
    )


def incident_cards(heading: str, found: Sequence[tuple[IncidentStatus, ModelStatus]], fleet: FleetStatus) -> Html:
    """Return a section of incidents, each with its model; nothing where there are none."""
    cards = [incident_card(incident, model, fleet) for incident, model in found]
    return section(heading, tag("div", cards, class_="cards") if cards else None)


def _harm(incident: IncidentStatus) -> Html | None:
    told = incident_harm(incident)
    return tag("p", tag("strong", "Harm: "), told, class_="harm") if told else None


def history(incident: IncidentStatus, fleet: FleetStatus) -> list[Entry]:
    """Return what happened, in order: (time or None, what, why)."""
    entries: list[Entry] = [
        (incident["onset"], "It began", _interval(incident)),
        (incident["opened"], "It was seen", incident_numbers(incident)),
    ]
    request = next((r for r in fleet["requests"] if r["id"] == incident.get("request")), None)
    if request is not None:
        entries += _request_entries(request)
    elif "request_outcome" in incident:
        words = f"The retrain request was {OUTCOME_WORDS[incident['request_outcome']]}"
        reason = why(incident.get("request_reason", ""), incident["request_outcome"])
        # The judge decides about the request in the commit that opens the incident.
        entries.append((incident["opened"], words, reason))
    else:
        entries.append((None, "No retrain was asked for", sentence(incident.get("request_reason", ""))))
    rollout = next(
        (r for r in fleet["rollouts"] if incident.get("request") and r.get("request") == incident.get("request")), None
    )
    if rollout is not None:
        entries += _rollout_entries(rollout)
    if "closed" in incident:
        entries.append((incident["closed"], "It ended", incident.get("recovered_reason", "")))
    if "cure" in incident:
        entries.append((incident["cure"]["time"], "It was tested again", sentence(incident["cure"]["words"])))
    return _in_order(entries)


def _in_order(entries: list[Entry]) -> list[Entry]:
    """Entries by their time; one without a time stays behind the one before it."""
    known, last = list[int](), 0
    for at, _, _ in entries:
        last = last if at is None else at
        known.append(last)
    return [entries[i] for i in sorted(range(len(entries)), key=known.__getitem__)]


def _interval(incident: IncidentStatus) -> str:
    low, high = incident.get("onset_low"), incident.get("onset_high")
    return f"Surely within {span(low, high)}." if low is not None and high is not None else ""


def _request_entries(request: RequestStatus) -> list[Entry]:
    entries: list[Entry] = [(request["created"], "A retrain was asked for", request.get("plan", ""))]
    for stage in request.get("stages", []):
        words = {
            "waiting": "It waited",
            "snapshot": "The training rows were fixed",
            "training": "Training ran",
            "gate": "The gate compared challenger and champion",
            "registering": "The version was registered",
        }.get(stage["stage"])
        # Stages without words (planned, the end) are told by the entries around them.
        if words is not None:
            entries.append((stage["entered"], words, stage.get("note", "")))
    if "outcome" in request:
        words = f"The request {OUTCOME_WORDS.get(request['outcome'], request['outcome'])}"
        version = f" Version {request['version']}." if "version" in request else ""
        # When the last stage was left is when it ended; nothing records the end itself.
        ended = max([stage.get("left", 0) for stage in request.get("stages", [])], default=0)
        entries.append((ended or None, words, f"{request.get('gate_reason', request['reason'])}{version}"))
    return entries


def _rollout_entries(rollout: RolloutStatus) -> list[Entry]:
    words = {
        "started": "The canary started",
        "step": "The canary got more traffic",
        "held": "The canary was held",
        "promoted": "The new version was promoted",
        "rolled_back": "The canary was rolled back",
        "confirmed": "The cure was confirmed",
        "refused": "The candidate was refused",
    }
    entries: list[Entry] = []
    for deployment in reversed(rollout.get("deployments", [])):
        if deployment["action"] in words:
            weight = (
                f"{percent(deployment['weight_bp'] / 10_000)} of the traffic. " if deployment.get("weight_bp") else ""
            )
            entries.append((deployment["time"], words[deployment["action"]], weight + deployment["reason"]))
    return entries


def incident_page(incident: IncidentStatus, model: ModelStatus, fleet: FleetStatus) -> str:
    """Return the page of one incident; ``model`` carries the data of the plots."""
    body = [
        tag("p", _state_of(incident, model), class_="over-title"),
        tag("h1", incident_headline(incident), ".", id="headline"),
        tag("p", sentence(incident["reason"]), class_="lead"),
        tag("p", incident_since(incident), " ", incident_numbers(incident)),
        _harm(incident),
        tag(
            "p",
            "Cause: ",
            tag("strong", incident_cause(incident["cause"])),
            f" Moved together: {listing(incident['subjects'], 12)}.",
        ),
        section(
            "What was done",
            timeline(incident, fleet),
            None if "closed" in incident else loop_picture(incident_position(incident, fleet)),
        ),
        section("What moved", then_moved(incident, model) if "closed" in incident else subject_plots(incident, model)),
        section("Performance", performance_then(incident, model)),
        tag("p", "Incident ", tag("code", incident["id"]), request_line(incident), class_="quiet ids"),
    ]
    crumbs = [("/", "All models"), (model_path(model["model"]), model["model"])]
    return page(f"{incident_headline(incident)} · {model['model']}", crumbs, body, fleet)


def request_line(incident: IncidentStatus) -> Child:
    """Return the ids that ``stationkeeper explain`` takes."""
    verdicts = [[" · verdict ", tag("code", verdict)] for verdict in incident.get("verdicts", [])[:3]]
    request = [" · request ", tag("code", incident["request"])] if "request" in incident else None
    return [request, verdicts]


def timeline(incident: IncidentStatus, fleet: FleetStatus) -> Html:
    """Return the history as a list of times and sentences."""
    items = [
        tag("li", time_tag(at) if at is not None else None, " ", tag("strong", what), ". ", tag("span", reason))
        for at, what, reason in history(incident, fleet)
    ]
    return tag("ol", items, class_="timeline")


def subjects_of(incident: IncidentStatus, model: ModelStatus) -> list[SubjectStatus]:
    """Return the subjects that moved, the leader first, in the order of the incident."""
    place = {name: i for i, name in enumerate([incident["leader"], *incident["subjects"]])}
    where = incident["version"], incident["segment"]
    # By its own mark while the incident is open; a closed one has left its subjects, which are found by name where it
    # was seen.
    found = [
        s
        for s in model["subjects"]
        if s.get("incident") == incident["id"] or (s["name"] in place and (s["version"], s["segment"]) == where)
    ]
    return sorted(
        found, key=lambda s: (s["name"] != incident["leader"], place.get(s["name"], len(place)), s["segment"])
    )


def subject_plots(incident: IncidentStatus, model: ModelStatus) -> list[Html]:
    """Return the plots of the subjects that moved most; the rest is named with links."""
    found = subjects_of(incident, model)
    blocks = [subject_block(subject, model, incident) for subject in found[:SHOWN_SUBJECTS]]
    if len(found) > SHOWN_SUBJECTS:
        blocks.append(
            tag("p", f"And {plural(len(found) - SHOWN_SUBJECTS, 'other')} on the model's page.", class_="quiet")
        )
    return blocks


def then_moved(incident: IncidentStatus, model: ModelStatus) -> list[Child]:
    """Return what a closed incident had moved when it was seen, and the course of its time as far as it is kept.

    The present is on the model's page: a subject that has come back shows nothing of what it did.
    """
    rows = [
        (
            one["name"] + (f", {one['check'].replace('_', ' ')}" if "check" in one else ""),
            KIND_WORDS.get(one["kind"], one["kind"]),
            percent(one["effect"]),
            time_tag(one["joined"]),
        )
        for one in incident.get("moved", [])
    ]
    heads = ("Subject", "What", "How much then", "Seen")
    parts: list[Child] = [table("When it was seen", heads, rows, class_="numbers") if rows else None]
    for subject in subjects_of(incident, model)[:SHOWN_SUBJECTS]:
        series = _of_its_time(subject.get("series"), incident)
        if series is not None:
            old = subject.copy()
            old["series"] = series
            name = title(subject, model)
            plots = [course_plot(old, incident, name), distance_plot(old, incident, name)]
            parts.append(tag("article", tag("h3", name), tag("div", plots, class_="plots"), class_="subject"))
    low, high = _its_time(incident)
    command = f"stationkeeper report --model {shlex.quote(model['model'])} --from {iso(low)} --to {iso(high)}"
    return [*parts, tag("p", "Distributions of that time: ", tag("code", command), class_="quiet")]


def performance_then(incident: IncidentStatus, model: ModelStatus) -> list[Html]:
    """Return the plots of performance: until now, of a closed incident only what is kept of its time."""
    plots = []
    for measure in model.get("performance", []):
        series = measure.get("series")
        if series is None:
            continue
        shown = measure.copy()
        if "closed" in incident:
            series = _of_its_time(series, incident)
            if series is None:
                continue
            shown.pop("value", None)
            shown["reason"] = "Around the incident."
            shown["series"] = series
        plots.append(performance_plot(shown, incident))
    return plots


def _its_time(incident: IncidentStatus) -> tuple[int, int]:
    """From half of its length before a closed incident to half of it after, so that both sides show."""
    onset, closed = incident["onset"], incident.get("closed", incident["opened"])
    return onset - (closed - onset) // 2, closed + (closed - onset) // 2


def _of_its_time(series: _Series | None, incident: IncidentStatus) -> _Series | None:
    """The columns of a series cut to a closed incident's time; None where fewer than two points are kept of it."""
    low, high = _its_time(incident)
    kept = [i for i, at in enumerate(series["time"]) if low <= at <= high] if series is not None else []
    if series is None or len(kept) < 2:
        return None
    columns: Mapping[str, object] = series
    cut = {
        name: [column[i] for i in kept] if isinstance(column, list) and column else column
        for name, column in columns.items()
    }
    return cast("_Series", cut)
