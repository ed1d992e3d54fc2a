"""The counts of the router, without a server."""

from concurrent.futures import ThreadPoolExecutor

from stationkeeper.deploy.router.answer_counts import AnswerCounts
from stationkeeper.deploy.router.answers import Answer
from stationkeeper.deploy.router.refusals import Refusal


def answers(*arms: str) -> list[Answer]:
    return [Answer("e", 0.5, {"champion": "1", "canary": "2"}[arm], arm) for arm in arms]  # type: ignore[arg-type]


def test_answers_are_counted_by_arm_and_a_caller_cannot_make_series() -> None:
    counts = AnswerCounts(["fraud"])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: counts.answered("fraud", answers("champion", "canary"), 0.25), range(400)))
    counts.refused("fraud", Refusal.BAD_JSON)
    counts.refused("no such model", Refusal.UNKNOWN_MODEL)
    counts.refused("nor this one", Refusal.UNKNOWN_MODEL)
    assert {(one.metric, one.labels, one.value) for one in counts.samples()} == {
        ("stationkeeper_predictions_served_total", ("fraud", "1", "champion"), 400),
        ("stationkeeper_predictions_served_total", ("fraud", "2", "canary"), 400),
        ("stationkeeper_serving_seconds", ("fraud", "1"), 400),
        ("stationkeeper_serving_seconds", ("fraud", "2"), 400),
        ("stationkeeper_serving_errors_total", ("fraud", "bad_json"), 1),
        ("stationkeeper_serving_errors_total", ("", "unknown_model"), 2),
    }
    assert counts.status()[0] == {"model": "fraud", "version": "1", "arm": "champion", "answers": 400}


def test_the_time_of_a_request_counts_once_for_each_version_that_answered_it() -> None:
    counts = AnswerCounts(["fraud"])
    counts.answered("fraud", answers("champion", "champion", "canary"), 0.003)
    counts.answered("fraud", answers("canary"), 4.0)
    shown = {one.labels: one for one in counts.samples() if one.metric == "stationkeeper_serving_seconds"}
    assert shown["fraud", "1"].buckets[1:4] == ((0.001, 0), (0.0025, 0), (0.005, 1))
    assert (shown["fraud", "1"].value, shown["fraud", "1"].sum) == (1, 0.003)
    # Beyond the last bound it is in the total alone.
    assert shown["fraud", "2"].buckets[-2:] == ((2.5, 1), (float("inf"), 2))
    assert (shown["fraud", "2"].value, shown["fraud", "2"].sum) == (2, 4.003)
