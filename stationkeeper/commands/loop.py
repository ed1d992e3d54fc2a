"""Verbs that run the loop: the demo, all roles, each role, the router and a broker."""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stationkeeper.commands.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from stationkeeper.config import Config
    from stationkeeper.streams.ports import Stage


# Chosen: a batch of the largest size is scored and logged well within it; a load balancer waits ten seconds and more.
SERVE_GRACE_S = 5


def demo(
    scenario: Annotated[Literal["fraud", "flights"], typer.Argument(help="Which story.")] = "fraud",
    speed: Annotated[float | None, typer.Option(help="Stream seconds a wall second.", min=1.0)] = None,
    seed: Annotated[int | None, typer.Option(help="Draw the fraud story from this seed.")] = None,
    shift: Annotated[bool, typer.Option("--shift/--no-shift", help="Without a shift nothing may happen.")] = True,
    hours: Annotated[float | None, typer.Option(help="Stream hours at most.", min=1.0)] = None,
    per_minute: Annotated[float | None, typer.Option(help="Transactions a stream minute (fraud).", min=1.0)] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep logs, registry and snapshots here.")] = None,
    on: Annotated[
        Path | None, typer.Option(help="Tell it on the running roles of this configuration (clock: stream).")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Watch a model go bad and be cured: a real Kafka, registry and router on this machine."""
    from stationkeeper.demo.run import DemoOptions, run
    from stationkeeper.logs import configure_logging

    configure_logging()
    return run(
        DemoOptions(
            scenario=scenario,
            speed=speed,
            seed=seed,
            shift=shift,
            json=json,
            keep=keep,
            on=on,
            hours=hours,
            per_minute=per_minute,
        )
    )


def up(
    config: ConfigOption = None,
    workers: Annotated[int, typer.Option(help="Monitor processes, sharing partitions and models.", min=1)] = 1,
) -> int:
    """Run every role on this machine as supervised child processes."""
    # As each role does: it waits for the moment from which on it can be passed on.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    import structlog

    from stationkeeper.contracts.log_events import LogEvent
    from stationkeeper.process.children import children
    from stationkeeper.process.reload import on_sighup
    from stationkeeper.process.run import LEAVE_S, stop_on_signals
    from stationkeeper.process.supervisor import Supervisor
    from stationkeeper.process.wiring import prepare_topics, role_config
    from stationkeeper.streams.errors import Retryable

    settings = role_config(config, "up")
    try:
        prepare_topics(settings, create_inputs=False)
    except Retryable as error:
        # Each role waits for the broker and makes its topics by itself; a set-up that is wrong for good ends here.
        structlog.get_logger().warning(LogEvent.BROKER_UNREACHABLE, role="up", error=str(error))
    supervisor = Supervisor(children(settings, config, workers), drain_s=settings.drain / 1_000 + LEAVE_S)
    on_sighup(lambda *_: supervisor.reload())
    supervisor.run(stop_on_signals())
    return 0


def monitor(config: ConfigOption = None) -> int:
    """Watch: tally, join and judge, with the status page."""
    from stationkeeper.process.wiring import monitor_stages

    return _run_role("monitor", config, monitor_stages)


def retrain_or_verb(context: typer.Context, config: ConfigOption = None) -> int:
    """Retrain: plan, snapshot, train, gate and register what is requested; `retrain verify` trains a version again."""
    # The role is the group itself: what is behind it is a verb of its own.
    return 0 if context.invoked_subcommand is not None else retrain(config)


def retrain(config: Path | None = None) -> int:
    """Run the role alone."""
    from stationkeeper.process.wiring import retrain_stage

    return _run_role("retrain", config, lambda settings: [retrain_stage(settings)])


def verify_version(
    version: Annotated[str, typer.Argument(help="A version of the registry that the role retrain registered.")],
    model: Annotated[str, typer.Option(help="The model.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> int:
    """Train a version again from its snapshot and compare: exit 0 the same model, 1 another one."""
    from stationkeeper.config import load
    from stationkeeper.registry import Registry
    from stationkeeper.retrain.snapshot import SnapshotStore
    from stationkeeper.retrain.verification import train_again

    settings = load(config)
    store = SnapshotStore.of(settings.snapshots)
    found = train_again(Registry(settings.registry), store, model=model, version=version)
    if json:
        print_json(found.to_json())
    else:
        typer.echo(found.text())
    return found.exit_code


def deploy(config: ConfigOption = None) -> int:
    """Deploy: move traffic to candidates step by step, or back."""
    from stationkeeper.process.wiring import deploy_stage

    return _run_role("deploy", config, lambda settings: [deploy_stage(settings)])


def _run_role(role: str, config: ConfigOption, stages: "Callable[[Config], list[Stage]]") -> int:
    """Run a role's stages in one process until a signal; returns the exit code."""
    # Before the imports, which take a second: SIGHUP waits until there is somebody to take it. Others are let in, which
    # a process that began itself again held back.
    signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGHUP])
    from stationkeeper.process.reload import Reload, handed_over
    from stationkeeper.process.replica import claim
    from stationkeeper.process.run import leave_with_parent, run_loops, stop_on_signals
    from stationkeeper.process.wiring import (
        access_to,
        analyses_for,
        loop_for,
        otlp_for,
        peers_of,
        prepare_topics,
        role_config,
        telling_for,
        topics_of,
    )

    settings = role_config(config, role, handed_over())
    reload = Reload(config, settings, stages)
    leave_with_parent(settings.drain / 1_000)
    reload.listen()

    def prepare(stage: str) -> None:
        # Before the topics: of two programs with one name the newcomer must end without having changed anything.
        claim(settings.kafka, stage)
        prepare_topics(settings, create_inputs=False, dead_letters=stage == "tally")

    told = otlp_for(settings, role)
    traced = (lambda sink: sink) if told is None else told.traced(topics_of(settings))
    loops = [loop_for(stage, settings.kafka, partial(prepare, stage.name), traced) for stage in stages(settings)]
    # The monitor's, because it is the one role that every installation runs; of its replicas one tells.
    telling = telling_for(settings, prepare) if role == "monitor" else None
    http, access = settings.http, access_to(settings)
    ended = stop_on_signals()
    code = run_loops(
        loops,
        (http.host, getattr(http, role)),
        ended=ended,
        access=access,
        peers=peers_of(settings, role),
        drain_s=settings.drain / 1_000,
        analyses=analyses_for(settings) if role == "deploy" else None,
        reload=reload,
        telling=telling,
        otlp=told,
        refused=settings.refused,
    )
    if code == 0 and reload.accepted:
        reload.begin_again(ended)
    return code


