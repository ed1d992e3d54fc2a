"""What the pages say: words, states, edge cases of the plots, and how large they get."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.page.axes import ticks
from stationkeeper.page.canary import rollout_block
from stationkeeper.page.fleet import conservation_block, fleet_page, headline
from stationkeeper.page.fleet_status import own_status
from stationkeeper.page.incident import history
from stationkeeper.page.loop import loop_picture, position
from stationkeeper.page.markup import Html, tag, text
from stationkeeper.page.model import model_page
from stationkeeper.page.plots import course_plot, distribution_plot, performance_plot
from stationkeeper.page.words import duration, listing, number, percent, span, when
from tests.stationkeeper import story


def fleet_of(*models: Any, **more: Any) -> Any:
    fleet = own_status([story.Role("judge", story.judge(*models))], story.SEEN)
    return {**fleet, **more}


def test_words() -> None:
    assert when(1_790_000_000_000) == "21 Sep 2026 14:13 UTC"
    assert span(story.START, story.START + story.MINUTE) == "21 Sep 2026 14:13 to 14:14 UTC"
    assert duration(2 * 3_600_000 + 5 * 60_000) == "2 hours 5 minutes"
    assert duration(61_000) == "1 minute"
    assert (percent(0.152), percent(0.25), percent(0.004), percent(1.0)) == (
        "15.2\u00a0%",
        "25\u00a0%",
        "0.4\u00a0%",
        "100\u00a0%",
    )
    assert percent(18.996) == "1\u202f900\u00a0%"
    assert (number(0.0), number(1234.6), number(3.0e-7)) == ("0", "1\u202f235", "3.00e-07")
    assert listing(["a"]) == "a"
    assert listing(["a", "b", "c", "d", "e"]) == "a, b, c and 2 others"


def test_the_headline_never_counts_unknown_as_well() -> None:
    steady, unknown = story.model(0), story.unknown_model(0)
    assert headline([steady, steady]) == "All 2 models are steady."
    assert headline([steady, unknown]) == "1 of 2 models steady. 1 is unknown."
    assert headline([story.broken_model(0), steady, unknown]) == (
        "1 of 3 models needs attention: credit (broken data). 1 is unknown."
    )


def test_the_head_says_what_is_true_of_the_version_that_serves() -> None:
    drifting = story.model(story.SEEN, drifting=True)
    assert "Needs attention" in fleet_page(fleet_of(drifting))
    promoted: Any = {**drifting, "champion": "4", "state": "recovering", "reason": "version 4 is steady so far"}
    page = fleet_page(fleet_of(promoted))
    assert "Needs attention" not in page
    assert "Still open, of an earlier version" in page
    # During probation the champion before still answers a share.
    assert "no longer serves" not in page
    assert position(promoted, fleet_of(promoted)).sentence == "Version 4 is steady so far."
    assert headline([promoted, story.model(0)]) == "1 of 2 models steady. 1 is recovering."
    # Of which version it is cannot be told without a champion: then it is shown where somebody looks.
    assert "Needs attention" in fleet_page(fleet_of({**promoted, "champion": None}))


def test_what_a_canary_would_have_answered_otherwise_stands_beside_its_rollout() -> None:
    (rollout,) = story.deploy()["rollouts"]
    assert "Replayed" not in str(rollout_block(rollout))
    rollout["shadow"] = "it changes <2> of 40 logged rows"
    text = str(rollout_block(rollout))
    assert f"Replayed before anyone saw version {rollout['canary']}: it changes &lt;2&gt; of 40 logged rows. " in text
    assert f"<code>stationkeeper deployments shadow {rollout['model']} {rollout['canary']}</code>" in text


@pytest.mark.parametrize(
    ("retrain", "deploy", "node", "stopped"),
    [
        (story.retrain("snapshot"), None, "snapshot", False),
        (story.retrain("waiting"), None, "request", True),
        (story.retrain("done"), story.deploy("canary"), "canary", False),
        (story.retrain("done"), story.deploy("hold"), "canary", True),
        (story.retrain("done"), story.deploy("probation"), "check", False),
        (None, None, "request", False),
    ],
)
def test_the_lit_stage_follows_the_records(retrain: Any, deploy: Any, node: str, stopped: bool) -> None:
    model = story.model(story.SEEN, drifting=True)
    fleet = fleet_of(
        model,
        requests=retrain["requests"] if retrain else [],
        rollouts=deploy["rollouts"] if deploy else [],
    )
    where = position(model, fleet)
    assert (where.node, where.stopped, where.waiting) == (node, stopped, False)
    lit = "stopped" if stopped else "current"
    assert f'class="node {lit} {node}"' in loop_picture(where)


def test_a_steady_model_is_watched_an_unknown_one_waits_and_a_refused_request_stops() -> None:
    fleet = fleet_of()
    assert position(story.model(0), fleet).resting
    assert position(story.unknown_model(0), fleet).waiting
    assert position(story.broken_model(0), fleet).stopped


def test_the_history_is_told_in_the_order_it_happened() -> None:
    roles = story.canary_moment()
    fleet = own_status(roles, story.SEEN)
    told = history(story.incident(), fleet)
    times = [at for at, _, _ in told if at is not None]
    assert times == sorted(times)
    assert told[0][1] == "It began"
    assert "The canary got more traffic" in [what for _, what, _ in told]


def test_the_equation_shows_a_gap_with_its_partition() -> None:
    partitions: Any = story.conservation()
    fleet = fleet_of(conservation=partitions)
    assert "does not add up" not in conservation_block(fleet)
    partitions[1]["tallied"] -= 2
    assert "does not add up (partition 1: +2)" in conservation_block(fleet)


def test_sensitive_values_are_never_drawn() -> None:
    model = story.model(story.SEEN, drifting=True)
    for subject in model["subjects"]:
        if subject["name"] == "payment_method":
            subject["sensitive"] = True
            subject["cells"]["labels"][0] = "SECRET"
    page = model_page(model, fleet_of(model))
    assert "SECRET" not in page
    assert "marked sensitive" in page


def test_plots_stand_empty_and_single_points() -> None:
    subject: Any = story.subject("amount", story.SEEN, np.random.default_rng(1))
    subject["series"] = {"time": [story.START], "ratio": [None], "distance": [None], "distance_name": "psi"}
    assert "No closed window" in course_plot(subject, None, "x")
    subject["series"]["ratio"] = [0.5]
    assert "<circle" in course_plot(subject, None, "x")
    atom: Any = {
        "labels": ["-4.9e-324 to 0", "missing"],
        "reference": [9, 1],
        "window": [1, 1],
        "edges": [-5e-324, 0.0],
    }
    assert "exactly 0: 90\u00a0%" in distribution_plot(atom, 2, "x")
    assert "<svg" in distribution_plot({"labels": ["a"], "reference": [0], "window": [0]}, 0, "x")
    measure: Any = story.performance(story.SEEN, fell=False)[0]
    measure["series"] = {"time": [story.START], "real": [None]}
    del measure["reference"]
    assert "No label has matured yet" in performance_plot(measure, None)


@given(st.text(), st.text())
def test_text_is_escaped_whatever_it_is(content: str, value: str) -> None:
    element = tag("p", content, title=value)
    inside = element.removeprefix("<p ").removesuffix("</p>")
    assert "<" not in inside
    assert inside.count('"') == 2 + text(content).count('"')
    assert text(Html("<b>")) == "<b>"


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_enclose_the_range_and_stay_few(low: float, span_: float) -> None:
    marks = ticks(low, low + span_)
    assert marks[0] <= low + 1e-6 * span_ + 1e-9
    assert marks[-1] >= low + span_ - 1e-6 * span_ - 1e-9
    assert 2 <= len(marks) <= 8


def test_fifty_models_of_two_hundred_features_stay_light() -> None:
    base = story.model(story.SEEN, drifting=True)
    wide = [{**base["subjects"][i % 9], "name": f"feature_{i}"} for i in range(200)]
    models: list[Any] = [{**base, "model": f"model-{i}", "subjects": wide} for i in range(50)]
    fleet = fleet_of(*models)
    cpu = time.process_time()
    first, one = fleet_page(fleet), model_page(models[0], fleet)
    spent = time.process_time() - cpu
    assert len(first.encode()) < 1_000_000
    assert len(one.encode()) < 1_000_000
    # The bar is 0.3 s a page; processor time with room for a slow machine.
    assert spent < 2.0


def test_a_role_that_does_not_run_is_named_in_words() -> None:
    refused = "did not answer: [Errno 111] Connection refused"
    role = {"role": "deploy", "live": False, "ready": False, "reasons": [refused]}
    shown = fleet_page(fleet_of(story.model(story.SEEN, drifting=False), roles=[role]))
    assert "did not answer: Connection refused" in shown
    assert "Errno" not in shown
