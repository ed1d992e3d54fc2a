"""``demo``: a scenario from an empty machine to a closed loop, through a real broker, registry and router."""

import json
import logging
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import polars as pl
import structlog
from rich.console import Console

from stationkeeper.config import Config
from stationkeeper.contracts.masking import masked
from stationkeeper.contracts.times import to_ms
from stationkeeper.contracts.topics import Topics
from stationkeeper.demo.calendars import policy_table
from stationkeeper.demo.card_fraud import FraudScenario
from stationkeeper.demo.console_log import ConsoleLog
from stationkeeper.demo.driver import Driver, DriverError
from stationkeeper.demo.flights import FlightsScenario
from stationkeeper.demo.fraud import FraudStory
from stationkeeper.demo.gain import Gain, measure_gain
from stationkeeper.demo.loop_history import LoopHistory, Observer
from stationkeeper.demo.pace import Pace, StatusPolls, watermark_of
from stationkeeper.demo.scenario import Scenario
from stationkeeper.demo.served import read_served, taken_over_ms
from stationkeeper.demo.stage import (
    Addresses,
    Ports,
    StageError,
    demo_config,
    existing_config,
    running_roles,
    wait_ready,
    write_config,
)
from stationkeeper.demo.summary import DemoSummary, show, summarise
from stationkeeper.deploy.adoption import DeploymentError
from stationkeeper.process.first_champion import adopt_first_champion
from stationkeeper.process.wiring import plain_producer, prepare_topics, reader_for
from stationkeeper.registry import Registry, ServedModel
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.streams.broker import find_broker
from stationkeeper.streams.ports import Reader

# How many panes beyond its lateness the stream may be ahead of the monitor. Chosen: half stops the stream more often,
# double lets labels and weights follow twice as much stream time later.
LEAD_PANES: Final = 30
CANARY_SPEED: Final = 100_000.0
"""A weight reaches the router within a wall second: with a canary out, that second must not be days of the stream."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line says about a run; ``speed`` is stream seconds a wall second.

    ``on`` is the configuration of roles that run already: nothing is started then, and nothing is stopped.
    """

    scenario: str = "fraud"
    speed: float | None = None
    seed: int | None = None
    shift: bool = True
    json: bool = False
    keep: Path | None = None
    on: Path | None = None
    hours: float | None = None
    per_minute: float | None = None


def build(options: DemoOptions) -> tuple[Scenario, float]:
    """Return the scenario of the options and its speed."""
    if options.scenario == "flights":
        flights = FlightsScenario() if options.hours is None else FlightsScenario(days=options.hours / 24)
        # A year in two minutes; the fraud story's two days in two and a half.
        return flights, options.speed or 250_000.0
    story = FraudStory() if options.seed is None else FraudStory.drawn(options.seed)
    story = story if options.shift else story.without_shift()
    hours = options.hours or (48.0 if options.shift else 24.0)
    return FraudScenario(story, per_minute=options.per_minute or 60.0, hours=hours), options.speed or 1_200.0


def run(options: DemoOptions) -> int:
    """Run the demo; returns the exit code: 0 when the scenario ended as it must, else 1."""
    console = Console(stderr=options.json, highlight=False)
    # ConsoleLog prints what happens; of the log only warnings belong on the same screen.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    # A broker and four roles hang on this process: SIGTERM must unwind it as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with ExitStack() as stack:
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
            directory = options.keep.resolve()
        else:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stationkeeper-demo-")))
        try:
            summary = play(options, directory, console, stack)
        except (StageError, DriverError) as error:
            console.print(f"[bold red]FAILED[/]: {error}", markup=True)
            return 1
    if options.json:
        print(json.dumps(summary.to_json(), indent=2))  # noqa: T201 - the answer of the command
    show(summary, console)
    return 0 if summary.passed else 1


def play(options: DemoOptions, directory: Path, console: Console, stack: ExitStack) -> DemoSummary:
    """Set the stage, replay the scenario and return what happened."""
    began = time.monotonic()
    scenario, speed = build(options)
    plot = scenario.plot
    console.print(f"[bold]{plot.title}[/]")
    config, addresses, champion = _set_stage(options.on, scenario, directory, console, stack)
    model = config.models[scenario.name]
    console.print(f"  roles are ready; status page: {addresses.monitor}/")
    console.print()
    lines = ConsoleLog(console, scenario.start_ms, plot.onset_ms)
    topics = Topics(config.kafka.prefix)
    with closing(reader_for(config)) as reader:
        observer = Observer(reader, topics, lines.show)
        driver_progress = _replay(scenario, speed, config, addresses, observer, lines, stack)
        served = read_served(reader, model)
        gain, policies = None, None
        if model.requests.cost is None:
            gain = _gain(config, scenario, reader, served, observer.history, champion)
        elif served.height:
            console.print("  training what calendars and hindsight would have trained …")
            policies = policy_table(
                reader,
                model,
                model.retraining(),
                served,
                _served_model(config, scenario, champion),
                scenario.training(),
                scenario.start_ms,
                _trainings(reader, topics),
            )
    span = (scenario.start_ms, driver_progress)
    summary = summarise(options.scenario, plot, observer.history, served, span, time.monotonic() - began)
    return replace(summary, gain=gain, policies=policies)


