"""An incident's page tells of its own request, its own time and its own plots, whatever else is open."""

import re
from typing import Any

import pytest

from stationkeeper.contracts.model_status import IncidentStatus
from stationkeeper.page.fleet_status import own_status
from stationkeeper.page.incident import history, incident_card, incident_page
from stationkeeper.page.loop import incident_position, position
from stationkeeper.page.model import model_page, subject_page
from stationkeeper.page.words import when
from tests.stationkeeper import story

NOW = story.SEEN + 12 * story.MINUTE
HELD = story.incident(
    id="inc-other",
    opened=story.SEEN + 5 * story.MINUTE,
    leader="country",
    subjects=["country"],
    request_outcome="suppressed",
    request_reason=f"request {story.REQUEST} is still in work; one retraining of a model at a time",
)
del HELD["request"]


def fleet_of(*incidents: IncidentStatus, retrain: Any = None, **more: Any) -> tuple[Any, Any]:
    model = story.model(NOW, drifting=True, **more)
    model["incidents"] = list(incidents)
    roles = [story.Role("judge", story.judge(model))]
    return model, own_status([*roles, *([story.Role("retrain", retrain)] if retrain else [])], NOW)


def figures(page: str) -> list[str]:
    return re.findall("<figcaption><strong>(.*?)</strong>", page)


def loop_of(page: str) -> str:
    """The sentence below the loop's picture."""
    found = re.search('class="loop-box".*?</ol><p>(.*?)</p>', page, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("retrain", [None, story.retrain("training")])
def test_of_two_incidents_each_page_shows_what_became_of_its_own_request(retrain: Any):
    model, fleet = fleet_of(HELD, story.incident(), retrain=retrain)
    asked, held = incident_page(story.incident(), model, fleet), incident_page(HELD, model, fleet)
    assert "held back" in loop_of(held)
    assert "held back" not in asked
    assert incident_position(story.incident(), fleet) == position(model, fleet)
    assert incident_position(HELD, fleet).stopped


def test_a_closed_incident_shows_its_own_time():
    """The subjects have come back: the present says that nothing moved."""
    closed = story.incident(
        closed=story.SEEN + 6 * story.MINUTE,
        recovered_reason="its rows look like the reference again",
        moved=[
            {"name": "amount", "kind": "data_drift", "joined": story.SEEN, "effect": 0.152, "recovered": True},
            {"name": "score", "kind": "prediction_drift", "joined": story.SEEN, "effect": 0.08, "recovered": True},
        ],
    )
    model = story.model(NOW)
    for subject in model["subjects"]:
        subject["reason"] = "0.0% of 1175 rows moved"
    model["incidents"] = [closed]
    page = incident_page(closed, model, own_status([story.Role("judge", story.judge(model))], NOW))
    assert "0.0% of 1175 rows moved" not in page
    assert "15.2\u00a0%" in page
    assert "It ended" in page
    assert not any("Distribution" in one for one in figures(page))
    assert "Evidence of change, as a share of the threshold: payment_method" in figures(page)
    assert "stationkeeper report --model fraud --from " in page
    assert "Now " not in page


def test_the_threshold_that_an_earlier_incident_crossed_is_not_this_ones():
    model, fleet = fleet_of(story.incident())
    for subject in model["subjects"]:
        if "incident" in subject:
            subject["series"]["ratio"][3] = 2.0
    page = incident_page(story.incident(), model, fleet)
    assert f"Reached its threshold at {when(model['subjects'][0]['series']['time'][3])}" not in page


def test_what_happened_is_told_in_the_order_of_time():
    """The retraining ended after the incident had, and a stage was noted with an earlier clock."""
    retrain = story.retrain("done")
    closed = story.incident(closed=story.SEEN + 2 * story.MINUTE)
    _, fleet = fleet_of(closed, retrain=retrain)
    told = history(closed, fleet)
    times = [at for at, _, _ in told if at is not None]
    assert times == sorted(times)
    assert {"It ended", "A retrain was asked for"} <= {what for _, what, _ in told}


def test_no_two_charts_of_a_page_have_one_title():
    model, fleet = fleet_of(HELD, story.incident(), canary="4")
    canary = [{**subject, "version": "4", "incident": ""} for subject in model["subjects"]]
    segment = [{**subject, "segment": "shop=eu"} for subject in model["subjects"]]
    model["subjects"] += [*canary, *segment]
    model["performance"] += [{**one, "version": "4"} for one in model["performance"]]
    model["performance"] += [{**one, "segment": "shop=eu"} for one in model["performance"]]
    amount = [subject for subject in model["subjects"] if subject["name"] == "amount"]
    for page in (
        incident_page(story.incident(), model, fleet),
        model_page(model, fleet),
        subject_page(model, amount, fleet),
    ):
        assert len(figures(page)) > 4
        assert len(set(figures(page))) == len(figures(page))


def test_an_incident_says_what_it_costs_where_that_was_weighed():
    words = "costs 3.1 points of accuracy (1.2 to 5.0), measured on 812 labelled rows since the onset"
    told = story.incident(harm={"source": "measured", "reason": "measured", "words": words})
    model, fleet = fleet_of(told)
    shown = "<strong>Harm: </strong>costs 3.1 points of accuracy (1.2 to 5.0), measured on 812 labelled rows"
    assert shown in incident_page(told, model, fleet)
    assert shown in str(incident_card(told, model, fleet))
    silent = story.incident()
    assert "Harm: " not in incident_page(silent, *fleet_of(silent))