def serve(config: ConfigOption = None) -> None:
    """Serve: the reference model server with the canary split."""
    from stationkeeper.contracts.metrics import Sample
    from stationkeeper.deploy.router.server import Server
    from stationkeeper.page.fleet_status import installed_version, refusal_samples
    from stationkeeper.process.listener import bound, server_for
    from stationkeeper.process.run import leave_with_parent
    from stationkeeper.process.telemetry import Telemetry, metrics_route
    from stationkeeper.process.wiring import access_to, otlp_for, role_config, router_for

    settings = role_config(config, "serve")
    leave_with_parent(settings.drain / 1_000)
    # The router refuses a large body by itself, with a code of its own that is counted.
    access = access_to(settings, max_body_bytes=None)
    # Bound before the models are loaded: a port that is taken is told at once, not after the downloads.
    socket = bound(settings.serve.host, settings.serve.port, "serve.port")
    router = router_for(settings)
    built = Sample("stationkeeper_build_info", (installed_version(), "serve"), 1.0)

    def samples() -> list[Sample]:
        return [built, *refusal_samples(settings.refused), *router.samples(), *access.samples()]

    server = Server(router, extra=[metrics_route(Telemetry([samples]))])
    told = otlp_for(settings, "serve")
    if told is not None:
        # Through the same filter as its /metrics: one bad sample must cost itself alone.
        told.start(Telemetry([samples]).samples)
    server_for(server.app, access, grace_s=SERVE_GRACE_S).run(sockets=[socket])
    if told is not None:
        told.stop()


def broker(
    directory: Annotated[Path, typer.Option(help="Where the data lie.")] = Path(".stationkeeper/kafka"),
    port: Annotated[int, typer.Option(help="The first node's port.")] = 9092,
    nodes: Annotated[int, typer.Option(help="1 or 3.")] = 1,
    topic: Annotated[list[str] | None, typer.Option(help="A topic to make; repeat.")] = None,
    config: ConfigOption = None,
) -> None:
    """Run a local Apache Kafka for development until Ctrl-C; needs neither Java nor Docker.

    It makes the topics that --topic and the configuration name, and no others: a producer to a topic that is not there
    waits a minute and fails.
    """
    from stationkeeper.config import load
    from stationkeeper.logs import configure_logging
    from stationkeeper.process.run import stop_on_signals
    from stationkeeper.process.wiring import prepare_topics
    from stationkeeper.streams.broker import LocalBroker
    from stationkeeper.streams.kafka.topics import create_missing
    from stationkeeper.streams.settings import KafkaSettings

    # Read before the broker starts: a mistake in it must not cost the seconds of a start.
    named = None if config is None else load(config)
    configure_logging(*([] if named is None else [named.logging]))
    stop = stop_on_signals()
    # Ended with the block, however it is left: a broker that outlives its terminal holds the port for the next one.
    with LocalBroker(directory, nodes=nodes, port=port) as cluster:
        # Only where it is comes from the configuration's own broker: this one knows neither passwords nor TLS.
        mine = KafkaSettings(
            bootstrap=cluster.bootstrap, prefix=KafkaSettings().prefix if named is None else named.kafka.prefix
        )
        if named is not None:
            prepare_topics(named.model_copy(update={"kafka": mine}))
        topics = create_missing(mine, topic or ())
        typer.echo(cluster.description)
        typer.echo(f"topics: {', '.join(topics) or 'none'}; others are made with --topic NAME or --config FILE")
        typer.echo(f"export STATIONKEEPER_KAFKA={cluster.bootstrap}")
        stop.wait()
