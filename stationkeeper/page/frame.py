"""The frame of every page: title, links back, time of the data, the script that keeps it current."""

from collections.abc import Sequence

from stationkeeper.contracts.model_status import StateName
from stationkeeper.contracts.status import FleetStatus
from stationkeeper.page.markup import Child, Html, tag
from stationkeeper.page.words import STATE_SIGNS, STATE_WORDS, iso, when

Crumb = tuple[str, str]


def state_chip(state: StateName, words: str = "") -> Html:
    """Return a state as a sign and a word; ``unknown`` is drawn hollow and dashed, never like ``steady``."""
    sign = tag("span", STATE_SIGNS[state], aria_hidden="true", class_="sign")
    return tag("span", sign, words or STATE_WORDS[state], class_=f"chip {state}")


def time_tag(ms: int | None) -> Html:
    """Return a time that a program can read too."""
    return tag("time", when(ms), datetime=iso(ms)) if ms is not None else tag("span", when(ms), class_="quiet")


def page(title: str, crumbs: Sequence[Crumb], body: Child, fleet: FleetStatus) -> str:
    """Return a whole page; ``crumbs`` are (address, words) from the fleet to the page before this one."""
    mark = tag("span", "›", aria_hidden="true", class_="quiet")
    trail = [[mark, tag("a", words, href=address)] for address, words in crumbs]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} · Stationkeeper"),
        tag("link", rel="icon", href="data:,"),
        tag("link", rel="stylesheet", href="/static/page.css"),
        tag("script", src="/static/page.js", defer=True),
    )
    header = tag(
        "header",
        tag("a", "Stationkeeper", href="/", class_="brand"),
        tag("nav", trail, aria_label="Way back") if trail else None,
        tag(
            "p",
            "As of ",
            tag("time", when(fleet["generated"]), datetime=iso(fleet["generated"]), id="as-of"),
            tag("button", "Pause", type="button", id="pause", hidden=True),
            class_="as-of",
        ),
    )
    main = tag("main", body, id="main", tabindex=-1)
    footer = tag(
        "footer",
        tag("a", "Status as JSON", href="/api/v1/status"),
        tag("a", "Metrics", href="/metrics"),
        tag("a", "List of metrics", href="/api/v1/metrics-list"),
    )
    skip = tag("a", "Skip to the content", href="#main", class_="skip")
    live = tag("p", role="status", id="announce", class_="hidden")
    return "<!doctype html>\n" + tag("html", head, tag("body", skip, header, main, live, footer), lang="en")


def not_found_page(sentence: str, fleet: FleetStatus) -> str:
    """Return the page for something that is not known, with links to what is known."""
    links = [tag("li", tag("a", model["model"], href=model_path(model["model"]))) for model in fleet["models"]]
    body = [tag("h1", "Not found"), tag("p", sentence), tag("p", "What is known:"), tag("ul", links)]
    return page("Not found", [("/", "All models")], body, fleet)


def model_path(model: str) -> str:
    """Return the address of a model's page; configured names need no quoting."""
    return f"/models/{model}"


def section(title: str, *content: Child, id_: str | None = None) -> Html:
    """Return a titled section, or nothing when it has no content."""
    if not any(content):
        return Html()
    return tag("section", tag("h2", title), content, id=id_)
