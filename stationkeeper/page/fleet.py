"""The first page: what needs a person, every model in one line, the health of the loop, the conservation of records."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping

from stationkeeper.contracts.model_status import ModelStatus
from stationkeeper.contracts.status import Conservation, FleetStatus, RoleHealth
from stationkeeper.page.frame import model_path, page, section, state_chip, time_tag
from stationkeeper.page.incident import OF_EARLIER, incident_cards
from stationkeeper.page.loop import by_serving, loop_picture, position, rollout_of
from stationkeeper.page.markup import Html, table, tag
from stationkeeper.page.words import STATE_WORDS, URGENCY, integer, listing, percent, plural

OUTCOMES = ("tallied", "late", "duplicate", "rejected", "dropped")


def fleet_page(fleet: FleetStatus) -> str:
    """Return the page at ``/``."""
    # By name within a state: a list that changes its order at each look cannot be read.
    models = sorted(fleet["models"], key=lambda m: (URGENCY[m["state"]], m["model"]))
    sorted_out = [(model, *by_serving(model)) for model in models]
    serving = [(incident, model) for model, mine, _ in sorted_out for incident in mine]
    left = [(incident, model) for model, _, others in sorted_out for incident in others]
    body = [
        tag("h1", headline(models), id="headline"),
        _refused(fleet),
        _unwell(fleet),
        incident_cards("Needs attention", serving, fleet),
        _loops(models, fleet),
        section("Models", _models(models, fleet) if models else tag("p", "No model has been seen yet.")),
        incident_cards(OF_EARLIER, left, fleet),
        section("The programs of the loop", _roles(fleet)),
        section("Every record accounted for", conservation_block(fleet)),
    ]
    return page("All models", [], body, fleet)


def headline(models: list[ModelStatus]) -> str:
    """Return the state of all models in one sentence; an unknown one is named unknown, never counted as steady."""
    if not models:
        return "No model has been seen yet."
    if len(models) == 1:
        return f"{models[0]['model']} is {_STATE_PHRASES[models[0]['state']]}."
    # Unknown is counted by itself: it is no alarm, and calling it steady would be a lie. So is a new version that is
    # steady while the incident of the one before waits for its proof.
    urgent = [model for model in models if model["state"] in {"broken", "drifting"}]
    unknown = sum(model["state"] == "unknown" for model in models)
    recovering = sum(model["state"] == "recovering" for model in models)
    calm = len(models) - unknown - recovering
    total = plural(len(models), "model")
    if urgent:
        named = listing([f"{model['model']} ({STATE_WORDS[model['state']]})" for model in urgent])
        sentence = f"{integer(len(urgent))} of {total} {'needs' if len(urgent) == 1 else 'need'} attention: {named}."
    else:
        sentence = f"All {total} are steady." if calm == len(models) else f"{integer(calm)} of {total} steady."
    if recovering:
        sentence += f" {integer(recovering)} {'is' if recovering == 1 else 'are'} recovering."
    if unknown:
        sentence += f" {integer(unknown)} {'is' if unknown == 1 else 'are'} unknown."
    return sentence


# The number of a system's error helps nobody; its words stay.
_ERRNO = re.compile(r"\[Errno -?\d+\] ")
_STATE_PHRASES: Mapping[str, str] = {
    "unknown": "unknown",
    "steady": "steady",
    "drifting": "drifting",
    "broken": "receiving broken data",
    "recovering": "recovering",
}


def _reasons(role: RoleHealth) -> str:
    return _ERRNO.sub("", "; ".join(role["reasons"]))


def _unwell(fleet: FleetStatus) -> Html | None:
    """Say which programs do not answer, because then what is shown may be old."""
    # Ready too, not live alone: a role that waits for its broker lives, and what it shows is of before.
    bad = [role for role in fleet["roles"] if not (role["live"] and role["ready"])]
    if not bad:
        return None
    items = [tag("li", tag("strong", role["role"]), ": ", _reasons(role) or "not ready yet") for role in bad]
    return tag(
        "div",
        tag(
            "p",
            tag("strong", "Part of the loop does not run or answer; what it would say is missing here."),
        ),
        tag("ul", items),
        class_="notice",
        role="note",
    )


def _refused(fleet: FleetStatus) -> Html | None:
    """Say which models nobody watches because their entry is wrong: a list of the others would look complete."""
    if not fleet.get("refused"):
        return None
    items = [tag("li", tag("strong", one["model"]), ": ", one["reason"]) for one in fleet["refused"]]
    text = "Left out by a role that cannot use its entry in the configuration. Mend it and reload or restart."
    return tag("div", tag("p", tag("strong", text)), tag("ul", items), class_="notice", role="note")


def _loops(models: list[ModelStatus], fleet: FleetStatus) -> Html:
    """Draw the loop of each model in which something goes on, and one of the watching ones if there is none."""
    places = [(model, position(model, fleet)) for model in models]
    busy = [(model, where) for model, where in places if not where.resting]
    # With nothing going on one picture still tells a newcomer what the loop is.
    shown = busy or places[:1]
    blocks = [
        tag("div", tag("h3", tag("a", model["model"], href=model_path(model["model"]))), loop_picture(where))
        for model, where in shown
    ]
    others = [where for model, where in places if (model, where) not in shown]
    waiting = sum(where.waiting for where in others)
    parts = []
    if len(others) > waiting:
        parts.append(f"{plural(len(others) - waiting, 'other model')} watched, with nothing to repair")
    if waiting:
        parts.append(f"{plural(waiting, 'other model')} not watched yet, for want of data")
    rest = tag("p", f"{'; '.join(parts)}.", class_="quiet") if parts else None
    return section("The loop", blocks, rest)


def _models(models: list[ModelStatus], fleet: FleetStatus) -> Html:
    rows = []
    for model in models:
        rollout = rollout_of(model["model"], fleet)
        canary = (
            f"{rollout['canary']} at {percent(rollout['weight_bp'] / 10_000)}"
            if rollout and "canary" in rollout
            else "–"
        )
        rows.append(
            (
                tag("a", model["model"], href=model_path(model["model"])),
                state_chip(model["state"]),
                tag("span", model["reason"], class_="reason"),
                model["champion"] or "not known",
                canary,
                _census(model),
                time_tag(model["watermark"]),
            )
        )
    heads = ("Model", "State", "Why", "Champion", "Canary", "Subjects", "Closed up to")
    return table("Models, the most urgent first", heads, rows, class_="models")


def _census(model: ModelStatus) -> Html:
    """Return how many subjects are in each state, as words and as a bar."""
    counts = Counter(subject["state"] for subject in model["subjects"])
    # A model before its first pane has no subject; the bar is empty then.
    total = len(model["subjects"]) or 1
    order = sorted(counts, key=lambda state: URGENCY[state])
    bar = [tag("i", class_=state, style=f"width:{100 * counts[state] / total:.1f}%") for state in order]
    words = ", ".join(f"{integer(counts[state])} {STATE_WORDS[state]}" for state in order) or "none"
    return tag("span", tag("span", bar, class_="census", aria_hidden="true"), words, class_="metered")


def _roles(fleet: FleetStatus) -> Html:
    if not fleet["roles"]:
        return tag("p", "No program has reported yet.")
    rows = [
        (
            role["role"],
            state_chip(
                # Never "broken": that word is kept for data, and a role that starts is not at fault.
                "steady" if role["live"] and role["ready"] else "unknown",
                _role_words(role["live"], role["ready"]),
            ),
            integer(role["lag"]) if "lag" in role else "–",
            time_tag(role["heartbeat"]) if "heartbeat" in role else "–",
            _reasons(role) or "–",
        )
        for role in fleet["roles"]
    ]
    more = [
        tag("details", tag("summary", f"More about {role['role']}"), _detail(role["role"], role["detail"]))
        for role in fleet["roles"]
        if role.get("detail")
    ]
    return tag("div", table("Roles", ("Role", "State", "Records to read", "Last turn", "Why not"), rows), more)


def _detail(role: str, detail: Mapping[str, object]) -> Html:
    """Return a role's own counts as a table; names of programs become words."""
    rows = [
        (name.replace("_", " "), integer(value) if type(value) is int else str(value)) for name, value in detail.items()
    ]
    return table(f"What {role} counts", ("What", "Value"), rows, class_="numbers")


