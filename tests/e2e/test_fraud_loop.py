"""The whole loop on a real Kafka, a real registry and the real router: it closes, and every part says the same.

Prometheus and Alertmanager watch the same run: the person on call hears of it once, and once more when it is over.
"""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from stationkeeper.config import Config, load
from stationkeeper.contracts.messages import DeploymentAction, GateOutcome, RolloutPhase
from stationkeeper.contracts.topics import Topics
from stationkeeper.demo.run import DemoOptions, play
from stationkeeper.demo.stage import get
from stationkeeper.demo.summary import DemoSummary
from stationkeeper.deploy.settings import RolloutSettings
from stationkeeper.explain.lineage import Lineage
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.process.wiring import reader_for
from stationkeeper.registry import CHAMPION_ALIAS
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.streams.broker import FoundBroker
from tests.e2e.alerting import Alerting, demo_ports
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@dataclass(frozen=True, slots=True)
class Played:
    """A run that has ended with its roles still up."""

    summary: DemoSummary
    config: Config
    topics: Topics
    directory: Path
    alerting: Alerting | None


class Watching(threading.Thread):
    """Starts Prometheus and Alertmanager as soon as the demo has written its ports, where they are installed."""

    def __init__(self, stage: Path, folder: Path) -> None:
        super().__init__(daemon=True)
        self._stage = stage
        self._folder = folder
        self.over = threading.Event()
        self.alerting: Alerting | None = None

    def run(self) -> None:
        programs = {name: shutil.which(name) for name in ("prometheus", "prometheus-alertmanager")}
        found = {name: path for name, path in programs.items() if path is not None}
        if len(found) == len(programs):
            ports = demo_ports(self._stage, self.over.is_set)
            if ports:
                self.alerting = Alerting(found.__getitem__, self._folder, ports)

    def close(self) -> None:
        self.over.set()
        self.join()
        if self.alerting is not None:
            self.alerting.close()