def _set_stage(
    on: Path | None, scenario: Scenario, directory: Path, console: Console, stack: ExitStack
) -> tuple[Config, Addresses, str]:
    """Return configuration, addresses of ready roles (those of ``on``, else new ones) and the first champion."""
    if on is not None:
        config = existing_config(on, scenario)
        addresses = Addresses.of(config)
        console.print(f"  Kafka: {config.kafka.bootstrap}, as {on} says")
        champion = _adopt(config, scenario, console)
        if waiting := wait_ready(addresses):
            named = ", ".join(f"{role} at {getattr(addresses, role)}" for role in waiting)
            raise StageError(f"not ready: {named}; the answer of /readyz there says why")
        return config, addresses, champion
    broker = stack.enter_context(find_broker(directory / "kafka"))
    console.print(f"  Kafka: {broker.description}")
    ports = Ports.free()
    # Topics, group and prefix of their own: a second demo on a broker that is there already starts from nothing.
    run_id = format(int(time.time()), "x")
    path, config = write_config(demo_config(scenario, broker.bootstrap, ports, directory, run_id), directory)
    champion = _adopt(config, scenario, console)
    stack.enter_context(running_roles(path, ports, directory))
    return config, ports.addresses, champion


def _adopt(config: Config, scenario: Scenario, console: Console) -> str:
    """Train the first champion and return its version; raises ``StageError`` where the model has one already."""
    prepare_topics(config)
    console.print("  training the first champion …")
    try:
        first = adopt_first_champion(config, scenario.name, scenario.training(), at_ms=scenario.start_ms)
    except DeploymentError as error:
        raise StageError(f"{error}; the story needs a model that has no champion yet") from None
    console.print(f"  registry: MLflow at {masked(config.registry.tracking_uri)}, version {first.version} is champion")
    return first.version


def _gain(
    config: Config, scenario: Scenario, reader: Reader, served: pl.DataFrame, history: LoopHistory, first: str
) -> Gain | None:
    """Return what the first promotion was worth on the events after it, None without one."""
    promoted = history.promoted
    if promoted is None or not served.height:
        return None
    old = _served_model(config, scenario, first)
    cured_ms = taken_over_ms(served, promoted.champion, to_ms(promoted.time))
    return measure_gain(
        reader, config.models[scenario.name], served, old, cured_ms, int(served["time"].to_numpy().max()) + 1
    )


def _served_model(config: Config, scenario: Scenario, version: str) -> ServedModel:
    registry = Registry(config.registry, config.serve.cache_dir)
    return ServedModel.load(registry.fetch(scenario.name, version), scenario.name, version)


def _trainings(reader: Reader, topics: Topics) -> int:
    """Return how many trainings the loop's requests have cost, those that its gate held back included."""
    parts = list(reader.partitions(topics.retrain_state.name))
    values = [value for batch in reader.read(parts) for value in batch.values if value is not None]
    last = {state.id: state for state in map(RetrainState.decode, values)}
    # Each look that found too little evidence was one, and so is the present one from its result on.
    return sum(state.look + (state.result is not None) for state in last.values())


def _replay(
    scenario: Scenario,
    speed: float,
    config: Any,
    addresses: Addresses,
    observer: Observer,
    lines: ConsoleLog,
    stack: ExitStack,
) -> int:
    """Drive the world and follow the topics until the scenario is over; returns the last stream time."""
    model = config.models[scenario.name]
    polls = stack.enter_context(StatusPolls(addresses))
    pace = Pace(scenario.name, LEAD_PANES * model.pane + model.lateness, observer.history, polls)
    if scenario.plot.near_panes is not None:
        pace.near_ms = scenario.plot.near_panes * model.pane + model.lateness
        pace.soonest_ms = scenario.plot.soonest_ms
    producer = plain_producer(config)
    stack.callback(producer.close)
    driver = Driver(
        addresses.serve,
        scenario.name,
        producer,
        model.labels.topic,
        speed=lambda: min(speed, CANARY_SPEED) if observer.history.canary else speed,
        waits_for=pace.waits_for,
    )
    stop = threading.Event()
    failure: list[Exception] = []

    def drive() -> None:
        try:
            driver.run(scenario.chunks(), stop)
        except Exception as error:  # noqa: BLE001 - handed to the main thread, which raises it
            failure.append(error)

    thread = threading.Thread(target=drive, name="world")
    thread.start()
    onset_shown = False
    try:
        while thread.is_alive():
            observer.turn(0.25)
            # A read returns with the first record, hundreds of times a second while many come; ten looks a second tell
            # the story as well and leave the roles the processor.
            stop.wait(0.1)
            onset = scenario.plot.onset_ms
            if onset is not None and not onset_shown and driver.progress.time_ms >= onset:
                lines.write(onset, f"▸ {scenario.plot.onset_text} (planted)", "magenta")
                onset_shown = True
            if observer.history.over(driver.progress.time_ms, scenario.plot.after_ms):
                stop.set()
    finally:
        stop.set()
        thread.join()
    if failure:
        raise failure[0]
    _settle(observer, scenario, driver.progress.time_ms, polls)
    return driver.progress.time_ms


def _settle(observer: Observer, scenario: Scenario, now_ms: int, polls: StatusPolls) -> None:
    """Let the roles catch up with the end of the stream before anything is counted."""
    # A role flushes within seconds; a busy machine gets several times that.
    deadline = time.monotonic() + 20.0
    # The panes of the two stories are minutes and hours: the last one stays open when the stream ends.
    slack = 3 * 60_000 if scenario.name == "fraud" else 4 * 3_600_000
    while time.monotonic() < deadline and (watermark_of(polls().monitor, scenario.name) or 0) < now_ms - slack:
        observer.turn(0.25)
    quiet = 0
    # A second without a message: what a role decides at the last pane comes within its flush interval.
    while quiet < 4 and time.monotonic() < deadline:
        quiet = 0 if observer.turn(0.25) else quiet + 1