def _role_words(live: bool, ready: bool) -> str:
    return "works" if live and ready else "starting or waiting" if live else "does not answer"


def conservation_block(fleet: FleetStatus) -> Html:
    """Return ``received = tallied + late + duplicate + rejected + dropped`` by topic, and by partition on demand."""
    if not fleet["conservation"]:
        return tag("p", "No input partition has been read yet.", class_="quiet")
    topics: dict[str, list[Conservation]] = defaultdict(list)
    for partition in fleet["conservation"]:
        topics[partition["topic"]].append(partition)
    blocks = []
    for topic, partitions in topics.items():
        total = {name: sum(_count(p, name) for p in partitions) for name in ("received", *OUTCOMES)}
        terms = [[" + " if i else " = ", tag("b", integer(total[name])), f" {name}"] for i, name in enumerate(OUTCOMES)]
        equation = tag(
            "p", tag("b", integer(total["received"])), " received", terms, " ", _balance(partitions), class_="equation"
        )
        blocks.append(tag("div", tag("h3", topic), equation, _partitions(topic, partitions)))
    codes = fleet.get("dead_letters", {})
    if codes:
        # The most frequent first: it is most often the one cause of all.
        found = ", ".join(f"{integer(count)} × {code}" for code, count in sorted(codes.items(), key=lambda c: -c[1]))
        blocks.append(tag("p", "Rejected to the dead-letter topics: ", found, "."))
    return tag("div", blocks)


def _count(partition: Conservation, name: str) -> int:
    value = partition[name]  # type: ignore[literal-required] # a name from OUTCOMES or received
    return int(value)


def _gap(partition: Conservation) -> int:
    return partition["received"] - sum(_count(partition, name) for name in OUTCOMES)


def _balance(partitions: list[Conservation]) -> Html:
    # By partition: a record too many in one would hide a record lost in another.
    wrong = [p for p in partitions if _gap(p) != 0]
    if not wrong:
        return state_chip("steady", "adds up")
    gaps = ", ".join(f"partition {p['partition']}: {_gap(p):+d}" for p in wrong)
    return state_chip("broken", f"does not add up ({gaps})")


def _partitions(topic: str, partitions: list[Conservation]) -> Html:
    rows = [
        (
            str(p["partition"]),
            *(integer(_count(p, name)) for name in ("received", *OUTCOMES)),
            integer(p["expired"]) if "expired" in p else "–",
            "yes" if p.get("idle") else "no" if "idle" in p else "–",
            time_tag(p["clock"]) if p.get("clock") is not None else "–",
        )
        for p in partitions
    ]
    heads = ("Partition", "Received", *(name.capitalize() for name in OUTCOMES), "Expired", "Idle", "Clock")
    caption = f"Partitions of {topic}"
    return tag(
        "details", tag("summary", plural(len(partitions), "partition")), table(caption, heads, rows, class_="numbers")
    )
