"""The role's questions to Prometheus: a real one, one that is away, and what a controller does with the answers."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from stationkeeper.contracts.settings import Credential
from stationkeeper.deploy.controller.queries import Queries, ask
from stationkeeper.deploy.core.queries import QueryAnswer, unanswered
from stationkeeper.deploy.core.reasons import Reason
from stationkeeper.deploy.core.state import memory
from stationkeeper.deploy.settings import QuerySettings
from stationkeeper.streams.ports import Restored
from tests.deploy.world import ASSIGNED, SETTINGS, TOPICS, World, candidate
from tests.json_server import JsonServer
from tests.listening import free_port
from tests.waiting import until


class Prometheus(JsonServer):
    """Answers each query with one number, and keeps what it was asked and by whom."""

    def __init__(self) -> None:
        self.value: str | int = "0.001"
        self.asked: list[tuple[str, str | None]] = []
        super().__init__()

    def respond(self, method: str, path: str, headers: Message, body: Any) -> tuple[int, Any]:
        parts = urlsplit(path)
        assert parts.path == "/api/v1/query"
        (query,) = parse_qs(parts.query)["query"]
        self.asked.append((query, headers["authorization"]))
        result = [{"metric": {}, "value": [1.0, self.value]}]
        return 200, {"status": "success", "data": {"resultType": "vector", "result": result}}


@pytest.fixture
def double() -> Iterator[Prometheus]:
    server = Prometheus()
    yield server
    server.close()


def wanted(url: str, query: str = 'errors{version="$canary",old="$champion",model="$model"}', **more: Any) -> Any:
    return QuerySettings(url=url, query=query, at_most=0.01, **more)


@pytest.mark.prometheus
def test_a_real_prometheus_is_understood(tool: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "p.yml").write_text("scrape_configs: []\n")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        tool("prometheus"), f"--config.file={tmp_path / 'p.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}", f"--web.external-url={url}/prom/",
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def ready() -> bool:
        try:
            return httpx2.get(f"{url}/prom/-/ready", timeout=5).status_code == 200
        except httpx2.HTTPError:
            return False

    def said(query: str) -> Any:
        return ask(wanted(f"{url}/prom", query), "fraud", "1", "2")

    try:
        until(ready, "Prometheus is ready")
        assert said("vector(0.02)").value == said("scalar(vector(0.02))").value == 0.02
        assert said("vector($canary)").value == 2.0
        assert said("vector($champion) + 0 * vector($canary)").value == 1.0
        # Nothing, two series, a range and a text are no number, and no error.
        several = 'label_replace(vector(1), "a", "b", "", "") or vector(2)'
        for query in ('absent_metric{model="$model"}', several, "vector(1)[5m:1m]", '"text"'):
            assert (said(query).value, said(query).error) == (None, "")
        assert "Prometheus refuses the query: " in said("sum(").error
        assert "parse error" in said("sum(").error
    finally:
        process.terminate()
        process.wait(30)


def test_who_is_away_or_answers_nonsense_is_an_error_or_no_number(double: Prometheus) -> None:
    away = ask(wanted("http://127.0.0.1:1"), "fraud", "1", "2")
    assert away.value is None
    assert "Prometheus at 127.0.0.1:1 does not answer" in away.error
    nobody = Credential.model_validate({"env": "NO_SUCH_VARIABLE"})
    assert "rollout.queries.token" in ask(wanted(double.url, token=nobody), "fraud", "1", "2").error
    double.value = "NaN"
    found = ask(wanted(double.url, token=Credential.model_validate({"secret": "s3cret"})), "fraud", "1", "2")
    assert found.error == ""
    assert found.value != found.value
    assert double.asked[-1] == ('errors{version="2",old="1",model="fraud"}', "Bearer s3cret")


def test_a_number_too_large_is_no_number_and_nothing_ends_the_asking(
    double: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.value = 10**400
    found = ask(wanted(double.url), "fraud", "1", "2")
    assert (found.value, found.error) == (None, "")
    broken = iter((RuntimeError("a fault of ours"),))

    def asking(*given: Any) -> QueryAnswer:
        for error in broken:
            raise error
        return QueryAnswer(0.5)

    monkeypatch.setattr("stationkeeper.deploy.controller.queries.ask", asking)
    queries = Queries({"fraud": {"q": wanted(double.url)}}, every_s=0.01)
    answers: list[QueryAnswer] = []

    def several() -> bool:
        answers.extend(said["q"] for _, said in queries.taken("fraud"))
        return len(answers) > 1

    try:
        queries.follow("fraud", ("1", "2"))
        until(several, "asked again after a fault")
    finally:
        queries.close()
    assert (answers[0].error, answers[1].value) == ("RuntimeError: a fault of ours", 0.5)


def test_a_prometheus_that_hangs_keeps_no_other_models_queries_waiting(double: Prometheus) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hangs = wanted(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=60_000)
        queries = Queries({"away": {"q": hangs}, "fraud": {"q": wanted(double.url)}}, every_s=0.01)
        try:
            queries.follow("away", ("1", "2"))
            silent.settimeout(30)
            # Asked, and never answered while it is open.
            with silent.accept()[0]:
                queries.follow("fraud", ("1", "2"))
                until(lambda: len(double.asked) > 2, "the other model's are asked again and again")
                assert queries.taken("away") == []
        finally:
            queries.close()


def test_only_what_is_compared_is_asked_about_and_an_answer_names_its_versions(double: Prometheus) -> None:
    queries = Queries({"fraud": {"q": wanted(double.url, "$champion/$canary")}, "churn": {}}, every_s=0.01)
    try:
        queries.follow("churn", ("1", "2"))
        queries.follow("fraud", None)
        assert double.asked == []
        queries.follow("fraud", ("1", "2"))
        until(lambda: len(double.asked) > 2, "asked again and again")
        arms, answers = until(lambda: queries.taken("fraud"), "an answer")[0]
        assert (arms, answers["q"].value) == (("1", "2"), 0.001)
        queries.follow("fraud", ("1", "3"))
        until(lambda: ("1/3", None) in double.asked, "the next versions are asked about")
        assert {arms for arms, _ in until(lambda: queries.taken("fraud"), "an answer")} == {("1", "3")}
        queries.forget()
        assert not queries.taken("fraud")
        # Another process has the rollouts; what comes back here is asked about anew.
        queries.follow("fraud", ("2", "3"))
        until(lambda: ("2/3", None) in double.asked, "asked again")
    finally:
        queries.close()


def test_a_controller_takes_back_a_canary_that_prometheus_condemns_without_a_minute_closing(
    double: Prometheus,
) -> None:
    asked = wanted(double.url, failures=2)
    world = World(settings=SETTINGS.model_copy(update={"queries": {"checkouts": asked}}), query_s=0.01)
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(3)
    assert world.last.canary == "2"
    double.value = "0.5"

    def back() -> bool:
        world.flush()
        return world.last.canary is None

    until(back, "the canary is taken back")
    assert world.deployments[-1].evidence["code"] == Reason.QUERY_FAILED
    assert "query checkouts: 0.5 where at most 0.01 is wanted" in world.last.reason
    world.stage.close()


def test_a_controller_that_starts_again_waits_for_an_answer_of_its_own(double: Prometheus) -> None:
    asked = SETTINGS.model_copy(update={"queries": {"checkouts": wanted(double.url)}})
    world = World(settings=asked, query_s=0.01)
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(4)

    def successful() -> bool:
        world.flush()
        return unanswered(memory(world.last), asked.policy()) is None

    until(successful, "an answer in the log")
    world.stage.close()
    double.value = "0.5"
    world.start()
    ((model, record),) = world.stage._rollouts.records.items()
    waited = unanswered(memory(record), asked.policy())
    assert (model, waited and waited.numbers["outcome"]) == ("fraud", "nothing yet")
    world.stage.close()


def test_an_aborted_transaction_ends_no_row_of_failures_and_a_long_time_away_does(double: Prometheus) -> None:
    asked = SETTINGS.model_copy(update={"queries": {"checkouts": wanted(double.url, failures=1_000)}})
    world = World(settings=asked, query_s=0.01)
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(3)
    double.value = "0.5"

    def failed() -> int:
        last = memory(world.stage._rollouts.records["fraud"]).asked.get("checkouts")
        return last.failed if last else 0

    def again() -> None:
        world.stage.revoked(ASSIGNED)
        world.stage.assigned(ASSIGNED, Restored(dict(world.rollouts)))

    def two() -> bool:
        world.flush()
        return failed() >= 2

    until(two, "two failures in the log")
    before = failed()
    again()
    assert failed() == before
    world.stage._rollouts.tick(world.now + 1_000)
    assert failed() == before
    # Tried all the while, and nothing committed: what was answered meanwhile is lost as well.
    for after in (100_000, 200_000):
        again()
        world.stage._rollouts.tick(world.now + after)
    assert failed() == 0
    world.stage.close()


def test_an_answer_that_was_not_committed_is_given_again_and_one_that_was_is_not(double: Prometheus) -> None:
    """A good one that is lost with its transaction would join the failures before and after it to a row."""
    queries = Queries({"fraud": {"q": wanted(double.url)}}, every_s=3_600.0)
    try:
        queries.follow("fraud", ("1", "2"))
        (first,) = until(lambda: queries.taken("fraud"), "an answer")
        assert queries.taken("fraud") == []
        queries.forget()
        assert queries.taken("fraud") == []
        queries.follow("fraud", ("1", "2"))
        assert queries.taken("fraud") == [first]
        queries.committed()
        queries.forget()
        queries.follow("fraud", ("1", "2"))
        assert queries.taken("fraud") == []
    finally:
        queries.close()


def once_condemned(double: Prometheus) -> tuple[World, Callable[[], int]]:
    """A world whose canary got one bad answer that is not flushed yet, and a count of the failures in its memory."""
    asked = SETTINGS.model_copy(update={"queries": {"checkouts": wanted(double.url, failures=2)}})
    world = World(settings=asked, query_s=3_600.0)
    world.minutes(2)
    double.value = "0.5"
    world.send(TOPICS.candidates.name, candidate())

    def failed() -> int:
        last = memory(world.stage._rollouts.records["fraud"]).asked.get("checkouts")
        return last.failed if last else 0

    # The canary is asked about from the flush on that starts it.
    world.minutes(1)
    until(lambda: world.stage._queries._found.get("fraud") or failed(), "an answer")
    return world, failed


@pytest.mark.parametrize("told", [True, False])
def test_an_answer_that_went_into_the_log_is_counted_once(double: Prometheus, *, told: bool) -> None:
    """Also where nobody heard that the commit went through: one scrape would be two failures in a row."""
    world, failed = once_condemned(double)
    if not failed():
        records = world.flush(commit=False)
        world.put(records)
        if told:
            world.stage.committed()
    assert (failed(), len(double.asked)) == (1, 1)
    for _ in range(2):
        world.stage.revoked(ASSIGNED)
        world.stage.assigned(ASSIGNED, Restored(dict(world.rollouts)))
        world.flush()
    assert (failed(), len(double.asked), world.last.canary) == (1, 1, "2")
    if told:
        assert world.stage._queries._found["fraud"] == [], "what is in the log is kept for the whole rollout"
    world.stage.close()


def test_a_role_that_goes_back_to_the_log_asks_no_sooner_for_it(double: Prometheus) -> None:
    queries = Queries({"fraud": {"q": wanted(double.url, "$champion/$canary")}}, every_s=3_600.0)
    try:
        queries.follow("fraud", ("1", "2"))
        until(lambda: queries.taken("fraud"), "an answer")
        # One scrape that failed, asked for at each of three aborts, would be three failures in a row.
        for _ in range(3):
            queries.forget()
            queries.follow("fraud", ("1", "2"))
            time.sleep(0.05)
        queries.follow("fraud", ("1", "3"))
        until(lambda: queries.taken("fraud"), "the next versions are asked about at once")
        assert [query for query, _ in double.asked] == ["1/2", "1/3"]
    finally:
        queries.close()