@pytest.fixture(scope="module")
def played(kafka: FoundBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Play the default story once; the roles and who watches them stay up for the tests of this module."""
    directory = tmp_path_factory.mktemp("fraud-loop")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        watching = Watching(directory, tmp_path_factory.mktemp("watching"))
        stack.callback(watching.close)
        watching.start()
        patch.setenv("STATIONKEEPER_KAFKA", kafka.bootstrap)
        summary = play(DemoOptions(), directory, Console(quiet=True), stack)
        patch.delenv("STATIONKEEPER_KAFKA")
        config = load(directory / "stationkeeper.yaml", {})
        yield Played(summary, config, Topics(config.kafka.prefix), directory, watching.alerting)


def lineage(played: Played) -> Lineage:
    with closing(reader_for(played.config)) as reader:
        return Lineage(reader, played.topics)


def test_every_detector_gate_and_rollout_setting_is_a_default(played: Played) -> None:
    model = played.config.models["fraud"]
    assert model.retrain == RetrainSettings()
    assert model.rollout == RolloutSettings()
    given = model.model_dump(include=set(ModelSettings.model_fields), exclude={"name", "predictions", "labels"})
    plain = ModelSettings(name="fraud", predictions="p", labels="l").model_dump(  # type: ignore[arg-type]
        exclude={"name", "predictions", "labels"}
    )
    assert given == plain


def test_the_loop_closed_and_precision_came_back(played: Played) -> None:
    summary = played.summary
    assert summary.passed, summary.verdict
    # A follow-up, where the gate lets one through, has a stretch of its own behind the first model's.
    before, during, *after = summary.stretches
    assert before.precision is not None
    assert during.precision is not None
    assert before.precision > 0.9
    assert during.precision < before.precision - 0.2
    assert after
    for part in after:
        assert part.precision is not None
        assert part.precision > before.precision - 0.1
        assert (during.confidence or 0.0) < min(before.confidence or 0.0, part.confidence or 0.0)
    assert summary.seen_after_events is not None
    assert summary.seen_after_events < 5_000


def test_the_topics_tell_one_story_that_can_be_walked_both_ways(played: Played) -> None:
    found = lineage(played)
    first, *later = sorted(found.requests.values(), key=lambda one: one.time)
    # One incident asked; what asks after it is the version that came of it, for its many more rows.
    assert [one.cause for one in later] in ([], [Cause.MORE_ROWS])
    candidates = sorted(found.candidates.values(), key=lambda one: one.time)
    assert candidates[0].request == first.id
    for candidate in candidates:
        request = found.requests[candidate.request]
        assert candidate.gate is GateOutcome.PASS
        cause = [v for v in found.verdicts if v.id == request.verdict]
        assert cause
        actions = [d.action for d in found.deployments if d.candidate == candidate.id]
        assert actions[0] is DeploymentAction.STARTED
        assert DeploymentAction.PROMOTED in actions
        forward = found.chain(request.verdict)
        backward = found.chain(f"fraud/{candidate.version}")
        assert forward is not None
        assert backward is not None
        assert forward.candidate == backward.candidate == candidate
        assert forward.request == backward.request == request


def test_weights_rise_in_the_log_and_never_skip_a_step(played: Played) -> None:
    found = lineage(played)
    for candidate in found.candidates:
        steps([(d.action, d.weight_bp, d.reason) for d in found.deployments if d.candidate == candidate])


def steps(told: list[tuple[DeploymentAction, int, str]]) -> None:
    raising = {DeploymentAction.STARTED, DeploymentAction.STEP}
    # A busy machine may let a lease lapse: traffic then shows another share, the step is held, and begun again after.
    again = [
        a[0] is DeploymentAction.HELD and b[0] is DeploymentAction.STEP and a[1] == b[1] for a, b in pairwise(told)
    ]
    raised = [one[1] for one, resumed in zip(told, [False, *again], strict=True) if one[0] in raising and not resumed]
    assert raised == [round(step * 10_000) for step in RolloutSettings().steps], told


def test_registry_log_and_router_name_the_same_champion(played: Played) -> None:
    from mlflow import MlflowClient

    rollout = lineage(played).rollouts["fraud"]
    client = MlflowClient(played.config.registry.tracking_uri)
    assert str(client.get_model_version_by_alias("fraud", CHAMPION_ALIAS).version) == rollout.champion
    assert rollout.champion != "1"
    assert rollout.phase is RolloutPhase.STEADY
    body = get(f"http://127.0.0.1:{played.config.serve.port}", "/api/v1/status")
    assert body is not None
    (served,) = [m for m in json.loads(body)["models"] if m["model"] == "fraud"]
    assert served["champion"] == rollout.champion
    tags = client.get_model_version("fraud", rollout.champion).tags
    assert any(rollout.request == value for value in tags.values())


def test_metrics_are_what_prometheus_accepts_and_agree_with_the_log(played: Played, tool: Callable[[str], str]) -> None:
    promtool = tool("promtool")
    http = played.config.http
    pages = {
        port: get(f"http://127.0.0.1:{port}", "/metrics")
        for port in (http.monitor, http.retrain, http.deploy, played.config.serve.port)
    }
    for port, page in pages.items():
        assert page, f"no metrics at port {port}"
        done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
    champion = lineage(played).rollouts["fraud"].champion
    text = (pages[http.deploy] or b"").decode()
    assert f'stationkeeper_champion_info{{model="fraud",version="{champion}"}} 1.0' in text


def test_every_record_is_counted_in_exactly_one_way(played: Played) -> None:
    body = get(f"http://127.0.0.1:{played.config.http.monitor}", "/api/v1/status")
    assert body is not None
    rows = json.loads(body)["conservation"]
    assert rows
    for row in rows:
        parts = sum(row[name] for name in ("tallied", "late", "duplicate", "rejected", "dropped"))
        assert row["received"] == parts, row
    received = sum(row["received"] for row in rows if row["topic"].endswith(".predictions"))
    assert received == played.summary.events


def test_the_person_on_call_is_paged_once_and_the_cure_ends_the_page(
    played: Played, tool: Callable[[str], str]
) -> None:
    for program in ("prometheus", "prometheus-alertmanager"):
        tool(program)
    alerting = played.alerting
    assert alerting is not None, "Prometheus and Alertmanager did not start"
    # The roles still run: were they stopped, every alert about them would end too.
    until(lambda: bool(alerting.receiver.got("page", "resolved")), "the end of the page")
    (page,) = alerting.receiver.got("page", "firing")
    assert len(alerting.receiver.got("page", "resolved")) == 1
    (alert,) = page["alerts"]
    assert alert["labels"]["model"] == "fraud"
    told = re.match(r"Incident (inc-[0-9a-f]+): [a-z_]+, [a-z_]+ \(version 1\)", alert["annotations"]["description"])
    assert told is not None, alert["annotations"]["description"]
    assert told.group(1) in {request.incident for request in lineage(played).requests.values()}
