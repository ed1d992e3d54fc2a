"""The counts of the router, without a server."""

from concurrent.futures import Future, ThreadPoolExecutor

from stationkeeper.deploy.router.answers import Answer
from stationkeeper.deploy.router.refusals import Refusal
from stationkeeper.deploy.router.router import AnswerCounts, Served


def served(*arms: str) -> Served:
    answers = [Answer("e", 0.5, {"champion": "1", "canary": "2"}[arm], arm) for arm in arms]  # type: ignore[arg-type]
    return Served(answers, Future())


def test_answers_are_counted_by_arm_and_a_caller_cannot_make_series() -> None:
    counts = AnswerCounts(["fraud"])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: counts.answered("fraud", served("champion", "canary")), range(400)))
    counts.refused("fraud", Refusal.BAD_JSON)
    counts.refused("no such model", Refusal.UNKNOWN_MODEL)
    counts.refused("nor this one", Refusal.UNKNOWN_MODEL)
    assert {(one.metric, one.labels, one.value) for one in counts.samples()} == {
        ("stationkeeper_predictions_served_total", ("fraud", "1", "champion"), 400),
        ("stationkeeper_predictions_served_total", ("fraud", "2", "canary"), 400),
        ("stationkeeper_serving_errors_total", ("fraud", "bad_json"), 1),
        ("stationkeeper_serving_errors_total", ("", "unknown_model"), 2),
    }
    assert counts.status()[0] == {"model": "fraud", "version": "1", "arm": "champion", "answers": 400}
